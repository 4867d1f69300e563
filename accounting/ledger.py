"""
The ledger: pilots, decisions, the lease. Every method is one transaction.

All raise :class:`accounting.errors.LedgerUnavailable` when the database cannot be read or written; nothing of the
method's work is then in it, unless the very answer to the commit was lost (a server's; SQLite gives none).
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from accounting import journal
from accounting.engine import reading, writing
from accounting.errors import LeaseHeld, LeaseLost, PilotExists, PilotUnknown
from accounting.journal import JournalEntry, JournalSpan
from accounting.model import CancelIntent, CycleRecord, JournalBounds, Lease, Packed, PilotRecord, SiteStop
from accounting.orm import LeaseRow, PilotEventRow, PilotRow, RememberedSiteRow, SiteWordRow, StopRow
from accounting.pilots import (
    CHUNK,
    ENDED,
    REFUTABLE,
    PilotEvent,
    event_of,
    fill_in,
    new_row,
    note,
    record_of,
    rows_of,
    write_life,
)
from accounting.runtimes import Sort, usual_run_times
from glidein.model import EndReason, PilotId, PilotPhase

CANCEL_RETRY_S = 600
"""A pilot that still waits this long after its cancel was sent may be cancelled again."""

SubmitSettled = tuple[PilotId, str, str]
"""Pilot, kind (submitted, refused, uncertain, not_sent), and the job id or the reason."""


class Ledger:
    """The ledger in a database that :func:`accounting.engine.open_database` opened; threads may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # The lease.

    def acquire_lease(
        self, instance: str, holder: str, now_s: float, ttl_s: float, *, replacing: str | None = None
    ) -> Lease:
        """
        Become the one that acts for an instance, for ``ttl_s`` seconds; of several at once, one does.

        ``holder`` must be unlike any other's, also that of an earlier process of ours: a lease that has not expired
        is refused to everyone. ``replacing`` names a holder that the caller knows to be dead; only its lease is taken
        before it expires.

        :raises LeaseHeld: another acts for this instance.
        """
        wanted = LeaseRow(instance=instance, holder=holder, expires_s=now_s + ttl_s)
        with writing(self._engine) as session:
            _one_at_a_time(session, instance)
            row = session.get(LeaseRow, instance, populate_existing=True)
            if row is None:
                session.add(wanted)
            elif row.expires_s <= now_s or (replacing is not None and row.holder == replacing):
                row.holder, row.expires_s = holder, now_s + ttl_s
            else:
                raise LeaseHeld(instance=instance, holder=row.holder, until_s=row.expires_s)
        return Lease(instance=instance, holder=holder, expires_s=now_s + ttl_s)

    def renew_lease(self, lease: Lease, now_s: float, ttl_s: float) -> Lease:
        """
        Hold the lease ``ttl_s`` seconds from now; one that expired and that nobody took is ours still.

        :raises LeaseLost: another took it, or it was given back.
        """
        with writing(self._engine) as session:
            _one_at_a_time(session, lease.instance)
            row = session.get(LeaseRow, lease.instance, populate_existing=True)
            _must_hold(row, lease)
            assert row is not None, "_must_hold raises when there is no row"
            row.expires_s = now_s + ttl_s
        return Lease(instance=lease.instance, holder=lease.holder, expires_s=now_s + ttl_s)

    def release_lease(self, lease: Lease) -> None:
        """Give the lease back; nothing happens when it is not ours any more."""
        with writing(self._engine) as session:
            session.execute(
                delete(LeaseRow).where(LeaseRow.instance == lease.instance, LeaseRow.holder == lease.holder)
            )

    def lease(self, instance: str) -> Lease | None:
        """Who holds the lease, expired or not; None when nobody took it or it was given back."""
        with reading(self._engine) as session:
            row = session.get(LeaseRow, instance)
            return None if row is None else Lease(instance=instance, holder=row.holder, expires_s=row.expires_s)

    # Pilots.

    def open_pilots(self, instance: str) -> tuple[PilotRecord, ...]:
        """Every pilot that has not ended, by id."""
        query = select(PilotRow).where(PilotRow.instance == instance, PilotRow.phase != ENDED)
        with reading(self._engine) as session:
            return tuple(record_of(row) for row in session.scalars(query.order_by(PilotRow.pilot_id)))

    def pilots(
        self, instance: str, *, site: str | None = None, since_s: float | None = None, limit: int = 1000
    ) -> tuple[PilotRecord, ...]:
        """Pilots open or ended since then, the newest intent first, at most ``limit``."""
        query = select(PilotRow).where(PilotRow.instance == instance)
        if site is not None:
            query = query.where(PilotRow.site == site)
        if since_s is not None:
            query = query.where((PilotRow.phase != ENDED) | (PilotRow.ended_s >= int(since_s)))
        query = query.order_by(PilotRow.intended_s.desc(), PilotRow.pilot_id.desc()).limit(limit)
        with reading(self._engine) as session:
            return tuple(record_of(row) for row in session.scalars(query))

    def pilot(self, pilot_id: PilotId) -> PilotRecord | None:
        """One pilot, or None."""
        with reading(self._engine) as session:
            row = session.get(PilotRow, pilot_id)
            return None if row is None else record_of(row)

    def ended_of(self, pilot_ids: Iterable[PilotId]) -> frozenset[PilotId]:
        """Those of the pilots that the ledger holds as ended."""
        wanted, ended = sorted(set(pilot_ids)), set[PilotId]()
        with reading(self._engine) as session:
            for first in range(0, len(wanted), CHUNK):
                chunk = wanted[first : first + CHUNK]
                query = select(PilotRow.pilot_id).where(PilotRow.pilot_id.in_(chunk), PilotRow.phase == ENDED)
                ended.update(session.scalars(query))
        return frozenset(ended)

    def events(self, pilot_id: PilotId) -> tuple[PilotEvent, ...]:
        """What happened to a pilot, in order."""
        query = select(PilotEventRow).where(PilotEventRow.pilot_id == pilot_id).order_by(PilotEventRow.id)
        with reading(self._engine) as session:
            return tuple(event_of(row) for row in session.scalars(query))

    def unaccounted(self, instance: str, *, limit: int = 500) -> tuple[PilotRecord, ...]:
        """Ended pilots whose final batch record has not been read, the latest end first."""
        query = (
            select(PilotRow)
            .where(PilotRow.instance == instance, PilotRow.phase == ENDED, PilotRow.charged_core_s.is_(None))
            .order_by(PilotRow.ended_s.desc(), PilotRow.pilot_id)
            .limit(limit)
        )
        with reading(self._engine) as session:
            return tuple(record_of(row) for row in session.scalars(query))

    def outcomes(self, instance: str, per_site: int = 50) -> tuple[PilotRecord, ...]:
        """For each site the pilots that joined or ended last, at most ``per_site``; oldest first."""
        at = func.coalesce(PilotRow.ended_s, PilotRow.joined_s)
        newest = func.row_number().over(partition_by=PilotRow.site, order_by=(at.desc(), PilotRow.pilot_id.desc()))
        ranked = (
            select(PilotRow.pilot_id, newest.label("newest"))
            .where(PilotRow.instance == instance, at.is_not(None))
            .subquery()
        )
        query = (
            select(PilotRow)
            .join(ranked, ranked.c.pilot_id == PilotRow.pilot_id)
            .where(ranked.c.newest <= per_site)
            .order_by(PilotRow.site, at, PilotRow.pilot_id)
        )
        with reading(self._engine) as session:
            return tuple(record_of(row) for row in session.scalars(query))

    def record_observed(self, updates: tuple[PilotRecord, ...], now_s: float) -> None:
        """
        Write what was observed of pilots; a change of phase is an event.

        A pilot that has ended stays so: only its final batch record and its end report are added when they come.

        :raises PilotUnknown: the ledger does not have one of them; none is written.
        """
        with writing(self._engine) as session:
            rows = rows_of(session, (record.pilot_id for record in updates))
            _all_there(rows, (record.pilot_id for record in updates))
            for record in updates:
                row = rows[record.pilot_id]
                if row.phase == ENDED:
                    fill_in(row, record)
                    continue
                before = row.phase
                write_life(row, record)
                if row.phase != before:
                    note(session, row, at_s=now_s, detail=_why(record))

    def adopt(self, records: tuple[PilotRecord, ...], now_s: float) -> tuple[PilotId, ...]:
        """
        Take in pilots that were found at a site; the ids of those that were news.

        One that the ledger has and holds open is left alone. One that it had given up because it was seen nowhere is
        open again: evidence beats a conclusion.
        """
        news = []
        with writing(self._engine) as session:
            rows = rows_of(session, (record.pilot_id for record in records))
            for record in records:
                row = rows.get(record.pilot_id)
                if row is None:
                    row = rows[record.pilot_id] = new_row(record)
                    session.add(row)
                    session.flush()
                elif row.phase == ENDED and row.end_reason in {reason.value for reason in REFUTABLE}:
                    write_life(row, record)
                else:
                    continue
                note(session, row, at_s=now_s, detail="found at the site")
                news.append(record.pilot_id)
        return tuple(news)

    # Decisions.

    def commit_plan(  # noqa: PLR0913 - one decision, written whole or not at all
        self,
        *,
        instance: str,
        cycle: str,
        intents: tuple[PilotRecord, ...],
        cancels: tuple[CancelIntent, ...],
        surplus: tuple[PilotId, ...],
        now_s: float,
        packed: Packed,
        bounds: JournalBounds,
        lease: Lease | None = None,
        barren: tuple[PilotId, ...] = (),
    ) -> None:
        """
        Write a decision before anything of it is done: intents, cancels, surplus and barren marks, the journal entry.

        With ``lease`` the decision is refused unless that lease still holds, in the same transaction.

        :raises PilotExists: an intent's id is in the ledger already.
        :raises PilotUnknown: a cancel is for a pilot that is not.
        :raises LeaseLost: the lease is another's.
        """
        entry = JournalEntry(instance=instance, cycle=cycle, at_s=now_s, packed=packed)
        with writing(self._engine) as session:
            _one_at_a_time(session, instance)
            if lease is not None:
                _must_hold(session.get(LeaseRow, instance, populate_existing=True), lease)
            _mark_open(session, instance, surplus=frozenset(surplus), now_s=int(now_s))
            _mark_barren(session, instance, frozenset(barren), now_s=int(now_s))
            _write_cancels(session, cancels, now_s=now_s)
            _write_intents(session, intents, now_s=now_s)
            journal.write_entry(session, entry, bounds=bounds)

    def settle_submits(self, outcomes: tuple[SubmitSettled, ...], now_s: float) -> None:
        """
        Write what became of submissions: the job id, or that it was refused, may have been lost, or was not sent.

        An end that comes from here has no job at the site. Settling again what is settled changes nothing.

        :raises PilotUnknown: the ledger does not have one of them; none is written.
        """
        with writing(self._engine) as session:
            rows = rows_of(session, (pilot_id for pilot_id, _, _ in outcomes))
            _all_there(rows, (pilot_id for pilot_id, _, _ in outcomes))
            for pilot_id, kind, text in outcomes:
                row = rows[pilot_id]
                if row.phase != ENDED and row.sent != "submitted":
                    _settle(row, kind, text, now_s=int(now_s))
                    note(session, row, at_s=now_s, detail=f"{kind.replace('_', ' ')}: {text}")

    def settle_cancels(self, sent: tuple[PilotId, ...], now_s: float) -> None:
        """Write which cancels were sent; what became of the pilots is seen by looking."""
        with writing(self._engine) as session:
            for row in rows_of(session, sent).values():
                row.cancel_sent_s = int(now_s)
                note(session, row, at_s=now_s, detail="cancel sent")

    def note_pilot(self, pilot_id: PilotId, detail: str, now_s: float) -> None:
        """Write down what somebody asked of a pilot; KeyError for one that is not there."""
        with writing(self._engine) as session:
            row = session.get(PilotRow, pilot_id)
            if row is None:
                raise KeyError(pilot_id)
            note(session, row, at_s=now_s, detail=detail)

    # What operators say of sites. A site's name means the same to every instance in one database.

    def stop_site(self, stop: SiteStop) -> None:
        """No new pilots there; a second word replaces the first one's name and reason, and keeps its time."""
        with writing(self._engine) as session:
            row = session.get(StopRow, stop.site)
            if row is None:
                row = StopRow(site=stop.site, since_s=stop.since_s)
                session.add(row)
            row.stopped_by, row.reason = stop.by, stop.reason

    def resume_site(self, site: str) -> bool:
        """Pilots there again; False when it was not stopped."""
        with writing(self._engine) as session:
            row = session.get(StopRow, site)
            if row is not None:
                session.delete(row)
            return row is not None

    def say_resume(self, site: str, *, by: str, now_s: float) -> None:
        """An operator wants the site looked at now, and what is seen there believed."""
        with writing(self._engine) as session:
            row = session.get(SiteWordRow, site)
            if row is None:
                row = SiteWordRow(site=site)
                session.add(row)
            row.at_s, row.said_by = now_s, by

    def resume_words(self) -> dict[str, float]:
        """When an operator last said so, by site; epoch seconds."""
        with reading(self._engine) as session:
            return {row.site: row.at_s for row in session.scalars(select(SiteWordRow))}

    def stops(self) -> tuple[SiteStop, ...]:
        """Stopped sites, by name."""
        with reading(self._engine) as session:
            rows = session.scalars(select(StopRow).order_by(StopRow.site))
            return tuple(
                SiteStop(site=row.site, since_s=row.since_s, by=row.stopped_by, reason=row.reason) for row in rows
            )

    def remember_site(self, name: str, text: str) -> None:
        """Keep a site's connection settings (JSON), so that it can be watched when the configuration drops it."""
        with writing(self._engine) as session:
            session.merge(RememberedSiteRow(site=name, settings=text))

    def remembered_sites(self) -> dict[str, str]:
        """The last settings of every site that was remembered and not forgotten, by name."""
        with reading(self._engine) as session:
            rows = session.scalars(select(RememberedSiteRow).order_by(RememberedSiteRow.site))
            return {row.site: row.settings for row in rows}

    def forget_site(self, name: str) -> None:
        """Drop a site's settings; nothing happens when there are none."""
        with writing(self._engine) as session:
            session.execute(delete(RememberedSiteRow).where(RememberedSiteRow.site == name))

    def usual_run_times(self, since_s: float) -> dict[Sort, int]:
        """Wall seconds of a usual job by access point, owner, project and cores, from attempts since then."""
        return usual_run_times(self._engine, since_s=since_s)

    # The journal.

    def journal_latest(self, instance: str) -> CycleRecord | None:
        """The newest decision; None before the first."""
        with reading(self._engine) as session:
            return journal.latest(session, instance)

    def journal_at(self, instance: str, time_s: float) -> CycleRecord | None:
        """The decision in force at a time; None for a time before the oldest that is kept."""
        with reading(self._engine) as session:
            return journal.latest(session, instance, at_s=time_s)

    def journal_bytes(self, instance: str) -> int:
        """Bytes that the journal takes, as its bound counts them."""
        with reading(self._engine) as session:
            return journal.size_bytes(session, instance)

    def journal_list(self, instance: str, limit: int = 100) -> tuple[JournalSpan, ...]:
        """What the journal holds, newest first."""
        with reading(self._engine) as session:
            return journal.spans(session, instance, limit=limit)


