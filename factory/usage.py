"""Read what payload jobs used from every access point into the ledger; a cursor moves only after its rows are in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from accounting.model import StreamState
from overlay.model import Records, RecordsSeen, RecordsUnseen

log = structlog.get_logger()


class RecordsPool(Protocol):
    """Where the records of jobs come from."""

    def records(self, ap: str, *, since_s: int, now_s: float) -> Records:
        """Epochs, final history and running jobs of an access point, written since a time."""
        ...


class UsageLedger(Protocol):
    """Where they go."""

    def mark(self, ap: str) -> int: ...
    def ingest(self, records: RecordsSeen, now_s: float) -> object: ...
    def stream_states(self) -> tuple[StreamState, ...]: ...
    def note_unseen(self, ap: str, reason: str, now_s: float) -> None: ...


def read_usage(pool: RecordsPool, usage: UsageLedger, *, aps: tuple[str, ...], clock: Callable[[], float]) -> None:
    """One reading of every access point; one that cannot be read keeps its mark and is read next time."""
    for ap in aps:
        match pool.records(ap, since_s=usage.mark(ap), now_s=clock()):
            case RecordsSeen() as seen:
                usage.ingest(seen, clock())
                log.info(
                    "usage.read",
                    ap=ap,
                    epochs=len(seen.epochs),
                    history=len(seen.history),
                    running=len(seen.running),
                    unreadable=len(seen.unreadable),
                )
            case RecordsUnseen(reason=reason):
                usage.note_unseen(ap, reason, clock())
                log.warning("usage.unseen", ap=ap, reason=reason)
    for stream in usage.stream_states():
        if stream.ap in aps and stream.gap_since_s is not None:
            remedy = "raise MAX_EPOCH_HISTORY_LOG at the access point"
            log.error("usage.gap", ap=stream.ap, since_s=stream.gap_since_s, remedy=remedy)
