"""
What a job's records say together: which run is told of twice, what no record tells of, how far a history was read.

Pure. The results depend on the set of records only, never on the order or the readings that they came in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace

from overlay.model import EpochRecord, HistoryRecord, RecordsSeen

OVERLAP_S = 3600
"""
A reading starts this long before the mark.

EpochWriteDate has a resolution of 1 s and is stamped before the record is appended, and an AP's clock may be set back;
what is read again is recognised by its key.
"""

SAME_RUN_S = 1
"""Records that overlap by more are of one run: a job runs once at a time, and times are cut to whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one record adds to usage once overlaps are left out."""

    run_instance_id: int
    attempts: int
    """1, or 0 for a run that a later record tells of too."""
    wall_s: int
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Wall time of a job that its history knows of and none of its epoch records tells of."""

    owner: str
    project: str
    end_s: int
    wall_s: int
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    How far an AP's history has been read; times are epoch seconds of the AP's records.

    Histories are read newest first. A reading that its limit cut leaves a hole: what is older than ``hole_before_s``
    and newer than the mark. The mark goes to ``hole_top_s`` once the hole is filled.
    """

    mark_s: int = 0
    gap_since_s: int | None = None
    hole_before_s: int | None = None
    hole_top_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextReading:
    """What to ask an AP for: records written at or after ``since_s``, and before ``before_s`` when there is a hole."""

    since_s: int
    before_s: int | None


def final_say(one: EpochRecord, other: EpochRecord) -> EpochRecord:
    """Which of two records of one attempt holds: the later end, then any fixed rule, so that order does not matter."""
    return max(one, other, key=lambda record: (record.end_s, _sortable(record)))


def final_say_of_history(one: HistoryRecord, other: HistoryRecord) -> HistoryRecord:
    """Which of two final records of one job holds: the longer wall time, then any fixed rule."""
    return max(one, other, key=lambda record: (record.wall_s, _sortable(record)))


def count_once(epochs: Iterable[EpochRecord]) -> tuple[Counted, ...]:
    """
    What each record of one job adds, so that every second of the job is counted once.

    After an AP's crash the shadow that reconnects is a new attempt whose record may reach back over the old one's,
    and the old shadow may write its own too (25.14.1, tried). A second that two records tell of is the earlier one's;
    the CPU time of such a run is the largest that one of its records has, because each tells of all of it.
    """
    counted: list[Counted] = []
    run: list[tuple[EpochRecord, int]] = []
    reach_s = 0
    for epoch in sorted(epochs, key=lambda epoch: (epoch.start_s, epoch.end_s, epoch.run_instance_id)):
        if run and epoch.start_s >= reach_s - SAME_RUN_S:
            counted += _one_run(run)
            run = []
        begin_s = max(epoch.start_s, reach_s)
        run.append((epoch, max(0, epoch.end_s - begin_s)))
        reach_s = max(reach_s, epoch.end_s)
    if run:
        counted += _one_run(run)
    return tuple(sorted(counted, key=lambda one: one.run_instance_id))


def residual(history: HistoryRecord, epochs: tuple[EpochRecord, ...]) -> Residual | None:
    """
    What is missing when a job's final wall time exceeds the sum of its attempts by more than 1 s for each start.

    The sum is of whole records, overlaps included: whether the AP's own sum holds a doubled run cannot be seen, and
    what may be a run told of twice is not made into usage.
    """
    told_s = sum(max(0, epoch.end_s - epoch.start_s) for epoch in epochs)
    missing_s = history.wall_s - told_s
    if missing_s <= max(1, history.shadow_starts, len(epochs)):
        return None
    return Residual(
        owner=history.owner,
        project=history.group,
        end_s=_end_of(history, epochs),
        wall_s=round(missing_s),
        cores=history.cores,
    )


def next_reading(progress: Progress) -> NextReading:
    """What to ask for next."""
    return NextReading(since_s=max(0, progress.mark_s - OVERLAP_S), before_s=progress.hole_before_s)


def advance(progress: Progress, records: RecordsSeen, *, before_s: int | None = None) -> Progress:
    """
    How far the history has been read after this reading; ``before_s`` is what the reading was asked for.

    The mark never passes a record that was not read, nor the time of the reading: one record with a wrong clock must
    not hide all that come after it.
    """
    ends = [epoch.end_s for epoch in records.epochs]
    completions = [job.completed_s for job in records.history if job.completed_s is not None]
    newest_s = min(int(records.taken_s), max(ends, default=progress.mark_s))
    progress = replace(progress, gap_since_s=_gap(progress, records, ends))
    if before_s is not None and progress.hole_top_s is not None:
        # Filling a hole: what is newer was read already.
        newest_s = progress.hole_top_s
    if records.complete:
        return replace(progress, mark_s=max(progress.mark_s, newest_s), hole_before_s=None, hole_top_s=None)
    return replace(
        progress, hole_before_s=_oldest_read(progress, ends, completions, before_s=before_s), hole_top_s=newest_s
    )


def _one_run(run: list[tuple[EpochRecord, int]]) -> list[Counted]:
    """Count the records of one run: the one that ends last stands for it."""
    teller = max((epoch for epoch, _ in run), key=lambda epoch: (epoch.end_s, epoch.run_instance_id))
    cpu_s = max(epoch.user_cpu_s + epoch.sys_cpu_s for epoch, _ in run)
    return [
        Counted(
            run_instance_id=epoch.run_instance_id,
            attempts=int(epoch is teller),
            wall_s=wall_s,
            cpu_s=cpu_s if epoch is teller else 0.0,
        )
        for epoch, wall_s in run
    ]


def _end_of(history: HistoryRecord, epochs: tuple[EpochRecord, ...]) -> int:
    """When a job ended: a removed job may have no CompletionDate, then its last attempt says, then its submission."""
    if history.completed_s is not None:
        return history.completed_s
    if epochs:
        return max(epoch.end_s for epoch in epochs)
    # GlobalJobId is "schedd#cluster.proc#QDate".
    submitted = history.global_job_id.rpartition("#")[2]
    return int(submitted) if submitted.isascii() and submitted.isdigit() else 0


def _gap(progress: Progress, records: RecordsSeen, ends: list[int]) -> int | None:
    """Since when records are missing: the mark at the time when the oldest record that is left was newer than it."""
    lost = records.gap and progress.mark_s > 0 and min(ends, default=progress.mark_s) > progress.mark_s
    return progress.mark_s if lost and progress.gap_since_s is None else progress.gap_since_s


def _oldest_read(progress: Progress, ends: list[int], completions: list[int], *, before_s: int | None) -> int | None:
    """
    From where to go on after a cut reading: one second into what was read, since seconds hold several records.

    A reading does not say which of its two streams the limit cut. The newer one of their oldest records is safe; where
    that makes no progress, the older one does.
    """
    oldest = sorted(min(times) + 1 for times in (ends, completions) if times)
    if not oldest:
        return progress.hole_before_s
    stuck = before_s is not None and oldest[-1] >= before_s
    return oldest[0] if stuck else oldest[-1]


def _sortable(record: EpochRecord | HistoryRecord) -> tuple[tuple[bool, object], ...]:
    """A record's values in an order that None takes part in."""
    return tuple((value is not None, value) for value in astuple(record))
