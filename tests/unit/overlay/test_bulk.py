"""What matching in bulk could get wrong, case by case."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from overlay.forms import Comparison, Either, Plain, form_of, syntax_of
from overlay.matching import Matcher, match_table
from overlay.model import Bucket, MatchTable
from tests.tables import slow_rows


def buckets(jobs: Iterable[str]) -> list[Bucket]:
    return [
        Bucket(
            key=f"ap1:{n}",
            ap="ap1",
            user="ada@pool",
            group="",
            jobs=1,
            first_job="1.0",
            cores=1,
            memory_mib=1,
            disk_mib=1,
            ad_text=text,
        )
        for n, text in enumerate(jobs)
    ]


def slots(ads: Iterable[str], prefix: str = "offer:") -> dict[str, str]:
    return {f"{prefix}{n:03}": text for n, text in enumerate(ads)}


def answers(table: MatchTable) -> dict[tuple[str, str], bool | None]:
    return {(bucket, slot): table.matches_key(bucket, slot) for bucket in table.rows for slot in table.columns}


def check(matcher: Matcher, jobs: Iterable[str], ads: dict[str, str], now_s: float) -> int:
    """Compare with HTCondor's own match of each pair; how many match."""
    found = buckets(jobs)
    expected = slow_rows({bucket.key: bucket.ad_text for bucket in found}, ads, now_s=now_s)
    assert expected == answers(matcher.table(found, ads, now_s=now_s))
    return sum(expected.values())


# Mutation: each line names what may be taken out or changed for its case to fail.
@pytest.mark.parametrize(
    ("jobs", "ads", "matching"),
    [
        pytest.param(  # forms.PURE with eval in it
            ['[ Which = "B"; Requirements = eval(TARGET.Which) == 1 ]'],
            [
                '[ Which = "A"; A = 1; B = 2; Requirements = true ]',
                '[ Which = "A"; A = 2; B = 2; Requirements = true ]',
            ],
            1,
            id="eval reads what no text names",
        ),
        pytest.param(  # bulk.reach_of: names are followed through attributes
            ["[ Requirements = TARGET.Good ]"],
            [
                "[ Good = Mine > 2; Mine = 1; Requirements = true ]",
                "[ Good = Mine > 2; Mine = 3; Requirements = true ]",
            ],
            1,
            id="an attribute of the slot that is an expression",
        ),
        pytest.param(  # bulk.reach_of: a bare name that the job has not
            ["[ Requirements = Big; Big = true ]", "[ Requirements = Big ]", "[ Requirements = Big; Big = false ]"],
            ["[ Big = true; Requirements = true ]", "[ Big = false; Requirements = true ]", "[ Requirements = true ]"],
            4,
            id="a name of the job, or else of the slot",
        ),
        pytest.param(
            [
                "[ RequestMemory = Usage ?: 3; Requirements = TARGET.Memory >= RequestMemory ]",
                "[ RequestMemory = Usage ?: 3; Requirements = TARGET.Memory >= RequestMemory; Usage = 5 ]",
            ],
            [f"[ Memory = {n}; Requirements = TARGET.RequestMemory <= Memory ]" for n in range(8)],
            8,
            id="a request that is an expression, with and without what it reads",
        ),
        pytest.param(  # valueindex: bisect_left and bisect_right exchanged
            [
                f"[ Want = {n}; Requirements = TARGET.Memory {op} Want ]"
                for n in ("1", "2", "2.0", "3.5", '"2"', "true", "undefined")
                for op in ("<", "<=", ">", ">=", "==", "=?=", "!=")
            ],
            [
                f"[ Memory = {n}; Requirements = true ]"
                for n in ("1", "2", "2.0", "2.5", "true", '"2"', "undefined", "error")
            ],
            84,
            id="numbers, reals and what is neither",
        ),
        pytest.param(
            [
                f"[ Requirements = TARGET.Memory {op} {n} ]"
                for n in ("9007199254740993", "9007199254740992.0", "-9007199254740993")
                for op in ("==", "<", ">=", "=?=")
            ],
            [
                f"[ Memory = {n}; Requirements = true ]"
                for n in ("9007199254740992", "9007199254740993", "9007199254740994")
            ],
            13,
            id="integers that a real does not hold",
        ),
        pytest.param(  # valueindex: strings by their exact text
            [
                f'[ Requirements = TARGET.Site {op} "{name}" ]'
                for name in ("alpha", "ALPHA", "ä", "")
                for op in ("==", "=?=", "!=", "=!=", "<")
            ],
            [f'[ Site = "{name}"; Requirements = true ]' for name in ("alpha", "Alpha", "beta", "Ä", "ä", "")],
            55,
            id="strings of every case",
        ),
        pytest.param(  # valueindex: lists are split at blanks and commas
            [
                f'[ List = "{names}"; Requirements = {call}(TARGET.Site, List) ]'
                for names in ("alpha,beta", " alpha ; beta", "ALPHA", "", ",", "a b,c")
                for call in ("stringListMember", "stringListIMember")
            ],
            [f'[ Site = "{name}"; Requirements = true ]' for name in ("alpha", "Alpha", "beta", "a b", "b", "")],
            14,
            id="lists of sites",
        ),
        pytest.param(  # Clause.row without "& ~error"
            [
                "[ Requirements = (TARGET.A < 3) || (TARGET.B == 1) ]",
                "[ Requirements = TARGET.B == 1 || TARGET.A < 3 || TARGET.C ]",
            ],
            [
                f"[ A = {a}; B = {b}; C = true; Requirements = true ]"
                for a in ("error", "5", "undefined", '"x"')
                for b in ("1", "2", "error")
            ],
            8,
            id="an error hides what stands behind it",
        ),
        pytest.param(
            [
                '[ Requirements = true; Owner = "ada" ]',
                '[ Requirements = true; Owner = "bob" ]',
                "[ Requirements = true ]",
            ],
            [
                '[ Start = TARGET.Owner == "ada"; Requirements = Start ]',
                "[ Requirements = true ]",
                '[ Start = TARGET.Owner =!= "ada"; Requirements = Start && true ]',
                "[ Cpus = 1 ]",
            ],
            6,
            id="slots with rules of their own",
        ),
    ],
)
def test_hard_cases_match_as_in_htcondor(jobs: list[str], ads: list[str], matching: int) -> None:
    assert matching == check(Matcher(), jobs, slots(ads) | slots(ads, "pilot:"), 10) // 2


