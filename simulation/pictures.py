"""The plots of a report: turnaround, waste, and pilots over time at each site."""

from __future__ import annotations

from collections.abc import Sequence

from simulation.model import Result
from simulation.plots import Axes, Line, box_plot, line_plot
from simulation.report import pilots_over_time, summarize, turnarounds

HOUR_S = 3600.0


def pictures_of(results: Sequence[Result]) -> dict[str, str]:
    """SVG texts by file name."""
    pictures = {"turnaround.svg": turnaround_plot(results), "waste.svg": waste_plot(results)}
    for site in sorted({pilot.site for result in results for pilot in result.pilots}):
        for result in results:
            pictures[f"pilots-{site}-{result.policy}.svg"] = pilots_plot(result, site)
    return pictures


def turnaround_plot(results: Sequence[Result], *, title: str = "Turnaround of jobs") -> str:
    """Share of jobs that ended within a time."""
    lines = []
    for result in results:
        values = turnarounds(result)
        points = [(max(1.0, value), (number + 1) / len(values)) for number, value in enumerate(values)]
        lines.append(Line(name=result.policy, points=points, steps=True))
    return line_plot(lines, Axes(title=title, x="seconds from submission to end", y="share of jobs", log_x=True))


def waste_plot(results: Sequence[Result], *, title: str = "Pilot core hours") -> str:
    """Busy and other core hours, for each policy."""
    groups = []
    for result in results:
        told = summarize(result)
        busy = told.busy_core_s / HOUR_S
        groups.append((result.policy, (("busy", [busy]), ("charged", [told.pilot_core_s / HOUR_S]))))
    return box_plot(groups, Axes(title=title, x="", y="core hours"))


def pilots_plot(result: Result, site: str) -> str:
    """Pilots of a site that run and that wait, over time."""
    lines = []
    for name, running in (("running", True), ("waiting", False)):
        steps = [(at_s / HOUR_S, float(count)) for at_s, count in pilots_over_time(result, site, running=running)]
        steps.append((result.until_s / HOUR_S, steps[-1][1]))
        lines.append(Line(name=name, points=steps, steps=True))
    axes = Axes(title=f"Pilots at {site} ({result.policy})", x="hours", y="pilots")
    return line_plot(lines, axes)
