"""
What the factory knows, put together for people: the state of the sites, the access points and the collector.

Everything comes from recorded observations and the ledger, so that the command line and later faces show one truth,
and what could not be looked at says since when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from accounting.model import Lease, PilotRecord, SiteStop
from factory.caps import is_pending
from factory.journal import Recorded
from factory.model import Brake, BreakerState, Observation, Policy, Reason, SitePolicy
from factory.outages import outage_reason
from factory.sites.contract import Cause, SiteSeen, SiteUnseen
from glidein.model import EndReason, PilotPhase
from glidein.siterules import SiteRules
from overlay.model import DemandAtLeast, DemandSeen, DemandUnseen, SlotsSeen, SlotsUnseen

STALE_CYCLES = 3
"""After this many cycle times without a cycle the picture is called old."""

Sight = Literal["seen", "at_least", "unseen", "never"]
"""``never``: no cycle has looked at it; that is not "nothing there"."""

Subject = tuple[Literal["site", "ap", "pool"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Whether something was seen at the last look, and if not, since when and why."""

    sight: Sight
    seen_s: float | None
    """When it was last seen; None: not within the recorded cycles."""
    unseen_since_s: float | None
    """Start of the unbroken row of cycles that did not see it; when ``seen_s`` is None it may be older."""
    reason: str
    cause: Cause | None = None
    """Why a site is not seen, by meaning; None for what is seen, and for all that is no site."""
    next_look_s: int | None = None
    """It is not asked before then; None: in the next cycle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Open pilots by phase, and their cores."""

    intended: int
    """In the ledger and not yet answered by the site, uncertain submissions among them."""
    pending: int
    starting: int
    idle: int
    busy: int
    ending: int
    unknown: int
    running_cores: int
    """Cores of pilots that have started and not ended."""
    busy_cores: int | None
    """Cores that run jobs; None when the collector was not seen."""

    @property
    def open(self) -> int:
        """Pilots not ended."""
        return self.intended + self.pending + self.starting + self.idle + self.busy + self.ending + self.unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """One site at one moment."""

    site: str
    configured: bool
    """False: it has left the configuration and is watched until its pilots have ended."""
    sighting: Sighting
    census: Census
    waiting: int
    """Pilots that count towards max_pending."""
    max_pilots: int | None
    max_pending: int | None
    breaker: BreakerState | None
    stop: SiteStop | None
    rules: SiteRules | None = None
    """What its own admin lets run there; None when the last look did not see the site."""
    calls_last_minute: int | None = None
    """Calls that the factory made there in the minute before the last look; None when that did not see the site."""
    outage: Reason | None = None
    """Why a pilot asked for now would meet an outage."""
    closures_unseen: str = ""
    """Why the site's reservations are not known."""
    brakes: tuple[Brake, ...] = ()
    """The kinds of jobs for which it is held back, because pilots asked for them ran nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApStatus:
    """One access point at the last look."""

    ap: str
    sighting: Sighting
    idle: int | None
    """Idle jobs; None when it was not seen, a lower bound when the sight is ``at_least``."""
    kinds: int | None
    """Buckets of idle jobs."""
    running: int | None
    held_back: int | None
    """Jobs that late materialisation has not made yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """The collector at the last look."""

    sighting: Sighting
    slots: int | None
    cores: int | None
    busy_cores: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old the picture is."""

    cycle: str | None
    last_cycle_s: float | None
    """None: no cycle has run."""
    age_s: float | None
    stale: bool
    """No cycle yet, or the last one is older than three cycle times."""
    lease: Lease | None
    lease_valid: bool


def freshness(last: Recorded | None, *, lease: Lease | None, cycle_time_s: float, now_s: float) -> Freshness:
    """Whether a factory works, by its last cycle and its lease."""
    age_s = None if last is None else max(0.0, now_s - last.last_s)
    return Freshness(
        cycle=None if last is None else last.observation.cycle,
        last_cycle_s=None if last is None else last.last_s,
        age_s=age_s,
        stale=age_s is None or age_s > STALE_CYCLES * cycle_time_s,
        lease=lease,
        lease_valid=lease is not None and lease.expires_s > now_s,
    )


def sightings(history: Iterable[Recorded]) -> dict[Subject, Sighting]:
    """
    What each subject of the newest cycle looks like, from cycles newest first.

    Cycles are read only as far back as something that is unseen now was still unseen.
    """
    found: dict[Subject, Sighting] = {}
    open_ends: dict[Subject, Sighting] = {}
    why: dict[Subject, SiteUnseen] = {}
    for number, recorded in enumerate(history):
        looks = _looks(recorded.observation)
        if number == 0:
            for subject, (sight, reason) in looks.items():
                if sight == "unseen":
                    since = Sighting(sight=sight, seen_s=None, unseen_since_s=recorded.first_s, reason=reason)
                    open_ends[subject] = since
                else:
                    found[subject] = Sighting(sight=sight, seen_s=recorded.last_s, unseen_since_s=None, reason=reason)
        else:
            for subject, sighting in list(open_ends.items()):
                sight, _ = looks.get(subject, ("never", ""))
                if sight == "unseen":
                    open_ends[subject] = Sighting(
                        sight="unseen", seen_s=None, unseen_since_s=recorded.first_s, reason=sighting.reason
                    )
                else:
                    del open_ends[subject]
                    seen_s = None if sight == "never" else recorded.last_s
                    found[subject] = Sighting(
                        sight="unseen",
                        seen_s=seen_s,
                        unseen_since_s=sighting.unseen_since_s,
                        reason=sighting.reason,
                    )
        if number == 0:
            why = {("site", site.site): site for site in recorded.observation.sites if isinstance(site, SiteUnseen)}
        if not open_ends:
            break
    told = found | open_ends
    for subject, site in why.items():
        told[subject] = replace(told[subject], cause=site.cause, next_look_s=site.next_look_s)
    return told


def _looks(observation: Observation) -> dict[Subject, tuple[Sight, str]]:
    """What one observation says of everything that it looked at."""
    looks: dict[Subject, tuple[Sight, str]] = {}
    for site in observation.sites:
        looks["site", site.site] = ("unseen", site.reason) if isinstance(site, SiteUnseen) else ("seen", "")
    for demand in observation.demands:
        match demand:
            case DemandSeen():
                looks["ap", demand.ap] = ("seen", "")
            case DemandAtLeast(reason=reason):
                looks["ap", demand.ap] = ("at_least", reason)
            case DemandUnseen(reason=reason):
                looks["ap", demand.ap] = ("unseen", reason)
    slots = observation.slots
    looks["pool", "collector"] = ("unseen", slots.reason) if isinstance(slots, SlotsUnseen) else ("seen", "")
    return looks


_NEVER = Sighting(sight="never", seen_s=None, unseen_since_s=None, reason="no cycle has looked at it yet")


def site_statuses(
    *,
    policy: Policy,
    pilots: Iterable[PilotRecord],
    stops: Iterable[SiteStop],
    seen: Mapping[Subject, Sighting],
    last: Recorded | None,
    breakers: Iterable[BreakerState],
) -> tuple[SiteStatus, ...]:
    """Every configured site and every other that still has pilots, sorted by name."""
    configured = {site.name: site for site in policy.sites}
    at_site: dict[str, list[PilotRecord]] = {name: [] for name in configured}
    for pilot in pilots:
        at_site.setdefault(pilot.offer.site, []).append(pilot)
    state_of = {state.site: state for state in breakers}
    stop_of = {stop.site: stop for stop in stops}
    busy = _busy_cores(last)
    sights = () if last is None else last.observation.sites
    rules = {sight.site: sight.rules for sight in sights if isinstance(sight, SiteSeen)}
    calls = {sight.site: sight.calls_last_minute for sight in sights if isinstance(sight, SiteSeen)}
    sight_of = {sight.site: sight for sight in sights if isinstance(sight, SiteSeen)}
    now_s = 0.0 if last is None else last.last_s
    statuses = []
    for name, here in sorted(at_site.items()):
        site = configured.get(name)
        statuses.append(
            SiteStatus(
                site=name,
                configured=site is not None,
                sighting=seen.get(("site", name), _NEVER),
                census=census(here, busy=busy),
                waiting=sum(map(is_pending, here)),
                max_pilots=None if site is None else site.max_pilots,
                max_pending=None if site is None else site.max_pending,
                breaker=state_of.get(name),
                stop=stop_of.get(name),
                rules=rules.get(name),
                calls_last_minute=calls.get(name),
                outage=None if site is None else _outage(site, sight_of.get(name), now_s),
                closures_unseen=getattr(sight_of.get(name), "closures_unseen", ""),
                brakes=() if last is None else tuple(brake for brake in last.plan.brakes if brake.site == name),
            )
        )
    return tuple(statuses)


def _outage(site: SitePolicy, sight: SiteSeen | None, now_s: float) -> Reason | None:
    """Why a pilot asked for now would meet an outage, whichever of the site's shapes it has."""
    reasons = [outage_reason(entry.offer, site, sight, now_s) for entry in site.entries]
    return reasons[0] if all(reasons) else None


