"""
Taking in what the access points recorded: each record once, whatever the order, the repetition or the crash.

A reading's rows and the mark that says how far it reached are one transaction.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from accounting import attempts
from accounting.attempts import NextReading, Progress, Residual
from accounting.engine import reading, writing
from accounting.model import StreamState
from accounting.orm import AttemptRow, FinalRow, QuarantineRow, ResidualRow, RunningRow, StreamRow
from overlay.model import EpochRecord, HistoryRecord, RecordsSeen, RunningRecord, Unreadable

CHUNK = 500
"""Jobs in one transaction: some 10 ms to 0.5 s. Also the values in one IN list."""
LET_OTHERS_S = 0.15
"""
Pause between transactions. SQLite's waiting writers look every 0.1 s at the slowest; without a pause they may not find
the lock free for longer than their patience.
"""
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

    def plus(self, other: Ingested) -> Ingested:
        """Both parts of one reading."""
        return replace(
            other,
            new_attempts=self.new_attempts + other.new_attempts,
            new_finals=self.new_finals + other.new_finals,
            residuals=self.residuals + other.residuals,
        )


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

        A long reading is several transactions, so that the factory's own are not held up; the mark is in the last.
        ``before_s`` is what the reading was asked for, as :meth:`next_reading` said.
        """
        epochs: dict[str, list[EpochRecord]] = defaultdict(list)
        history: dict[str, list[HistoryRecord]] = defaultdict(list)
        for epoch in records.epochs:
            epochs[epoch.global_job_id].append(epoch)
        for job in records.history:
            history[job.global_job_id].append(job)
        parts = _chunks({*epochs, *history}) or [[]]
        done = Ingested(new_attempts=0, new_finals=0, residuals=0, quarantined=0, mark_s=0)
        for part in parts[:-1]:
            with writing(self._engine) as session:
                _lock(session, records.ap)
                done = done.plus(_take_jobs(session, records.ap, part, epochs, history))
            time.sleep(LET_OTHERS_S)
        with writing(self._engine) as session:
            _lock(session, records.ap)
            done = done.plus(_take_jobs(session, records.ap, parts[-1], epochs, history))
            quarantined = _quarantine(session, records.unreadable, now_s)
            mark_s = _move_mark(session, records, before_s=before_s)
        return replace(done, quarantined=quarantined, mark_s=mark_s)

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
                    catching_up=row.hole_before_s is not None,
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


def _chunks(jobs: set[str]) -> list[list[str]]:
    ordered = sorted(jobs)
    return [ordered[first : first + CHUNK] for first in range(0, len(ordered), CHUNK)]


def _lock(session: Session, ap: str) -> None:
    """Let no other ingest of this AP pass until the transaction ends; SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"usage:{ap}", 0))))


def _move_mark(session: Session, records: RecordsSeen, *, before_s: int | None) -> int:
    """Write how far the AP has been read, and what runs there; the new mark."""
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
    return progress.mark_s


def _take_jobs(
    session: Session,
    ap: str,
    jobs: list[str],
    epochs: Mapping[str, list[EpochRecord]],
    history: Mapping[str, list[HistoryRecord]],
) -> Ingested:
    """Take in the records of some jobs, count each of their seconds once, and make their residuals anew."""
    rows: dict[str, dict[int, AttemptRow]] = defaultdict(dict)
    for row in session.scalars(select(AttemptRow).where(AttemptRow.ap == ap, AttemptRow.global_job_id.in_(jobs))):
        rows[row.global_job_id][row.run_instance_id] = row
    finals = {
        row.global_job_id: row
        for row in session.scalars(select(FinalRow).where(FinalRow.ap == ap, FinalRow.global_job_id.in_(jobs)))
    }
    residuals = {
        row.global_job_id: row
        for row in session.scalars(select(ResidualRow).where(ResidualRow.ap == ap, ResidualRow.global_job_id.in_(jobs)))
    }
    new_attempts = new_finals = missing = 0
    for job in jobs:
        known = len(rows[job])
        held = _take_attempts(session, ap, rows[job], epochs.get(job, []))
        new_attempts += len(held) - known
        final = _take_final(session, ap, finals.get(job), history.get(job, []))
        new_finals += final is not None and job not in finals
        lost = None if final is None else attempts.residual(final, held)
        missing += lost is not None
        _write_residual(session, (ap, job), residuals.get(job), lost)
    return Ingested(new_attempts=new_attempts, new_finals=new_finals, residuals=missing, quarantined=0, mark_s=0)


def _take_attempts(
    session: Session, ap: str, rows: dict[int, AttemptRow], epochs: list[EpochRecord]
) -> tuple[EpochRecord, ...]:
    """Add a job's attempts to its rows; where two records are of one attempt the final say holds. All that it has."""
    stored = {run: _epoch_of(row) for run, row in rows.items()}
    held = dict(stored)
    for epoch in epochs:
        run = epoch.run_instance_id
        held[run] = attempts.final_say(held[run], epoch) if run in held else epoch
    if held == stored:
        return tuple(held.values())
    counted = {one.run_instance_id: one for one in attempts.count_once(held.values())}
    for run, epoch in held.items():
        row = rows.get(run)
        if row is None:
            row = AttemptRow(ap=ap)
            session.add(row)
        if stored.get(run) != epoch:
            _fill_attempt(row, epoch)
        one = counted[run]
        row.counted, row.counted_s, row.counted_cpu_s = one.attempts, one.wall_s, one.cpu_s
    return tuple(held.values())


def _take_final(session: Session, ap: str, row: FinalRow | None, history: list[HistoryRecord]) -> HistoryRecord | None:
    """The same for a job's final record; the one that holds, None while it has none."""
    stored = held = None if row is None else _history_of(row)
    for job in history:
        held = job if held is None else attempts.final_say_of_history(held, job)
    if held is not None and held != stored:
        if row is None:
            row = FinalRow(ap=ap)
            session.add(row)
        _fill_final(row, held)
    return held


def _write_residual(session: Session, key: tuple[str, str], row: ResidualRow | None, lost: Residual | None) -> None:
    """Make a job's residual what it is now: there, changed or gone."""
    if lost is None:
        if row is not None:
            session.delete(row)
        return
    if row is None:
        row = ResidualRow(ap=key[0], global_job_id=key[1])
        session.add(row)
    row.owner, row.project, row.end_s = lost.owner, lost.project, lost.end_s
    row.wall_s, row.cores = lost.wall_s, lost.cores


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
