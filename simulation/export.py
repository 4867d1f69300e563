"""A trace from a live database: the jobs that ended there, as if they came again."""

from __future__ import annotations

from collections.abc import Iterable

from accounting.model import FinishedJob
from simulation.model import TraceJob


def trace_of(jobs: Iterable[FinishedJob]) -> tuple[TraceJob, ...]:
    """
    Jobs in the order of their submission, times from the first one's.

    The database keeps neither what a job declared nor its Requirements nor its disk: the trace has the defaults. Cores
    and memory are those that the last attempt was given.
    """
    told = tuple(jobs)
    begin_s = min((job.submit_s for job in told), default=0)
    return tuple(
        sorted(
            TraceJob(
                submit_s=float(job.submit_s - begin_s),
                cores=max(1, job.cores),
                memory_mib=job.memory_mib,
                gpus=job.gpus,
                runtime_s=float(max(0, job.end_s - job.start_s)),
                user=job.owner,
                project=job.project,
            )
            for job in told
        )
    )
