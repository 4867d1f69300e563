"""
What must hold after chaos, decided from records alone: Slurm's accounting, HTCondor's histories, and our books beside.

Pure. Every check gives sentences about what is wrong; none means that all is well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

OPEN_STATES = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One row of sacct for a pilot; times are epoch seconds, None while they have not come."""

    site: str
    job_id: str
    name: str
    state: str
    submit_s: int
    start_s: int | None
    end_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedPilot:
    """One pilot as our ledger has it."""

    pilot_id: str
    site: str
    batch_id: str | None
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedJob:
    """One final ad of a job in an access point's history."""

    ap: str
    job: str
    status: int
    exit_code: int | None
    completed_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedJob:
    """One job whose submission an access point has confirmed, and what it must print."""

    ap: str
    job: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One record of an access point's epoch history."""

    ap: str
    job: str
    user: str
    start_s: int
    end_s: int
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many pilots a site may have, and how many of them may wait."""

    max_pilots: int
    max_pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a controller while the chaos ran: names of pilots by state."""

    site: str
    at_s: float
    pending: int
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How one fault went; times are seconds after the start of the run, None if it never came."""

    fault: str
    injected_s: float
    healed_s: float
    counted_from_s: float
    """The latest end of any fault that overlapped with the recovery: before it, nothing can be asked for."""
    seen_s: float | None
    """When the factory saw again what the fault had hit."""
    works_s: float | None
    """When a job had been done there that began after the fault was over."""


def doubled_pilots(rows: Iterable[BatchRow]) -> tuple[str, ...]:
    """No name stands twice in Slurm's records."""
    ids = defaultdict(set)
    for row in rows:
        ids[row.name].add((row.site, row.job_id))
    return tuple(f"pilot {name} is {len(found)} batch jobs" for name, found in sorted(ids.items()) if len(found) > 1)


def lost_pilots(rows: Iterable[BatchRow], booked: Iterable[BookedPilot]) -> tuple[str, ...]:
    """Both books hold the same pilots, and nobody's pilot is open once all is drained."""
    rows, known = tuple(rows), {pilot.pilot_id: pilot for pilot in booked}
    names = {row.name for row in rows}
    problems = [f"{row.site} has pilot {row.name}, the ledger does not" for row in rows if row.name not in known]
    problems += [
        f"the ledger says that {pilot.site} took pilot {pilot.pilot_id} as {pilot.batch_id}, sacct has no such row"
        for pilot in known.values()
        if pilot.batch_id and pilot.pilot_id not in names
    ]
    problems += [
        f"pilot {pilot.pilot_id} is {pilot.phase} in the ledger after the end"
        for pilot in known.values()
        if pilot.phase != "ended"
    ]
    problems += [
        f"{row.site} still has pilot {row.name}: {row.state}" for row in rows if row.state.startswith(OPEN_STATES)
    ]
    return tuple(problems)


def jobs_not_done_once(
    wanted: Iterable[WantedJob],
    finished: Iterable[FinishedJob],
    outputs: Mapping[tuple[str, str], str],
    left: Iterable[tuple[str, str]] = (),
    crashes: Iterable[tuple[str, float]] = (),
) -> tuple[str, ...]:
    """
    Every job is in the history once, completed with exit code 0, and printed what it had to; none is left.

    ``crashes`` says which access point was killed when: see :func:`told_again`.
    """
    finished = tuple(finished)
    counts = Counter((job.ap, job.job) for job in finished)
    excused = Counter(told_again(finished, crashes))
    problems = [
        f"job {job} of {ap} is in the history {count} times"
        for (ap, job), count in counts.items()
        if count - excused[ap, job] > 1
    ]
    problems += [
        f"job {job.job} of {job.ap} ended with status {job.status}, exit code {job.exit_code}"
        for job in finished
        if (job.status, job.exit_code) != (4, 0)
    ]
    left = set(left)
    problems += [f"job {job} of {ap} is still in the queue" for ap, job in sorted(left)]
    for job in wanted:
        key = (job.ap, job.job)
        if key not in counts:
            if key not in left:
                problems.append(f"job {job.job} of {job.ap} is lost: neither in the queue nor in the history")
        elif outputs.get(key) != job.output:
            problems.append(f"job {job.job} of {job.ap} printed {outputs.get(key)!r}, not {job.output!r}")
    return tuple(problems)


