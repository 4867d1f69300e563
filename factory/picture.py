"""Read the recorded picture from the ledger: what the last cycle saw and decided, and how it came to be so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from accounting.ledger import Ledger
from accounting.model import PilotRecord
from factory.errors import RecordUnreadable
from factory.journal import Recorded, read_record
from factory.model import Policy
from factory.report import (
    ApStatus,
    Freshness,
    PoolStatus,
    SiteStatus,
    ap_statuses,
    freshness,
    pool_status,
    sightings,
    site_statuses,
)

_HISTORY_MAX = 10_000
"""Recorded cycles that are read at most, however long something has been unseen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The federation as the factory last saw it, and the ledger as it is now."""

    fresh: Freshness
    sites: tuple[SiteStatus, ...]
    aps: tuple[ApStatus, ...]
    pool: PoolStatus
    pilots: tuple[PilotRecord, ...]
    """Open pilots by the ledger, which is newer than the last look by what has been submitted since."""
    last: Recorded | None


def take_picture(
    ledger: Ledger, *, instance: str, policy: Policy, aps: Iterable[str], cycle_time_s: float, now_s: float
) -> Picture:
    """
    The picture at this moment.

    :raises LedgerUnavailable: the ledger cannot be read.
    """
    cycles = history(ledger, instance)
    last = next(cycles, None)
    seen = {} if last is None else sightings(chain((last,), cycles))
    pilots = ledger.open_pilots(instance)
    return Picture(
        fresh=freshness(last, lease=ledger.lease(instance), cycle_time_s=cycle_time_s, now_s=now_s),
        sites=site_statuses(
            policy=policy,
            pilots=pilots,
            stops=ledger.stops(),
            seen=seen,
            last=last,
            breakers=() if last is None else last.plan.breakers,
        ),
        aps=ap_statuses(aps, last=last, seen=seen),
        pool=pool_status(last=last, seen=seen),
        pilots=pilots,
        last=last,
    )


def history(ledger: Ledger, instance: str) -> Iterator[Recorded]:
    """Recorded cycles, newest first, each read only when asked for."""
    first = True
    for span in ledger.journal_list(instance, limit=_HISTORY_MAX):
        record = ledger.journal_at(instance, span.first_s)
        if record is None:
            # Dropped meanwhile, because the journal is bounded.
            return
        try:
            recorded = read_record(record)
        except RecordUnreadable:
            if first:
                raise
            # From before an upgrade: what lies behind it is not known.
            return
        first = False
        yield recorded
