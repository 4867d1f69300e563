"""Match tables as tests write them: pair by pair."""

from __future__ import annotations

from collections.abc import Mapping

from overlay.matching import prepared
from overlay.model import FailedClause, Match, MatchTable


def table_of(pairs: Mapping[tuple[str, str], Match]) -> MatchTable:
    """The table that gives these answers; a pair that is left out does not match."""
    columns = {slot: column for column, slot in enumerate(sorted({slot for _, slot in pairs}))}
    rows = dict.fromkeys(sorted({bucket for bucket, _ in pairs}), 0)
    for (bucket, slot), match in pairs.items():
        rows[bucket] |= match.matches << columns[slot]

    def failed(bucket: str, slot: str) -> tuple[FailedClause, ...]:
        found = pairs.get((bucket, slot))
        return () if found is None else found.failed

    return MatchTable(columns=columns, rows=rows, failed=failed)


def pairs_of(table: MatchTable) -> dict[tuple[str, str], Match]:
    """Every pair of a table."""
    return {(bucket, slot): table.get(bucket, slot) for bucket in table.rows for slot in table.columns}


def slow_rows(jobs: Mapping[str, str], slot_ads: Mapping[str, str], *, now_s: float) -> dict[tuple[str, str], bool]:
    """Every pair by HTCondor's own symmetric match, one after the other."""
    moment_s = int(now_s)
    slots = {key: prepared("slot", text, moment_s) for key, text in slot_ads.items()}
    found = {}
    for bucket, text in jobs.items():
        job = prepared("job", text, moment_s)
        for key, slot in slots.items():
            readable = not job.broken and not slot.broken
            found[bucket, key] = readable and bool(job.ad.symmetricMatch(slot.ad))
    return found
