"""
Pilots that wait too long: another site is asked in their place, once, and they stay until nobody needs them.

Each comment names mutations of the code that turn the test red; each was tried.
"""

from __future__ import annotations

from dataclasses import replace

from worlds import (
    NOW_S,
    bucket,
    demand,
    observation,
    offer,
    outcome,
    policy,
    record,
    seen,
    site_policy,
    slot,
    slots,
    table,
)

from accounting.model import PilotRecord
from factory.explain import explain
from factory.journal import Recorded
from factory.model import BreakerPolicy, Observation, Placed, Plan, Policy, SiteOutcomes
from factory.plan import decide, plan
from factory.sites.contract import SiteUnseen
from glidein.model import EndReason, PilotPhase, Shape
from overlay.model import Bucket, Match

TWO = policy(site_policy("alpha"), site_policy("beta"))
THREE = policy(site_policy("alpha"), site_policy("beta"), site_policy("gamma"))
SITES = ("alpha", "beta", "gamma")


def waiting(site: str, for_s: int, n: int = 1, **more: object) -> PilotRecord:
    since_s = NOW_S - for_s
    return record(site, n, PilotPhase.PENDING, intended_s=since_s, submitted_s=since_s, **more)


def world(*pilots: PilotRecord, buckets: tuple[Bucket, ...] = (), jobs: int = 1, **more: object) -> Observation:
    demands = (demand(*(buckets or (bucket(jobs=jobs),))),)
    return observation(demands=demands, pilots=pilots, **more)


def blind_at(site: str, observed: Observation) -> Observation:
    unseen = SiteUnseen(site=site, taken_s=NOW_S, reason="ssh: timed out")
    return replace(observed, sites=tuple(unseen if sight.site == site else sight for sight in observed.sites))


def planned(observed: Observation, rules: Policy = TWO, **no: Match) -> Plan:
    return plan(observed, table(observed, **no), rules)


def placed(observed: Observation, rules: Policy = TWO, key: str = "ap1/a") -> Placed:
    return decide(observed, table(observed), rules).placed[key]


def asked(decided: Plan) -> dict[str, int]:
    return {submit.site: submit.count for submit in decided.submits}


def test_another_site_is_asked_in_the_place_of_a_late_pilot() -> None:
    # Mutation: nobody is late (latecomers gives back empty sets).
    decided = planned(world(waiting("alpha", 601)))
    assert {"beta": 1} == asked(decided)
    assert ("ap1/a",) == decided.asked_for


def test_a_pilot_that_has_not_waited_long_is_counted_on() -> None:
    # Mutation: latecomers compares with >=.
    assert {} == asked(planned(world(waiting("alpha", 600))))


def test_a_wait_is_counted_from_the_answer_of_the_site() -> None:
    # Mutation: latecomers counts from intended_s.
    held_up = waiting("alpha", 601, sent="submitted")
    assert {} == asked(planned(world(replace(held_up, submitted_s=NOW_S - 590))))


def test_late_pilots_keep_their_place() -> None:
    # Mutation: leave poured.kept out of what is spared (decide): nothing is asked for, but the late one goes.
    late, prompt = waiting("alpha", 5000), waiting("beta", 60)
    decided = planned(world(late, prompt))
    assert ({}, ()) == (asked(decided), decided.surplus)
    # And where two are late, the second one's jobs are those of the first.
    # Mutation: Reserve.pour takes Stock.absorb, for all sites together.
    decided = planned(world(late, waiting("beta", 4000)))
    assert ({}, ()) == (asked(decided), decided.surplus)


def test_what_is_asked_for_in_a_late_ones_place_is_no_surplus() -> None:
    # Mutation: _make_up asks at once and leaves out what is on its way (no absorb): one more pilot in every cycle.
    late, prompt = waiting("alpha", 5000, 1), waiting("beta", 60, 2)
    decided = planned(world(late, prompt, sites=SITES), THREE)
    assert ({}, ()) == (asked(decided), decided.surplus)


def test_a_site_with_a_late_pilot_gets_none_in_a_late_ones_place() -> None:
    # Mutation: _make_up asks with closed=one.closed: one more each time that one gets late.
    decided = planned(world(waiting("alpha", 5000), waiting("beta", 4000)))
    assert ({}, ()) == (asked(decided), decided.surplus)
    decided = planned(world(waiting("alpha", 5000), waiting("beta", 4000), sites=SITES), THREE)
    assert {"gamma": 1} == asked(decided)