def told_again(finished: Iterable[FinishedJob], crashes: Iterable[tuple[str, float]]) -> tuple[tuple[str, str], ...]:
    """
    Jobs that HTCondor itself finished again because their access point was killed between the two ends.

    A schedd writes the final ad and later its queue; killed between the two it finds the job running, asks the shadow
    or the machine again, and writes a second final ad (25.14.1, seen). No factory can see or prevent that, so such a
    pair is counted and shown, and only such a pair.
    """
    crashes = tuple(crashes)
    ends: dict[tuple[str, str], list[int]] = defaultdict(list)
    for job in finished:
        ends[job.ap, job.job].append(job.completed_s)
    found = []
    for (ap, job), moments in ends.items():
        for first_s, second_s in pairwise(sorted(moments)):
            # The first end may be written, and its second cut, a moment after the signal was sent.
            if any(where == ap and first_s - 2 <= at_s <= second_s + 2 for where, at_s in crashes):
                found.append((ap, job))
    return tuple(found)


def caps_broken(rows: Iterable[BatchRow], samples: Iterable[Sample], caps: Mapping[str, Caps]) -> tuple[str, ...]:
    """At no instant had a site more pilots than its caps, by sacct's intervals and by what squeue showed meanwhile."""
    rows = tuple(rows)
    problems = []
    for site, cap in caps.items():
        here = [row for row in rows if row.site == site]
        all_of_them = [(row.submit_s, row.end_s) for row in here]
        waiting = [(row.submit_s, row.end_s if row.start_s is None else row.start_s) for row in here]
        for what, intervals, most in (
            ("pilots", all_of_them, cap.max_pilots),
            ("waiting pilots", waiting, cap.max_pending),
        ):
            peak, at_s = highest(intervals)
            if peak > most:
                problems.append(f"{site} had {peak} {what} at {at_s} by sacct, the cap is {most}")
    for sample in samples:
        cap = caps[sample.site]
        if sample.pending + sample.running > cap.max_pilots or sample.pending > cap.max_pending:
            problems.append(
                f"{sample.site} had {sample.pending} waiting and {sample.running} running pilots at "
                f"{sample.at_s:.0f} by squeue, the caps are {cap.max_pending} and {cap.max_pilots} together"
            )
    return tuple(problems)


def highest(intervals: Iterable[tuple[int, int | None]]) -> tuple[int, int | None]:
    """
    The most intervals that hold at one instant, and that instant; an open end never comes.

    Slurm's times are whole seconds: what ends in a second and what begins in it are not counted together.
    """
    steps = []
    for begin_s, end_s in intervals:
        if end_s is not None and end_s <= begin_s:
            continue
        steps.append((begin_s, 1))
        if end_s is not None:
            steps.append((end_s, -1))
    level, peak, peak_s = 0, 0, None
    for at_s, change in sorted(steps):
        level += change
        if level > peak:
            peak, peak_s = level, at_s
    return peak, peak_s


def used_core_s(epochs: Iterable[EpochRow]) -> dict[str, int]:
    """Core seconds of each user, every second of a job once: two records may tell of one run after a crash."""
    runs: dict[tuple[str, str, str], list[EpochRow]] = defaultdict(list)
    for row in epochs:
        runs[(row.user, row.ap, row.job)].append(row)
    used: Counter[str] = Counter()
    for (user, _, _), rows in runs.items():
        seconds = {second: row.cores for row in rows for second in range(row.start_s, row.end_s)}
        used[user] += sum(seconds.values())
    return dict(used)


def usage_differences(epochs: Iterable[EpochRow], booked: Mapping[str, int]) -> tuple[str, ...]:
    """The accounting database has what HTCondor's epoch records say, for every user, to the second."""
    used = used_core_s(epochs)
    return tuple(
        f"user {user}: HTCondor's records say {used.get(user, 0)} core seconds, the database {booked.get(user, 0)}"
        for user in sorted({*used, *booked})
        if used.get(user, 0) != booked.get(user, 0)
    )


def slow_recoveries(recoveries: Iterable[Recovery], *, seen_bound_s: float, works_bound_s: float) -> tuple[str, ...]:
    """After every fault the factory saw again, and jobs were done again, within the bounds."""
    problems = []
    for one in recoveries:
        for what, at_s, bound_s in (
            ("be seen", one.seen_s, seen_bound_s),
            ("do work", one.works_s, works_bound_s),
        ):
            if at_s is None:
                problems.append(f"{one.fault}, healed at {one.healed_s:.0f} s: never seen to {what} again")
            elif at_s - one.counted_from_s > bound_s:
                took_s = at_s - one.counted_from_s
                problems.append(f"{one.fault}: {took_s:.0f} s to {what} again, at most {bound_s:.0f} s are allowed")
    return tuple(problems)
