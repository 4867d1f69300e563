"""The file of the site's admin: what it means, and that pilots and factory read it alike."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import classad2
import htcondor2  # noqa: F401  # without it classad2 reads bare names strictly, unlike the negotiator
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glidein.script import POLICY_SCRIPT
from glidein.siterules import (
    RULES_MAX_BYTES,
    Rule,
    SiteRules,
    parse_site_rules,
    published_rules,
    rules_expression,
    vo_map_text,
)

FILE = "~/.aerotow/site-policy.conf"
VOS = {"dp001": ("astro",), "dp002": ("astro", "bio"), "Bio01": ("bio",)}
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]


GARBAGE = [
    ("deny project dp001", "cut short"),
    ("deny project dp001\r\n", "line 1 has a character"),
    ("# caf\xe9\n", "line 1 has a character"),
    ("\n\x00\n", "line 2 has a character"),
    ("deny dp001\n", "line 1 is no rule: 'deny dp001'"),
    ("deny group dp001\n", "line 1"),
    ("deny project dp001,dp002\n", "line 1"),
    ("deny project dp001 dp002\n", "line 1"),
    ("cap max_pilots many\n", "line 1"),
    ("cap max_jobs 3\n", "line 1"),
    ("[deny]\n", "line 1"),
    (f"deny user {'a' * 65}\n", "line 1"),
    ("#" * RULES_MAX_BYTES + "\n", "longer than"),
]
"""Files that say nothing, each with a word of the reason."""


def read(text: str) -> SiteRules:
    return parse_site_rules(text.encode("latin-1"), file=FILE)


def test_every_kind_of_line() -> None:
    rules = read(
        "# for pilots\n\n allow vo astro # ours\nallow user Carol\ndeny\tproject DP001\ndeny user mallory\n"
        "cap max_pilots 9\ncap max_pilots 4\ncap max_pending 2\nCAP max_cores 64\n"
    )
    assert rules == SiteRules(
        file=FILE,
        allow=(Rule(kind="user", name="carol"), Rule(kind="vo", name="astro")),
        deny=(Rule(kind="project", name="dp001"), Rule(kind="user", name="mallory")),
        max_pilots=4,
        max_pending=2,
        max_cores=64,
    )
    assert "" == rules.closed
    assert (
        "allow user carol; allow vo astro; deny project dp001; deny user mallory; "
        "cap max_pilots 4; cap max_pending 2; cap max_cores 64"
    ) == rules.words()


def test_a_file_without_rules_allows_everything() -> None:
    for text in ("", "\n", "# nothing\n"):
        assert read(text) == SiteRules(file=FILE)
        assert "" == read(text).denies(user="x", project="", vos=())


@pytest.mark.parametrize(("text", "word"), GARBAGE)
def test_garbage_closes_the_site_and_names_the_line(text: str, word: str) -> None:
    # Mutation: parse_site_rules skips a line that it does not know.
    rules = read(text)
    assert word in rules.problem
    assert FILE in rules.closed
    assert rules.denies(user="alice", project="dp001", vos=("astro",))


def test_pause_with_and_without_a_reason() -> None:
    assert (
        f"paused by the site's admin in {FILE}: Power work until Tuesday"
        == read("pause Power work until Tuesday\n").closed
    )
    assert "no reason given" in read("pause\n").closed


def test_a_denial_is_stronger_and_an_allow_line_shuts_out_the_rest() -> None:
    rules = read("allow vo astro\nallow user carol\ndeny user mallory\n")
    assert "" == rules.denies(user="alice", project="dp001", vos=("astro",))
    assert "" == rules.denies(user="Carol", project="bio01", vos=("bio",))
    assert f"{FILE} denies user mallory" == rules.denies(user="mallory", project="dp001", vos=("astro",))
    assert f"{FILE} allows only user carol, vo astro" == rules.denies(user="dave", project="bio01", vos=("bio",))


words = st.sampled_from(
    [
        "deny",
        "allow",
        "cap",
        "vo",
        "project",
        "user",
        "astro",
        "bio",
        "dp001",
        "Bio01",
        "alice",
        "max_pilots",
        "max_cores",
        "7",
        "1234567890",
        "#",
        "#x",
        "Deny",
        "a,b",
        "$HOME",
        "*",
        "-n",
        "\\",
        "a.b+c@d:e/f-g",
        "x" * 64,
        "x" * 65,
    ]
)
good_lines = st.sampled_from(
    [
        "deny vo bio",
        "allow vo astro",
        "allow vo none",
        "deny project dp001",
        "allow project dp002",
        "deny user alice",
        "allow user Bob",
        "cap max_pilots 3",
        "",
        "# note",
        "\tdeny  user\tcarol ",
        "deny project bio01 # because",
    ]
)
lines = st.one_of(good_lines, good_lines, good_lines, st.lists(words, max_size=4).map(" ".join), st.just("pause now"))
files = st.one_of(
    st.lists(good_lines, max_size=8).map(lambda made: "".join(f"{line}\n" for line in made).encode()),
    st.lists(lines, max_size=5).map(lambda made: "".join(f"{line}\n" for line in made).encode()),
    st.lists(lines, max_size=3).map(lambda made: "\n".join(made).encode()),
    st.binary(max_size=60),
)


def by_script(shell: list[str], raw: bytes | None) -> dict[str, str]:
    """What policy.sh publishes of a file, lists sorted and each name once."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        (here / "run").mkdir()
        (here / "home-spool").mkdir()
        (here / "vo.map").write_text(vo_map_text(VOS))
        shutil.copy(POLICY_SCRIPT, here / "policy.sh")
        if raw is not None:
            (here / "site-policy").write_bytes(raw)
        done = subprocess.run([*shell, str(here / "policy.sh")], capture_output=True, text=True, check=True)
    assert "" == done.stderr
    said = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
    return {key: _sorted(value) for key, value in said.items()}


