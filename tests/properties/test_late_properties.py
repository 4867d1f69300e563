"""
Laws of pilots that wait too long, over any small world and over many cycles.

Each comment names a mutation of the code that turns the test red; each was tried.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from lives import STEP_S, History, buckets_of, lived, open_doors
from strategies import NOW_S, World, crowded_world, late_world, late_worlds, worlds

from factory.latecomers import latecomers
from factory.plan import decide, jobs_per_pilot
from glidein.model import PilotPhase
from overlay.model import DemandSeen

NOTICED_S = 600
CYCLES = 40
ASKED = 18
"""
Cycles after which nothing more is asked for: four until pilots are late, at three sites one after the other, and once
more for what the surplus of the beginning leaves room for.
"""


def _alone(world: World, *, jobs: int = 1) -> World:
    """One kind of jobs, and no pilots."""
    bucket = replace(next(iter(buckets_of(world).values())), jobs=jobs, runtime_s=None)
    demand = DemandSeen(ap=bucket.ap, taken_s=NOW_S, buckets=(bucket,), running=0)
    return replace(world, observation=replace(world.observation, demands=(demand,), pilots=()))


def _late(seed: int) -> World:
    return open_doors(late_world(seed), wait_noticed_s=NOTICED_S)


def _asked_again(told: History) -> list[tuple[str, str]]:
    """Bucket and site of pilots that were asked for, cancelled, and asked for again."""
    asked_for: dict[str, tuple[str, str]] = {}
    gone: set[tuple[str, str]] = set()
    again = []
    for seen, cancels in zip(told.seen, told.cancels, strict=True):
        for pilot in seen.pilots:
            if pilot.asked_for and pilot.pilot_id not in asked_for:
                asked_for[pilot.pilot_id] = pilot.asked_for, pilot.offer.site
                again += [asked_for[pilot.pilot_id]] if asked_for[pilot.pilot_id] in gone else []
        gone |= {asked_for[pilot_id] for pilot_id, _ in cancels if pilot_id in asked_for}
    return again


# "One job asks for one pilot" with late ones: nobody is counted on who is late, so it may have one more, once a site.
# Mutation: plan._make_up asks at sites with late pilots too.
@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.0, 0.3)))
def test_one_job_has_one_pilot_that_is_not_late_and_one_late_at_each_site_at_most(seed: int, blind: float) -> None:
    world = _alone(open_doors(crowded_world(seed), wait_noticed_s=NOTICED_S))
    told = lived(world, blind=blind, seed=seed, cycles=CYCLES)
    for seen in told.seen:
        waits = [pilot for pilot in seen.pilots if pilot.phase is PilotPhase.PENDING]
        late = latecomers(seen, world.policy).all
        assert sum(pilot.pilot_id not in late for pilot in waits) <= 1
        assert all(count <= 1 for count in Counter(pilot.offer.site for pilot in waits).values())
    assert not any(told.cancels)


# Mutation: Reserve counts the late pilots of all sites together (Stock.absorb): asked for, cancelled, asked for again.
@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_under_constant_load_each_site_is_asked_once_and_nobody_is_cancelled(seed: int) -> None:
    world = open_doors(crowded_world(seed), wait_noticed_s=NOTICED_S)
    told = lived(replace(world, observation=replace(world.observation, pilots=())), cycles=CYCLES)
    assert not any(told.cancels)
    assert not any(told.submits[ASKED:])
    asked = [n for n, submits in enumerate(told.submits) if submits]
    assert len(asked) <= len(world.policy.sites)
    assert all(later - n > NOTICED_S // STEP_S for n, later in pairwise(asked))


# Mutation: the same.
@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_what_was_cancelled_is_not_asked_for_again_under_constant_load(seed: int) -> None:
    told = lived(_late(seed), cycles=CYCLES)
    assert [] == _asked_again(told)
    assert not any(told.submits[ASKED:])
    assert not any(told.cancels[ASKED + 4 :])


# Mutations: decide leaves late pilots out of the supply; Turns are told only of jobs that are not given to late ones.
@given(worlds() | late_worlds)
def test_late_pilots_change_neither_turns_nor_packing(world: World) -> None:
    # Nothing may be asked for, so what differs would be the order in which the jobs came.
    here = replace(world, policy=replace(world.policy, max_submits_per_cycle=0))
    without = replace(here.policy, wait_noticed_s=10**9)
    placed = decide(here.observation, here.table, here.policy).placed
    for key, before in decide(here.observation, here.table, without).placed.items():
        assert replace(placed[key], late=before.late) == before


# Mutations: plan._make_up adds what is covered to the jobs left; it asks where one of ours is late, which shows in 7 of
# 100 worlds with late pilots.
@settings(max_examples=400)
@given(worlds() | late_worlds)
def test_each_job_of_a_late_pilot_is_covered_asked_for_or_left_once(world: World) -> None:
    decision = decide(world.observation, world.table, world.policy)
    late_at = {site.policy.name for site in decision.room.sites if site.late}
    offers = {(e.offer.site, e.offer.name): e.offer for s in world.policy.sites for e in s.entries}
    for placed in decision.placed.values():
        late = placed.late
        waiting = {one.site: one.waiting for one in placed.absorbed}
        assert all(0 < jobs <= waiting[site] for site, jobs in late.jobs)
        covered = sum(jobs for _, jobs in late.covered)
        new = sum(one.jobs for one in late.granted)
        assert sum(jobs for _, jobs in late.jobs) == covered + new + late.left
        assert not late_at & {one.site for one in late.granted}
        # No more than the need rounded up to shapes, and nobody who is not needed.
        assert all(0 < one.count <= one.jobs for one in late.granted)
        for one in late.granted:
            each = jobs_per_pilot(placed.bucket, offers[one.site, one.shape], world.table, world.policy)
            assert (one.count - 1) * each < one.jobs
