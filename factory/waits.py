"""
How long pilots wait at a site: from our own pilots' submissions and starts there.

A pilot that still waits, or was cancelled waiting, is no start, and it is no reason to think that starts are quick: it
counts as "longer than that" (right-censored; the estimate is Kaplan and Meier's). What is asked is always the rest of a
wait that has lasted some time already, so only pilots that waited longer than that are evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accounting.model import PilotRecord

MEDIAN_MIN = 5
"""Starts without which no median is told: fewer do not bound it with 95 % confidence (binomial method)."""
Q95_MIN = 59
"""The same for the 0.95 quantile."""
PILOTS_MAX = 400
"""The newest pilots of a site that are asked: what a queue was like long ago says little of now."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Wait:
    """How long one pilot waited, in seconds."""

    seconds: int
    started: bool
    """False: it had not started when it was looked at last; it waited at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How much longer a pilot waits that has waited some time, in seconds."""

    waited_s: int
    starts: int
    """Starts that it is drawn from: of pilots that had waited at least as long."""
    q50_s: int | None
    """Half of them started within so much more time; None: insufficient data."""
    q95_s: int | None


def waits_of(pilots: Iterable[PilotRecord], *, now_s: float) -> tuple[Wait, ...]:
    """The waits of pilots that the site's scheduler took, sorted."""
    found = []
    for pilot in pilots:
        if pilot.submitted_s is None:
            continue
        until_s = pilot.started_s if pilot.started_s is not None else (pilot.ended_s or now_s)
        seconds = max(0, int(until_s - pilot.submitted_s))
        found.append(Wait(seconds=seconds, started=pilot.started_s is not None))
    return tuple(sorted(found))


def forecast(waits: Iterable[Wait], *, waited_s: int) -> Forecast:
    """The rest of a wait that has lasted ``waited_s``; ``waits`` are of the same site."""
    longer = sorted(
        (wait for wait in waits if wait.seconds >= waited_s), key=lambda wait: (wait.seconds, not wait.started)
    )
    starts = sum(wait.started for wait in longer)
    quantiles = {}
    for share, least in ((0.5, MEDIAN_MIN), (0.95, Q95_MIN)):
        end_s = _quantile(longer, share) if starts >= least else None
        quantiles[share] = None if end_s is None else end_s - waited_s
    return Forecast(waited_s=waited_s, starts=starts, q50_s=quantiles[0.5], q95_s=quantiles[0.95])


def _quantile(waits: list[Wait], share: float) -> int | None:
    """The wait within which this share has started; None when so many have not been seen to start."""
    waiting = 1.0
    for number, wait in enumerate(waits):
        if wait.started:
            waiting *= 1 - 1 / (len(waits) - number)
            # Products of fractions: half of an even number must not fall short of a half.
            if waiting <= 1 - share + 1e-9:
                return wait.seconds
    return None
