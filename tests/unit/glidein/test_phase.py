"""The phase function: total, and it never guesses."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glidein.model import BatchRecord, BatchState, EndReason, EndReport, PilotPhase
from glidein.phase import Evidence, end_reason, pilot_phase


def record(state: BatchState, *, start_s: int | None = 100) -> BatchRecord:
    return BatchRecord(name="bed-alpha-0000abcd-1", job_id="7", state=state, raw_state=state.name, start_s=start_s)


def report(reason: EndReason) -> EndReport:
    return EndReport(
        pilot_id="bed-alpha-0000abcd-1",
        reason=reason,
        exit_code=0,
        start_s=1,
        joined_s=2,
        end_s=3,
        node="n1",
        cores=1,
        memory_mib=512,
        jobs=1,
    )


records = st.sampled_from(BatchState).map(record)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    return Evidence(
        prior=draw(st.sampled_from(PilotPhase)),
        sent=draw(st.sampled_from(["intended", "uncertain", "submitted"])),
        past_deadline=draw(st.booleans()),
        age_s=draw(st.floats(0, 10**6)),
        live=draw(st.none() | records),
        final=draw(st.none() | st.just("unseen") | records),
        slot=draw(st.sampled_from(["none", "idle", "busy", "leaving", "unseen"])),
        report=draw(st.none() | st.sampled_from([EndReason.IDLE, EndReason.STOPPED]).map(report)),
    )


def evidence(**change: object) -> Evidence:
    plain = Evidence(
        prior=PilotPhase.PENDING,
        sent="submitted",
        past_deadline=False,
        age_s=1000,
        live=None,
        final=None,
        slot="none",
        report=None,
    )
    return dataclasses.replace(plain, **change)


@given(evidences())
def test_every_evidence_has_a_phase_and_an_end_has_a_reason(seen: Evidence) -> None:
    phase, reason = pilot_phase(seen)
    assert phase in PilotPhase
    assert (phase is PilotPhase.ENDED) == (reason is not None) or seen.prior is PilotPhase.ENDED


@given(evidences())
def test_nothing_ends_without_a_final_record_or_a_clean_deadline(seen: Evidence) -> None:
    if pilot_phase(seen)[1] is None:
        return
    final = any(isinstance(look, BatchRecord) and look.state.is_final for look in (seen.live, seen.final))
    lost = seen.live is None and seen.final is None and seen.past_deadline and seen.sent != "submitted"
    assert final or lost


@given(evidences())
def test_unread_accounting_ends_nothing_that_the_queue_does_not_show(seen: Evidence) -> None:
    assert pilot_phase(dataclasses.replace(seen, live=None, final="unseen"))[1] is None


@given(evidences())
def test_state_in_no_table_is_never_read_as_an_end(seen: Evidence) -> None:
    assert pilot_phase(dataclasses.replace(seen, live=record(BatchState.UNKNOWN)))[1] is None


@given(evidences())
def test_slots_alone_never_end_a_pilot(seen: Evidence) -> None:
    slots = ("none", "idle", "busy", "leaving", "unseen")
    ends = {pilot_phase(dataclasses.replace(seen, slot=slot))[1] for slot in slots}
    assert 1 == len(ends)


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ({"sent": "intended"}, PilotPhase.UNCERTAIN),
        ({"sent": "uncertain"}, PilotPhase.UNCERTAIN),
        ({"sent": "uncertain", "past_deadline": True}, PilotPhase.ENDED),
        ({"sent": "uncertain", "past_deadline": True, "final": "unseen"}, PilotPhase.UNCERTAIN),
        ({"sent": "uncertain", "live": record(BatchState.RUNNING)}, PilotPhase.STARTING),
        ({}, PilotPhase.UNKNOWN),
        ({"age_s": 5}, PilotPhase.PENDING),
        ({"live": record(BatchState.PENDING)}, PilotPhase.PENDING),
        ({"live": record(BatchState.RUNNING)}, PilotPhase.STARTING),
        ({"live": record(BatchState.RUNNING), "slot": "idle"}, PilotPhase.IDLE),
        ({"live": record(BatchState.RUNNING), "slot": "busy"}, PilotPhase.BUSY),
        ({"live": record(BatchState.RUNNING), "slot": "leaving"}, PilotPhase.ENDING),
        ({"live": record(BatchState.RUNNING), "slot": "none", "prior": PilotPhase.BUSY}, PilotPhase.BUSY),
        ({"live": record(BatchState.COMPLETING), "slot": "busy"}, PilotPhase.ENDING),
        ({"live": record(BatchState.CANCELLED), "slot": "busy"}, PilotPhase.ENDED),
        ({"final": record(BatchState.TIMEOUT)}, PilotPhase.ENDED),
        ({"final": record(BatchState.RUNNING)}, PilotPhase.UNKNOWN),
        ({"live": record(BatchState.PENDING), "final": record(BatchState.PREEMPTED)}, PilotPhase.PENDING),
    ],
)
def test_the_table(change: dict[str, object], phase: PilotPhase) -> None:
    assert phase is pilot_phase(evidence(**change))[0]


@pytest.mark.parametrize(
    ("batch", "said", "reason"),
    [
        (record(BatchState.COMPLETED), None, EndReason.ENDED_SILENTLY),
        (record(BatchState.COMPLETED), EndReason.IDLE, EndReason.IDLE),
        (record(BatchState.FAILED), EndReason.BAD_BUNDLE, EndReason.BAD_BUNDLE),
        (record(BatchState.FAILED), EndReason.STOPPED, EndReason.STOPPED),
        (record(BatchState.PREEMPTED), EndReason.STOPPED, EndReason.PREEMPTED),
        (record(BatchState.CANCELLED), EndReason.STOPPED, EndReason.CANCELLED),
        (record(BatchState.CANCELLED, start_s=None), None, EndReason.CANCELLED_PENDING),
        (record(BatchState.NODE_FAIL), None, EndReason.NODE_FAIL),
    ],
)
def test_pilot_knows_why_it_ended_unless_it_was_told_to(
    batch: BatchRecord, said: EndReason | None, reason: EndReason
) -> None:
    assert reason is end_reason(batch, None if said is None else report(said))
