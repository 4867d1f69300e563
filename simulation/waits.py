"""
How long a pilot waits in a site's queue: regimes that change, log-normal waits, neighbours alike.

A site's queue has a pace: the reciprocal of its regime's median wait, and zero in an outage. A pilot brings its own
work, log-normal around one, and starts when the pace has worked it off. So a queue that clears helps those who wait
already, and one that jams delays them too. Regimes come from the seed alone: every policy meets the same ones.
"""

from __future__ import annotations

import math
from random import Random

from simulation.model import SiteModel


class Queue:
    """One site's queue, its future drawn as far as it was asked for; times are seconds from the trace's beginning."""

    def __init__(self, model: SiteModel, *, seed: int) -> None:
        self._model = model
        self._changes = Random(f"{seed}/{model.name}/regimes")
        self._luck = Random(f"{seed}/{model.name}/pilots")
        self._spans: list[tuple[float, float, float]] = []
        """Begin, end, median wait."""
        self._regime = self._changes.randrange(len(model.regimes))
        self._deviation = self._luck.gauss(0.0, 1.0)

    def draw(self) -> float:
        """The work of the next pilot, in medians."""
        model = self._model
        fresh = self._luck.gauss(0.0, 1.0)
        self._deviation = model.rho * self._deviation + math.sqrt(1 - model.rho**2) * fresh
        return math.exp(model.sigma * self._deviation)

    def chance(self) -> float:
        """A number between 0 and 1 for the pilot's fate."""
        return self._luck.random()

    def lasting(self, per_h: float) -> float:
        """Seconds to the next event that happens so often per hour; infinite where it never does."""
        return self._luck.expovariate(per_h / 3600) if per_h > 0 else math.inf

    def start_s(self, submit_s: float, work: float) -> float:
        """When a pilot submitted then has waited its part."""
        now_s, left = submit_s, work
        number = 0
        while True:
            begin_s, end_s, median_s = self._span(number)
            number += 1
            if end_s <= now_s:
                continue
            now_s = max(now_s, begin_s)
            for free_s, until_s in self._open(now_s, end_s):
                needed_s = left * median_s
                if free_s + needed_s <= until_s:
                    return free_s + needed_s
                left -= (until_s - free_s) / median_s
            now_s = end_s

    def median_s(self, at_s: float) -> float:
        """The regime's median wait at a time."""
        number = 0
        while self._span(number)[1] <= at_s:
            number += 1
        return self._span(number)[2]

    def closed(self, at_s: float) -> bool:
        """Whether there is an outage."""
        return any(out.begin_s <= at_s < out.begin_s + out.length_s for out in self._model.outages)

    def _span(self, number: int) -> tuple[float, float, float]:
        """The regime of that number; drawn in order, whoever asks."""
        while len(self._spans) <= number:
            begin_s = self._spans[-1][1] if self._spans else 0.0
            regimes = self._model.regimes
            if self._spans and len(regimes) > 1:
                self._regime = (self._regime + 1 + self._changes.randrange(len(regimes) - 1)) % len(regimes)
            regime = regimes[self._regime]
            length_s = self._changes.expovariate(1 / regime.lasts_s)
            # A queue whose wait is shorter than a second is a queue without wait.
            self._spans.append((begin_s, begin_s + max(1.0, length_s), max(1.0, regime.median_s)))
        return self._spans[number]

    def _open(self, begin_s: float, end_s: float) -> list[tuple[float, float]]:
        """The parts of a time in which the site starts anything."""
        parts, at_s = [], begin_s
        for out in sorted(self._model.outages):
            if out.begin_s + out.length_s <= at_s or out.begin_s >= end_s:
                continue
            if out.begin_s > at_s:
                parts.append((at_s, out.begin_s))
            at_s = max(at_s, out.begin_s + out.length_s)
        if at_s < end_s:
            parts.append((at_s, end_s))
        return parts
