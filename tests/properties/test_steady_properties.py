"""
Laws of the planner over many cycles: plan, carry out, plan again, while the load stays as it is.

Each comment names mutations of the code that turn the test red; each was tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import World, crowded_world, crowded_worlds, with_intents, worlds

from factory.model import BreakerPolicy
from factory.plan import decide, jobs_per_pilot, plan
from glidein.model import Offer, PilotPhase
from overlay.model import Bucket, DemandUnseen

STEP_S = 150
CYCLES = 16
"""What is surplus at the beginning is cancelled two cycles later; that may make room for others, and so again."""
SETTLED = 12


@dataclass(kw_only=True)
class _History:
    """What became of a world."""

    submits: list[tuple[str, ...]] = field(default_factory=list)
    """The buckets that pilots were asked for, cycle by cycle."""
    cancels: list[tuple[tuple[str, Offer], ...]] = field(default_factory=list)


def _open_doors(world: World) -> World:
    """The same without what spreads the asking over several cycles: that is not flapping."""
    many = BreakerPolicy(failures=1000, fizzle_s=60, backoff_s=300, backoff_max_s=3600)
    policy = replace(world.policy, max_submits_per_cycle=1000, ramp_percent=100, breaker=many)
    waiting = tuple(
        replace(pilot, phase=PilotPhase.PENDING)
        if pilot.phase in (PilotPhase.UNKNOWN, PilotPhase.INTENDED, PilotPhase.UNCERTAIN)
        else pilot
        for pilot in world.observation.pilots
    )
    return replace(world, observation=replace(world.observation, pilots=waiting), policy=policy)


def _lived(world: World, *, start: float = 0.0, seed: int = 0) -> _History:
    """
    Cycle after cycle: what is asked for waits at its site, what is cancelled is gone, and the jobs stay as many.

    ``start``: this part of the waiting pilots starts between two cycles, and is full with jobs in the next, for which
    as many new ones come to the queue.
    """
    rng, told = Random(seed), _History()
    for n in range(CYCLES):
        decided = plan(replace(world.observation, cycle=f"6b49d2{n:02x}abcd"), world.table, world.policy)
        by_id = {pilot.pilot_id: pilot for pilot in world.observation.pilots}
        told.submits.append(decided.asked_for)
        told.cancels.append(tuple((one.pilot_id, by_id[one.pilot_id].offer) for one in decided.cancels))
        gone = {cancel.pilot_id for cancel in decided.cancels}
        now_s = int(world.observation.now_s)
        pilots = []
        for pilot in with_intents(world, decided).observation.pilots:
            if pilot.pilot_id in gone:
                continue
            since_s = (pilot.surplus_since_s or now_s) if pilot.pilot_id in decided.surplus else None
            phase = PilotPhase.PENDING if pilot.phase is PilotPhase.INTENDED else pilot.phase
            if pilot.phase is PilotPhase.PENDING and rng.random() < start:
                phase = PilotPhase.ENDING  # full: it offers nothing
            pilots.append(replace(pilot, phase=phase, sent="submitted", surplus_since_s=since_s))
        seen = replace(world.observation, pilots=tuple(pilots), now_s=now_s + STEP_S)
        world = replace(world, observation=seen)
    return told


def _buckets(world: World) -> dict[str, Bucket]:
    found = (demand for demand in world.observation.demands if not isinstance(demand, DemandUnseen))
    return {bucket.key: bucket for demand in found for bucket in demand.buckets}


# Mutations: absorb.supply leaves out pilots that wait; plan._surplus takes the needed ones too.
@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_under_constant_load_nothing_is_asked_for_after_the_first_cycles_and_nothing_cancelled(seed: int) -> None:
    world = _open_doors(crowded_world(seed))
    told = _lived(world)
    before = {pilot.pilot_id for pilot in world.observation.pilots}
    assert {pilot_id for cancels in told.cancels for pilot_id, _ in cancels} <= before
    if not any(told.cancels):
        assert not any(told.submits[1:])
    assert not any(told.submits[SETTLED:])
    assert not any(told.cancels[SETTLED:])


# Mutation: plan._surplus takes the needed ones too.
@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_no_pilot_is_asked_for_where_one_was_cancelled_that_would_have_done(seed: int) -> None:
    world = _open_doors(crowded_world(seed))
    told = _lived(world)
    buckets = _buckets(world)
    gone: list[Offer] = []
    for submits, cancels in zip(told.submits, told.cancels, strict=True):
        for key in submits:
            assert not [o for o in gone if jobs_per_pilot(buckets[key], o, world.table, world.policy)]
        gone += [offer for _, offer in cancels]


# Mutation: plan._surplus takes the needed ones too.
@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.2, 0.6, 1.0)))
def test_while_pilots_start_and_as_many_jobs_come_none_that_was_asked_for_is_cancelled(seed: int, start: float) -> None:
    world = _open_doors(crowded_world(seed))
    before = {pilot.pilot_id for pilot in world.observation.pilots}
    told = _lived(world, start=start, seed=seed)
    assert {pilot_id for cancels in told.cancels for pilot_id, _ in cancels} <= before


# Mutations: plan._serve without "jobs -= taken" after a new pilot; Stock.add gives it one job only.
@given(worlds() | crowded_worlds)
def test_no_more_is_asked_for_than_the_need_rounded_up_to_shapes(world: World) -> None:
    demands = [d for d in world.observation.demands if not isinstance(d, DemandUnseen) and d.buckets]
    if not demands:
        return
    alone = replace(demands[0], buckets=(replace(demands[0].buckets[0], jobs=9),))
    decision = decide(replace(world.observation, demands=(alone,)), world.table, world.policy)
    for placed in decision.placed.values():
        offers = {(e.offer.site, e.offer.name): e.offer for s in world.policy.sites for e in s.entries}
        held = [
            (one.count, jobs_per_pilot(placed.bucket, offers[one.site, one.shape], world.table, world.policy))
            for one in placed.granted
        ]
        if held:
            assert sum(count * each for count, each in held) - max(each for _, each in held) < placed.rest


# Mutation: plan._serve without "jobs -= taken" after a new pilot.
@given(worlds() | crowded_worlds)
def test_each_new_pilot_takes_a_job_that_nothing_else_takes(world: World) -> None:
    decision = decide(world.observation, world.table, world.policy)
    for placed in decision.placed.values():
        assert all(one.count <= one.jobs for one in placed.granted)
        assert sum(one.jobs for one in placed.granted) == placed.rest - placed.unplaced
