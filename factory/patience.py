"""
A site that fails is asked less and less often, up to a limit: it has trouble enough, and our asking does not help it.

Forgotten with the process: a factory that starts anew asks once, and an operator's word asks at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import assert_never

from factory.model import PatiencePolicy
from factory.sites.contract import Cause, SiteSeen, SiteSight, SiteUnseen

JITTER = 0.25
"""A pause is this part longer or shorter at random, so that many factories do not come back at one moment."""
_NO_FAILURE: frozenset[Cause] = frozenset({"limit", "late", "vanished"})
"""We did not ask, our last call has not come back, or the site did answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What is remembered of a site that failed; times are epoch seconds."""

    failures: int
    """In a row."""
    failed_s: float
    """The last time."""
    until_s: float
    reason: str
    cause: Cause

    def sight(self, site: str, *, now_s: float) -> SiteUnseen:
        """What stands for a look while it is not asked."""
        return SiteUnseen(
            site=site, taken_s=now_s, reason=self.reason, cause=self.cause, next_look_s=round(self.until_s)
        )


def pause_after(sight: SiteSight, prior: Pause | None, policy: PatiencePolicy, random: Random) -> Pause | None:
    """
    How long to leave a site alone after a look; None: ask in the next cycle.

    The pause doubles with each failure; one that says "too much" counts for ``overload_factor`` times as long.
    """
    match sight:
        case SiteSeen():
            return None
        case SiteUnseen():
            if sight.cause in _NO_FAILURE:
                return prior
            failures = 1 if prior is None else prior.failures + 1
            # More doublings than any pause may have, and few enough for a float.
            pause_s = policy.backoff_s * 2.0 ** min(failures - 1, 30)
            if sight.cause == "overloaded":
                pause_s *= policy.overload_factor
            pause_s = min(pause_s, policy.backoff_max_s) * random.uniform(1 - JITTER, 1 + JITTER)
            return Pause(
                failures=failures,
                failed_s=sight.taken_s,
                until_s=sight.taken_s + pause_s,
                reason=sight.reason,
                cause=sight.cause,
            )
        case _ as never:
            assert_never(never)


class Patience:
    """The pauses of all sites in one process; ``random`` decides their jitter."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._pauses: dict[str, Pause] = {}

    def paused(self, site: str, *, now_s: float, words: Mapping[str, float]) -> SiteUnseen | None:
        """What to take for a look, if the site is to be left alone now; an operator's later word ends the pause."""
        pause = self._pauses.get(site)
        if pause is None or now_s >= pause.until_s or words.get(site, 0.0) >= pause.failed_s:
            return None
        return pause.sight(site, now_s=now_s)

    def learn(self, sight: SiteSight, policy: PatiencePolicy) -> SiteSight:
        """Take notice of a look; the sight, with the time of the next one."""
        pause = pause_after(sight, self._pauses.pop(sight.site, None), policy, self._random)
        if pause is None:
            return sight
        self._pauses[sight.site] = pause
        return replace(sight, next_look_s=round(pause.until_s)) if isinstance(sight, SiteUnseen) else sight
