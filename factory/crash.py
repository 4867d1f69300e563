"""
The places where a crash would hurt most, by name, so that tests can kill the factory exactly there.

The loop calls ``at(point)`` as it passes; in production that does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

CRASH_POINTS = (
    "observed",  # everything was looked at, nothing is written
    "recorded",  # phases are in the ledger, nothing is decided
    "committed",  # intents are in the ledger, nothing was sent
    "uploading",  # inside act, before the site is called
    "submitted",  # the site has answered, the ledger does not know
    "settled",  # submissions are settled, cancels were not sent
    "cancelled",  # cancels were sent, the ledger does not know
    "forgotten",  # spool directories of ended pilots are removed
)

Crash = Callable[[str], None]


def never(_point: str) -> None:
    """Production: pass by."""


def kill_at(point: str, *, visits: int = 1) -> Crash:
    """Kill this process, as the kernel would, at the given visit of the point."""
    if point not in CRASH_POINTS:
        raise ValueError(f"{point!r} is no crash point; there are {', '.join(CRASH_POINTS)}")
    left = visits

    def at(passed: str) -> None:
        nonlocal left
        if passed == point:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return at
