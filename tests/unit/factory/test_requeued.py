"""A pilot that its site has put back into the queue: the same pilot, worth nothing, and nobody's fault."""

from __future__ import annotations

from dataclasses import replace

from worlds import (
    NOW_S,
    batch,
    bucket,
    demand,
    observation,
    outcome,
    outcomes,
    policy,
    record,
    report,
    seen,
    site_policy,
    slot,
    slots,
    table,
)

from factory.breaker import breaker, judge
from factory.model import Observation
from factory.plan import plan
from factory.reconcile import reconcile
from glidein.model import BatchState, EndReason, PilotPhase

RULES = policy(site_policy("alpha"))
BUSY = record("alpha", 1, PilotPhase.BUSY, started_s=NOW_S - 500, joined_s=NOW_S - 480)
AGAIN = batch("alpha", 1, BatchState.PENDING, reason="BeginTime", submit_s=NOW_S - 5)


def after_requeue() -> Observation:
    """The site shows it waiting; the collector still has its old ad."""
    old_ad = slots(slot(BUSY))
    world = observation(sites=("alpha",), demands=(demand(bucket()),), slots=old_ad)
    world = replace(world, sites=(seen("alpha", AGAIN),))
    told = reconcile((BUSY,), world.sites, world.slots, now_s=NOW_S, instance="tow", policy=RULES)
    assert () == told.adopted
    return replace(world, pilots=told.open_pilots)


def test_it_stays_the_one_pilot_that_it_was() -> None:
    (pilot,) = after_requeue().pilots
    assert (BUSY.pilot_id, PilotPhase.PENDING, True) == (pilot.pilot_id, pilot.phase, pilot.requeued)


def test_no_job_is_left_to_it_and_it_is_cancelled() -> None:
    # Mutation: absorb.supply without `pilot.requeued`; plan._taken_back without _cancels_of_requeued.
    world = after_requeue()
    decided = plan(world, table(world), RULES)
    assert [1] == [submit.count for submit in decided.submits]
    assert [BUSY.pilot_id] == [cancel.pilot_id for cancel in decided.cancels]
    told = replace(world, pilots=(replace(world.pilots[0], cancel_intended_s=NOW_S),))
    assert () == plan(told, table(told), RULES).cancels


def test_its_end_is_its_own_and_no_failure() -> None:
    # Mutation: breaker._NOBODYS_FAULT without REQUEUED.
    ended = batch("alpha", 1, BatchState.FAILED, exit_code=26, start_s=NOW_S - 5, end_s=NOW_S)
    site = seen("alpha", final=(ended,), reports=(report("alpha", 1, EndReason.REQUEUED, jobs=0),))
    told = reconcile((BUSY,), (site,), slots(), now_s=NOW_S, instance="tow", policy=RULES)
    assert [EndReason.REQUEUED] == [pilot.end_reason for pilot in told.pilots]
    waited = batch("alpha", 1, BatchState.CANCELLED, end_s=NOW_S)
    again = replace(BUSY, phase=PilotPhase.PENDING)
    told = reconcile((again,), (seen("alpha", final=(waited,)),), slots(), now_s=NOW_S, instance="tow", policy=RULES)
    assert [EndReason.REQUEUED] == [pilot.end_reason for pilot in told.pilots]
    rows = [outcome(NOW_S - n, EndReason.REQUEUED) for n in range(9)]
    assert {"neither"} == {judge(row, RULES.breaker) for row in rows}
    assert "closed" == breaker(outcomes(*rows), RULES.breaker, NOW_S).mode
