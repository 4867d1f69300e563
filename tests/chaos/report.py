"""The report of a run of chaos, as text that a Markdown page can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.checks import Recovery
from tests.chaos.schedule import Planned

SHOWN = 25
"""Problems of one kind that are printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run, judged."""

    instance: str
    seed: int
    seconds: float
    versions: tuple[str, ...]
    happened: tuple[tuple[Planned, Recovery], ...]
    facts: Mapping[str, int]
    verdicts: Mapping[str, tuple[str, ...]]
    """What had to hold, and what is wrong with it."""

    @property
    def good(self) -> bool:
        """Whether everything held."""
        return not any(self.verdicts.values())


def as_text(result: Result) -> str:
    """All of it: faults with recovery times, counts, verdicts."""
    lines = [
        f"Seed {result.seed}, {result.seconds:.0f} s of faults, {', '.join(result.versions)}.",
        "",
        "| at s | fault | lasted s | seen again after s | work done again after s |",
        "|---:|---|---:|---:|---:|",
    ]
    for planned, one in result.happened:
        lasted_s = one.healed_s - one.injected_s
        lines.append(
            f"| {one.injected_s:.0f} | {planned.title} | {lasted_s:.0f}"
            f" | {_after(one.seen_s, one.healed_s)} | {_after(one.works_s, one.healed_s)} |"
        )
    lines += [
        "",
        f"{len(result.happened)} faults of {len({planned.kind for planned, _ in result.happened})} kinds.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in result.facts.items()]
    lines += ["", "| what must hold | found |", "|---|---|"]
    lines += [
        f"| {name} | {'yes' if not problems else f'NO, {len(problems)} times'} |"
        for name, problems in result.verdicts.items()
    ]
    for name, problems in result.verdicts.items():
        if problems:
            lines += ["", f"{name}:", ""]
            lines += [f"- {problem}" for problem in problems[:SHOWN]]
    return "\n".join(lines) + "\n"


def _after(moment_s: float | None, healed_s: float) -> str:
    return "never" if moment_s is None else f"{moment_s - healed_s:.0f}"
