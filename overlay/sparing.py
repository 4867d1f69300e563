"""
How an access point that is slow or busy is spared.

A question that took long is not asked again before the same time has passed once more, so no schedd spends more than
half of its time on us. One whose own ad says that it is busy is asked once in a while only. In between nothing is
known of it: its old answer is not used, for the jobs in it may run by now and would be counted twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SLOW_S = 5.0
"""An answer that takes less is quick enough to be asked for in each cycle."""
DUTY_MAX = 0.95
"""RecentDaemonCoreDutyCycle above which a schedd is busy; its own CURB_MATCHMAKING is 0.98 (25.14.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """When a question was last answered or given up, and how long it took; seconds of a steady clock."""

    at_s: float
    took_s: float


@dataclass(slots=True, kw_only=True)
class Contacts:
    """What is remembered of the schedds between questions; each may be forgotten at any time."""

    addresses: dict[str, str] = field(default_factory=dict)
    """Where each was last seen, for the minutes after a collector's restart."""
    asked: dict[tuple[str, str], Asked] = field(default_factory=dict)
    """By schedd and kind of question."""

    def rest_s(self, schedd: str, question: str, *, now_s: float) -> float:
        """Seconds for which a schedd that was slow is left alone; 0: it may be asked."""
        last = self.asked.get((schedd, question))
        return 0.0 if last is None or last.took_s < SLOW_S else max(0.0, last.at_s + last.took_s - now_s)

    def asked_lately(self, schedd: str, question: str, *, now_s: float, within_s: float) -> bool:
        """Whether it answered such a question, or was given up, within the time: reason enough to spare a busy one."""
        last = self.asked.get((schedd, question))
        return last is not None and now_s - last.at_s < within_s
