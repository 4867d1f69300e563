"""Pilots that join and run nothing, by example; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import (
    NOW_S,
    bucket,
    demand,
    observation,
    outcome,
    policy,
    record,
    site_policy,
    slot,
    slots,
    table,
)

from accounting.model import PilotRecord
from factory.barren import barren, brakes, patience
from factory.breaker import outcomes_of
from factory.model import Brake, Observation, Outcome, Plan, SiteOutcomes
from factory.plan import plan
from factory.verdict import verdicts
from glidein.model import EndReason, PilotPhase
from overlay.model import DemandAtLeast, Match, SlotsSeen, SlotsUnseen
from tests.tables import table_of

TWO = policy(site_policy("alpha"), site_policy("beta"))
ONE = policy(site_policy("alpha"))
PATIENCE_S = patience(TWO.lifetimes)


def fruitless(ago_s: int, **more: object) -> Outcome:
    fields: dict[str, object] = {"joined": True, "jobs": 0, "asked_for": "ap1/a", "barren_s": PATIENCE_S, **more}
    return outcome(NOW_S - ago_s, EndReason.IDLE, **fields)  # type: ignore[arg-type]


def world(*told: Outcome, pilots: tuple[PilotRecord, ...] = (), keys: tuple[str, ...] = ("ap1/a",)) -> Observation:
    return observation(
        demands=(demand(*(bucket(key, jobs=8) for key in keys)),),
        outcomes=(SiteOutcomes(site="alpha", outcomes=told),),
        pilots=pilots,
    )


def planned(observed: Observation) -> Plan:
    return plan(observed, table(observed), TWO)


def held(observed: Observation) -> tuple[Brake, ...]:
    return brakes(observed, table(observed), TWO)


THREE = (fruitless(200), fruitless(150), fruitless(100))


# Mutations: plan._serve without "| shut(...)"; barren._allowed gives 1 where the mode is open; barren.brakes counts
# all outcomes for the first bucket.
def test_after_three_in_a_row_the_site_is_held_back_for_these_jobs_only() -> None:
    seen = world(*THREE, keys=("ap1/b", "ap1/a"))
    decided = plan(seen, table(seen), ONE)
    assert (Brake(bucket="ap1/a", site="alpha", mode="open", failures=3, retry_at_s=NOW_S + 200, allowed=0),) == (
        decided.brakes
    )
    assert {"ap1/b"} == set(decided.asked_for)
    assert {"beta"} == {one.site for one in planned(world(*THREE)).submits}


# Mutation: verdict._held_back without _barren.
@pytest.mark.parametrize(
    ("told", "words", "granted"),
    [
        (THREE, "the last 3 pilots that site alpha got for these jobs joined and ran nothing while the jobs waited; "
                "next probe at ", 0),
        (tuple(replace(one, at_s=one.at_s - 300) for one in THREE), "one probe at a time", 1),
        (THREE[:2], "the last 2 pilots that site alpha got", 1),
    ],
)  # fmt: skip
def test_the_verdict_says_so_with_numbers_and_owner(told: tuple[Outcome, ...], words: str, granted: int) -> None:
    seen = world(*told)
    (verdict,) = verdicts(seen, table(seen), ONE, "ap1/a")
    (reason,) = verdict.reasons
    assert ("matches_nothing", 2, granted, "factory") == (reason.code, reason.wanted, reason.allowed, reason.owner)
    assert words in reason.text


# Mutations, one each: barren._judge_ended without "outcome.jobs == 0", without the patience, without "joined".
@pytest.mark.parametrize(
    "no_failure",
    [{"jobs": None}, {"barren_s": PATIENCE_S - 1}, {"joined": False}, {"asked_for": "ap1/other"}, {"asked_for": ""}],
)
def test_what_is_no_failure(no_failure: dict[str, object]) -> None:
    assert () == held(world(*(replace(one, **no_failure) for one in THREE), keys=("ap1/a", "ap1/b")))  # type: ignore[arg-type]


# Mutation: barren._judge_ended never says success.
def test_a_pilot_that_ran_jobs_ends_it() -> None:
    assert () == held(world(*THREE, fruitless(50, jobs=2)))
    busy = record("alpha", 7, PilotPhase.BUSY, asked_for="ap1/a", joined_s=NOW_S - 40)
    assert () == held(world(*THREE, pilots=(busy,)))


# Mutation: barren._allowed gives 1 half open whatever is undecided.
def test_half_open_one_probe_goes_and_no_second() -> None:
    told = tuple(replace(one, at_s=one.at_s - 300) for one in THREE)
    assert 1 == planned(world(*told)).asked_for.count("ap1/a") - sum(
        one.count for one in planned(world(*told)).submits if one.site == "beta"
    )
    probe = record("alpha", 7, PilotPhase.PENDING, asked_for="ap1/a")
    (brake,) = held(world(*told, pilots=(probe,)))
    assert ("half_open", 0) == (brake.mode, brake.allowed)


def idle(n: int = 7, **more: object) -> PilotRecord:
    fields = {"asked_for": "ap1/a", "joined_s": NOW_S - 60, "started_s": NOW_S - 90, "slot_seen_s": NOW_S, **more}
    return replace(record("alpha", n, PilotPhase.IDLE), **fields)  # type: ignore[arg-type]


def with_slot(pilot: PilotRecord, **more: object) -> Observation:
    return replace(world(pilots=(pilot,)), slots=slots(slot(pilot, **more)))


# Mutations: barren._judge without "refuses"; without the life that is left; without the offer's own match.
def test_a_slot_that_refuses_the_jobs_need_not_be_waited_for() -> None:
    seen = with_slot(idle())
    name = f"pilot:{idle().pilot_id}"
    yes, no = Match(matches=True), Match(matches=False)
    pairs = {("ap1/a", "offer:alpha"): yes, ("ap1/a", name): no}
    (brake,) = brakes(seen, table_of(pairs), TWO)
    assert ("closed", 1, 2) == (brake.mode, brake.failures, brake.allowed)
    assert () == brakes(seen, table_of({("ap1/a", "offer:alpha"): yes, ("ap1/a", name): yes}), TWO)
    assert () == brakes(seen, table_of({("ap1/a", "offer:alpha"): no, ("ap1/a", name): no}), TWO)
    assert () == brakes(with_slot(idle(), to_die_s=NOW_S + 900), table_of(pairs), TWO)


# Mutation: barren._judge without the patience.
def test_a_live_pilot_that_stands_empty_beside_the_jobs_counts_after_a_while() -> None:
    assert () == held(with_slot(idle(barren_since_s=NOW_S - PATIENCE_S + 1)))
    assert 1 == len(held(with_slot(idle(barren_since_s=NOW_S - PATIENCE_S))))


# Mutations, one each: barren.barren without _is_busy; without "and all_seen"; without "joined_s"; without "accepting";
# without "barren_since_s is not None".
def test_who_is_barren() -> None:
    pilot = idle()
    marked = idle(barren_since_s=NOW_S - 60)
    assert (pilot.pilot_id,) == barren(with_slot(pilot))
    assert () == barren(with_slot(idle(asked_for="")))
    assert () == barren(with_slot(idle(joined_s=None)))
    assert () == barren(with_slot(marked, busy_cores=1))
    assert () == barren(replace(with_slot(marked), demands=(demand(),)))
    assert () == barren(with_slot(pilot, accepting=False))
    # What was said before stays while it leaves, and where something is not seen.
    assert (marked.pilot_id,) == barren(with_slot(marked, accepting=False))
    hidden = DemandAtLeast(ap="ap1", taken_s=NOW_S, buckets=(), reason="more than 10000 ads")
    assert (marked.pilot_id,) == barren(replace(with_slot(marked), demands=(hidden,)))
    unseen = SlotsUnseen(taken_s=NOW_S, reason="no answer in 25 s")
    assert (marked.pilot_id,) == barren(replace(with_slot(marked), slots=unseen))
    assert isinstance(with_slot(marked).slots, SlotsSeen)


# Mutation: breaker._outcome without barren_s.
def test_an_ended_pilot_tells_how_long_it_stood_empty() -> None:
    ended = idle(phase=PilotPhase.ENDED, end_reason=EndReason.IDLE, ended_s=NOW_S, jobs=0, barren_since_s=NOW_S - 400)
    (site,) = outcomes_of([ended])
    assert [("ap1/a", 400)] == [(one.asked_for, one.barren_s) for one in site.outcomes]
