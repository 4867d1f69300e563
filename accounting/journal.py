"""
The decision journal: every cycle, equal ones in a row as one entry with a count, compressed and bounded.

Entries are kept in segments of an eighth of the bound. Within one, what entries have in common is stored once; the
oldest segment goes as a whole, so nothing that is named by an entry that is kept can go.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, defer

from accounting.model import CycleRecord, JournalBounds, Packed, Part
from accounting.orm import JournalPartRow, JournalRow, JournalSegmentRow

SEGMENTS = 8
"""What is dropped at once is one of so many shares of the bound."""

_NAMES_AT_ONCE = 500
_ROW_BYTES = 64
"""What a row costs in the database beside its texts."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class JournalSpan:
    """What the journal holds, without the texts: a cycle and the equal ones after it. Times are epoch seconds."""

    first_s: float
    last_s: float
    cycle: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One decision to write down."""

    instance: str
    cycle: str
    at_s: float
    packed: Packed


def write_entry(session: Session, entry: JournalEntry, *, bounds: JournalBounds) -> None:
    """Append the decision, or count it with the last one when it is equal; drop the oldest beyond the bounds."""
    query = select(JournalRow).where(JournalRow.instance == entry.instance).order_by(JournalRow.id.desc())
    last = session.scalars(
        query.options(defer(JournalRow.observation), defer(JournalRow.plan)).limit(1).with_for_update()
    ).first()
    if last is not None and last.digest == entry.packed.digest:
        last.last_s = entry.at_s
        last.count += 1
        return
    segment = _segment(session, entry.instance, full_bytes=bounds.size_bytes // SEGMENTS)
    segment.size += _write_parts(session, segment.id, entry.packed)
    root, children = zlib.compress(entry.packed.root.data), " ".join(entry.packed.root.children)
    segment.size += len(root) + len(children) + _ROW_BYTES
    session.add(
        JournalRow(
            instance=entry.instance,
            cycle=entry.cycle,
            first_s=entry.at_s,
            last_s=entry.at_s,
            count=1,
            digest=entry.packed.digest,
            observation=root,
            plan=b"",
            format=2,
            segment=segment.id,
            children=children,
        )
    )
    session.flush()
    _drop_beyond(session, entry.instance, bounds)


def latest(session: Session, instance: str, *, at_s: float | None = None) -> CycleRecord | None:
    """The newest decision, or the one in force at a time; None before the first."""
    query = select(JournalRow).where(JournalRow.instance == instance)
    if at_s is not None:
        query = query.where(JournalRow.first_s <= at_s)
    row = session.scalars(query.order_by(JournalRow.id.desc()).limit(1)).first()
    if row is None:
        return None
    whole = row.format == 1
    return CycleRecord(
        cycle=row.cycle,
        first_s=row.first_s,
        last_s=row.last_s,
        count=row.count,
        format=row.format,
        root=zlib.decompress(row.observation),
        parts={"plan": zlib.decompress(row.plan)} if whole else _read_parts(session, row.segment, row.children.split()),
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


def size_bytes(session: Session, instance: str) -> int:
    """Bytes that the instance's entries and their parts take, as the bound counts them."""
    query = select(func.sum(JournalSegmentRow.size)).where(JournalSegmentRow.instance == instance)
    return int(session.scalar(query) or 0)


def _segment(session: Session, instance: str, *, full_bytes: int) -> JournalSegmentRow:
    """The segment that entries go into now."""
    query = select(JournalSegmentRow).where(JournalSegmentRow.instance == instance)
    newest = session.scalars(query.order_by(JournalSegmentRow.id.desc()).limit(1)).first()
    if newest is not None and newest.size < full_bytes:
        return newest
    fresh = JournalSegmentRow(instance=instance, size=0)
    session.add(fresh)
    session.flush()
    return fresh


def _write_parts(session: Session, segment: int, packed: Packed) -> int:
    """Write the parts that the segment does not have; their bytes. A part that is there has its children there too."""
    size = 0
    asked: set[str] = set()
    names = set(packed.root.children)
    while names:
        asked |= names
        missing = {name: packed.parts[name] for name in sorted(names - _present(session, segment, names))}
        for name, part in missing.items():
            row = _part_row(segment, name, part)
            size += len(row.data) + len(name) + len(row.children) + _ROW_BYTES
            session.add(row)
        session.flush()
        names = {child for part in missing.values() for child in part.children} - asked
    return size


def _part_row(segment: int, name: str, part: Part) -> JournalPartRow:
    return JournalPartRow(segment=segment, name=name, data=zlib.compress(part.data), children=" ".join(part.children))


def _present(session: Session, segment: int, names: Iterable[str]) -> set[str]:
    """Which of the parts the segment has."""
    found: set[str] = set()
    for some in _some_at_once(names):
        query = select(JournalPartRow.name).where(JournalPartRow.segment == segment, JournalPartRow.name.in_(some))
        found.update(session.scalars(query))
    return found


def _read_parts(session: Session, segment: int, names: Iterable[str]) -> Mapping[str, bytes]:
    """The parts and all that they name; one that is missing is left out, and whoever reads the record says so."""
    parts: dict[str, bytes] = {}
    wanted = set(names)
    while wanted:
        children: set[str] = set()
        for some in _some_at_once(wanted):
            query = select(JournalPartRow.name, JournalPartRow.data, JournalPartRow.children)
            query = query.where(JournalPartRow.segment == segment, JournalPartRow.name.in_(some))
            for name, data, below in session.execute(query):
                parts[name] = zlib.decompress(data)
                children.update(below.split())
        wanted = children - parts.keys()
    return parts


def _some_at_once(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The names in lists that a database takes in one query."""
    everyone = sorted(names)
    for first in range(0, len(everyone), _NAMES_AT_ONCE):
        yield tuple(everyone[first : first + _NAMES_AT_ONCE])


def _drop_beyond(session: Session, instance: str, bounds: JournalBounds) -> None:
    """Drop the oldest entries beyond the number, and the oldest segments beyond the bytes, but never the newest."""
    of_us = JournalRow.instance == instance
    newest_first = select(JournalRow.id).where(of_us).order_by(JournalRow.id.desc())
    oldest_kept = session.scalars(newest_first.offset(bounds.entries - 1).limit(1)).first()
    if oldest_kept is not None:
        session.execute(delete(JournalRow).where(of_us, JournalRow.id < oldest_kept))
    query = select(JournalSegmentRow).where(JournalSegmentRow.instance == instance)
    segments = list(session.scalars(query.order_by(JournalSegmentRow.id.desc())))
    first_used = session.scalar(select(func.min(JournalRow.segment)).where(of_us, JournalRow.segment > 0))
    size = 0
    for number, segment in enumerate(segments):
        size += segment.size
        if number == 0 or (size <= bounds.size_bytes and first_used is not None and segment.id >= first_used):
            continue
        # Whole records of an earlier version are older than every segment.
        session.execute(delete(JournalRow).where(of_us, JournalRow.segment <= segment.id))
        session.execute(delete(JournalPartRow).where(JournalPartRow.segment == segment.id))
        session.delete(segment)
    session.flush()
