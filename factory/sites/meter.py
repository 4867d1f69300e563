"""Count what a site is asked, and keep the promise of how much that may be."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

WINDOW_S = 60.0
NOT_ASKED = "not asked"
"""Every reason of a call that was not made begins so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What a site was asked so far by this process."""

    calls: int
    """Remote commands and REST requests: each is one login's or one daemon's work at the site."""
    last_minute: int
    not_made: int
    """Calls that the limit kept us from."""
    commands: tuple[tuple[str, int], ...]
    """Commands at the scheduler by name (``squeue``, ``sacct``, ``sbatch``, ``scancel``), sorted."""


class CallMeter:
    """
    One site's calls. Every adapter asks :meth:`admit` before each remote command or request.

    ``limit`` is calls in any 60 s; None: they are only counted. ``clock`` gives seconds that never go back.
    """

    def __init__(self, *, limit: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._recent: deque[float] = deque()
        self._commands: Counter[str] = Counter()
        self._calls = 0
        self._not_made = 0
        self._lock = threading.Lock()

    def admit(self) -> str:
        """Count one call that is about to be made; or why it must not be made, and then it is not counted."""
        with self._lock:
            self._forget_old()
            if self.limit is not None and len(self._recent) >= self.limit:
                self._not_made += 1
                return f"{NOT_ASKED}: over the rate limit that we promised, {self.limit} calls a minute"
            self._recent.append(self._clock())
            self._calls += 1
            return ""

    def note(self, commands: Iterable[str]) -> None:
        """Count commands that a call has run at the scheduler."""
        with self._lock:
            self._commands.update(commands)

    def calls(self) -> Calls:
        """The numbers of now."""
        with self._lock:
            self._forget_old()
            return Calls(
                calls=self._calls,
                last_minute=len(self._recent),
                not_made=self._not_made,
                commands=tuple(sorted(self._commands.items())),
            )

    def _forget_old(self) -> None:
        """Keep only the last minute."""
        edge_s = self._clock() - WINDOW_S
        while self._recent and self._recent[0] <= edge_s:
            self._recent.popleft()