def _one_at_a_time(session: Session, instance: str) -> None:
    """Let no other decision or lease of the instance pass until this transaction ends; SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"aerotow:{instance}", 0))))


def _must_hold(row: LeaseRow | None, lease: Lease) -> None:
    """Raise unless the lease's row is the holder's."""
    if row is None:
        raise LeaseLost(instance=lease.instance, holder="nobody", until_s=lease.expires_s)
    if row.holder != lease.holder:
        raise LeaseLost(instance=lease.instance, holder=row.holder, until_s=row.expires_s)


def _all_there(rows: dict[PilotId, PilotRow], pilot_ids: Iterable[PilotId]) -> None:
    """Raise for pilots that have no row."""
    missing = tuple(sorted(set(pilot_ids) - set(rows)))
    if missing:
        raise PilotUnknown(pilot_ids=missing)


def _why(record: PilotRecord) -> str:
    """What a change of phase came with, for people."""
    if record.end_reason is not None:
        return ": ".join(part for part in (record.end_reason.value, record.detail) if part)
    return record.batch_reason


def _mark_open(session: Session, instance: str, *, surplus: frozenset[PilotId], now_s: int) -> None:
    """
    Say since when each open pilot is surplus, and take back cancels that nobody sent or that had no effect.

    A crash or a lost connection between a cancel's intent and its sending would otherwise let the pilot wait for ever.
    """
    ours = PilotRow.instance == instance, PilotRow.phase != ENDED
    marked = select(PilotRow).where(
        *ours, PilotRow.surplus_since_s.is_not(None) | PilotRow.cancel_intended_s.is_not(None)
    )
    for row in session.scalars(marked):
        if row.pilot_id not in surplus:
            row.surplus_since_s = None
        unsent = row.cancel_sent_s is None
        without_effect = row.cancel_sent_s is not None and row.cancel_sent_s <= now_s - CANCEL_RETRY_S
        if row.phase == PilotPhase.PENDING.name.lower() and (unsent or without_effect):
            row.cancel_intended_s = row.cancel_sent_s = None
    for row in rows_of(session, surplus).values():
        if row.surplus_since_s is None:
            row.surplus_since_s = now_s


def _mark_barren(session: Session, instance: str, barren: frozenset[PilotId], *, now_s: int) -> None:
    """Say since when each open pilot is barren; what an ended one was at its end stays."""
    marked = select(PilotRow).where(
        PilotRow.instance == instance, PilotRow.phase != ENDED, PilotRow.barren_since_s.is_not(None)
    )
    for row in session.scalars(marked):
        if row.pilot_id not in barren:
            row.barren_since_s = None
    for row in rows_of(session, barren).values():
        if row.barren_since_s is None:
            row.barren_since_s = now_s


def _write_cancels(session: Session, cancels: tuple[CancelIntent, ...], *, now_s: float) -> None:
    """Write the intents to cancel."""
    rows = rows_of(session, (cancel.pilot_id for cancel in cancels))
    _all_there(rows, (cancel.pilot_id for cancel in cancels))
    for cancel in cancels:
        row = rows[cancel.pilot_id]
        row.cancel_intended_s = int(now_s)
        note(session, row, at_s=now_s, detail=f"to be cancelled: {cancel.reason}")


def _write_intents(session: Session, intents: tuple[PilotRecord, ...], *, now_s: float) -> None:
    """Write the intents to submit."""
    known = rows_of(session, (intent.pilot_id for intent in intents))
    if known:
        raise PilotExists(pilot_ids=tuple(sorted(known)))
    rows = [new_row(intent) for intent in intents]
    session.add_all(rows)
    session.flush()
    for row in rows:
        note(session, row, at_s=now_s)


def _settle(row: PilotRow, kind: str, text: str, *, now_s: int) -> None:
    """Put one answer of a submission into its pilot's row."""
    match kind:
        case "submitted":
            row.sent, row.phase = "submitted", PilotPhase.PENDING.name.lower()
            row.batch_id, row.submitted_s = text, now_s
        case "uncertain":
            row.sent, row.phase, row.detail = "uncertain", PilotPhase.UNCERTAIN.name.lower(), text
        case "refused":
            _end_unborn(row, EndReason.REFUSED, text, now_s=now_s)
        case "not_sent":
            # Not the site's refusal: the breaker must not count it against the site.
            _end_unborn(row, EndReason.NEVER_APPEARED, f"not sent: {text}", now_s=now_s)
        case _:
            raise ValueError(f"{kind!r} is no outcome of a submission")


def _end_unborn(row: PilotRow, reason: EndReason, detail: str, *, now_s: int) -> None:
    """End a pilot that never was a job."""
    row.phase, row.end_reason, row.detail = ENDED, reason.value, detail
    row.ended_s, row.charged_core_s = now_s, 0
