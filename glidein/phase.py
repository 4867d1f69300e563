"""
Where a pilot is in its life: one total function of what was intended and of what was seen.

It never guesses: what was not looked at is :data:`Look.UNSEEN`, and a state that is in no table is UNKNOWN.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from glidein.model import BatchRecord, BatchState, PilotPhase


class Intent(Enum):
    """How far the factory got with asking for the pilot."""

    RECORDED = "recorded"
    """In the ledger; the scheduler has not been asked."""
    SENT = "sent"
    """Asked; no answer that can be trusted, so the job may exist, or may still come into being."""
    ACCEPTED = "accepted"
    """The scheduler gave a job id."""
    REFUSED = "refused"
    """The scheduler said no."""


class Look(Enum):
    """What a look at a scheduler gave when it gave no record."""

    ABSENT = "absent"
    """It answered, and knew no such job."""
    UNSEEN = "unseen"
    """It was not asked or gave no answer."""


class SlotsSeen(Enum):
    """What the collector says of a pilot's slots."""

    UNSEEN = "unseen"
    """It was not asked or gave no answer."""
    ABSENT = "absent"
    """It answered, and has no fresh ad of this pilot. A vanished ad is not a dead pilot: others can remove it."""
    IDLE = "idle"
    BUSY = "busy"
    CLOSING = "closing"
    """The pilot takes no more jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotView:
    """All that is known of one pilot at one moment."""

    intent: Intent
    live: BatchRecord | Look
    """The scheduler's queue (squeue)."""
    final: BatchRecord | Look
    """The scheduler's accounting (sacct)."""
    slots: SlotsSeen
    age_s: int
    """Since the scheduler was asked."""
    deadline_s: int
    """Age from which a request that was sent can no longer take effect: the command's own remote deadline."""


def pilot_phase(view: PilotView) -> PilotPhase:
    """
    Where the pilot is. The queue's word comes first, then accounting's, then the collector's.

    Accounting closes a pilot only when the queue answered too: an unseen site closes nothing (law 1).
    """
    match view.live:
        case BatchRecord() as record:
            return _by_record(record, view.slots)
        case Look.ABSENT:
            return _absent_from_queue(view)
        case Look.UNSEEN:
            return _unseen(view)
        case _:
            assert_never(view.live)


def _by_record(record: BatchRecord, slots: SlotsSeen) -> PilotPhase:
    match record.state:
        case BatchState.PENDING:
            return PilotPhase.PENDING
        case BatchState.RUNNING | BatchState.SUSPENDED:
            return _by_slots(slots)
        case BatchState.COMPLETING:
            return PilotPhase.ENDING
        case BatchState.UNKNOWN:
            return PilotPhase.UNKNOWN
        case _:
            assert record.state.is_final
            return PilotPhase.ENDED


def _by_slots(slots: SlotsSeen) -> PilotPhase:
    """The phase of a pilot that runs at its site."""
    match slots:
        case SlotsSeen.UNSEEN:
            return PilotPhase.UNKNOWN
        case SlotsSeen.ABSENT:
            return PilotPhase.STARTING
        case SlotsSeen.IDLE:
            return PilotPhase.IDLE
        case SlotsSeen.BUSY:
            return PilotPhase.BUSY
        case SlotsSeen.CLOSING:
            return PilotPhase.ENDING
        case _:
            assert_never(slots)


def _absent_from_queue(view: PilotView) -> PilotPhase:
    match view.final:
        case BatchRecord() as record:
            # Accounting says it runs or waits and the queue does not know it: one of them is late. 22.05 lags 5 s.
            return PilotPhase.ENDED if record.state.is_final else PilotPhase.UNKNOWN
        case Look.ABSENT:
            return _nowhere(view, both_clean=True)
        case Look.UNSEEN:
            return _nowhere(view, both_clean=False)
        case _:
            assert_never(view.final)


def _nowhere(view: PilotView, *, both_clean: bool) -> PilotPhase:
    """The phase of a pilot of which the scheduler showed no record."""
    match view.intent:
        case Intent.RECORDED:
            return PilotPhase.INTENDED
        case Intent.REFUSED:
            return PilotPhase.ENDED
        case Intent.SENT:
            if both_clean and view.age_s > view.deadline_s:
                return PilotPhase.ENDED
            return PilotPhase.UNCERTAIN
        case Intent.ACCEPTED:
            return PilotPhase.UNKNOWN
        case _:
            assert_never(view.intent)


def _unseen(view: PilotView) -> PilotPhase:
    """The site gave no answer: only the collector can say more, and only that the pilot lives."""
    match view.slots:
        case SlotsSeen.IDLE | SlotsSeen.BUSY | SlotsSeen.CLOSING:
            return _by_slots(view.slots)
        case SlotsSeen.ABSENT | SlotsSeen.UNSEEN:
            return _nowhere(view, both_clean=False)
        case _:
            assert_never(view.slots)
