"""Jobs that have ended by themselves, one record each: what a trace for the simulator is made from."""

from __future__ import annotations

from sqlalchemy import Engine, select

from accounting.engine import reading
from accounting.model import FinishedJob
from accounting.orm import AttemptRow, FinalRow

COMPLETED = 4
"""JobStatus of a job that ended by itself."""


def finished_jobs(
    engine: Engine, *, since_s: float | None = None, until_s: float | None = None, limit: int
) -> tuple[FinishedJob, ...]:
    """
    Jobs whose last attempt ended in [since, until), the oldest end first, at most ``limit``.

    The last attempt's time is what the job needs: those before it were interrupted, or it would have left the queue.
    """
    query = (
        select(AttemptRow)
        .join(
            FinalRow,
            (FinalRow.ap == AttemptRow.ap) & (FinalRow.global_job_id == AttemptRow.global_job_id),
        )
        .where(FinalRow.status == COMPLETED, AttemptRow.vacate_code.is_(None))
    )
    if since_s is not None:
        query = query.where(AttemptRow.end_s >= int(since_s))
    if until_s is not None:
        query = query.where(AttemptRow.end_s < int(until_s))
    last: dict[tuple[str, str], FinishedJob] = {}
    with reading(engine) as session:
        for row in session.scalars(query.order_by(AttemptRow.end_s, AttemptRow.run_instance_id)):
            submitted_s = _submitted_s(row.global_job_id)
            if submitted_s is None:
                continue
            key = row.ap, row.global_job_id
            if key not in last and len(last) >= limit:
                break
            last[key] = FinishedJob(
                ap=row.ap,
                global_job_id=row.global_job_id,
                owner=row.owner,
                project=row.project,
                submit_s=submitted_s,
                start_s=row.start_s,
                end_s=row.end_s,
                cores=row.cores,
                memory_mib=row.memory_mib,
                gpus=row.gpus,
            )
    return tuple(last.values())


def _submitted_s(global_job_id: str) -> int | None:
    """When a job was submitted: GlobalJobId is ``schedd#cluster.proc#QDate``."""
    text = global_job_id.rpartition("#")[2]
    return int(text) if text.isascii() and text.isdigit() else None
