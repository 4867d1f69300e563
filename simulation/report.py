"""What a simulated run is worth: turnaround of jobs, waste of pilots, and where the pilots were."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glidein.model import EndReason
from simulation.model import PilotSpan, Result


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SiteSummary:
    """The pilots of one site."""

    site: str
    submitted: int
    started: int
    joined: int
    cancelled: int
    """While they waited."""
    wait_median_s: float | None
    """Of those that started."""
    pilot_core_s: float
    busy_core_s: float


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Summary:
    """One run in numbers."""

    policy: str
    seed: int
    jobs: int
    unfinished: int
    """Jobs that had not ended at the horizon; in turnaround they count as if they had ended then."""
    held: int
    turnaround_mean_s: float | None
    turnaround_median_s: float | None
    turnaround_p95_s: float | None
    attempts: int
    lost_core_s: float
    """What jobs computed in pilots that died under them."""
    pilot_core_s: float
    busy_core_s: float
    waste: float | None
    """Share of pilot core seconds in which no job ran."""
    pilots: int
    sites: tuple[SiteSummary, ...]
    cycles: int


def summarize(result: Result) -> Summary:
    """A run's numbers."""
    turnaround = turnarounds(result)
    cost_s = sum(charged_s(pilot, result.until_s) for pilot in result.pilots)
    busy_s = sum(pilot.busy_core_s for pilot in result.pilots)
    return Summary(
        policy=result.policy,
        seed=result.seed,
        jobs=len(result.jobs),
        unfinished=sum(job.end_s is None and job.submit_s < result.until_s for job in result.jobs),
        held=sum(job.held for job in result.jobs),
        turnaround_mean_s=sum(turnaround) / len(turnaround) if turnaround else None,
        turnaround_median_s=quantile(turnaround, 0.5),
        turnaround_p95_s=quantile(turnaround, 0.95),
        attempts=sum(job.attempts for job in result.jobs),
        lost_core_s=sum(run.cores * (run.end_s - run.start_s) for run in result.runs if not run.good),
        pilot_core_s=cost_s,
        busy_core_s=busy_s,
        waste=1 - busy_s / cost_s if cost_s else None,
        pilots=len(result.pilots),
        sites=tuple(
            _site(name, [pilot for pilot in result.pilots if pilot.site == name], result.until_s)
            for name in sorted({pilot.site for pilot in result.pilots})
        ),
        cycles=result.cycles,
    )


def turnarounds(result: Result) -> list[float]:
    """Submission to end of every job that was submitted, sorted; one without an end counts up to the horizon."""
    return sorted(
        (result.until_s if job.end_s is None else job.end_s) - job.submit_s
        for job in result.jobs
        if job.submit_s < result.until_s
    )


def charged_s(pilot: PilotSpan, until_s: float) -> float:
    """Core seconds that the site charges for a pilot."""
    if pilot.start_s is None:
        return 0.0
    return pilot.cores * ((until_s if pilot.end_s is None else pilot.end_s) - pilot.start_s)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest of sorted values that at least this share of them does not exceed; None of none."""
    if not values:
        return None
    return values[max(0, math.ceil(share * len(values)) - 1)]


def pilots_over_time(result: Result, site: str, *, running: bool) -> list[tuple[float, int]]:
    """Steps of the number of a site's pilots that run, or that wait: instant and number from then on."""
    changes: dict[float, int] = {0.0: 0}
    for pilot in result.pilots:
        if pilot.site != site:
            continue
        begin_s = pilot.start_s if running else pilot.submit_s
        end_s = pilot.end_s
        if not running and pilot.start_s is not None:
            end_s = pilot.start_s
        if begin_s is None:
            continue
        changes[begin_s] = changes.get(begin_s, 0) + 1
        if end_s is not None:
            changes[end_s] = changes.get(end_s, 0) - 1
    steps, count = [], 0
    for at_s in sorted(changes):
        count += changes[at_s]
        steps.append((at_s, count))
    return steps


def middle(values: Iterable[float | None]) -> float | None:
    """The median of the values that are there."""
    return quantile(sorted(value for value in values if value is not None), 0.5)


def _site(name: str, pilots: Sequence[PilotSpan], until_s: float) -> SiteSummary:
    return SiteSummary(
        site=name,
        submitted=len(pilots),
        started=sum(pilot.start_s is not None for pilot in pilots),
        joined=sum(pilot.join_s is not None for pilot in pilots),
        cancelled=sum(pilot.reason is EndReason.CANCELLED_PENDING for pilot in pilots),
        wait_median_s=middle(pilot.start_s - pilot.submit_s for pilot in pilots if pilot.start_s is not None),
        pilot_core_s=sum(charged_s(pilot, until_s) for pilot in pilots),
        busy_core_s=sum(pilot.busy_core_s for pilot in pilots),
    )
