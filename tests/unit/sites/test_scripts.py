"""The markers that frame an answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from factory.sites import scripts
from factory.sites.scripts import Section, parse_answer

NONCE = "feedbeef"
STDOUT = """Welcome to ALPS
@feedbeef begin 1795360301

@feedbeef open squeue
a
b

@feedbeef close squeue 0

@feedbeef open sacct

@feedbeef close sacct 1

@feedbeef late p-1

@feedbeef open sacct
c

@feedbeef close sacct 0

@feedbeef end
"""
STDERR = """
@feedbeef open squeue

@feedbeef close squeue 0

@feedbeef open sacct
broken
@feedbeef close sacct 1
@feedbeef open sacct
@feedbeef close sacct 0
"""


def test_an_answer_is_taken_apart() -> None:
    answer = parse_answer(STDOUT, STDERR, NONCE)
    assert answer.clock_s == 1795360301
    assert answer.ended
    assert (("late", "p-1"),) == answer.marks
    assert answer.sections == (
        Section(name="squeue", stdout="a\nb", stderr="", status=0),
        Section(name="sacct", stdout="", stderr="broken", status=1),
        Section(name="sacct", stdout="c", stderr="", status=0),
    )


def test_no_cut_of_an_answer_is_a_whole_one() -> None:
    # Dies when `ended` does not ask for the last mark: half a queue would read as the whole queue.
    for length in range(len(STDOUT) - 1):
        assert not parse_answer(STDOUT[:length], STDERR, NONCE).ended


def test_an_open_section_has_no_status() -> None:
    answer = parse_answer(STDOUT[: STDOUT.index("\n@feedbeef close squeue")], "", NONCE)
    assert answer.sections == (Section(name="squeue", stdout="a\nb", stderr="", status=None),)


def test_another_nonce_is_no_marker() -> None:
    answer = parse_answer(STDOUT, STDERR, "deadbeef")
    assert answer.clock_s is None
    assert not answer.sections
    assert not answer.ended


marks = st.sampled_from(["begin 1", "begin x", "open a", "open ", "close a 0", "close a", "end", "x", "x y", ""])


@given(st.lists(marks.map(lambda mark: f"@{NONCE} {mark}") | st.text(max_size=5)).map("\n".join), st.text())
def test_any_text_gives_an_answer(stdout: str, stderr: str) -> None:
    answer = parse_answer(stdout, stderr, NONCE)
    assert not answer.ended or answer.clock_s is not None
    assert parse_answer("", stdout, NONCE) == parse_answer("", "", NONCE)


def test_every_script_is_one_function_called_at_its_end() -> None:
    for text in (
        scripts.LOOK,
        scripts.UPLOAD,
        scripts.SUBMIT,
        scripts.CANCEL,
        scripts.FORGET,
        scripts.BUNDLE_CHECK,
        scripts.BUNDLE_PUT,
    ):
        assert text.startswith("main() {\n")
        assert text.endswith("\n}\nmain\n")
        assert "__" not in text
