"""Records of jobs to test with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from overlay.model import EpochRecord, HistoryRecord, RecordsSeen, RunningRecord

DAY = 86_400
MIDNIGHT = 20_000 * DAY
"""2024-10-04T00:00:00Z."""


def epoch(job: int = 1, run: int = 0, **changes: Any) -> EpochRecord:
    """An attempt of 100 s on 2 cores."""
    record = EpochRecord(
        ap="ap1",
        global_job_id=f"ap1#{job}.0#{MIDNIGHT - 500}",
        run_instance_id=run,
        cluster=job,
        proc=0,
        owner="alice",
        group="dp001",
        start_s=MIDNIGHT + 1000,
        end_s=MIDNIGHT + 1100,
        execution_s=98,
        cores=2,
        memory_mib=2000,
        gpus=0,
        user_cpu_s=150.0,
        sys_cpu_s=10.0,
        peak_rss_kib=1024,
        exit_code=0,
        exit_signal=None,
        vacate_code=None,
        site="alpha",
        pilot_id="demo-alpha-6b49d2000001-1",
        remote_host="slot1_1@demo-alpha-6b49d2000001-1",
    )
    return replace(record, **changes)


def final(job: int = 1, wall_s: float = 100, **changes: Any) -> HistoryRecord:
    """The final ad of a job that ran once."""
    record = HistoryRecord(
        ap="ap1",
        global_job_id=f"ap1#{job}.0#{MIDNIGHT - 500}",
        cluster=job,
        proc=0,
        owner="alice",
        group="dp001",
        status=4,
        wall_s=wall_s,
        shadow_starts=1,
        completed_s=MIDNIGHT + 1101,
        exit_code=0,
        exit_signal=None,
        cores=2,
    )
    return replace(record, **changes)


def running(job: int = 9, **changes: Any) -> RunningRecord:
    """A job that runs on 4 cores since second 1000."""
    record = RunningRecord(
        ap="ap1",
        global_job_id=f"ap1#{job}.0#{MIDNIGHT - 500}",
        owner="alice",
        group="dp001",
        start_s=MIDNIGHT + 1000,
        cores=4,
        site="alpha",
        pilot_id="demo-alpha-6b49d2000001-1",
    )
    return replace(record, **changes)


def seen(*records: Any, taken_s: float = MIDNIGHT + 5000, **changes: Any) -> RecordsSeen:
    """A reading of these records."""
    made = RecordsSeen(
        ap="ap1",
        taken_s=taken_s,
        epochs=tuple(one for one in records if isinstance(one, EpochRecord)),
        history=tuple(one for one in records if isinstance(one, HistoryRecord)),
        running=tuple(one for one in records if isinstance(one, RunningRecord)),
        unreadable=(),
        complete=True,
        gap=False,
    )
    return replace(made, **changes)
