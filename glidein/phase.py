"""One total function from what is known of a pilot to its phase; unknown stays unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from glidein.model import BatchRecord, BatchState, EndReason, EndReport, PilotPhase

SACCT_LAG_S = 60
"""A job may be in squeue and not yet in sacct this long: 22.05 lags 5 s, a busy slurmdbd longer (measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    What one observation says of one pilot.

    ``live`` is None when squeue was read and the pilot was not in it. ``final`` is None when sacct was read and had no
    record of it, and ``"unseen"`` when sacct could not be read. ``slot`` is what the collector's ads say of it.
    """

    prior: PilotPhase
    sent: Literal["intended", "uncertain", "submitted"]
    past_deadline: bool
    """A lost submission can no longer take effect."""
    age_s: float
    """Since the submission was answered, or since the intent."""
    live: BatchRecord | None
    final: BatchRecord | Literal["unseen"] | None
    slot: Literal["none", "idle", "busy", "leaving", "unseen"]
    report: EndReport | None


def pilot_phase(evidence: Evidence) -> tuple[PilotPhase, EndReason | None]:
    """The phase, and the reason when that phase is ENDED."""
    live = evidence.live
    if live is not None and live.state is not BatchState.UNKNOWN:
        if live.state.is_final:
            return PilotPhase.ENDED, end_reason(live, evidence.report)
        return _live_phase(evidence, live.state), None
    final = evidence.final
    if live is None and isinstance(final, BatchRecord) and final.state.is_final:
        return PilotPhase.ENDED, end_reason(final, evidence.report)
    if live is None and final is None:
        return _absent_phase(evidence)
    if live is None and final == "unseen" and evidence.sent != "submitted":
        return PilotPhase.UNCERTAIN, None
    return _unclear_phase(evidence), None


def _live_phase(evidence: Evidence, state: BatchState) -> PilotPhase:
    """The phase of a pilot whose batch job lives."""
    match state:
        case BatchState.PENDING:
            return PilotPhase.PENDING
        case BatchState.COMPLETING:
            return PilotPhase.ENDING
        case _:
            return _slot_phase(evidence)


def _slot_phase(evidence: Evidence) -> PilotPhase:
    """The phase of a pilot that runs, from its slot."""
    match evidence.slot:
        case "idle":
            return PilotPhase.IDLE
        case "busy":
            return PilotPhase.BUSY
        case "leaving":
            return PilotPhase.ENDING
        case "none" | "unseen":
            joined = evidence.prior in (PilotPhase.IDLE, PilotPhase.BUSY, PilotPhase.ENDING)
            return evidence.prior if joined else PilotPhase.STARTING
        case _ as never:
            assert_never(never)


def _absent_phase(evidence: Evidence) -> tuple[PilotPhase, EndReason | None]:
    """The phase of a pilot that squeue and sacct, both read, do not know."""
    if evidence.sent == "submitted":
        # The scheduler gave it an id. A young one may not be in sacct yet; an old one is lost: say so, do not guess.
        if evidence.age_s <= SACCT_LAG_S:
            return evidence.prior, None
        return PilotPhase.UNKNOWN, None
    if evidence.past_deadline:
        return PilotPhase.ENDED, EndReason.NEVER_APPEARED
    return PilotPhase.UNCERTAIN, None


def _unclear_phase(evidence: Evidence) -> PilotPhase:
    """Half a sight: the slot may still tell that it runs; else it is unknown."""
    if evidence.slot in ("idle", "busy", "leaving"):
        return _slot_phase(evidence)
    return PilotPhase.UNKNOWN


def end_reason(record: BatchRecord, report: EndReport | None) -> EndReason:
    """
    Why an ended pilot ended.

    The pilot's own word, except that a pilot told to stop does not know by whom: there the batch system knows more.
    """
    batch = _BATCH_REASON.get(record.state, EndReason.FAILED)
    if batch is EndReason.CANCELLED and record.start_s is None:
        return EndReason.CANCELLED_PENDING
    if report is None:
        return batch
    if report.reason is EndReason.STOPPED and batch not in (EndReason.FAILED, EndReason.ENDED_SILENTLY):
        return batch
    return report.reason


_BATCH_REASON = {
    BatchState.COMPLETED: EndReason.ENDED_SILENTLY,
    BatchState.FAILED: EndReason.FAILED,
    BatchState.CANCELLED: EndReason.CANCELLED,
    BatchState.TIMEOUT: EndReason.TIMEOUT,
    BatchState.PREEMPTED: EndReason.PREEMPTED,
    BatchState.NODE_FAIL: EndReason.NODE_FAIL,
    BatchState.OUT_OF_MEMORY: EndReason.OUT_OF_MEMORY,
}