_HAS_STARTED = frozenset({PilotPhase.STARTING, PilotPhase.IDLE, PilotPhase.BUSY, PilotPhase.ENDING})


def census(pilots: Iterable[PilotRecord], *, busy: Mapping[str, int] | None) -> Census:
    """Count open pilots; ``busy`` is cores in use by pilot id, None when nobody could look."""
    here = [pilot for pilot in pilots if pilot.phase is not PilotPhase.ENDED]
    count = Counter(pilot.phase for pilot in here)
    return Census(
        intended=count[PilotPhase.INTENDED] + count[PilotPhase.UNCERTAIN],
        pending=count[PilotPhase.PENDING],
        starting=count[PilotPhase.STARTING],
        idle=count[PilotPhase.IDLE],
        busy=count[PilotPhase.BUSY],
        ending=count[PilotPhase.ENDING],
        unknown=count[PilotPhase.UNKNOWN],
        running_cores=sum(pilot.offer.shape.cores for pilot in here if pilot.phase in _HAS_STARTED),
        busy_cores=None if busy is None else sum(busy.get(pilot.pilot_id, 0) for pilot in here),
    )


def _busy_cores(last: Recorded | None) -> dict[str, int] | None:
    """Cores that run jobs by pilot, from the last look at the collector."""
    if last is None or not isinstance(last.observation.slots, SlotsSeen):
        return None
    return {slot.pilot_id: slot.busy_cores for slot in last.observation.slots.slots}


