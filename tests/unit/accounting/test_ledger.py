"""Pilots and decisions: what was written is there, once, and an intent is never lost or replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ledger_samples import NOW, batch, commit, ended, intent, packed_of

from accounting.errors import LeaseLost, PilotExists, PilotUnknown
from accounting.ledger import CANCEL_RETRY_S, Ledger
from accounting.model import CancelIntent, JournalBounds, Lease, PilotRecord, SiteStop
from glidein.model import EndReason, PilotPhase

ONE = intent(1)


def phases(ledger: Ledger, record: PilotRecord) -> list[PilotPhase]:
    return [event.phase for event in ledger.events(record.pilot_id)]


def only(ledger: Ledger) -> PilotRecord:
    (record,) = ledger.open_pilots("demo")
    return record


# Mutation that turns it red: leave `gpus=row.gpus` (or any other column) out of record_of.
def test_intent_comes_back_as_it_was_written(ledger: Ledger) -> None:
    commit(ledger, ONE, intent(2, site="beta"))

    assert ledger.open_pilots("demo") == (ONE, intent(2, site="beta"))
    assert ledger.open_pilots("other") == ()
    assert ledger.pilot(ONE.pilot_id) == ONE
    assert ledger.pilot("demo-alpha-00000000-1") is None


def test_whole_life_comes_back_as_it_was_written(ledger: Ledger) -> None:
    commit(ledger, ONE)
    ledger.record_observed((ended(ONE),), NOW + 120)

    assert ledger.pilot(ONE.pilot_id) == ended(ONE)
    assert ledger.open_pilots("demo") == ()


# Mutation that turns it red: write the journal entry in a transaction of its own.
def test_decision_with_a_used_pilot_id_leaves_nothing_behind(ledger: Ledger) -> None:
    commit(ledger, ONE)

    with pytest.raises(PilotExists, match=ONE.pilot_id):
        commit(ledger, intent(2), ONE, at_s=NOW + 60)
    assert ledger.open_pilots("demo") == (ONE,)
    assert [span.first_s for span in ledger.journal_list("demo")] == [NOW]


# Mutation that turns it red: drop the _must_hold call in commit_plan.
def test_decision_of_a_factory_that_lost_its_lease_is_refused(ledger: Ledger) -> None:
    mine = ledger.acquire_lease("demo", "a:1", NOW, 60)
    ledger.acquire_lease("demo", "b:2", NOW + 61, 60)

    with pytest.raises(LeaseLost, match="b:2"):
        commit(ledger, ONE, at_s=NOW + 62, lease=mine)
    assert ledger.open_pilots("demo") == ()
    commit(ledger, ONE, at_s=NOW + 62, lease=Lease(instance="demo", holder="b:2", expires_s=NOW + 121))
    assert ledger.open_pilots("demo") == (ONE,)


# Mutation that turns it red: append an event whether or not the phase changed.
def test_each_change_of_phase_is_one_event(ledger: Ledger) -> None:
    commit(ledger, ONE)
    ledger.settle_submits(((ONE.pilot_id, "submitted", "17"),), NOW + 1)
    running = replace(only(ledger), phase=PilotPhase.STARTING, started_s=NOW + 10)
    for at_s in (NOW + 10, NOW + 20):
        ledger.record_observed((running,), at_s)
    ledger.record_observed((ended(ONE),), NOW + 120)

    assert phases(ledger, ONE) == [PilotPhase.INTENDED, PilotPhase.PENDING, PilotPhase.STARTING, PilotPhase.ENDED]
    assert [event.detail for event in ledger.events(ONE.pilot_id)][1] == "submitted: 17"
    assert [event.detail for event in ledger.events(ONE.pilot_id)][-1] == "idle"


# Mutation that turns it red: let record_observed write_life of an ended row.
def test_ended_pilot_stays_ended_and_takes_its_late_batch_record(ledger: Ledger) -> None:
    commit(ledger, ONE)
    ledger.record_observed((ended(ONE, batch=None, report=None, jobs=None),), NOW + 120)
    assert [pilot.pilot_id for pilot in ledger.unaccounted("demo")] == [ONE.pilot_id]

    ledger.record_observed((replace(ONE, phase=PilotPhase.BUSY, sent="submitted"),), NOW + 130)
    ledger.record_observed((ended(ONE),), NOW + 140)
    ledger.record_observed((ended(ONE, batch=batch(ONE, elapsed_s=999)),), NOW + 150)

    assert ledger.pilot(ONE.pilot_id) == ended(ONE)
    assert ledger.unaccounted("demo") == ()
    assert phases(ledger, ONE) == [PilotPhase.INTENDED, PilotPhase.ENDED]


def test_update_of_a_pilot_that_is_not_there_writes_nothing(ledger: Ledger) -> None:
    commit(ledger, ONE)

    with pytest.raises(PilotUnknown, match=intent(2).pilot_id):
        ledger.record_observed((replace(ONE, phase=PilotPhase.BUSY), intent(2)), NOW)
    with pytest.raises(PilotUnknown, match=intent(2).pilot_id):
        ledger.settle_submits(((ONE.pilot_id, "submitted", "1"), (intent(2).pilot_id, "submitted", "2")), NOW)
    assert ledger.open_pilots("demo") == (ONE,)


# Mutation that turns it red: adopt without looking whether the row is there.
def test_adopting_twice_is_adopting_once(ledger: Ledger) -> None:
    found = replace(ONE, sent="submitted", phase=PilotPhase.PENDING, batch_id="17")
    assert ledger.adopt((found,), NOW) == (ONE.pilot_id,)
    ledger.record_observed((replace(found, phase=PilotPhase.BUSY),), NOW + 1)
    assert ledger.adopt((found,), NOW + 2) == ()

    assert only(ledger).phase is PilotPhase.BUSY


# Mutation that turns it red: leave ended rows alone in adopt: the pilot runs and nobody counts it.
@pytest.mark.parametrize("reason", [EndReason.NEVER_APPEARED, EndReason.REFUSED])
def test_pilot_that_was_given_up_and_is_found_is_open_again(ledger: Ledger, reason: EndReason) -> None:
    commit(ledger, ONE)
    gone = replace(ONE, phase=PilotPhase.ENDED, ended_s=NOW + 200, end_reason=reason)
    ledger.record_observed((gone,), NOW + 200)
    found = replace(ONE, sent="submitted", phase=PilotPhase.PENDING, batch_id="17")

    assert ledger.adopt((found,), NOW + 300) == (ONE.pilot_id,)
    assert only(ledger) == found


# Mutation that turns it red: reopen whatever the reason of the end.
def test_pilot_whose_end_the_batch_system_recorded_is_not_reopened(ledger: Ledger) -> None:
    commit(ledger, ONE)
    ledger.record_observed((ended(ONE),), NOW + 120)

    assert ledger.adopt((replace(ONE, phase=PilotPhase.PENDING),), NOW + 300) == ()
    assert ledger.open_pilots("demo") == ()


def test_submissions_are_settled_each_in_its_way(ledger: Ledger) -> None:
    pilots = [intent(n) for n in range(1, 5)]
    commit(ledger, *pilots)
    kinds = ("submitted", "uncertain", "refused", "not_sent")
    ledger.settle_submits(
        tuple((pilot.pilot_id, kind, f"word {kind}") for pilot, kind in zip(pilots, kinds, strict=True)), NOW + 5
    )

    taken, unclear, refused, unsent = ledger.pilots("demo")[::-1]
    assert (taken.phase, taken.sent, taken.batch_id) == (PilotPhase.PENDING, "submitted", "word submitted")
    assert taken.submitted_s == NOW + 5
    assert (unclear.phase, unclear.sent, unclear.detail) == (PilotPhase.UNCERTAIN, "uncertain", "word uncertain")
    assert (refused.phase, refused.end_reason, refused.ended_s) == (PilotPhase.ENDED, EndReason.REFUSED, NOW + 5)
    assert refused.detail == "word refused"
    assert (unsent.phase, unsent.end_reason) == (PilotPhase.ENDED, EndReason.NEVER_APPEARED)
    assert unsent.detail == "not sent: word not_sent"


def test_settling_again_changes_nothing(ledger: Ledger) -> None:
    commit(ledger, ONE)
    ledger.settle_submits(((ONE.pilot_id, "submitted", "17"),), NOW + 1)
    before = ledger.pilot(ONE.pilot_id), ledger.events(ONE.pilot_id)

    ledger.settle_submits(((ONE.pilot_id, "refused", "late word"),), NOW + 2)

    assert (ledger.pilot(ONE.pilot_id), ledger.events(ONE.pilot_id)) == before


# Mutations that turn it red: set surplus_since_s also when it is set; never clear it.
def test_surplus_is_marked_from_its_first_time_and_cleared(ledger: Ledger) -> None:
    commit(ledger, ONE)
    commit(ledger, at_s=NOW + 60, surplus=(ONE.pilot_id,))
    commit(ledger, at_s=NOW + 120, surplus=(ONE.pilot_id,))
    assert only(ledger).surplus_since_s == NOW + 60

    commit(ledger, at_s=NOW + 180)
    assert only(ledger).surplus_since_s is None


# Mutations that turn it red: set barren_since_s also when it is set; never clear it; look at ended pilots too.
def test_barren_is_marked_from_its_first_time_and_stays_at_the_end(ledger: Ledger) -> None:
    commit(ledger, replace(ONE, asked_for="ap1/a"))
    commit(ledger, at_s=NOW + 60, barren=(ONE.pilot_id,))
    commit(ledger, at_s=NOW + 120)
    assert only(ledger).barren_since_s is None
    commit(ledger, at_s=NOW + 180, barren=(ONE.pilot_id,))
    commit(ledger, at_s=NOW + 240, barren=(ONE.pilot_id,))
    assert (only(ledger).asked_for, only(ledger).barren_since_s) == ("ap1/a", NOW + 180)

    ledger.record_observed((replace(only(ledger), phase=PilotPhase.ENDED, ended_s=NOW + 300),), NOW + 300)
    commit(ledger, at_s=NOW + 360)
    ended = ledger.pilot(ONE.pilot_id)
    assert ended is not None
    assert ended.barren_since_s == NOW + 180


# Mutation that turns it red: drop `or without_effect`/`unsent` in _mark_open.
def test_cancel_that_was_not_sent_or_had_no_effect_may_be_decided_again(ledger: Ledger) -> None:
    commit(ledger, replace(ONE, sent="submitted", phase=PilotPhase.PENDING))
    cancel = CancelIntent(pilot_id=ONE.pilot_id, reason="nothing needs it")
    commit(ledger, at_s=NOW + 60, cancels=(cancel,))
    assert only(ledger).cancel_intended_s == NOW + 60

    commit(ledger, at_s=NOW + 120)  # A crash came between intent and sending.
    assert only(ledger).cancel_intended_s is None

    commit(ledger, at_s=NOW + 180, cancels=(cancel,))
    ledger.settle_cancels((ONE.pilot_id,), NOW + 181)
    commit(ledger, at_s=NOW + 240)
    assert only(ledger).cancel_intended_s == NOW + 180

    commit(ledger, at_s=NOW + 181 + CANCEL_RETRY_S)
    assert only(ledger).cancel_intended_s is None


# Mutation that turns it red: have write_life write the columns of decisions.
def test_observation_does_not_undo_a_decision(ledger: Ledger) -> None:
    waiting = replace(ONE, sent="submitted", phase=PilotPhase.PENDING)
    commit(ledger, waiting)
    commit(ledger, at_s=NOW + 60, surplus=(ONE.pilot_id,))
    ledger.record_observed((replace(waiting, phase=PilotPhase.STARTING),), NOW + 70)

    assert only(ledger).surplus_since_s == NOW + 60


# Mutation that turns it red: rank over all sites instead of by site.
def test_outcomes_are_the_latest_of_each_site_oldest_first(ledger: Ledger) -> None:
    pilots = [intent(n, site=site) for site in ("alpha", "beta") for n in range(1, 5)]
    commit(ledger, *pilots)
    for n, pilot in enumerate(pilots):
        ledger.record_observed((ended(pilot, ended_s=NOW + 1000 - n),), NOW + 1000)
    joined = replace(intent(9), sent="submitted", phase=PilotPhase.BUSY, joined_s=NOW + 2000)
    ledger.adopt((joined, intent(10)), NOW + 2000)

    got = [(pilot.offer.site, pilot.pilot_id[-2:]) for pilot in ledger.outcomes("demo", per_site=2)]
    assert got == [("alpha", "-1"), ("alpha", "-9"), ("beta", "-2"), ("beta", "-1")]


def test_pilots_are_listed_by_site_and_since(ledger: Ledger) -> None:
    commit(ledger, intent(1), intent(2), intent(3, site="beta"))
    ledger.record_observed((ended(intent(1)),), NOW + 200)

    assert {pilot.pilot_id[-1] for pilot in ledger.pilots("demo")} == {"1", "2", "3"}
    assert [pilot.pilot_id[-1] for pilot in ledger.pilots("demo", site="alpha")] == ["2", "1"]
    assert [pilot.pilot_id[-1] for pilot in ledger.pilots("demo", site="alpha", since_s=NOW + 111)] == ["2"]
    assert len(ledger.pilots("demo", limit=1)) == 1


def test_stopped_sites_keep_their_time(ledger: Ledger) -> None:
    ledger.stop_site(SiteStop(site="beta", since_s=NOW, by="ops", reason="maintenance"))
    ledger.stop_site(SiteStop(site="beta", since_s=NOW + 60, by="eva", reason="longer maintenance"))

    assert ledger.stops() == (SiteStop(site="beta", since_s=NOW, by="eva", reason="longer maintenance"),)
    assert ledger.resume_site("beta") is True
    assert ledger.resume_site("beta") is False
    assert ledger.stops() == ()


def test_sites_are_remembered_until_forgotten(ledger: Ledger) -> None:
    ledger.remember_site("alpha", '{"login": "old"}')
    ledger.remember_site("alpha", '{"login": "new"}')
    ledger.remember_site("beta", "{}")
    ledger.forget_site("beta")
    ledger.forget_site("beta")

    assert ledger.remembered_sites() == {"alpha": '{"login": "new"}'}


# Mutation that turns it red: compare with any earlier entry instead of the last one, or never.
def test_equal_decisions_in_a_row_are_one_entry(ledger: Ledger) -> None:
    for at_s, digest in ((0, "a"), (60, "a"), (120, "b"), (180, "a")):
        commit(ledger, at_s=at_s, packed=packed_of(f"at {at_s} é", digest=digest))

    assert [(span.first_s, span.last_s, span.count) for span in ledger.journal_list("demo")] == [
        (180, 180, 1),
        (120, 120, 1),
        (0, 60, 2),
    ]
    at_90 = ledger.journal_at("demo", 90)
    assert at_90 is not None
    assert at_90.root.decode() == "at 0 é"
    assert ledger.journal_at("demo", -1) is None
    latest = ledger.journal_latest("demo")
    assert latest is not None
    assert latest.first_s == 180
    assert ledger.journal_latest("other") is None


# Mutation that turns it red: drop the delete in write_entry, or its instance.
def test_journal_is_bounded_for_each_instance(ledger: Ledger) -> None:
    commit(ledger, at_s=0, instance="other")
    for at_s in range(12):
        commit(ledger, at_s=at_s, bounds=JournalBounds(entries=5, size_bytes=2**20))

    assert [span.first_s for span in ledger.journal_list("demo")] == [11, 10, 9, 8, 7]
    assert len(ledger.journal_list("other")) == 1


def test_text_that_no_database_takes_does_not_stop_the_ledger(ledger: Ledger) -> None:
    commit(ledger, ONE)
    ledger.settle_submits(((ONE.pilot_id, "refused", "sbatch: \x00 \udcff error"),), NOW)

    (record,) = ledger.pilots("demo")
    assert record.detail == "sbatch: \ufffd ? error"
