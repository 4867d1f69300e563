"""
The product's policy against the field's two, in the modelled world: turnaround and waste, with spread.

``python -m benchmarks.policies --seeds 20`` writes the tables of docs/policies.md between its marks, and the plots
beside it. Every policy meets the same jobs, the same queues and the same caps; a row compares seed by seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from factory.model import Policy
from factory.policy import policy_of
from simulation.generate import WORKLOADS
from simulation.model import Result
from simulation.pictures import pilots_plot
from simulation.plots import Axes, Line, box_plot, line_plot
from simulation.policies import Decider, EvenSplit, Feedback, OurPolicy
from simulation.report import Summary, quantile, summarize, turnarounds
from simulation.run import Setup, simulate
from simulation.scenario import built_in_config, built_in_world

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
DAYS, DRAIN_DAYS = 2.0, 1.0
DAY_S = 86_400.0
OURS = "aerotow"
DECIDERS: Mapping[str, Callable[[], Decider]] = {OURS: OurPolicy, "even-split": EvenSplit, "feedback": Feedback}
SHOWN = "bursty"
"""The workload whose pilots over time are drawn, for seed 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All runs: summaries by workload and policy in the order of the seeds, and what plots need."""

    summaries: Mapping[str, Mapping[str, Sequence[Summary]]]
    turnarounds: Mapping[str, Mapping[str, Sequence[float]]]
    shown: Sequence[Result]
    seconds: float


def measure(seeds: Iterable[int], *, policy: Policy, days: float = DAYS) -> Measured:
    """Every workload, policy and seed."""
    begun = time.process_time()
    summaries: dict[str, dict[str, list[Summary]]] = {}
    waits: dict[str, dict[str, list[float]]] = {}
    shown: list[Result] = []
    for seed in seeds:
        for workload, generate in WORKLOADS.items():
            setup = Setup(
                policy=policy,
                world=built_in_world(),
                trace=generate(seed, days=days),
                horizon_s=(days + DRAIN_DAYS) * DAY_S,
            )
            for name, decider in DECIDERS.items():
                result = simulate(setup, decider(), seed=seed)
                summaries.setdefault(workload, {}).setdefault(name, []).append(summarize(result))
                waits.setdefault(workload, {}).setdefault(name, []).extend(turnarounds(result))
                if workload == SHOWN and not seed:
                    shown.append(result)
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    return Measured(summaries=summaries, turnarounds=waits, shown=shown, seconds=time.process_time() - begun)


def tables(measured: Measured) -> str:
    """The tables of the document."""
    parts = []
    for workload, by_policy in measured.summaries.items():
        seeds = len(by_policy[OURS])
        jobs = round(statistics.mean(one.jobs for one in by_policy[OURS]))
        parts.append(f"### {workload}: {jobs} jobs on average, {seeds} seeds\n")
        parts.append(
            "| policy | turnaround: mean | median | 95 % | waste | pilot core hours | pilots started | unfinished |"
        )
        parts.append("|---|---|---|---|---|---|---|---|")
        for name, runs in by_policy.items():
            cells = (
                _spread([run.turnaround_mean_s for run in runs], _minutes),
                _spread([run.turnaround_median_s for run in runs], _minutes),
                _spread([run.turnaround_p95_s for run in runs], _minutes),
                _spread([run.waste for run in runs], _percent),
                _spread([run.pilot_core_s / 3600 for run in runs], lambda value: f"{value:.0f}"),
                _spread([float(sum(site.started for site in run.sites)) for run in runs], lambda v: f"{v:.0f}"),
                str(sum(run.unfinished for run in runs)),
            )
            parts.append(f"| {name} | " + " | ".join(cells) + " |")
        parts.append("")
        for name, runs in by_policy.items():
            if name != OURS:
                parts.append(f"- {_compared(by_policy[OURS], runs, name)}")
        parts.append("")
    return "\n".join(parts)


def plots(measured: Measured) -> dict[str, str]:
    """SVG texts by file name."""
    pictures = {}
    for workload, by_policy in measured.turnarounds.items():
        lines = [Line(name=name, points=_shares(values), steps=True) for name, values in by_policy.items()]
        axes = Axes(title=f"Turnaround: {workload}, all seeds", x="seconds", y="share of jobs", log_x=True)
        pictures[f"policies-turnaround-{workload}.svg"] = line_plot(lines, axes)
    wasted = [
        (workload, [(name, [run.waste or 0.0 for run in runs]) for name, runs in by_policy.items()])
        for workload, by_policy in measured.summaries.items()
    ]
    axes = Axes(title="Share of pilot core seconds without a job", x="least, quartiles, most of the seeds", y="waste")
    pictures["policies-waste.svg"] = box_plot(wasted, axes)
    ratios = [
        (workload, [(name, _ratios(by_policy[OURS], runs)) for name, runs in by_policy.items()])
        for workload, by_policy in measured.summaries.items()
    ]
    axes = Axes(title="Mean turnaround, as a multiple of ours in the same seed", x="least, quartiles, most", y="ratio")
    pictures["policies-turnaround-ratio.svg"] = box_plot(ratios, axes)
    for result in measured.shown:
        pictures[f"policies-pilots-{result.policy}.svg"] = pilots_plot(result, "beta")
    return pictures


def _ratios(ours: Sequence[Summary], runs: Sequence[Summary]) -> list[float]:
    return [
        (run.turnaround_mean_s or 0.0) / (own.turnaround_mean_s or 1.0) for own, run in zip(ours, runs, strict=True)
    ]


def _shares(values: Sequence[float]) -> list[tuple[float, float]]:
    """Four hundred points of the distribution."""
    ordered = sorted(values)
    count = min(400, len(ordered))
    return [(max(1.0, quantile(ordered, (n + 1) / count) or 1.0), (n + 1) / count) for n in range(count)]


def _compared(ours: Sequence[Summary], theirs: Sequence[Summary], name: str) -> str:
    """How often ours is better, and by how much, seed by seed."""
    pairs = list(zip(ours, theirs, strict=True))
    words = []
    measures: tuple[tuple[str, Callable[[Summary], float | None]], ...] = (
        ("mean turnaround", lambda run: run.turnaround_mean_s),
        ("95 % turnaround", lambda run: run.turnaround_p95_s),
        ("waste", lambda run: run.waste),
    )
    for what, value in measures:
        better = sum((value(own) or 0) < (value(other) or 0) for own, other in pairs)
        change = statistics.median((value(own) or 0) / (value(other) or 1) - 1 for own, other in pairs)
        words.append(f"{what} {change:+.0%} (better in {better} of {len(pairs)} seeds)")
    return f"ours against {name}: " + ", ".join(words)


def _spread(values: Sequence[float | None], write: Callable[[float], str]) -> str:
    """The median over the seeds, with the least and the most."""
    there = sorted(value for value in values if value is not None)
    return f"{write(statistics.median(there))} ({write(there[0])} to {write(there[-1])})" if there else "-"


def _minutes(value: float) -> str:
    return f"{value / 60:.1f} min"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def into_document(text: str, measured: str) -> str:
    """The document with new tables between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{measured}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--days", type=float, default=DAYS, help="days in which jobs come")
    parser.add_argument("--write", action="store_true", help="into docs/policies.md, and the plots beside it")
    parser.add_argument("--json", type=Path, help="all summaries, as JSON")
    chosen = parser.parse_args(arguments)
    measured = measure(range(chosen.seeds), policy=policy_of(built_in_config()), days=chosen.days)
    text = tables(measured)
    print(text)
    print(f"{measured.seconds:.0f} s of processor time")
    if chosen.json:
        runs = [asdict(run) for by in measured.summaries.values() for runs in by.values() for run in runs]
        chosen.json.write_text(json.dumps(runs), encoding="utf-8")
    if chosen.write:
        document = DOCS / "policies.md"
        document.write_text(into_document(document.read_text(encoding="utf-8"), text), encoding="utf-8")
        for name, picture in plots(measured).items():
            (DOCS / name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
