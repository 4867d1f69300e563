"""
Taking in what the access points recorded: each record once, whatever the order, the repetition or the crash.

A reading's rows and the mark that says how far it reached are one transaction.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from accounting import attempts
from accounting.attempts import Counted, NextReading, Progress
from accounting.engine import reading, writing
from accounting.model import StreamState
from accounting.orm import AttemptRow, FinalRow, QuarantineRow, ResidualRow, RunningRow, StreamRow
from overlay.model import EpochRecord, HistoryRecord, RecordsSeen, RunningRecord, Unreadable

CHUNK = 500
"""Values in one IN list."""
QUARANTINE_TEXT_MAX = 65_536
"""Characters kept of a record that could not be read; an ad is some 10,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What one reading brought."""

    new_attempts: int
    new_finals: int
    residuals: int
    """Residuals of the jobs that this reading told of."""
    quarantined: int
    mark_s: int


class Usage:
    """The payload's ledger in a database that :func:`accounting.engine.open_database` opened."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def mark(self, ap: str) -> int:
        """From when on to ask this AP for records: the mark less an overlap; 0 for an AP that was never read."""
        return self.next_reading(ap).since_s

    def next_reading(self, ap: str) -> NextReading:
        """What to ask this AP for; ``before_s`` is set while a reading that its limit cut is being completed."""
        with reading(self._engine) as session:
            return attempts.next_reading(_progress(session.get(StreamRow, ap)))

    def ingest(self, records: RecordsSeen, now_s: float, *, before_s: int | None = None) -> Ingested:
        """
        Take in one reading. Taking it in again, or in parts, or after a later one, gives the same attempts.

        ``before_s`` is what the reading was asked for, as :meth:`next_reading` said.
        """
        with writing(self._engine) as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"usage:{records.ap}", 0))))
            new_attempts = _write_attempts(session, records.ap, records.epochs)
            new_finals = _write_finals(session, records.ap, records.history)
            jobs = {epoch.global_job_id for epoch in records.epochs} | {job.global_job_id for job in records.history}
            residuals = _recount(session, records.ap, jobs)
            quarantined = _quarantine(session, records.unreadable, now_s)
            stream = session.get(StreamRow, records.ap)
            if stream is None:
                stream = StreamRow(ap=records.ap, mark_s=0, problem="")
                session.add(stream)
            if stream.read_s is None or records.taken_s >= stream.read_s:
                _replace_running(session, records.ap, records.running, seen_s=records.taken_s)
                stream.read_s = records.taken_s
            stream.problem = ""
            progress = attempts.advance(_progress(stream), records, before_s=before_s)
            stream.mark_s, stream.gap_since_s = progress.mark_s, progress.gap_since_s
            stream.hole_before_s, stream.hole_top_s = progress.hole_before_s, progress.hole_top_s
        return Ingested(
            new_attempts=new_attempts,
            new_finals=new_finals,
            residuals=residuals,
            quarantined=quarantined,
            mark_s=progress.mark_s,
        )

    def note_unseen(self, ap: str, reason: str, now_s: float) -> None:
        """Write that an AP's history could not be read; what is known of it stays as old as it is."""
        with writing(self._engine) as session:
            stream = session.get(StreamRow, ap)
            if stream is None:
                stream = StreamRow(ap=ap, mark_s=0)
                session.add(stream)
            stream.problem = reason or f"not read at {int(now_s)}"

    def acknowledge_gap(self, ap: str) -> None:
        """Forget that records of an AP were rotated away unread, after a person has seen it."""
        with writing(self._engine) as session:
            stream = session.get(StreamRow, ap)
            if stream is not None:
                stream.gap_since_s = None

    def stream_states(self) -> tuple[StreamState, ...]:
        """How far each AP has been read, by name; an AP that was never asked is not among them."""
        of_ap = select(func.count()).where(QuarantineRow.ap == StreamRow.ap).scalar_subquery()
        with reading(self._engine) as session:
            return tuple(
                StreamState(
                    ap=row.ap,
                    mark_s=row.mark_s,
                    read_s=row.read_s,
                    problem=row.problem,
                    gap_since_s=row.gap_since_s,
                    quarantined=quarantined,
                )
                for row, quarantined in session.execute(select(StreamRow, of_ap).order_by(StreamRow.ap))
            )

    def quarantine(self, ap: str, *, limit: int = 100) -> tuple[Unreadable, ...]:
        """Records that could not be read, the latest first."""
        query = (
            select(QuarantineRow)
            .where(QuarantineRow.ap == ap)
            .order_by(QuarantineRow.first_s.desc(), QuarantineRow.digest)
            .limit(limit)
        )
        with reading(self._engine) as session:
            return tuple(
                Unreadable(ap=row.ap, stream=row.stream, text=row.text, problem=row.problem)
                for row in session.scalars(query)
            )


