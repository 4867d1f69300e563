"""Properties of the readers: what they make of any text, not only of the texts somebody thought of."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from overlay.classads import ClassAd, ExprTree, parse_ad, pin_time, truth
from overlay.clauses import failed_clauses, references, split_conjuncts
from overlay.client import NoAnswer, read_answer
from overlay.demand import bucket_of

LEAVES = st.sampled_from(
    ["true", "false", "undefined", "error", "A", "TARGET.B", "(A < 3)", 'D == "x && y"', "MissingOne", "C", "(C)"]
)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: f"{p[0]} && {p[1]}"),
        pair.map(lambda p: f"({p[0]}) && ({p[1]})"),
        pair.map(lambda p: f"({p[0]} || {p[1]})"),
        pair.map(lambda p: f"{p[0]} || {p[1]}"),
        inner.map(lambda e: f"!({e})"),
        inner.map(lambda e: f"(({e}))"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]}) ? ({p[1]}) : ({p[2]})"),
        pair.map(lambda p: f"ifThenElse(({p[0]}), ({p[1]}), false)"),
    )


EXPRESSIONS = st.recursive(LEAVES, _joined, max_leaves=12)
SLOT = ClassAd("[ B = true; Requirements = true ]")


def job(requirements: str) -> ClassAd:
    return parse_ad(f'[ A = 2; C = TARGET.B && A > 1; D = "x && y"; Requirements = {requirements} ]')


@given(EXPRESSIONS)
def test_expression_is_true_exactly_when_all_its_conjuncts_are(expression: str) -> None:
    ad = job(expression)
    whole = truth(ad.lookup("Requirements").eval(scope=ad, target=SLOT))

    assert whole == all(truth(ExprTree(part).eval(scope=ad, target=SLOT)) for part in split_conjuncts(expression))


@given(EXPRESSIONS)
def test_split_parts_cannot_be_split_further(expression: str) -> None:
    for part in split_conjuncts(expression):
        assert split_conjuncts(part) == (part,)


@given(EXPRESSIONS)
def test_pair_that_does_not_match_has_a_reason_and_one_that_does_has_none(expression: str) -> None:
    ad = job(expression)

    assert ad.symmetricMatch(SLOT) == (failed_clauses("job", ad, SLOT) == ())
    assert failed_clauses("slot", SLOT, ad) == ()


@given(st.text(max_size=200))
def test_any_text_can_be_split_and_searched(text: str) -> None:
    split_conjuncts(text)
    references(text)


STRINGS = st.text(st.characters(codec="ascii", exclude_characters='"\\\n'), max_size=20).map(lambda s: f'"{s}"')


@given(
    st.lists(st.one_of(STRINGS, st.sampled_from(["time()", "Time ( )", "mytime()", "x.time", "1", "A"])), min_size=1)
)
def test_pinning_the_clock_leaves_strings_alone_and_no_clock_behind(parts: list[str]) -> None:
    pinned = pin_time(" + ".join(parts), 41).split(" + ")
    expected = " + ".join("41" if part in ("time()", "Time ( )") else part for part in parts)

    assert " + ".join(pinned) == expected
    assert pin_time(expected, 99) == expected


LINES = st.one_of(
    st.tuples(st.just("ad"), st.integers(-1, 2), st.just("[ ]")),
    st.tuples(st.just("end"), st.integers(-1, 2), st.integers(0, 2)),
    st.tuples(st.just("done"), st.integers(0, 2)),
    st.tuples(st.just("address"), st.just("<1>")),
    st.tuples(st.just("failed"), st.just("X"), st.just("why")),
).map(list)


@given(st.lists(LINES, max_size=8), st.integers(1, 2))
def test_answer_is_complete_or_it_is_none(lines: list[list[object]], steps: int) -> None:
    output = "".join(json.dumps(line) + "\n" for line in lines).encode()
    _, read = read_answer(output, steps=steps)
    if isinstance(read, NoAnswer):
        return

    assert lines[-1] == ["done", steps]
    ends = [line for line in lines if line[0] == "end"]
    assert [end[1] for end in ends] == list(range(steps))
    assert [end[2] for end in ends] == [len(step) for step in read]
    assert sum(len(step) for step in read) == sum(line[0] == "ad" for line in lines)
    assert not any(line[0] == "failed" for line in lines)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_answer(output: bytes) -> None:
    assert isinstance(read_answer(output, steps=1)[1], NoAnswer)


ATTRIBUTES = {
    "User": '"alice@pool"',
    "Owner": '"alice"',
    "AcctGroup": '"dp001"',
    "RequestCpus": "2",
    "RequestMemory": "ifThenElse(isUndefined(MemoryUsage), 300, MemoryUsage)",
    "RequestDisk": "1024",
    "JobCount": "3",
    "JobIds": '"1.0 ... 1.2"',
    "Requirements": "TARGET.Memory >= RequestMemory",
}


@given(st.permutations(sorted(ATTRIBUTES)))
def test_bucket_does_not_depend_on_the_order_of_attributes(names: list[str]) -> None:
    def read(order: list[str]) -> object:
        return bucket_of(parse_ad("[ " + "; ".join(f"{n} = {ATTRIBUTES[n]}" for n in order) + " ]"), ap="ap1")

    assert read(names) == read(sorted(ATTRIBUTES))