def ap_statuses(aps: Iterable[str], *, last: Recorded | None, seen: Mapping[Subject, Sighting]) -> tuple[ApStatus, ...]:
    """Every configured access point, sorted by name."""
    demands = {} if last is None else {demand.ap: demand for demand in last.observation.demands}
    statuses = []
    for ap in sorted(aps):
        sighting = seen.get(("ap", ap), _NEVER)
        demand = demands.get(ap)
        if demand is None or isinstance(demand, DemandUnseen):
            statuses.append(ApStatus(ap=ap, sighting=sighting, idle=None, kinds=None, running=None, held_back=None))
            continue
        whole = isinstance(demand, DemandSeen)
        statuses.append(
            ApStatus(
                ap=ap,
                sighting=sighting,
                idle=sum(bucket.jobs for bucket in demand.buckets),
                kinds=len(demand.buckets),
                running=demand.running if isinstance(demand, DemandSeen) else None,
                held_back=demand.unmaterialized if whole and isinstance(demand, DemandSeen) else None,
            )
        )
    return tuple(statuses)


def pool_status(*, last: Recorded | None, seen: Mapping[Subject, Sighting]) -> PoolStatus:
    """The collector at the last look."""
    sighting = seen.get(("pool", "collector"), _NEVER)
    if last is None or not isinstance(last.observation.slots, SlotsSeen):
        return PoolStatus(sighting=sighting, slots=None, cores=None, busy_cores=None)
    slots = last.observation.slots.slots
    return PoolStatus(
        sighting=sighting,
        slots=len(slots),
        cores=sum(slot.cores for slot in slots),
        busy_cores=sum(slot.busy_cores for slot in slots),
    )


def end_reasons(pilots: Iterable[PilotRecord]) -> dict[str, int]:
    """How often pilots ended for each reason, most frequent first."""
    count = Counter(pilot.end_reason.value for pilot in pilots if pilot.end_reason is not None)
    return dict(sorted(count.items(), key=lambda pair: (-pair[1], pair[0])))


def races(pilots: Iterable[PilotRecord]) -> int:
    """Pilots that had started when our cancel reached them, which was meant for waiting ones."""
    return sum(pilot.cancel_intended_s is not None and pilot.end_reason is EndReason.CANCELLED for pilot in pilots)


def last_refusal(pilots: Iterable[PilotRecord]) -> PilotRecord | None:
    """The pilot that the site's scheduler refused last, with the scheduler's words in ``detail``."""
    refused = [pilot for pilot in pilots if pilot.end_reason is EndReason.REFUSED and pilot.ended_s is not None]
    return max(refused, key=lambda pilot: (pilot.ended_s or 0, pilot.pilot_id), default=None)