START = "(TARGET.Time ?: 5) + 1 < GlideinToDie - time() && time() < GlideinToRetire"


def offer(die_s: int, *, more: str = "") -> str:
    ends = f"GlideinToDie = {die_s}; GlideinToRetire = {die_s - 1}{more}"
    return f"[ Name = 1; {ends}; Start = {START}; Requirements = Start ]"


# Mutation: Leaf.refresh without the clock; SlotBlock.update that takes no name for moved; SlotAds that does not look
# whether what moved is an attribute.
def test_time_and_what_moves_with_it() -> None:
    matcher = Matcher()
    jobs = ["[ Requirements = true ]", "[ Time = 2; Requirements = true ]", "[ Requirements = time() >= 13; Time = 1 ]"]
    tricky = '; Text = "; GlideinToDie = 10;"; Wanted = 1'

    ads = slots([offer(20), offer(16, more=tricky)])
    found = [check(matcher, jobs, ads, now) for now in range(10, 20)]
    assert found == [3, 3, 3, 4, 2, 2, 2, 1, 0, 0]
    moved = [slots([offer(now + 7), offer(now + 4), offer(now + now % 3 + 3)]) for now in range(10, 20)]
    found = [check(matcher, jobs, ads, now) for now, ads in enumerate(moved, start=10)]
    assert found == [4, 4, 3, 7, 7, 6, 7, 7, 6, 7]


# Mutation: SlotBlock.groups keeps groups whose bits changed; Matcher._row keeps clauses of another version.
def test_slots_that_come_go_and_change_places() -> None:
    matcher = Matcher()
    jobs = [f"[ Want = {n}; Requirements = TARGET.Memory >= Want && Nice isnt false ]" for n in range(4)]
    ads = slots([f"[ Memory = {n}; Requirements = TARGET.Want > 0 ]" for n in range(4)], "pilot:")

    assert check(matcher, jobs, ads, 1) == 6
    assert check(matcher, jobs, dict(list(ads.items())[1:]), 1) == 6
    assert check(matcher, jobs, {}, 1) == 0
    ads["pilot:000"] = "[ Memory = 9; Requirements = true ]"
    assert check(matcher, jobs, ads, 1) == 10
    ads["pilot:000"] = "[ Memory = 9; Nice = false; Requirements = true ]"
    assert check(matcher, jobs, ads, 1) == 6
    assert check(matcher, jobs, ads | {"pilot:001": "[ nonsense", "offer:a": "[ Memory = 1 ]"}, 1) == 5


