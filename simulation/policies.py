"""
Who decides: the product's own match and plan, and two rivals written from the descriptions of what the field uses.

All of them get the same observations, pilots and caps; a rival sees what its model would look at, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from accounting.model import CancelIntent
from factory.matching import ObservationMatcher, buckets_of
from factory.model import Observation, Policy
from factory.plan import plan
from glidein.model import Offer, PilotPhase
from overlay.model import Bucket, SlotsSeen
from simulation.pilots import SimPilot
from simulation.world import SimWorld

PENDING = (PilotPhase.INTENDED, PilotPhase.UNCERTAIN, PilotPhase.PENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a policy wants done now."""

    submits: tuple[Offer, ...] = ()
    """One for each new pilot, in their order."""
    cancels: tuple[CancelIntent, ...] = ()
    drains: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()


class Decider(Protocol):
    """A policy; it may keep what it needs from one decision to the next."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def rests(self) -> bool:
        """Whether without idle jobs and waiting pilots it decides nothing, so that such cycles are left out."""
        ...

    def decide(self, observation: Observation, policy: Policy, world: SimWorld) -> Orders:
        """The orders of one cycle."""
        ...


class OurPolicy:
    """:func:`factory.plan.plan` on the product's own matches."""

    name = "aerotow"
    rests = True

    def __init__(self) -> None:
        self._match = ObservationMatcher()

    def decide(self, observation: Observation, policy: Policy, world: SimWorld) -> Orders:
        """One cycle's match and plan."""
        decided = plan(observation, self._match(observation, policy), policy)
        offers = {entry.offer.label: entry.offer for site in policy.sites for entry in site.entries}
        return Orders(
            submits=tuple(offers[label] for label in decided.order),
            cancels=decided.cancels,
            surplus=decided.surplus,
        )


@dataclass(slots=True)
class EvenSplit:
    """
    Each idle job is split evenly over all entries that it matches, and pilots are sized by cores alone.

    After GlideinWMS: shares are rounded up, a third of the missing is kept idle (at least one), a slot with a core and
    2500 MB counts as idle, nothing is asked above 1.15 times what runs and waits. With no idle job for more than five
    loops, waiting pilots go, five a loop. Not modelled: removal of running pilots, several groups.
    """

    name: str = "even-split"
    rests: bool = True
    attenuation: float = 3.0
    reserve: float = 5.0
    idle_most: int = 100
    per_loop: int = 100
    old_s: float = 600.0
    slot_memory_mib: int = 2500
    loops_without: int = 0

    def decide(self, observation: Observation, policy: Policy, world: SimWorld) -> Orders:
        """One loop for every entry."""
        buckets = buckets_of(observation)
        self.loops_without = 0 if buckets else self.loops_without + 1
        if not buckets:
            return Orders(cancels=self._removals(observation) if self.loops_without > 5 else ())
        matches = _matches(buckets, policy, world)
        submits: list[Offer] = []
        total = len(observation.pilots)
        for site in policy.sites:
            offer = site.offer
            share = self._share(buckets, matches, offer, world, old=False)
            old_share = self._share(buckets, matches, offer, world, old=True)
            idle_jobs = sum(bucket.jobs for bucket in buckets if offer in matches[bucket.key])
            mine = [pilot for pilot in observation.pilots if pilot.offer.site == offer.site]
            pending = sum(pilot.phase in PENDING for pilot in mine)
            running = len(mine) - pending
            idle_slots = self._idle_slots(observation, offer.site)
            effective = max(share - idle_slots, 0)
            room = min(site.max_pilots - len(mine), policy.max_pilots - total)
            wanted = 0
            if effective > 0 and room > 0:
                kept = min(effective, room) / self.attenuation + min(old_share / 3, self.reserve)
                wanted = max(1, min(int(kept), self.idle_most))
            most = int((max(0, idle_jobs - idle_slots) + running) * 1.15 + 1)
            new = min(wanted - pending, most - len(mine), room, site.max_pending - pending, self.per_loop)
            if new > 0 and not world.unseen(offer.site):
                submits += [offer] * new
                total += new
        return Orders(submits=tuple(submits[: policy.max_submits_per_cycle]))

    def _share(
        self,
        buckets: tuple[Bucket, ...],
        matches: Mapping[str, tuple[Offer, ...]],
        offer: Offer,
        world: SimWorld,
        *,
        old: bool,
    ) -> int:
        """Pilots that an entry's part of the idle jobs is worth, by cores."""
        part, cores, jobs = 0.0, 0, 0
        kinds = {kind.bucket.key: kind for kind in world.idle_kinds.values()}
        for bucket in buckets:
            if offer not in matches[bucket.key]:
                continue
            count = bucket.jobs
            if old:
                count = sum(job.submit_s <= world.now_s - self.old_s for job in kinds[bucket.key].idle)
            part += count / len(matches[bucket.key])
            cores += count * bucket.cores
            jobs += count
        if not jobs:
            return 0
        return math.ceil(math.ceil(part) * (cores / jobs) / offer.shape.cores)

    def _idle_slots(self, observation: Observation, site: str) -> int:
        """Slots of the entry with a free core and enough memory, whatever is left of their life."""
        assert isinstance(observation.slots, SlotsSeen)
        return sum(
            slot.site == site
            and slot.cores - slot.busy_cores >= 1
            and slot.memory_mib - slot.busy_memory_mib > self.slot_memory_mib
            for slot in observation.slots.slots
        )

    def _removals(self, observation: Observation) -> tuple[CancelIntent, ...]:
        """Waiting pilots to remove: five for each entry."""
        left: dict[str, int] = {}
        gone = []
        for pilot in observation.pilots:
            if pilot.phase is PilotPhase.PENDING and left.setdefault(pilot.offer.site, 5) > 0:
                left[pilot.offer.site] -= 1
                gone.append(CancelIntent(pilot_id=pilot.pilot_id, reason="no idle jobs"))
        return tuple(gone)


