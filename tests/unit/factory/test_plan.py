"""The planner by example; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import (
    NOW_S,
    SHAPE,
    bucket,
    demand,
    name,
    observation,
    outcome,
    outcomes,
    policy,
    record,
    site_policy,
    slot,
    slots,
    table,
)

from accounting.model import PilotRecord, SiteStop
from factory.model import Observation, Plan, Policy, SubmitPilots
from factory.plan import decide, plan
from factory.sites.contract import SiteUnseen
from glidein.model import EndReason, PilotPhase
from overlay.model import DemandAtLeast, DemandUnseen, Match, SlotsUnseen

ALPHA = site_policy("alpha")
BETA = site_policy("beta")
TWO = policy(ALPHA, BETA)
STOP = SiteStop(site="alpha", since_s=NOW_S - 100, by="ada", reason="power work")
NO = Match(matches=False)


def planned(observed: Observation, rules: Policy = TWO, **no: Match) -> Plan:
    return plan(observed, table(observed, **no), rules)


def asked(decided: Plan) -> dict[str, int]:
    return {submit.site: submit.count for submit in decided.submits}


def test_one_idle_job_that_matches_both_sites_asks_for_one_pilot() -> None:
    decided = planned(observation(demands=(demand(bucket()),)))
    assert (SubmitPilots(site="alpha", count=1),) == decided.submits
    assert ("alpha",) == decided.order


def test_several_jobs_share_a_pilot() -> None:
    assert 3 == sum(asked(planned(observation(demands=(demand(bucket(jobs=12)),)))).values())


def test_memory_decides_where_it_is_scarcer_than_cores() -> None:
    # 8192 MiB less HTCondor's own reserve hold one job of 4096, not two.
    assert {"alpha": 1, "beta": 1} == asked(planned(observation(demands=(demand(bucket(jobs=2, memory_mib=4096)),))))


# Mutation: placement.preference goes by name only.
def test_new_pilots_go_where_there_are_fewest_of_what_may_be() -> None:
    rules = policy(site_policy("alpha", max_pilots=4), site_policy("beta", max_pilots=8))
    observed = observation(demands=(demand(bucket(jobs=6, cores=4)),))
    # Pilots already there in another shape of use: they end and offer nothing, but they count.
    there = tuple(record("alpha", n, PilotPhase.ENDING) for n in (1, 2))
    # More than three at once need a pilot that the scheduler has accepted.
    there += (record("beta", 9, PilotPhase.ENDING),)
    assert {"alpha": 1, "beta": 5} == asked(planned(replace(observed, pilots=there), rules))


def test_what_a_new_pilot_has_left_takes_smaller_jobs() -> None:
    demands = (demand(bucket("ap1/big", cores=3), bucket("ap1/small", cores=1, memory_mib=100)),)
    assert 1 == sum(asked(planned(observation(demands=demands))).values())


@pytest.mark.parametrize("phase", [PilotPhase.INTENDED, PilotPhase.UNCERTAIN, PilotPhase.PENDING, PilotPhase.STARTING])
def test_pilots_on_their_way_absorb_jobs(phase: PilotPhase) -> None:
    observed = observation(demands=(demand(bucket(jobs=4)),), pilots=(record("alpha", 1, phase),))
    assert {} == asked(planned(observed))


def test_an_unknown_pilot_still_absorbs_and_an_ending_one_does_not() -> None:
    for phase, count in ((PilotPhase.UNKNOWN, 0), (PilotPhase.ENDING, 1)):
        observed = observation(demands=(demand(bucket()),), pilots=(record("alpha", 1, phase),))
        assert count == sum(asked(planned(observed)).values())


def _joined(**slot_fields: object) -> Observation:
    pilot = record("alpha", 1, PilotPhase.BUSY, joined_s=NOW_S - 500, started_s=NOW_S - 520, slot_seen_s=NOW_S)
    return observation(
        demands=(demand(bucket(jobs=2)),),
        pilots=(pilot,),
        slots=slots(slot(pilot, **slot_fields)),  # type: ignore[arg-type]
    )


# Mutation: absorb._of_slot takes the slot's cores without what is busy.
def test_a_running_pilot_absorbs_what_it_has_free() -> None:
    assert {} == asked(planned(_joined(busy_cores=2)))
    decision = decide(_joined(busy_cores=3), table(_joined(busy_cores=3)), TWO)
    assert [(1, 0)] == [(a.running, a.waiting) for a in decision.placed["ap1/a"].absorbed]
    assert 1 == len(decision.plan.order)


# Mutation: absorb._of_slot ignores "accepting".
def test_a_draining_pilot_absorbs_nothing() -> None:
    assert 1 == sum(asked(planned(_joined(accepting=False))).values())


# Mutation: absorb.fits without the life.
def test_a_running_pilot_that_ends_too_soon_absorbs_nothing() -> None:
    assert {} == asked(planned(_joined(to_die_s=NOW_S + 1261)))
    assert 1 == sum(asked(planned(_joined(to_die_s=NOW_S + 1260))).values())


def test_a_job_that_no_pilot_lives_long_enough_for_gets_none() -> None:
    assert {} == asked(planned(observation(demands=(demand(bucket(runtime_s=7200)),))))


# Mutation: absorb._of_record without the age of the last ad.
@pytest.mark.parametrize(("age_s", "count"), [(300, 0), (301, 1)])
def test_a_joined_pilot_whose_ad_was_lost_counts_as_free_for_a_while_only(age_s: int, count: int) -> None:
    pilot = record("alpha", 1, PilotPhase.IDLE, joined_s=NOW_S - 900, slot_seen_s=NOW_S - age_s)
    observed = observation(demands=(demand(bucket()),), pilots=(pilot,))
    assert count == sum(asked(planned(observed)).values())


def test_pilots_of_an_unseen_or_removed_site_still_absorb() -> None:
    unseen = SiteUnseen(site="gone", taken_s=NOW_S, reason="ssh timed out")
    observed = observation(demands=(demand(bucket()),), pilots=(record("gone", 1, PilotPhase.PENDING),))
    assert {} == asked(planned(replace(observed, sites=(*observed.sites, unseen))))
    assert 1 == sum(asked(planned(observed)).values()), "nothing says that the job matches there"


def test_an_unseen_or_unwatched_site_gets_nothing() -> None:
    unseen = SiteUnseen(site="alpha", taken_s=NOW_S, reason="ssh timed out")
    observed = observation(demands=(demand(bucket(jobs=8)),))
    assert {"beta": 2} == asked(planned(replace(observed, sites=(unseen, observed.sites[1]))))
    assert {} == asked(planned(observation(sites=(), demands=(demand(bucket(jobs=8)),))))


def test_caps_hold_for_site_queue_total_and_cycle() -> None:
    many = observation(demands=(demand(bucket(jobs=400)),), pilots=(record("alpha", 1, PilotPhase.PENDING),))
    open_alpha = replace(many, pilots=(*many.pilots, record("beta", 1, PilotPhase.BUSY)))
    assert 2 == asked(planned(open_alpha, policy(site_policy("alpha", max_pending=3))))["alpha"]
    assert 4 == asked(planned(open_alpha, policy(site_policy("alpha", max_pilots=5))))["alpha"]
    assert 7 == len(planned(open_alpha, policy(ALPHA, BETA, max_pilots=9)).order)
    assert 6 == len(planned(open_alpha, policy(ALPHA, BETA, max_submits=6)).order)


def test_an_unknown_pilot_that_never_started_fills_the_queue_cap() -> None:
    lost = record("alpha", 1, PilotPhase.UNKNOWN)
    observed = observation(demands=(demand(bucket(jobs=400)),), pilots=(lost, record("alpha", 2, PilotPhase.BUSY)))
    rules = policy(site_policy("alpha", max_pending=3))
    assert {"alpha": 2} == asked(planned(observed, rules))
    started = replace(observed, pilots=(replace(lost, started_s=NOW_S - 100), observed.pilots[1]))
    assert {"alpha": 3} == asked(planned(started, rules))


def test_a_site_that_has_not_yet_said_yes_is_tried_with_few() -> None:
    assert {"alpha": 3, "beta": 3} == asked(planned(observation(demands=(demand(bucket(jobs=400)),))))


def test_an_open_breaker_sends_jobs_elsewhere_and_a_half_open_one_gets_one_probe() -> None:
    observed = observation(demands=(demand(bucket(jobs=12)),), pilots=(record("beta", 1, PilotPhase.ENDING),))
    refused = [outcome(NOW_S - 10, EndReason.REFUSED, pilot_id=f"p{n}") for n in range(3)]
    broken = replace(observed, outcomes=(outcomes(*refused),))
    assert {"beta": 3} == asked(planned(broken))
    later = replace(broken, outcomes=(outcomes(*(replace(o, at_s=NOW_S - 301) for o in refused)),))
    assert {"alpha": 1, "beta": 2} == asked(planned(later))


# Mutation: caps._frozen answers "" always.
def test_unseen_slots_freeze_everything() -> None:
    pilots = (record("alpha", 1, PilotPhase.PENDING, surplus_since_s=NOW_S - 999),)
    observed = observation(
        demands=(demand(),),
        pilots=pilots,
        stops=(STOP,),
        slots=SlotsUnseen(taken_s=NOW_S, reason="no answer in 25 s"),
    )
    decided = planned(observed)
    assert ((), (), ()) == (decided.submits, decided.cancels, decided.surplus)
    assert "the pool's slots are not seen: no answer in 25 s" == decided.frozen


def _waiting(*ages_s: int, **more: object) -> tuple[PilotRecord, ...]:
    return tuple(
        record("alpha", n, PilotPhase.PENDING, intended_s=NOW_S - age_s, **more) for n, age_s in enumerate(ages_s)
    )


# Mutation: plan._surplus sorts oldest first.
def test_surplus_names_the_newest_first_and_spares_what_is_needed() -> None:
    observed = observation(demands=(demand(bucket(cores=4)),), pilots=_waiting(900, 800, 700))
    decided = planned(observed)
    assert (name("alpha", 2), name("alpha", 1)) == decided.surplus
    assert () == decided.cancels


# Mutation: plan._cancels_of_surplus does not look at surplus_since_s.
def test_surplus_is_cancelled_once_it_has_been_so_for_long_enough() -> None:
    young = observation(demands=(demand(),), pilots=_waiting(900, surplus_since_s=NOW_S - 299))
    old = observation(demands=(demand(),), pilots=_waiting(900, surplus_since_s=NOW_S - 300))
    assert () == planned(young).cancels
    assert [name("alpha", 0)] == [cancel.pilot_id for cancel in planned(old).cancels]


@pytest.mark.parametrize(
    "hidden",
    [
        (DemandUnseen(ap="ap2", taken_s=NOW_S, reason="schedd gave no answer"),),
        (DemandAtLeast(ap="ap2", taken_s=NOW_S, buckets=(), reason="more than 10000 ads"),),
    ],
)
def test_hidden_demand_keeps_waiting_pilots(hidden: tuple[DemandUnseen | DemandAtLeast, ...]) -> None:
    pilots = _waiting(900, surplus_since_s=NOW_S - 999)
    decided = planned(observation(demands=(demand(), *hidden), pilots=pilots))
    assert ((), ()) == (decided.surplus, decided.cancels)
    assert ((), ()) == (planned(observation(pilots=pilots)).surplus, planned(observation(pilots=pilots)).cancels)


# Mutation: plan.decide cancels at stopped sites only when all demand is seen.
def test_a_stopped_site_gives_its_waiting_pilots_back_at_once_also_with_an_ap_unseen() -> None:
    unseen = DemandUnseen(ap="ap2", taken_s=NOW_S, reason="schedd gave no answer")
    observed = observation(demands=(demand(bucket()), unseen), pilots=_waiting(900), stops=(STOP,))
    decided = planned(observed)
    assert [name("alpha", 0)] == [cancel.pilot_id for cancel in decided.cancels]
    assert {"beta": 1} == asked(decided), "the job does not wait for a pilot that is taken away"
    blind = replace(observed, sites=(SiteUnseen(site="alpha", taken_s=NOW_S, reason="ssh timed out"),))
    assert () == planned(blind).cancels


# Mutation: plan._may_cancel without the slot.
def test_nothing_that_has_started_is_cancelled() -> None:
    (waiting,) = _waiting(900, surplus_since_s=NOW_S - 999)
    for pilot in (
        replace(waiting, phase=PilotPhase.STARTING),
        replace(waiting, phase=PilotPhase.UNKNOWN),
        replace(waiting, joined_s=NOW_S - 5),
        replace(waiting, cancel_intended_s=NOW_S - 5),
    ):
        decided = planned(observation(demands=(demand(),), pilots=(pilot,)))
        assert ((), ()) == (decided.surplus, decided.cancels)
    observed = observation(demands=(demand(),), pilots=(waiting,), slots=slots(slot(waiting)))
    assert ((), ()) == (planned(observed).surplus, planned(observed).cancels)


# Mutation: absorb.supply ranks by age alone.
def test_a_pilot_that_nobody_sees_does_not_make_a_waiting_one_surplus() -> None:
    ghost = record("alpha", 9, PilotPhase.UNKNOWN, intended_s=NOW_S - 5000)
    observed = observation(demands=(demand(bucket(cores=4)),), pilots=(ghost, *_waiting(900)))
    assert () == planned(observed).surplus


def test_gpu_jobs_wait_for_a_pilot_with_a_free_gpu() -> None:
    rules = policy(site_policy("alpha", shape=replace(SHAPE, gpus=1)))
    observed = observation(sites=("alpha",), demands=(demand(bucket(gpus=1)),))
    assert {"alpha": 1} == asked(planned(observed, rules))
    assert {} == asked(planned(observed, policy(ALPHA)))


def test_ten_thousand_buckets_are_planned_in_seconds() -> None:
    found = tuple(bucket(f"ap1/{n:05}", jobs=3, cores=1 + n % 4) for n in range(10_000))
    pilots = tuple(record("alpha", n, PilotPhase.PENDING) for n in range(300))
    observed = observation(demands=(demand(*found),), pilots=pilots)
    rules = policy(site_policy("alpha", max_pilots=1000, max_pending=1000), BETA, max_pilots=5000)
    decided = planned(observed, rules)
    assert 50 == len(decided.order)
