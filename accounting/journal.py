"""The decision journal: every cycle, equal ones in a row as one entry with a count, compressed and bounded."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, defer

from accounting.model import CycleRecord
from accounting.orm import JournalRow


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class JournalSpan:
    """What the journal holds, without the texts: a cycle and the equal ones after it. Times are epoch seconds."""

    first_s: float
    last_s: float
    cycle: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One decision to write down; ``digest`` is of both texts without what differs in every cycle."""

    instance: str
    cycle: str
    at_s: float
    observation_json: str
    plan_json: str
    digest: str


def write_entry(session: Session, entry: JournalEntry, *, keep: int) -> None:
    """Append the decision, or count it with the last one when it is equal; drop all but the newest ``keep``."""
    query = select(JournalRow).where(JournalRow.instance == entry.instance).order_by(JournalRow.id.desc())
    last = session.scalars(
        query.options(defer(JournalRow.observation), defer(JournalRow.plan)).limit(1).with_for_update()
    ).first()
    if last is not None and last.digest == entry.digest:
        last.last_s = entry.at_s
        last.count += 1
        return
    session.add(
        JournalRow(
            instance=entry.instance,
            cycle=entry.cycle,
            first_s=entry.at_s,
            last_s=entry.at_s,
            count=1,
            digest=entry.digest,
            observation=_pack(entry.observation_json),
            plan=_pack(entry.plan_json),
        )
    )
    session.flush()
    oldest_kept = session.scalars(query.with_only_columns(JournalRow.id).offset(keep - 1).limit(1)).first()
    if oldest_kept is not None:
        session.execute(delete(JournalRow).where(JournalRow.instance == entry.instance, JournalRow.id < oldest_kept))


def latest(session: Session, instance: str, *, at_s: float | None = None) -> CycleRecord | None:
    """The newest decision, or the one in force at a time; None before the first."""
    query = select(JournalRow).where(JournalRow.instance == instance)
    if at_s is not None:
        query = query.where(JournalRow.first_s <= at_s)
    row = session.scalars(query.order_by(JournalRow.id.desc()).limit(1)).first()
    if row is None:
        return None
    return CycleRecord(
        cycle=row.cycle,
        first_s=row.first_s,
        last_s=row.last_s,
        count=row.count,
        observation_json=_unpack(row.observation),
        plan_json=_unpack(row.plan),
    )


def spans(session: Session, instance: str, *, limit: int) -> tuple[JournalSpan, ...]:
    """What is there, newest first."""
    query = (
        select(JournalRow)
        .where(JournalRow.instance == instance)
        .options(defer(JournalRow.observation), defer(JournalRow.plan))
        .order_by(JournalRow.id.desc())
        .limit(limit)
    )
    return tuple(
        JournalSpan(first_s=row.first_s, last_s=row.last_s, cycle=row.cycle, count=row.count)
        for row in session.scalars(query)
    )


def _pack(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def _unpack(packed: bytes) -> str:
    return zlib.decompress(packed).decode("utf-8", "surrogatepass")