# Mutation: BulkMatch.update without bounds.
def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = Matcher()
    for moment in range(60):
        jobs = [f"[ Requirements = TARGET.Memory != {moment}{n} ]" for n in range(40)]
        matcher.table(buckets(jobs), slots(["[ Memory = 1; Requirements = true ]"]), now_s=moment)

    assert len(matcher._offers._clauses) > 2000
    monkeypatch.setattr("overlay.bulk.KEPT_MAX", 0)
    matcher.table(buckets(jobs), slots(["[ Memory = 1; Requirements = true ]"]), now_s=61)
    assert len(matcher._offers._clauses) <= 41
    assert len(matcher._jobs) == 40


def test_buckets_that_match_the_same_slots_have_equal_rows() -> None:
    jobs = buckets(["[ A = 1; Requirements = TARGET.M > 1 ]", "[ A = 2; Requirements = TARGET.M > 1 ]"])
    table = match_table(jobs, slots([f"[ M = {n}; Requirements = true ]" for n in range(4)]), now_s=0)

    assert table.rows == {"ap1:0": 0b1100, "ap1:1": 0b1100}
    assert table.bits_of(["offer:003", "offer:nowhere"]) == 0b1000
    assert table.matches_key("ap1:0", "offer:nowhere") is None
    assert table.matches_key("ap1:9", "offer:001") is None


@pytest.mark.parametrize(
    ("expression", "form"),
    [
        ("TARGET.Memory >= RequestMemory", Comparison(">=", "TARGET.Memory", "RequestMemory")),
        ('((TARGET.Site) is "a")', Comparison("=?=", "(TARGET.Site)", '"a"')),
        ("a < b == c", Comparison("==", "a < b", "c")),
        ("!a == b", Comparison("==", "!a", "b")),
        ("stringListMember(Site, strcat(a, b))", Comparison("stringlistmember", "Site", "strcat(a, b)")),
        ("stringListMember(Site, a) || ((b))", Either(("stringListMember(Site, a)", "b"))),
        ("a == b == c", Plain()),
        ("a == b & c", Plain()),
        ("a == b ? c : d", Plain()),
        ("a ?: b == c", Plain()),
        ("!(a == b)", Plain()),
        ('stringListMember(a, b, ",")', Plain()),
        ("f(a == b)", Plain()),
    ],
)
def test_form_of_an_expression(expression: str, form: object) -> None:
    assert form_of(expression) == form


@pytest.mark.parametrize(
    "expression",
    [
        "eval(a)",
        "unparse(a) == b",
        "'a b' == 1",
        "MY[a] == 1",
        "a.b",
        "TARGET.MY.a",
        "CurrentTime > 3",
        "parent.a",
        "f(MY)",
        ".a == 1",
        "random() < 1",
        "time(3) > 2",
        "{a}[0]",
    ],
)
def test_expression_that_may_read_anything_is_opaque(expression: str) -> None:
    assert syntax_of(expression).opaque


def test_what_an_expression_reads() -> None:
    found = syntax_of('MY.A >= TARGET.b && split(C)[1] == "d" && time() > 1.5E3 && e is undefined')

    assert (found.opaque, found.clock) == (False, True)
    assert found.reads == (("my", "a"), ("target", "b"), ("", "c"), ("", "e"))


# Mutation: SlotBlock.update without "key[0] == WHOLE".
def test_expression_that_is_read_as_a_whole_sees_what_moved() -> None:
    matcher = Matcher()
    jobs = ['[ Requirements = eval("TARGET.GlideinToDie") > 14 ]']
    plain = "[ Name = 1; GlideinToDie = {}; GlideinToRetire = 1; Requirements = true ]"

    assert [check(matcher, jobs, slots([plain.format(die)]), 1) for die in (10, 20, 12)] == [0, 1, 0]


# Mutation: BulkMatch.row begins the steady cells with the readable slots of that cycle.
def test_slot_that_comes_is_seen_by_a_job_that_asks_for_time_alone() -> None:
    matcher = Matcher()
    jobs = ["[ Want = 3; Requirements = TARGET.GlideinToDie > Want ]"]
    ads = slots(["[ Name = 1; GlideinToDie = 9; GlideinToRetire = 1; Requirements = true ]"] * 3)

    assert [check(matcher, jobs, dict(list(ads.items())[:n]), 1) for n in (1, 2, 3, 2)] == [1, 2, 3, 2]
