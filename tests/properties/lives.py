"""Small worlds over many cycles: plan, carry out, plan again, while the load stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from strategies import World, with_intents

from factory.model import BreakerPolicy, Observation
from factory.plan import plan
from factory.sites.contract import FinalSeen, SiteSeen, SiteUnseen
from glidein.model import Offer, PilotPhase
from overlay.model import Bucket, DemandUnseen

STEP_S = 150
CYCLES = 16
"""What is surplus at the beginning is cancelled two cycles later; that may make room for others, and so again."""


@dataclass(kw_only=True)
class History:
    """What became of a world, cycle by cycle."""

    submits: list[tuple[str, ...]] = field(default_factory=list)
    """The buckets that pilots were asked for."""
    cancels: list[tuple[tuple[str, Offer], ...]] = field(default_factory=list)
    seen: list[Observation] = field(default_factory=list)
    """What each cycle was decided from."""


def open_doors(world: World, *, wait_noticed_s: int = 9 * CYCLES * STEP_S) -> World:
    """
    The same without what spreads the asking over several cycles: that is not flapping.

    Unless it is said when, nobody is late.
    """
    many = BreakerPolicy(failures=1000, fizzle_s=60, backoff_s=300, backoff_max_s=3600)
    policy = replace(
        world.policy, max_submits_per_cycle=1000, ramp_percent=100, breaker=many, wait_noticed_s=wait_noticed_s
    )
    waiting = tuple(
        replace(pilot, phase=PilotPhase.PENDING)
        if pilot.phase in (PilotPhase.UNKNOWN, PilotPhase.INTENDED, PilotPhase.UNCERTAIN)
        else pilot
        for pilot in world.observation.pilots
    )
    return replace(world, observation=replace(world.observation, pilots=waiting), policy=policy)


def lived(world: World, *, start: float = 0.0, blind: float = 0.0, seed: int = 0, cycles: int = CYCLES) -> History:
    """
    Cycle after cycle: what is asked for waits at its site, what is cancelled is gone, and the jobs stay as many.

    ``start``: this part of the waiting pilots starts between two cycles, and is full with jobs in the next, for which
    as many new ones come to the queue. ``blind``: in this part of the cycles a site is not seen.
    """
    rng, told = Random(seed), History()
    for n in range(cycles):
        seen = replace(world.observation, cycle=f"6b49d2{n:02x}abcd")
        if blind:
            seen = _blinded(seen, rng, blind)
        decided = plan(seen, world.table, world.policy)
        by_id = {pilot.pilot_id: pilot for pilot in seen.pilots}
        told.seen.append(seen)
        told.submits.append(decided.asked_for)
        told.cancels.append(tuple((one.pilot_id, by_id[one.pilot_id].offer) for one in decided.cancels))
        gone = {cancel.pilot_id for cancel in decided.cancels}
        now_s = int(seen.now_s)
        pilots = []
        for pilot in with_intents(world, decided).observation.pilots:
            if pilot.pilot_id in gone:
                continue
            since_s = (pilot.surplus_since_s or now_s) if pilot.pilot_id in decided.surplus else None
            phase = PilotPhase.PENDING if pilot.phase is PilotPhase.INTENDED else pilot.phase
            if pilot.phase is PilotPhase.PENDING and rng.random() < start:
                phase = PilotPhase.ENDING  # full: it offers nothing
            pilots.append(replace(pilot, phase=phase, sent="submitted", surplus_since_s=since_s))
        world = replace(world, observation=replace(seen, pilots=tuple(pilots), now_s=now_s + STEP_S))
    return told


def _blinded(seen: Observation, rng: Random, blind: float) -> Observation:
    """Some sites are not seen in this cycle."""
    return replace(
        seen,
        sites=tuple(
            SiteUnseen(site=sight.site, taken_s=seen.now_s, reason="ssh timed out")
            if rng.random() < blind
            else SiteSeen(site=sight.site, taken_s=seen.now_s, live=(), final=FinalSeen(records=()), reports=())
            for sight in seen.sites
        ),
    )


def buckets_of(world: World) -> dict[str, Bucket]:
    """All idle jobs by their key."""
    found = (demand for demand in world.observation.demands if not isinstance(demand, DemandUnseen))
    return {bucket.key: bucket for demand in found for bucket in demand.buckets}
