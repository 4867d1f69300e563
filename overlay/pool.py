"""The pool as the factory's loop asks it: slots, demand and records, each answer with a type for "could not look"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overlay.client import Ap, PoolClient
from overlay.demand import read_demand
from overlay.history import read_records
from overlay.model import Demand, Records, Slots
from overlay.slots import read_slots


@dataclass(frozen=True, slots=True, kw_only=True)
class HtcondorPool:
    """A real pool; ``schedds`` maps the operator's name of each AP to its schedd's Name in the collector."""

    client: PoolClient
    schedds: Mapping[str, str]
    ads_max_age_s: float
    max_buckets: int = 10_000
    """Kinds of idle jobs at one AP; more give "at least these"."""
    slot_attributes: tuple[str, ...] = ()
    """Names of further slot attributes that jobs may ask for."""

    def slots(self, *, now_s: float) -> Slots:
        """All pilots' slots in the collector."""
        return read_slots(self.client, max_age_s=self.ads_max_age_s, now_s=now_s, attributes=self.slot_attributes)

    def demand(self, ap: str, *, now_s: float) -> Demand:
        """What waits at one access point."""
        return read_demand(self.client, self._ap(ap), max_buckets=self.max_buckets, now_s=now_s)

    def records(self, ap: str, *, since_s: int, now_s: float) -> Records:
        """Epochs, final history and running jobs of an access point, written since a time."""
        return read_records(self.client, self._ap(ap), since_s=since_s, now_s=now_s)

    def _ap(self, name: str) -> Ap:
        return Ap(name=name, schedd=self.schedds[name])