@dataclass(slots=True)
class Feedback:
    """
    Pure feedback: grow while what is there is allocated, shrink while it is badly used; the queue is never looked at.

    After COBalD and TARDIS with a pool for each site: below ``low`` utilisation the demanded cores go down, above
    ``high`` allocation they go up, by ``rate`` cores a second, never below one pilot. A site without pilots in the pool
    counts as fully used. Utilisation is the least used of cores and memory, allocation the most used. Surplus pilots
    are released where least is used: waiting ones are cancelled, others drain.
    """

    name: str = "feedback"
    rests: bool = False
    low: float = 0.5
    high: float = 0.5
    rate: float = 1.0
    demand: dict[str, float] = field(default_factory=dict)
    last_s: float | None = None

    def decide(self, observation: Observation, policy: Policy, world: SimWorld) -> Orders:
        """One round of the controllers and of the pools."""
        step = 0.0 if self.last_s is None else (observation.now_s - self.last_s) * self.rate
        self.last_s = observation.now_s
        submits: list[Offer] = []
        cancels: list[CancelIntent] = []
        drains: list[str] = []
        total = len(observation.pilots)
        for site in policy.sites:
            if world.unseen(site.name):
                continue
            cores = site.offer.shape.cores
            mine = [pilot for pilot in world.pilots.values() if pilot.site == site.name and not pilot.draining]
            target = self._regulate(site.name, mine, step, least=cores, most=site.max_pilots * cores)
            planned = len(mine) * cores
            pending = sum(pilot.start_s is None for pilot in mine)
            supply = sum(cores for pilot in mine if pilot.join_s is not None)
            if supply > target:
                for pilot in sorted(mine, key=_used):
                    if planned - cores < target:
                        break
                    planned -= cores
                    if pilot.start_s is None:
                        cancels.append(CancelIntent(pilot_id=pilot.pilot_id, reason="demand went down"))
                    else:
                        drains.append(pilot.pilot_id)
                continue
            there = sum(pilot.site == site.name for pilot in world.pilots.values())
            room = min(site.max_pilots - there, site.max_pending - pending, policy.max_pilots - total)
            new = max(0, min(math.ceil((target - planned) / cores), room))
            submits += [site.offer] * new
            total += new
        return Orders(
            submits=tuple(submits[: policy.max_submits_per_cycle]), cancels=tuple(cancels), drains=tuple(drains)
        )

    def _regulate(self, site: str, mine: list[SimPilot], step: float, *, least: int, most: int) -> float:
        """The demanded cores after this round."""
        there = [pilot for pilot in mine if pilot.join_s is not None]
        utilisation = sum(min(_ratios(pilot)) for pilot in there) / len(there) if there else 1.0
        allocation = sum(max(_ratios(pilot)) for pilot in there) / len(there) if there else 1.0
        demand = self.demand.get(site, float(least))
        if utilisation < self.low:
            demand -= step
        elif allocation > self.high:
            demand += step
        # Beyond the site's cap a controller without an upper bound would wind up and never come down again.
        self.demand[site] = min(float(most), max(float(least), demand))
        return self.demand[site]


def _ratios(pilot: SimPilot) -> tuple[float, float]:
    """Used shares of cores and memory."""
    shape = pilot.offer.shape
    return 1 - pilot.cores / shape.cores, 1 - pilot.memory_mib / shape.memory_mib


def _used(pilot: SimPilot) -> tuple[float, int]:
    """Order of release: least used first, then youngest."""
    used = 0.0 if pilot.join_s is None else pilot.offer.shape.cores * min(_ratios(pilot))
    return used, -pilot.number


def _matches(buckets: tuple[Bucket, ...], policy: Policy, world: SimWorld) -> dict[str, tuple[Offer, ...]]:
    """The entries that each bucket matches."""
    kinds = {kind.bucket.key: kind for kind in world.idle_kinds.values()}
    return {
        bucket.key: tuple(site.offer for site in policy.sites if world.fits(kinds[bucket.key], site.offer))
        for bucket in buckets
    }


POLICIES: dict[str, type[OurPolicy] | type[EvenSplit] | type[Feedback]] = {
    "aerotow": OurPolicy,
    "even-split": EvenSplit,
    "feedback": Feedback,
}
"""By the names that the command line takes."""