def _sorted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return '"' + ",".join(sorted(set(filter(None, value.strip('"').split(","))))) + '"'


# Mutation: drop the check of the last byte in policy.sh.
@settings(max_examples=120, deadline=None)
@given(raw=files, n=st.integers(0, len(SHELLS) - 1))
def test_pilots_and_factory_read_the_same(raw: bytes, n: int) -> None:
    assert published_rules(parse_site_rules(raw, file=FILE), VOS) == by_script(SHELLS[n], raw)


# Mutations: drop the check of strange bytes, or of the number of words in policy.sh.
@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_garbage_closes_the_pilot_too(shell: list[str]) -> None:
    for text, _ in GARBAGE:
        assert {"GlideinPaused": "true", "GlideinDenied": '""', "GlideinAllowed": '""'} == by_script(
            shell, text.encode("latin-1")
        ), text


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_no_file_is_no_restriction_and_too_long_a_one_is_none_either(shell: list[str]) -> None:
    assert published_rules(SiteRules(), VOS) == by_script(shell, None)
    raw = b"deny user x\n" * 2000
    assert published_rules(parse_site_rules(raw, file=FILE), VOS) == by_script(shell, raw)
    assert "true" == by_script(shell, raw)["GlideinPaused"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_what_cannot_be_looked_at_closes_the_pilot(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "vo.map").write_text("")
    shutil.copy(POLICY_SCRIPT, tmp_path / "policy.sh")

    def paused() -> bool:
        command = [*shell, str(tmp_path / "policy.sh")]
        return "GlideinPaused = true" in subprocess.run(command, capture_output=True, text=True, check=True).stdout

    # The home is away, and the file with it: that is not "no file".
    assert paused()
    (tmp_path / "home-spool").mkdir()
    assert not paused()
    (tmp_path / "site-policy").mkdir()
    assert paused()


users = st.sampled_from(["alice", "Bob", "carol", "mallory"])
projects = st.sampled_from(["dp001", "DP001", "dp002", "Bio01", "other", ""])


# Mutation: rules_expression without its last line, or _expanded without the VO itself.
@settings(max_examples=300, deadline=None)
@given(raw=files, user=users, project=projects)
def test_start_decides_as_the_plan_does(raw: bytes, user: str, project: str) -> None:
    rules = parse_site_rules(raw, file=FILE)
    slot = classad2.ClassAd("[ " + "; ".join(f"{k} = {v}" for k, v in published_rules(rules, VOS).items()) + " ]")
    slot["Requirements"] = classad2.ExprTree(rules_expression())
    job = classad2.ClassAd({"Owner": user, "Requirements": True})
    if project:
        job["AcctGroup"] = project
    vos = {name.lower(): of for name, of in VOS.items()}.get(project.lower(), ())
    assert bool(rules.denies(user=user, project=project, vos=vos)) != bool(job.symmetricMatch(slot))


def test_a_slot_that_does_not_say_takes_nothing() -> None:
    slot = classad2.ClassAd()
    slot["Requirements"] = classad2.ExprTree(rules_expression())
    assert not classad2.ClassAd({"Owner": "alice", "Requirements": True}).symmetricMatch(slot)
