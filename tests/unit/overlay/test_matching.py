"""Matching decides as the negotiator does, at the observation's moment, and names what fails."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from overlay.classads import check_bindings, parse_ad, pin_time
from overlay.clauses import failed_clauses, references, split_conjuncts
from overlay.client import Answer
from overlay.demand import demand_of
from overlay.matching import match_table
from overlay.model import Bucket, DemandSeen, FailedClause, Match, SlotsSeen
from overlay.slots import slots_of
from tests.tables import pairs_of

SLOT = (
    '[ Cpus = 4; Memory = 3500; GlideinSite = "alpha"; GlideinToDie = 5000; HasFoo = true;'
    " WithinResourceLimits = MY.Cpus >= TARGET.RequestCpus && MY.Memory >= TARGET.RequestMemory;"
    " Start = (TARGET.AllowedExecuteDuration ?: 1200) + 60 < GlideinToDie - time();"
    " Requirements = START && WithinResourceLimits ]"
)


def bucket(requirements: str, *, memory_mib: int = 100, more: str = "", key: str = "ap1:b") -> Bucket:
    return Bucket(
        key=key,
        ap="ap1",
        user="alice@pool",
        group="dp001",
        jobs=1,
        first_job="1.0",
        cores=1,
        memory_mib=memory_mib,
        disk_mib=1,
        ad_text=f"[ RequestCpus = 1; RequestMemory = {memory_mib}; Requirements = {requirements}; {more} ]",
    )


def failed(job: Bucket, slot: str = SLOT, *, now_s: float = 1000.0) -> tuple[FailedClause, ...] | None:
    found = match_table([job], {"offer:alpha": slot}, now_s=now_s).get(job.key, "offer:alpha")
    assert found.matches == (found.failed == ())
    return found.failed or None


def test_bindings_evaluate_as_the_negotiator_does() -> None:
    check_bindings()


@pytest.mark.parametrize(
    "requirements",
    ["true", "HasFoo", "HasFoo == true && TARGET.Memory >= RequestMemory", "Memory >= RequestMemory", "1", "2.5"],
)
def test_job_that_the_slot_suits_matches(requirements: str) -> None:
    assert failed(bucket(requirements)) is None


@pytest.mark.parametrize("requirements", ["false", "undefined", "error", "HasBar", "0", '"true"', "1 / 0"])
def test_only_true_is_true(requirements: str) -> None:
    assert failed(bucket(requirements)) is not None


def test_failing_clause_is_named_with_both_values() -> None:
    found = failed(bucket("(TARGET.Cpus >= RequestCpus) && (TARGET.Memory >= RequestMemory)", memory_mib=88231))

    assert found == (
        FailedClause(
            owner="job",
            text="TARGET.Memory >= RequestMemory",
            values=(("Memory", "3500"), ("RequestMemory", "88231")),
        ),
        FailedClause(
            owner="slot",
            text="MY.Memory >= TARGET.RequestMemory",
            values=(("Memory", "3500"), ("RequestMemory", "88231")),
        ),
    )


def test_attribute_that_the_slot_lacks_is_shown_as_undefined() -> None:
    assert failed(bucket('HasFoo && TARGET.Colour == "red"')) == (
        FailedClause(owner="job", text='TARGET.Colour == "red"', values=(("Colour", "undefined"),)),
    )


def test_start_is_opened_to_the_clause_that_fails() -> None:
    found = failed(bucket("true", more="AllowedExecuteDuration = 3980"))

    assert found is not None
    assert [clause.owner for clause in found] == ["slot"]
    assert dict(found[0].values) == {"AllowedExecuteDuration": "3980", "GlideinToDie": "5000"}


def test_clock_is_the_observations() -> None:
    job = bucket("time() >= 900 && CurrentTime >= 900", more="AllowedExecuteDuration = 100")

    assert failed(job, now_s=4800.0) is None
    assert failed(job, now_s=4841.0) is not None
    assert failed(job, now_s=899.0) is not None


def test_matching_the_same_observation_later_gives_the_same_table() -> None:
    jobs = [bucket("TARGET.Cpus > 1 && time() % 7 != 0", key=f"ap1:{n}") for n in range(3)]
    one = match_table(jobs, {"offer:alpha": SLOT}, now_s=1234.5)
    time.sleep(1.1)
    other = match_table(reversed(jobs), {"offer:alpha": SLOT}, now_s=1234.5)

    assert pairs_of(one) == pairs_of(other)


def test_ad_that_cannot_be_read_matches_nothing_and_spares_the_others() -> None:
    good, bad = bucket("true", key="ap1:good"), bucket("(", key="ap1:bad")
    table = match_table([good, bad], {"offer:alpha": SLOT, "offer:beta": "[ nonsense"}, now_s=1000.0)

    assert [table.get("ap1:good", "offer:alpha").matches, table.get("ap1:bad", "offer:alpha").matches] == [True, False]
    assert table.get("ap1:bad", "offer:alpha").failed[0].text == "the ad cannot be read"
    assert not table.get("ap1:good", "offer:beta").matches


def test_running_pilot_is_matched_and_not_explained() -> None:
    table = match_table([bucket("TARGET.Cpus > 9")], {"offer:alpha": SLOT, "pilot:a": SLOT}, now_s=1000.0)

    assert table.get("ap1:b", "offer:alpha").failed
    assert table.get("ap1:b", "pilot:a") == Match(matches=False)


def test_job_without_requirements_matches_nothing() -> None:
    job = bucket("true")
    bare = Bucket(**{name: getattr(job, name) for name in job.__slots__} | {"ad_text": "[ RequestCpus = 1 ]"})
    found = failed(bare)

    assert found is not None
    assert found[0].text == "Requirements"


def test_recorded_jobs_against_recorded_slots(recorded: Callable[..., Answer]) -> None:
    demand = demand_of(recorded("demand-25.14.1.txt", steps=3), ap="ap1", max_buckets=100, now_s=0)
    answer = recorded("slots-25.14.1.txt", steps=2)
    now_s = float(max(parse_ad(ad)["LastHeardFrom"] for ad in answer.steps[0]))  # type: ignore[type-var, arg-type]
    slots = slots_of(answer, max_age_s=300, now_s=now_s)
    assert isinstance(demand, DemandSeen)
    assert isinstance(slots, SlotsSeen)
    ads = {f"offer:{slot.site}": slot.ad_text for slot in slots.slots}
    table = match_table(demand.buckets, ads, now_s=now_s)
    by_job = {b.first_job: b.key for b in demand.buckets}

    def why(job: str, site: str) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        return [(clause.text, clause.values) for clause in table.get(by_job[job], f"offer:{site}").failed]

    assert why("31.4", "alpha") == [
        ("TARGET.Memory >= RequestMemory", (("Memory", "8000"), ("RequestMemory", "88231"))),
        ("TARGET.RequestMemory <= MY.Memory", (("RequestMemory", "88231"), ("Memory", "8000"))),
    ]
    assert why("31.3", "alpha")[0] == ("TARGET.Cpus >= RequestCpus", (("Cpus", "4"), ("RequestCpus", "8")))
    assert why("33.0", "beta") == [
        ("HasFoo == true", (("HasFoo", "undefined"),)),
        ('TARGET.GlideinSite == "alpha"', (("GlideinSite", '"beta"'),)),
    ]
    assert why("32.0", "alpha") == [('TARGET.GlideinSite == "none"', (("GlideinSite", '"alpha"'),))]


@pytest.mark.parametrize(
    ("expression", "clauses"),
    [
        ("a", ("a",)),
        ("((a))", ("a",)),
        ("a && (b || c) && ((d && e))", ("a", "b || c", "d", "e")),
        ("(a && b) || c", ("(a && b) || c",)),
        ("a ? b : c && d", ("a ? b : c && d",)),
        ("a ?: b && c", ("a ?: b && c",)),
        ("(a) && (b)", ("a", "b")),
        ("!(a && b)", ("!(a && b)",)),
        ('"x && y" == z && q', ('"x && y" == z', "q")),
        ("x =?= 1 && y isnt undefined", ("x =?= 1", "y isnt undefined")),
        ("f(c && d, 1) && {a && b}[0] && e", ("f(c && d, 1)", "{a && b}[0]", "e")),
        ("a & b && c | d", ("a & b", "c | d")),
    ],
)
def test_expressions_are_split_at_their_outermost_and(expression: str, clauses: tuple[str, ...]) -> None:
    assert split_conjuncts(expression) == clauses


def test_references_are_attributes_and_nothing_else() -> None:
    text = 'MY.a >= TARGET.b && f(c) && "d" == e && 1.0E5 > 2 && g isnt undefined && h.inner && split(MY.v)[1] && a'
    found = [(reference.scope, reference.name) for reference in references(text)]

    assert found == [("my", "a"), ("target", "b"), ("", "c"), ("", "e"), ("", "g"), ("", "h"), ("my", "v"), ("", "a")]


def test_scope_is_shown_only_where_it_tells_two_apart() -> None:
    mine = parse_ad("[ Cpus = 2; Requirements = MY.Cpus > TARGET.Cpus ]")
    other = parse_ad("[ Cpus = 4 ]")

    assert failed_clauses("job", mine, other)[0].values == (("MY.Cpus", "2"), ("TARGET.Cpus", "4"))


def test_expression_that_names_itself_is_not_opened_for_ever() -> None:
    mine = parse_ad("[ Requirements = Start; Start = Other && false; Other = Start ]")

    assert failed_clauses("slot", mine, parse_ad("[ ]"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("time()", "41"),
        ("Time( ) + time ()", "41 + 41"),
        ('"time()" == x', '"time()" == x'),
        ('"a \\" time()" == time()', '"a \\" time()" == 41'),
        ("mytime() + x.time", "mytime() + x.time"),
        ("formattime(time())", "formattime(41)"),
        ("time(1)", "time(1)"),
    ],
)
def test_clock_is_pinned_outside_strings_only(before: str, after: str) -> None:
    assert pin_time(before, 41) == after
