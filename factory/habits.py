"""
How long waiting jobs will run, as far as the same user's jobs of the same size tell.

Few declare their run time, and who does declares a limit. What is learnt decides only how much work a pilot is given;
whether a job fits into a pilot's remaining life is still asked of what it declares. Should it be wrong, nobody waits
for ever: a job that runs longer holds its cores, and the next cycle does not count them as free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from accounting.runtimes import Sort
from overlay.model import Bucket, Demand, DemandUnseen

WINDOW_S = 7 * 86_400
REFRESH_S = 300


class Habits:
    """Asks for the usual run times, and again when some minutes have passed."""

    def __init__(self, read: Callable[[float], Mapping[Sort, int]]) -> None:
        """``read`` takes the epoch second since which attempts count."""
        self._read = read
        self._known: Mapping[Sort, int] = {}
        self._read_s: float | None = None

    def __call__(self, now_s: float) -> Mapping[Sort, int]:
        """Usual wall seconds by sort of job."""
        if self._read_s is None or not 0 <= now_s - self._read_s < REFRESH_S:
            self._known, self._read_s = self._read(now_s - WINDOW_S), now_s
        return self._known


def with_usual_times(demands: tuple[Demand, ...], usual: Mapping[Sort, int]) -> tuple[Demand, ...]:
    """The same demand, each bucket with how long such jobs usually run."""
    if not usual:
        return demands
    return tuple(
        demand
        if isinstance(demand, DemandUnseen)
        else replace(demand, buckets=tuple(_with_usual_time(bucket, usual) for bucket in demand.buckets))
        for demand in demands
    )


def _with_usual_time(bucket: Bucket, usual: Mapping[Sort, int]) -> Bucket:
    owner = bucket.user.partition("@")[0]
    found = usual.get((bucket.ap, owner, bucket.group, max(1, bucket.cores)))
    return bucket if found is None else replace(bucket, usual_s=found)