def _progress(row: StreamRow | None) -> Progress:
    if row is None:
        return Progress()
    return Progress(
        mark_s=row.mark_s,
        gap_since_s=row.gap_since_s,
        hole_before_s=row.hole_before_s,
        hole_top_s=row.hole_top_s,
    )


def _chunks(jobs: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(jobs)
    return (ordered[first : first + CHUNK] for first in range(0, len(ordered), CHUNK))


def _write_attempts(session: Session, ap: str, epochs: tuple[EpochRecord, ...]) -> int:
    """Insert what is new, and let the final say of two records of one attempt stand; the number that is new."""
    rows: dict[tuple[str, int], AttemptRow] = {}
    for chunk in _chunks({epoch.global_job_id for epoch in epochs}):
        found = select(AttemptRow).where(AttemptRow.ap == ap, AttemptRow.global_job_id.in_(chunk))
        rows |= {(row.global_job_id, row.run_instance_id): row for row in session.scalars(found)}
    known = len(rows)
    for epoch in epochs:
        key = (epoch.global_job_id, epoch.run_instance_id)
        row = rows.get(key)
        if row is None:
            row = rows[key] = AttemptRow(ap=ap, counted=0, counted_s=0, counted_cpu_s=0.0)
            session.add(row)
            _fill_attempt(row, epoch)
        elif (held := _epoch_of(row)) != epoch:
            _fill_attempt(row, attempts.final_say(held, epoch))
    session.flush()
    return len(rows) - known


def _write_finals(session: Session, ap: str, history: tuple[HistoryRecord, ...]) -> int:
    """The same for final records of jobs."""
    rows: dict[str, FinalRow] = {}
    for chunk in _chunks({job.global_job_id for job in history}):
        found = select(FinalRow).where(FinalRow.ap == ap, FinalRow.global_job_id.in_(chunk))
        rows |= {row.global_job_id: row for row in session.scalars(found)}
    known = len(rows)
    for job in history:
        row = rows.get(job.global_job_id)
        if row is None:
            row = rows[job.global_job_id] = FinalRow(ap=ap)
            session.add(row)
            _fill_final(row, job)
        elif (held := _history_of(row)) != job:
            _fill_final(row, attempts.final_say_of_history(held, job))
    session.flush()
    return len(rows) - known


def _recount(session: Session, ap: str, jobs: set[str]) -> int:
    """Count each attempt of these jobs once and make their residuals anew; the number of residuals."""
    residuals = 0
    for chunk in _chunks(jobs):
        by_job: dict[str, list[AttemptRow]] = defaultdict(list)
        for row in session.scalars(select(AttemptRow).where(AttemptRow.ap == ap, AttemptRow.global_job_id.in_(chunk))):
            by_job[row.global_job_id].append(row)
        finals = session.scalars(select(FinalRow).where(FinalRow.ap == ap, FinalRow.global_job_id.in_(chunk)))
        final_of = {row.global_job_id: row for row in finals}
        session.execute(delete(ResidualRow).where(ResidualRow.ap == ap, ResidualRow.global_job_id.in_(chunk)))
        for job in chunk:
            rows = by_job[job]
            epochs = tuple(_epoch_of(row) for row in rows)
            _write_counted(rows, attempts.count_once(epochs))
            if job in final_of:
                residuals += _write_residual(session, _history_of(final_of[job]), epochs)
    return residuals


def _write_counted(rows: list[AttemptRow], counted: tuple[Counted, ...]) -> None:
    by_id = {one.run_instance_id: one for one in counted}
    for row in rows:
        one = by_id[row.run_instance_id]
        row.counted, row.counted_s, row.counted_cpu_s = one.attempts, one.wall_s, one.cpu_s


def _write_residual(session: Session, history: HistoryRecord, epochs: tuple[EpochRecord, ...]) -> int:
    found = attempts.residual(history, epochs)
    if found is None:
        return 0
    session.add(
        ResidualRow(
            ap=history.ap,
            global_job_id=history.global_job_id,
            owner=found.owner,
            project=found.project,
            end_s=found.end_s,
            wall_s=found.wall_s,
            cores=found.cores,
        )
    )
    return 1


def _quarantine(session: Session, unreadable: tuple[Unreadable, ...], now_s: float) -> int:
    """Keep each text once; the number that is new."""
    new = 0
    for one in unreadable:
        digest = hashlib.sha256(one.text.encode("utf-8", "surrogatepass")).hexdigest()
        if session.get(QuarantineRow, (one.ap, one.stream, digest)) is None:
            session.add(
                QuarantineRow(
                    ap=one.ap,
                    stream=one.stream,
                    digest=digest,
                    text=one.text[:QUARANTINE_TEXT_MAX],
                    problem=one.problem,
                    first_s=now_s,
                )
            )
            session.flush()
            new += 1
    return new


def _replace_running(session: Session, ap: str, running: tuple[RunningRecord, ...], *, seen_s: float) -> None:
    session.execute(delete(RunningRow).where(RunningRow.ap == ap))
    session.add_all(
        RunningRow(
            ap=ap,
            global_job_id=job.global_job_id,
            owner=job.owner,
            project=job.group,
            start_s=job.start_s,
            seen_s=seen_s,
            cores=job.cores,
            site=job.site,
            pilot_id=job.pilot_id,
        )
        for job in {job.global_job_id: job for job in running}.values()
    )


def _fill_attempt(row: AttemptRow, epoch: EpochRecord) -> None:
    row.global_job_id = epoch.global_job_id
    row.run_instance_id = epoch.run_instance_id
    row.cluster = epoch.cluster
    row.proc = epoch.proc
    row.owner = epoch.owner
    row.project = epoch.group
    row.start_s = epoch.start_s
    row.end_s = epoch.end_s
    row.execution_s = epoch.execution_s
    row.cores = epoch.cores
    row.memory_mib = epoch.memory_mib
    row.gpus = epoch.gpus
    row.user_cpu_s = epoch.user_cpu_s
    row.sys_cpu_s = epoch.sys_cpu_s
    row.peak_rss_kib = epoch.peak_rss_kib
    row.exit_code = epoch.exit_code
    row.exit_signal = epoch.exit_signal
    row.vacate_code = epoch.vacate_code
    row.site = epoch.site
    row.pilot_id = epoch.pilot_id
    row.remote_host = epoch.remote_host


def _epoch_of(row: AttemptRow) -> EpochRecord:
    return EpochRecord(
        ap=row.ap,
        global_job_id=row.global_job_id,
        run_instance_id=row.run_instance_id,
        cluster=row.cluster,
        proc=row.proc,
        owner=row.owner,
        group=row.project,
        start_s=row.start_s,
        end_s=row.end_s,
        execution_s=row.execution_s,
        cores=row.cores,
        memory_mib=row.memory_mib,
        gpus=row.gpus,
        user_cpu_s=row.user_cpu_s,
        sys_cpu_s=row.sys_cpu_s,
        peak_rss_kib=row.peak_rss_kib,
        exit_code=row.exit_code,
        exit_signal=row.exit_signal,
        vacate_code=row.vacate_code,
        site=row.site,
        pilot_id=row.pilot_id,
        remote_host=row.remote_host,
    )


def _fill_final(row: FinalRow, job: HistoryRecord) -> None:
    row.global_job_id = job.global_job_id
    row.cluster = job.cluster
    row.proc = job.proc
    row.owner = job.owner
    row.project = job.group
    row.status = job.status
    row.wall_s = job.wall_s
    row.shadow_starts = job.shadow_starts
    row.completed_s = job.completed_s
    row.exit_code = job.exit_code
    row.exit_signal = job.exit_signal
    row.cores = job.cores


def _history_of(row: FinalRow) -> HistoryRecord:
    return HistoryRecord(
        ap=row.ap,
        global_job_id=row.global_job_id,
        cluster=row.cluster,
        proc=row.proc,
        owner=row.owner,
        group=row.project,
        status=row.status,
        wall_s=row.wall_s,
        shadow_starts=row.shadow_starts,
        completed_s=row.completed_s,
        exit_code=row.exit_code,
        exit_signal=row.exit_signal,
        cores=row.cores,
    )
