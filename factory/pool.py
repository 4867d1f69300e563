"""The HTCondor side as the loop asks it: collector and access points behind one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overlay.client import Ap, PoolClient
from overlay.demand import read_demand
from overlay.history import read_records
from overlay.model import Demand, Records, Slots
from overlay.slots import read_slots

MAX_BUCKETS = 20_000
"""Kinds of idle jobs asked for at one access point; more are "at least"."""
MAX_RECORDS = 20_000
"""Records of a history asked for at once; more are read from the oldest on next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CondorPool:
    """A pool with its access points, by their names in the configuration."""

    client: PoolClient
    aps: Mapping[str, Ap]
    ads_max_age_s: int
    attributes: tuple[str, ...] = ()
    """Slot attributes of the operator's own, read for matching beside the usual ones."""

    def slots(self, *, now_s: float) -> Slots:
        """All pilots' slots in the collector."""
        return read_slots(self.client, max_age_s=self.ads_max_age_s, now_s=now_s, attributes=self.attributes)

    def demand(self, ap: str, *, now_s: float) -> Demand:
        """What waits at one access point."""
        return read_demand(self.client, self.aps[ap], max_buckets=MAX_BUCKETS, now_s=now_s)

    def records(self, ap: str, *, since_s: int, now_s: float) -> Records:
        """Epochs, final history and running jobs of an access point, written since a time."""
        return read_records(self.client, self.aps[ap], since_s=since_s, limit=MAX_RECORDS, now_s=now_s)
