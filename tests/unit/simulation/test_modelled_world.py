"""The modelled world by itself: queues, pilots, jobs and the negotiator, against numbers worked out by hand."""

from __future__ import annotations

import math
import statistics

import pytest

from glidein.model import EndReason
from simulation.model import Outage, Regime
from simulation.waits import Queue
from simulation.world import BEGIN_S, SimWorld
from tests.unit.simulation.modelled import job, policy, site, world

OFFER = policy("alpha").sites[0].offer


def at(simulated: SimWorld, after_s: float) -> SimWorld:
    simulated.agenda.run_until(BEGIN_S + after_s)
    return simulated


def test_a_pilot_waits_starts_joins_runs_and_leaves_when_idle() -> None:
    one = world(job(runtime_s=600))
    one.submit("p1", OFFER)
    at(one, 99)
    assert one.pilots["p1"].start_s is None
    at(one, 121)
    pilot = one.pilots["p1"]
    assert (100, 120) == (pilot.start_s - BEGIN_S, pilot.join_s - BEGIN_S)
    # The negotiator's cycles are at whole minutes; the one of the moment of the joining has passed.
    at(one, 181)
    assert 1 == len(pilot.claims)
    at(one, 5000)
    assert EndReason.IDLE is pilot.reason
    # Mutation: start the idle clock at the joining only (_is_idle in simulation/world.py).
    assert 180 + 600 + 300 == pilot.end_s - BEGIN_S
    assert 600 == pilot.busy_core_s
    assert 780 == one.jobs[0].end_s - BEGIN_S


def test_a_queue_that_clears_helps_those_that_wait() -> None:
    model = site(regimes=(Regime(median_s=36_000, lasts_s=1000), Regime(median_s=10, lasts_s=1000)))
    queue = Queue(model, seed=3)
    slow_first = queue.median_s(0.0) == 36_000
    span = next(t for t in range(100_000) if (queue.median_s(float(t)) == 36_000) != slow_first)
    begin = 0.0 if slow_first else float(span)
    # Mutation: take the median of the submission's moment for the whole wait (simulation/waits.py).
    assert queue.start_s(begin, 1.0) - begin < 10_000


def test_waits_have_the_regimes_median_and_the_same_seed_gives_the_same_ones() -> None:
    model = site(regimes=(Regime(median_s=500, lasts_s=1e9),), sigma=0.8)
    queue, again = Queue(model, seed=1), Queue(model, seed=1)
    works = [queue.draw() for _ in range(4000)]
    assert works == [again.draw() for _ in range(4000)]
    assert statistics.median(works) == pytest.approx(1.0, abs=0.1)
    assert statistics.stdev(map(math.log, works)) == pytest.approx(0.8, abs=0.08)


def test_nothing_starts_in_an_outage_and_running_pilots_die_with_it() -> None:
    one = world(job(runtime_s=600), sites=(site(outages=(Outage(begin_s=300, length_s=1000),)),))
    one.submit("p1", OFFER)
    at(one, 250)
    one.submit("p2", OFFER)
    first = one.pilots["p1"]
    at(one, 301)
    assert EndReason.NODE_FAIL is first.reason
    assert one.unseen("alpha")
    # Half of p2's wait was before the outage, half is after it.
    at(one, 1349)
    assert one.pilots["p2"].start_s is None
    at(one, 1350)
    assert one.pilots["p2"].start_s is not None
    at(one, 4000)
    assert 2 == one.jobs[0].attempt
    assert [False, True] == [run.good for run in one.runs]


def test_a_pilot_that_dies_gives_its_job_back() -> None:
    one = world(job(runtime_s=3000), walltime_s=1200)
    one.submit("p1", policy("alpha", walltime_s=1200).sites[0].offer)
    at(one, 1290)
    assert 1 == one.idle_jobs
    assert EndReason.LIFETIME is one.ended[0].reason
    assert [False] == [run.good for run in one.runs]


def test_a_job_that_declares_more_than_is_left_of_a_pilot_is_not_started() -> None:
    # Mutation: leave has_time out of _slot_for (simulation/world.py).
    one = world(job(runtime_s=100, declared_s=7100))
    one.submit("p1", OFFER)
    at(one, 1000)
    assert 1 == one.idle_jobs


def test_a_job_past_its_declared_time_is_held_there() -> None:
    one = world(job(runtime_s=1000, declared_s=400))
    one.submit("p1", OFFER)
    at(one, 3000)
    assert one.jobs[0].held
    assert 180 + 400 == one.jobs[0].end_s - BEGIN_S


def test_a_claim_takes_the_same_users_next_job_at_once_until_it_is_old() -> None:
    # One core of memory for one job at a time: the second job must wait for the first.
    jobs = [job(runtime_s=500, memory_mib=8000) for _ in range(5)]
    one = world(*jobs)
    one.submit("p1", OFFER)
    at(one, 5000)
    starts = sorted(run.start_s for run in one.runs)
    # The third job ends 1500 s after the claim was made, which is past CLAIM_WORKLIFE: the next negotiation it is.
    assert [180, 680, 1180, 1740, 2240] == starts


def test_users_get_their_turns_by_the_cores_that_they_have() -> None:
    jobs = [job(user="greedy", submit_s=0) for _ in range(8)] + [job(user="modest", submit_s=1)]
    one = world(*jobs)
    one.submit("p1", OFFER)
    at(one, 190)
    users = sorted(claim.kind.user for claim in one.pilots["p1"].claims.values())
    assert ["greedy@pool", "greedy@pool", "greedy@pool", "modest@pool"] == users


def test_the_fullest_slot_is_filled_first() -> None:
    one = world(job(runtime_s=3000), job(submit_s=200, runtime_s=3000))
    one.submit("p1", OFFER)
    one.submit("p2", OFFER)
    at(one, 400)
    assert [0, 2] == sorted(len(pilot.claims) for pilot in one.pilots.values())


def test_requirements_are_asked_as_the_negotiator_asks_them() -> None:
    one = world(job(requirements='GlideinSite == "beta"'), job(requirements='GlideinSite == "alpha"'))
    one.submit("p1", OFFER)
    at(one, 400)
    assert [1] == list(one.pilots["p1"].claims)


def test_a_full_site_starts_the_next_pilot_when_one_ends() -> None:
    one = world(sites=(site(room=1),))
    one.submit("p1", OFFER)
    one.submit("p2", OFFER)
    at(one, 200)
    assert [False, True] == [pilot.start_s is None for pilot in one.pilots.values()]
    at(one, 421)
    assert 420 == one.pilots["p2"].start_s - BEGIN_S


def test_a_cancel_takes_only_what_waits() -> None:
    one = world()
    one.submit("p1", OFFER)
    one.submit("p2", OFFER)
    assert one.cancel("p1")
    at(one, 150)
    assert not one.cancel("p2")
    assert ["p2"] == list(one.pilots)


def test_fates_come_as_often_as_the_model_says() -> None:
    one = world(sites=(site(fizzle=0.2, never_join=0.1, preempted_per_h=1.0),))
    for number in range(500):
        one.submit(f"p{number}", OFFER)
    at(one, 8000)
    ends = [pilot.reason for pilot in one.ended]
    assert ends.count(EndReason.CONDOR_FAILED) / 500 == pytest.approx(0.2, abs=0.06)
    assert ends.count(EndReason.NOT_JOINED) / 500 == pytest.approx(0.1, abs=0.05)
    assert ends.count(EndReason.PREEMPTED) > 0
