"""What a cycle tells to whoever watches the factory, and how long its steps took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from accounting.model import PilotRecord
from factory.model import Observation, Plan
from factory.sites.contract import CancelOutcome, SubmitOutcome

Failed = Literal["ledger", "lease", "broke"]
"""Why a cycle could not be done: the ledger, another factory's lease, or a fault of our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleReport:
    """What one cycle saw, decided and did, whole."""

    observation: Observation
    plan: Plan
    sites: tuple[str, ...]
    """Configured sites."""
    site_of: Mapping[str, str]
    """Pilot id to site, of the pilots asked for."""
    submissions: tuple[SubmitOutcome, ...] = ()
    cancels: tuple[CancelOutcome, ...] = ()
    ended: tuple[PilotRecord, ...] = ()
    steps: tuple[tuple[str, float], ...] = ()
    """Seconds of each step, in their order."""


class Watcher(Protocol):
    """Whoever wants to know how the cycles go."""

    def cycle_done(self, report: CycleReport) -> None:
        """A cycle has ended well."""
        ...

    def cycle_failed(self, why: Failed) -> None:
        """A cycle could not be done; what was known before stays as it is."""
        ...


@dataclass(slots=True)
class Steps:
    """Seconds of each step of a cycle; ``clock`` never goes back."""

    clock: Callable[[], float]
    _last_s: float = field(init=False)
    _taken: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._last_s = self.clock()

    def done(self, step: str) -> None:
        """The step that ends now; it began where the one before ended."""
        now_s = self.clock()
        self._taken.append((step, now_s - self._last_s))
        self._last_s = now_s

    def taken(self) -> tuple[tuple[str, float], ...]:
        """The steps so far."""
        return tuple(self._taken)


class Nobody:
    """Watches nothing."""

    def cycle_done(self, report: CycleReport) -> None:
        """Nothing."""

    def cycle_failed(self, why: Failed) -> None:
        """Nothing."""
