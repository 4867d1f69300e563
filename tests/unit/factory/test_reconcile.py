"""Reconciling by example; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

from dataclasses import replace

from worlds import NOW_S, batch, name, offer, policy, record, report, seen, site_policy, slot, slots

from accounting.model import PilotRecord
from factory.model import Drift, Reconciled
from factory.reconcile import reconcile
from factory.sites.contract import SiteSight, SiteUnseen
from glidein.model import BatchState, EndReason, PilotPhase
from overlay.model import Slots, SlotsUnseen

TWO = policy(site_policy("alpha"), site_policy("beta"))
BLIND = SlotsUnseen(taken_s=NOW_S, reason="no answer in 25 s")


def looked(*sights: SiteSight, pilots: tuple[PilotRecord, ...] = (), pool: Slots | None = None) -> Reconciled:
    return reconcile(
        pilots=pilots,
        sights=sights,
        slots=slots() if pool is None else pool,
        now_s=NOW_S,
        instance="tow",
        policy=TWO,
    )


def one(*sights: SiteSight, pilot: PilotRecord, pool: Slots | None = None) -> PilotRecord:
    (found,) = looked(*sights, pilots=(pilot,), pool=pool).pilots
    return found


def test_a_lost_answer_is_found_by_name() -> None:
    lost = record("alpha", 1, PilotPhase.UNCERTAIN, sent="uncertain", batch_id=None, submitted_s=None)
    live = batch("alpha", 1, BatchState.PENDING, submit_s=NOW_S - 30, reason="Priority")
    found = one(seen("alpha", live), pilot=lost)
    assert ("submitted", "8001", NOW_S - 30, "Priority", PilotPhase.PENDING) == (
        found.sent,
        found.batch_id,
        found.submitted_s,
        found.batch_reason,
        found.phase,
    )


# Mutation: _with_batch takes the start of a waiting job, which is the scheduler's estimate.
def test_the_estimated_start_of_a_waiting_job_is_no_start() -> None:
    live = batch("alpha", 1, BatchState.PENDING, start_s=NOW_S + 3600)
    assert one(seen("alpha", live), pilot=record("alpha", 1, PilotPhase.PENDING)).started_s is None


def test_a_pilot_starts_joins_and_works() -> None:
    pilot = record("alpha", 1, PilotPhase.PENDING, batch_reason="Priority")
    running = seen("alpha", batch("alpha", 1, BatchState.RUNNING, start_s=NOW_S - 20))
    started = one(running, pilot=pilot)
    assert (PilotPhase.STARTING, NOW_S - 20, None, "") == (
        started.phase,
        started.started_s,
        started.joined_s,
        started.batch_reason,
    )
    joined = one(running, pilot=started, pool=slots(slot(pilot)))
    assert (PilotPhase.IDLE, NOW_S, NOW_S) == (joined.phase, joined.joined_s, joined.slot_seen_s)
    busy = one(running, pilot=joined, pool=slots(slot(pilot, busy_cores=1)))
    assert PilotPhase.BUSY is busy.phase
    assert PilotPhase.BUSY is one(running, pilot=busy, pool=BLIND).phase
    assert PilotPhase.BUSY is one(running, pilot=busy).phase, "a lost ad is not a dead pilot"


def test_a_slot_that_says_it_leaves_is_ending() -> None:
    pilot = record("alpha", 1, PilotPhase.BUSY, joined_s=NOW_S - 300)
    running = seen("alpha", batch("alpha", 1, BatchState.RUNNING, start_s=NOW_S - 400))
    for leaving in (slot(pilot, busy_cores=1, accepting=False), slot(pilot, to_die_s=NOW_S)):
        assert PilotPhase.ENDING is one(running, pilot=pilot, pool=slots(leaving)).phase


def test_a_slot_that_never_took_a_job_in_has_not_joined() -> None:
    pilot = record("alpha", 1, PilotPhase.STARTING)
    running = seen("alpha", batch("alpha", 1, BatchState.RUNNING, start_s=NOW_S - 400))
    assert one(running, pilot=pilot, pool=slots(slot(pilot, accepting=False))).joined_s is None


# Mutation: reconcile treats a site that was not seen as one that showed nothing.
def test_pilots_of_an_unseen_site_keep_their_record_except_for_their_slot() -> None:
    pilot = record("alpha", 1, PilotPhase.STARTING)
    unseen = SiteUnseen(site="alpha", taken_s=NOW_S, reason="ssh timed out")
    assert pilot == one(unseen, pilot=pilot)
    assert pilot == one(pilot=pilot)
    assert replace(pilot, joined_s=NOW_S, slot_seen_s=NOW_S) == one(unseen, pilot=pilot, pool=slots(slot(pilot)))


def test_a_pilot_that_sacct_says_ended_has_its_end_reason_and_report() -> None:
    pilot = record("alpha", 1, PilotPhase.BUSY, joined_s=NOW_S - 480)
    final = batch("alpha", 1, BatchState.COMPLETED, start_s=NOW_S - 500, end_s=NOW_S - 15, elapsed_s=485)
    told = report("alpha", 1, EndReason.LIFETIME, detail="walltime over")
    found = one(seen("alpha", final=(final,), reports=(told,)), pilot=pilot)
    assert (PilotPhase.ENDED, EndReason.LIFETIME, NOW_S - 15, 3, "walltime over") == (
        found.phase,
        found.end_reason,
        found.ended_s,
        found.jobs,
        found.detail,
    )
    assert (final, told) == (found.batch, found.report)


def test_the_end_is_the_reports_where_the_batch_record_has_none_and_now_where_nobody_says() -> None:
    pilot = record("alpha", 1, PilotPhase.BUSY)
    final = batch("alpha", 1, BatchState.FAILED, reason="NonZeroExitCode")
    assert NOW_S - 20 == one(seen("alpha", final=(final,), reports=(report("alpha", 1),)), pilot=pilot).ended_s
    silent = one(seen("alpha", final=(final,)), pilot=pilot)
    assert (NOW_S, None, "NonZeroExitCode") == (silent.ended_s, silent.jobs, silent.detail)


def test_the_report_tells_of_a_joining_that_was_not_seen() -> None:
    final = batch("alpha", 1, BatchState.COMPLETED, end_s=NOW_S - 15)
    found = one(
        seen("alpha", final=(final,), reports=(report("alpha", 1),)), pilot=record("alpha", 1, PilotPhase.STARTING)
    )
    assert (NOW_S - 500, NOW_S - 480) == (found.started_s, found.joined_s)


def test_absence_is_not_death() -> None:
    pilot = record("alpha", 1, PilotPhase.BUSY, joined_s=NOW_S - 480)
    nowhere = one(seen("alpha"), pilot=pilot)
    assert (PilotPhase.UNKNOWN, None) == (nowhere.phase, nowhere.end_reason)
    assert PilotPhase.UNKNOWN is one(seen("alpha", final=None), pilot=pilot).phase
    assert PilotPhase.BUSY is one(seen("alpha", final=None), pilot=pilot, pool=slots(slot(pilot, busy_cores=1))).phase


def test_a_lost_ghost_is_an_alarm() -> None:
    pilot = record("alpha", 1, PilotPhase.BUSY)
    (alarm,) = looked(seen("alpha"), pilots=(pilot,)).alarms
    assert pilot.pilot_id in alarm


# Mutation: the deadline is compared with now instead of with the time of the look.
def test_a_lost_submission_is_given_up_only_by_a_look_after_its_deadline() -> None:
    lost = record("alpha", 1, PilotPhase.UNCERTAIN, sent="uncertain", batch_id=None, submit_deadline_s=NOW_S - 5)
    early = one(seen("alpha", taken_s=NOW_S - 5), pilot=lost)
    assert PilotPhase.UNCERTAIN is early.phase
    late = one(seen("alpha", taken_s=NOW_S - 4), pilot=lost)
    assert (PilotPhase.ENDED, EndReason.NEVER_APPEARED) == (late.phase, late.end_reason)
    assert PilotPhase.UNCERTAIN is one(seen("alpha", final=None), pilot=lost).phase


def test_a_live_job_under_our_name_is_adopted_with_the_configured_offer() -> None:
    live = batch("alpha", 7, BatchState.RUNNING, submit_s=NOW_S - 90, start_s=NOW_S - 60)
    (stray,) = looked(seen("alpha", live)).adopted
    assert (name("alpha", 7), offer("alpha"), "submitted", PilotPhase.STARTING, "8007") == (
        stray.pilot_id,
        stray.offer,
        stray.sent,
        stray.phase,
        stray.batch_id,
    )
    assert (NOW_S - 90, NOW_S - 60) == (stray.intended_s, stray.started_s)


def test_a_stray_of_a_site_that_is_not_configured_promises_nothing() -> None:
    live = batch("gone", 7, BatchState.PENDING, alloc_cpus=8, partition="main", account="dx1")
    (stray,) = looked(seen("gone", live)).adopted
    shape = stray.offer.shape
    assert (8, 0, 0, "main", "dx1") == (
        shape.cores,
        shape.memory_mib,
        shape.walltime_s,
        stray.offer.partition,
        stray.offer.account,
    )


# Mutations: strays are taken without looking at the state, at the instance, at the site in the name.
def test_what_is_over_or_another_factorys_or_another_sites_is_not_adopted() -> None:
    over = batch("alpha", 1, BatchState.COMPLETED)
    foreign = replace(batch("alpha", 2, BatchState.RUNNING), name=name("alpha", 2).replace("tow-", "two-"))
    other_site = batch("beta", 3, BatchState.RUNNING)
    nameless = replace(batch("alpha", 4, BatchState.RUNNING), name="interactive")
    known = batch("alpha", 5, BatchState.RUNNING)
    pilots = (record("alpha", 5, PilotPhase.PENDING),)
    found = looked(seen("alpha", over, foreign, other_site, nameless, known), pilots=pilots)
    assert () == found.adopted


def test_twins_and_unreadable_reports_are_alarms() -> None:
    twins = (batch("alpha", 1, BatchState.RUNNING), batch("alpha", 1, BatchState.PENDING, job_id="9001"))
    sight = replace(seen("alpha", *twins), unreadable_reports=(name("alpha", 2),))
    found = looked(sight, pilots=(record("alpha", 1, PilotPhase.PENDING),))
    assert [PilotPhase.STARTING] == [pilot.phase for pilot in found.pilots]
    assert (
        f"site alpha: more than one job is named {name('alpha', 1)}: 8001, 9001",
        f"site alpha: the end report of pilot {name('alpha', 2)} cannot be read",
    ) == found.alarms


def test_a_slot_that_is_not_as_planned_is_reported() -> None:
    pilot = record("alpha", 1, PilotPhase.STARTING)
    running = seen("alpha", batch("alpha", 1, BatchState.RUNNING))
    small = slot(pilot, cores=2, memory_mib=3900)
    assert (
        Drift(pilot_id=pilot.pilot_id, attribute="cores", assumed=4, found=2),
        Drift(pilot_id=pilot.pilot_id, attribute="memory_mib", assumed=8064, found=3900),
    ) == looked(running, pilots=(pilot,), pool=slots(small)).drift
    assert () == looked(running, pilots=(pilot,), pool=slots(slot(pilot))).drift


def test_open_pilots_are_those_that_the_plan_counts() -> None:
    ended = batch("alpha", 1, BatchState.CANCELLED, end_s=NOW_S)
    stray = batch("alpha", 3, BatchState.PENDING)
    pilots = (record("alpha", 2, PilotPhase.PENDING), record("alpha", 1, PilotPhase.PENDING))
    found = looked(seen("alpha", stray, final=(ended,)), pilots=pilots)
    assert [name("alpha", 1), name("alpha", 2)] == [pilot.pilot_id for pilot in found.pilots]
    assert [name("alpha", 2), name("alpha", 3)] == [pilot.pilot_id for pilot in found.open_pilots]
    assert EndReason.CANCELLED_PENDING is found.pilots[0].end_reason


def test_accounting_that_is_not_seen_is_an_alarm() -> None:
    # Mutation: take FinalUnseen out of _alarms: pilots stay open, and nobody is told why.
    (alarm,) = looked(seen("alpha", final=None)).alarms
    assert "site alpha: pilots that ended stay open" in alarm
    assert () == looked(seen("alpha")).alarms