def test_jobs_without_a_pilot_are_asked_for_where_none_of_ours_is_late() -> None:
    # Mutation: _serve asks with closed=closed first.
    # Beta is fuller; placement alone would take alpha.
    busy = tuple(record("beta", n, PilotPhase.ENDING) for n in range(2, 9))
    rules = policy(site_policy("alpha", max_pilots=100, max_pending=100), site_policy("beta"))
    assert {"beta": 1} == asked(planned(world(waiting("alpha", 700), *busy, buckets=(bucket(cores=4),)), rules))
    # One job in the late pilot, one without.
    decided = planned(world(waiting("alpha", 700), *busy, buckets=(bucket(cores=4, jobs=2),)), rules)
    assert {"beta": 2} == asked(decided)


def test_where_no_other_site_is_late_pilots_are_counted_on() -> None:
    # Mutation: _serve asks at fast sites only (no second _ask).
    observed = world(waiting("alpha", 5000), jobs=6, sites=("alpha",))
    # Four of six jobs have the late pilot; for two it is alpha or nobody.
    assert {"alpha": 1} == asked(planned(observed, policy(site_policy("alpha"))))


def test_a_late_pilot_goes_when_running_ones_take_its_jobs() -> None:
    # Mutation: Reserve.pour is given all jobs of the turn, also those that running pilots take.
    late, busy = waiting("alpha", 5000), record("beta", 2, PilotPhase.IDLE, joined_s=NOW_S - 60)
    decided = planned(world(late, busy, slots=slots(slot(busy))))
    assert ({}, (late.pilot_id,), ()) == (asked(decided), decided.surplus, decided.cancels)
    marked = replace(late, surplus_since_s=NOW_S - 300)
    decided = planned(world(marked, busy, slots=slots(slot(busy))))
    assert [late.pilot_id] == [cancel.pilot_id for cancel in decided.cancels]


def test_of_several_late_pilots_those_that_no_job_needs_go_the_newest_first() -> None:
    # Mutation: Reserve keeps all that are late.
    pilots = tuple(waiting("alpha", 5000 - n, n) for n in (1, 2, 3))
    decided = planned(world(*pilots, jobs=4), policy(site_policy("alpha")))
    assert (pilots[2].pilot_id, pilots[1].pilot_id) == decided.surplus


def test_a_pilot_of_an_unseen_site_may_run_and_nobody_is_asked_in_its_place() -> None:
    # Mutation: latecomers takes pilots of unseen sites for late.
    observed = world(waiting("alpha", 5000))
    assert {"beta": 1} == asked(planned(observed))
    assert {} == asked(planned(blind_at("alpha", observed)))


def test_what_was_asked_for_in_its_place_stays_while_its_site_is_not_seen() -> None:
    # Mutation: latecomers.unseen is empty: the replacement would go, and be asked for again.
    observed = world(waiting("alpha", 5000), waiting("beta", 60))
    decided = planned(blind_at("alpha", observed))
    assert ({}, ()) == (asked(decided), decided.surplus)


def test_what_stands_in_for_a_late_pilot_is_not_taken_by_jobs_at_a_site_that_is_not_seen() -> None:
    # Mutation: _make_up gives the jobs of unseen sites their place first: another one is asked for in the next cycle.
    buckets = (bucket("ap1/a", cores=4), bucket("ap1/b", cores=4))
    pilots = (waiting("alpha", 5000), waiting("beta", 4000, 2), waiting("gamma", 60, 3))
    decided = planned(blind_at("alpha", world(*pilots, buckets=buckets, sites=SITES)), THREE)
    assert ({}, ()) == (asked(decided), decided.surplus)


def test_pilots_that_stand_in_are_among_those_that_will_take_the_job() -> None:
    # Mutation: explain looks for takers where jobs are absorbed or granted only.
    late, prompt = waiting("alpha", 5000), waiting("beta", 60, 2)
    observed = world(late, prompt)
    last = Recorded(first_s=0, last_s=1, observation=observed, policy=TWO, plan=planned(observed))
    told = explain(bucket(), last, policy=TWO, pilots=(late, prompt), match=lambda seen, _policy: table(seen))
    assert {late.pilot_id, prompt.pilot_id} == {pilot.pilot_id for pilot in told.takers}


