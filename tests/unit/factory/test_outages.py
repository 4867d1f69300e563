"""No pilot runs into an outage: of the operator's file, or a reservation of the whole partition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import NOW_S, SHAPE, bucket, demand, observation, policy, record, seen, site_policy, table

from factory.journal import observation_json, read_observation
from factory.model import Observation, Outage, Policy, Reason
from factory.plan import plan
from factory.sites.contract import Closure
from factory.verdict import verdicts
from glidein.model import PilotPhase

LIFE_S = SHAPE.walltime_s


def rules(*windows: tuple[int, int]) -> Policy:
    outages = tuple(Outage(start_s=NOW_S + start, end_s=NOW_S + end, why="cooling") for start, end in windows)
    return policy(replace(site_policy("alpha"), outages=outages))


def world_of(**more: object) -> Observation:
    return observation(sites=("alpha",), **more)


def asked(observed: Observation, rules: Policy) -> int:
    return sum(submit.count for submit in plan(observed, table(observed), rules).submits)


def reason(observed: Observation, rules: Policy) -> Reason:
    (verdict,) = verdicts(observed, table(observed), rules, "ap1/a")
    assert 0 == verdict.granted
    return verdict.reasons[0]


@pytest.mark.parametrize(
    ("start", "end", "pilots"),
    [(-10, -1, 1), (-10, 0, 1), (-10, 1, 0), (LIFE_S - 1, LIFE_S + 1, 0), (LIFE_S, LIFE_S + 10, 1)],
)
def test_a_pilot_is_asked_for_only_if_it_ends_before_the_outage(start: int, end: int, pilots: int) -> None:
    # Mutation: caps._block ends with `return None`; outages._crosses looks at the present moment only.
    world = world_of(demands=(demand(bucket()),))
    assert pilots == asked(world, rules((start, end)))


def test_the_verdict_names_the_window_and_its_owner() -> None:
    world = world_of(demands=(demand(bucket()),))
    found = reason(world, rules((600, 4000)))
    assert ("outage", "operator", 0) == (found.code, found.owner, found.allowed)
    assert "cooling" in found.text
    assert "begins in 600 s" in found.text
    assert f"a pilot has {LIFE_S} s" in found.text


def test_a_reserved_partition_gets_no_pilot_and_the_owner_is_the_site() -> None:
    closure = Closure(partition="main", start_s=NOW_S + 60, end_s=NOW_S + 9000, why="reservation maint (MAINT)")
    world = replace(world_of(demands=(demand(bucket()),)), sites=(replace(seen("alpha"), closures=(closure,)),))
    found = reason(world, rules())
    assert ("outage", "site") == (found.code, found.owner)
    assert "reservation maint (MAINT)" in found.text
    # Mutation: outage_reason without the comparison of partitions.
    other = replace(world, sites=(replace(seen("alpha"), closures=(replace(closure, partition="gpu"),)),))
    assert 1 == asked(other, rules())
    assert world == read_observation(observation_json(world))


def test_reservations_that_nobody_could_read_stop_nothing() -> None:
    world = replace(
        world_of(demands=(demand(bucket()),)), sites=(replace(seen("alpha"), closures_unseen="scontrol: no"),)
    )
    assert 1 == asked(world, rules())


def test_pilots_that_wait_are_taken_back_before_the_operators_outage_and_running_ones_are_not() -> None:
    # Mutation: plan._taken_back without cancels_before_outages. Slurm itself keeps pilots off a reservation.
    waits, runs = record("alpha", 1, PilotPhase.PENDING), record("alpha", 2, PilotPhase.BUSY)
    world = world_of(demands=(demand(bucket()),), pilots=(waits, runs))
    (cancel,) = plan(world, table(world), rules((600, 4000))).cancels
    assert waits.pilot_id == cancel.pilot_id
    assert "cooling" in cancel.reason
    assert () == plan(world, table(world), rules((LIFE_S + 1, LIFE_S + 9))).cancels
