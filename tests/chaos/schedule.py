"""Which fault comes when: a pure function of a seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A class of faults, what it can hit, and how long it may last. ``lane`` says whom it is not to meet."""

    name: str
    targets: tuple[str, ...]
    lane: str
    shortest_s: float = 6
    longest_s: float = 20


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Planned:
    """One fault: seconds after the start of the run, what, where and for how long."""

    at_s: float
    kind: str
    target: str
    duration_s: float

    @property
    def title(self) -> str:
        """Its name in the report."""
        return f"{self.kind} {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Pause between two faults of one lane."""

    shortest_s: float = 15
    longest_s: float = 35


def schedule(kinds: Iterable[Kind], *, seed: int, seconds: float, pace: Pace | None = None) -> tuple[Planned, ...]:
    """
    Faults for a run of ``seconds``, sorted by time.

    Faults of one lane never overlap, those of two lanes do. In each lane every kind comes once before any comes twice.
    All are over before the run ends.
    """
    pace = pace or Pace()
    kinds = sorted(kinds, key=lambda kind: (kind.lane, kind.name))
    found: list[Planned] = []
    for lane in sorted({kind.lane for kind in kinds}):
        # Seeded by text: each lane has a chance of its own, so a new kind in one does not change the other.
        random = Random(f"{seed}/{lane}")
        found += _lane([kind for kind in kinds if kind.lane == lane], random, seconds=seconds, pace=pace)
    return tuple(sorted(found))


def _lane(kinds: Sequence[Kind], random: Random, *, seconds: float, pace: Pace) -> list[Planned]:
    found: list[Planned] = []
    deck: list[Kind] = []
    at_s = random.uniform(0, pace.shortest_s)
    while True:
        if not deck:
            deck = random.sample(kinds, len(kinds))
        kind = deck.pop()
        duration_s = round(random.uniform(kind.shortest_s, kind.longest_s), 1)
        if at_s + duration_s > seconds:
            return found
        found.append(
            Planned(at_s=round(at_s, 1), kind=kind.name, target=random.choice(kind.targets), duration_s=duration_s)
        )
        at_s += duration_s + random.uniform(pace.shortest_s, pace.longest_s)