def test_jobs_are_counted_once_whoever_takes_them() -> None:
    # Mutation: _make_up adds what it covers and asks for to "absorbed" and "granted".
    rules = policy(site_policy("alpha"), site_policy("beta", max_pilots=2))
    told = placed(world(waiting("alpha", 5000), waiting("beta", 10, 2), jobs=12), rules)
    assert [("alpha", 0, 4), ("beta", 0, 4)] == [(one.site, one.running, one.waiting) for one in told.absorbed]
    assert (4, 0) == (told.rest, told.unplaced)
    assert [("beta", 1, 4)] == [(one.site, one.count, one.jobs) for one in told.granted]
    # Beta is full now, so the four of the late pilot have nobody else.
    assert ((("alpha", 4),), (), (), 4) == (told.late.jobs, told.late.covered, told.late.granted, told.late.left)


def test_a_job_without_any_pilot_comes_before_one_whose_pilot_is_late() -> None:
    # Mutation: _make_up before the turns' own asking (in _serve).
    buckets = (bucket("ap1/a", cores=4, memory_mib=7000), bucket("ap1/b"))
    observed = world(waiting("alpha", 5000), buckets=buckets)
    decided = planned(observed, replace(TWO, max_submits_per_cycle=1))
    assert ({"beta": 1}, ("ap1/b",)) == (asked(decided), decided.asked_for)


def test_caps_hold_for_what_is_asked_in_a_late_ones_place() -> None:
    # Mutation: _ask asks a fresh Openings for late jobs.
    pilots = tuple(waiting("alpha", 5000, n) for n in range(1, 5))
    rules = policy(site_policy("alpha"), site_policy("beta", max_pending=2))
    told = placed(world(*pilots, jobs=16), rules)
    assert [("beta", 2, 8)] == [(one.site, one.count, one.jobs) for one in told.late.granted]
    assert 8 == told.late.left


def test_a_site_that_is_held_back_for_the_jobs_gets_no_more_of_them_in_a_late_ones_place() -> None:
    # Mutation: _Tally.shut counts granted only.
    failures = tuple(
        outcome(NOW_S - 100 - n, EndReason.IDLE, joined=True, jobs=0, asked_for="ap1/a", barren_s=500) for n in range(2)
    )
    rules = replace(TWO, breaker=BreakerPolicy(failures=3, fizzle_s=60, backoff_s=300, backoff_max_s=1000))
    pilots = tuple(waiting("alpha", 5000, n) for n in range(1, 5))
    observed = world(*pilots, jobs=16, outcomes=(SiteOutcomes(site="beta", outcomes=failures),))
    assert {"beta": 1} == asked(planned(observed, rules))


def test_a_late_pilot_in_another_shape_does_not_stand_for_jobs_that_it_cannot_take() -> None:
    # Mutation: _serve counts every job that waits for a late one, also those that a prompt one takes.
    small = Shape(cores=1, memory_mib=2048, disk_mib=10_000, walltime_s=7200)
    late = waiting("alpha", 5000, offer=offer("alpha", small))
    prompt = waiting("alpha", 60, 2)
    told = placed(world(late, prompt, buckets=(bucket("ap1/a", cores=4), bucket("ap1/b"))), key="ap1/a")
    assert ((), ()) == (told.late.jobs, told.late.granted)


def test_what_already_goes_is_not_late() -> None:
    # Mutation: latecomers without cancel_intended_s: alpha would be shunned for a pilot that is gone.
    gone = waiting("alpha", 5000, cancel_intended_s=NOW_S - 30)
    busy = tuple(record("beta", n, PilotPhase.ENDING) for n in range(2, 9))
    assert {"alpha": 1} == asked(planned(world(gone, *busy)))


def test_a_site_that_is_not_configured_any_more_can_have_a_late_pilot() -> None:
    # Mutation: _make_up takes late pilots of configured sites only.
    observed = replace(world(waiting("omega", 5000)), sites=(seen("alpha"), seen("beta"), seen("omega")))
    assert 1 == sum(asked(planned(observed)).values())
