"""
Time and memory of match and plan: a cold cycle, and warm ones in which a share of jobs and pilots has changed.

Between two cycles garbage is collected, as the loop does it; its time is told apart.

Run with ``python -m benchmarks.cold_warm``; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.generate import Size, next_cycle, workload
from factory.garbage import tidy_up
from factory.matching import ObservationMatcher
from factory.plan import decide

T = TypeVar("T")

SIZES = (
    Size(jobs=25_000, kinds=2_500, sites=500, pilots=1000),
    Size(jobs=50_000, kinds=5_000, sites=500, pilots=1000),
    Size(jobs=100_000, kinds=10_000, sites=500, pilots=1000),
    Size(jobs=200_000, kinds=20_000, sites=500, pilots=1000),
    Size(jobs=100_000, kinds=10_000, sites=125, pilots=1000),
    Size(jobs=100_000, kinds=10_000, sites=250, pilots=1000),
    Size(jobs=1_000_000, kinds=10_000, sites=1000, pilots=1000),
)


HEAD = (
    "| jobs | kinds | sites | pilots | cold match | plan | cold s "
    "| warm match | plan | warm s | worst s | pause s | input MiB | peak MiB |"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of processor time, and the most memory that the process had in MiB, the workload's own included."""

    cold_match_s: float
    cold_plan_s: float
    warm_match_s: float
    warm_plan_s: float
    worst_s: float
    """Of the warm cycles the one in which match and plan together took longest."""
    pause_s: float
    """Collecting garbage after a warm cycle."""
    workload_mib: int
    peak_mib: int


def measured(size: Size, *, warm: int, changed: float) -> Times:
    """One cold cycle and ``warm`` warm ones; of these the median."""
    observation, policy = workload(size)
    workload_mib = _peak_mib()
    matcher = ObservationMatcher()
    gc.collect()
    table, cold_match_s = _timed(lambda: matcher(observation, policy))
    _, cold_plan_s = _timed(lambda: decide(observation, table, policy))
    match_s, plan_s, pause_s = [], [], []
    tidy_up()
    for seed in range(1, warm + 1):
        observation = next_cycle(observation, changed=changed, seed=seed)
        table, taken_s = _timed(lambda seen=observation: matcher(seen, policy))  # type: ignore[misc]
        match_s.append(taken_s)
        _, taken_s = _timed(lambda seen=observation, known=table: decide(seen, known, policy))  # type: ignore[misc]
        plan_s.append(taken_s)
        _, taken_s = _timed(tidy_up)
        pause_s.append(taken_s)
    return Times(
        cold_match_s=cold_match_s,
        cold_plan_s=cold_plan_s,
        warm_match_s=statistics.median(match_s),
        warm_plan_s=statistics.median(plan_s),
        worst_s=max(map(sum, zip(match_s, plan_s, strict=True))),
        pause_s=statistics.median(pause_s),
        workload_mib=workload_mib,
        peak_mib=_peak_mib(),
    )


def row(size: Size, times: Times) -> str:
    """One line of the table."""
    cold_s, warm_s = times.cold_match_s + times.cold_plan_s, times.warm_match_s + times.warm_plan_s
    return (
        f"| {size.jobs:,} | {size.kinds:,} | {size.sites:,} | {size.pilots:,} "
        f"| {times.cold_match_s:.2f} | {times.cold_plan_s:.2f} | {cold_s:.2f} "
        f"| {times.warm_match_s:.3f} | {times.warm_plan_s:.3f} | {warm_s:.3f} "
        f"| {times.worst_s:.3f} | {times.pause_s:.3f} | {times.workload_mib} | {times.peak_mib} |"
    )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the processor time that it took: other processes on the machine do not count."""
    began = time.process_time()
    return work(), time.process_time() - began


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--kinds", type=int, default=10_000)
    parser.add_argument("--sites", type=int, default=500)
    parser.add_argument("--pilots", type=int, default=1000)
    parser.add_argument("--warm", type=int, default=5, help="warm cycles")
    parser.add_argument("--changed", type=float, default=0.01, help="share of the kinds that change between cycles")
    given = parser.parse_args()
    sizes: tuple[Size, ...] = SIZES
    if given.jobs is not None:
        sizes = (Size(jobs=given.jobs, kinds=given.kinds, sites=given.sites, pilots=given.pilots),)
    print(HEAD)
    print("|" + "---|" * 14)
    for size in sizes:
        # A process each: the peak of one is not the other's.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(row(size, pool.apply(_measured, (size, given.warm, given.changed))), flush=True)


def _measured(size: Size, warm: int, changed: float) -> Times:
    return measured(size, warm=warm, changed=changed)


if __name__ == "__main__":
    main()
