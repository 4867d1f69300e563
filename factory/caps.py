"""How many pilots may still be asked for, and which limit says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from accounting.model import PilotRecord, SiteStop
from factory.breaker import breaker, trials
from factory.latecomers import latecomers
from factory.model import (
    BreakerState,
    Observation,
    Policy,
    Reason,
    Room,
    ShapeRoom,
    SiteOutcomes,
    SitePolicy,
    SiteRoom,
)
from factory.outages import outage_reason
from factory.sites.contract import SiteSeen, SiteSight, SiteUnseen
from glidein.model import PilotPhase
from glidein.siterules import NO_RULES, SiteRules
from overlay.model import Bucket, SlotsUnseen

Limit = Literal[
    "max_pilots", "max_pending", "ramp", "shape_pilots", "site_cap", "total_pilots", "cycle_limit", "breaker"
]

_NOT_STARTED = frozenset({PilotPhase.INTENDED, PilotPhase.UNCERTAIN, PilotPhase.PENDING})


def is_pending(pilot: PilotRecord) -> bool:
    """Whether the pilot counts as waiting at its site: not started, as far as is known."""
    lost = pilot.phase is PilotPhase.UNKNOWN and pilot.started_s is None and pilot.joined_s is None
    return pilot.phase in _NOT_STARTED or lost


def breakers(observation: Observation, policy: Policy) -> tuple[BreakerState, ...]:
    """The breaker of every configured site, sorted by site."""
    told = {site.site: site for site in observation.outcomes}
    return tuple(
        breaker(told.get(site.name, SiteOutcomes(site=site.name, outcomes=())), policy.breaker, observation.now_s)
        for site in sorted(policy.sites, key=lambda site: site.name)
    )


def room(observation: Observation, policy: Policy, states: tuple[BreakerState, ...]) -> Room:
    """What all caps allow at the beginning of the cycle."""
    unended = [pilot for pilot in observation.pilots if pilot.phase is not PilotPhase.ENDED]
    at_site: dict[str, list[PilotRecord]] = {}
    for pilot in unended:
        at_site.setdefault(pilot.offer.site, []).append(pilot)
    state_of = {state.site: state for state in states}
    sights = {sight.site: sight for sight in observation.sites}
    stops = {stop.site: stop for stop in observation.stops}
    sites = tuple(
        _site_room(
            site,
            at_site.get(site.name, ()),
            breaks=trials(state_of[site.name], policy.breaker, at_site.get(site.name, ())),
            block=_block(state_of[site.name], site, sights, stops, observation.now_s),
            sight=sights.get(site.name),
            ramp=_ramp(site, policy),
            now_s=observation.now_s,
        )
        for site in sorted(policy.sites, key=lambda site: site.name)
    )
    late = latecomers(observation, policy).late
    slow = Counter(pilot.offer.site for pilot in unended if pilot.pilot_id in late)
    return Room(
        sites=tuple(replace(site, late=slow[site.policy.name]) if slow[site.policy.name] else site for site in sites),
        open=len(unended),
        max_pilots=policy.max_pilots,
        max_submits_per_cycle=policy.max_submits_per_cycle,
        frozen=_frozen(observation),
        project_vos=policy.project_vos,
    )


def rules_of(sight: SiteSight | None) -> SiteRules:
    """What the site's admin lets run there; a site that is not seen gets nothing new anyway."""
    return sight.rules if isinstance(sight, SiteSeen) else NO_RULES


def denial(bucket: Bucket, site: SiteRoom, room_now: Room) -> str:
    """Why the site's own admin keeps the bucket's jobs out, or empty."""
    return _denial(bucket, site.rules, dict(room_now.project_vos))


class Doors:
    """Which sites keep whom out, asked once for each user and project."""

    def __init__(self, room_now: Room) -> None:
        self._ruled = [site for site in room_now.sites if site.rules.closed or site.rules.allow or site.rules.deny]
        self._vos = dict(room_now.project_vos) if self._ruled else {}
        self._known: dict[tuple[str, str], frozenset[str]] = {}

    def closed_to(self, bucket: Bucket) -> frozenset[str]:
        """Sites whose own admin keeps the bucket's jobs out: neither their pilots nor new ones take any."""
        if not self._ruled:
            return frozenset()
        who = bucket.user, bucket.group
        if who not in self._known:
            self._known[who] = frozenset(
                site.policy.name for site in self._ruled if _denial(bucket, site.rules, self._vos)
            )
        return self._known[who]


def _denial(bucket: Bucket, rules: SiteRules, vos: Mapping[str, tuple[str, ...]]) -> str:
    user = bucket.user.partition("@")[0]
    return rules.denies(user=user, project=bucket.group, vos=vos.get(bucket.group.lower(), ()))


def with_new(site: SiteRoom, entry: int) -> SiteRoom:
    """The site after one more pilot of its n-th entry was asked for."""
    shapes = tuple(replace(s, new=s.new + 1) if n == entry else s for n, s in enumerate(site.shapes))
    cores = site.new_cores + site.shapes[entry].policy.offer.shape.cores
    return replace(site, new=site.new + 1, new_cores=cores, shapes=shapes)


def room_after(room_then: Room, order: Iterable[str]) -> Room:
    """The room after these pilots were asked for, given by the labels of their offers."""
    counts = Counter(order)
    if not counts:
        return room_then
    return replace(
        room_then,
        sites=tuple(_after(site, counts) for site in room_then.sites),
        new=room_then.new + counts.total(),
    )


def _after(site: SiteRoom, counts: Mapping[str, int]) -> SiteRoom:
    new = [counts.get(shape.policy.offer.label, 0) for shape in site.shapes]
    if not any(new):
        return site
    return replace(
        site,
        new=site.new + sum(new),
        new_cores=site.new_cores
        + sum(n * shape.policy.offer.shape.cores for n, shape in zip(new, site.shapes, strict=True)),
        shapes=tuple(replace(shape, new=shape.new + n) for n, shape in zip(new, site.shapes, strict=True)),
    )


def total_left(room_now: Room) -> int:
    """New pilots that all sites together may still get."""
    if room_now.frozen:
        return 0
    return max(0, min(left for _, left in _total_limits(room_now)))


def allowance(site: SiteRoom, entry: int) -> int:
    """New pilots of its n-th entry that the site may still get, as far as the site is concerned."""
    shape = site.shapes[entry]
    if site.block is not None or shape.block is not None:
        return 0
    return max(0, min(left for _, left in _limits(site, shape)))


def binding(site: SiteRoom, shape: ShapeRoom, room_now: Room) -> tuple[Limit, ...]:
    """The limits that are used up for one shape of a site that is not blocked."""
    return tuple(limit for limit, left in (*_limits(site, shape), *_total_limits(room_now)) if left <= 0)


def limit_words(limit: Limit, site: SiteRoom, shape: ShapeRoom, room_now: Room) -> str:
    """One limit with its numbers, for people."""
    name = site.policy.name
    asked = f", {site.new} asked for in this cycle" if site.new else ""
    asked_all = f", {room_now.new} asked for in this cycle" if room_now.new else ""
    match limit:
        case "max_pending":
            return f"max_pending of site {name} ({site.pending} waiting now{asked}, limit {site.policy.max_pending})"
        case "max_pilots":
            return f"max_pilots of site {name} ({site.open} open now{asked}, limit {site.policy.max_pilots})"
        case "ramp":
            return f"the ramp of site {name}, {site.ramp} in one cycle"
        case "shape_pilots":
            asked_here = f", {shape.new} asked for in this cycle" if shape.new else ""
            return (
                f"max_pilots of shape {shape.policy.offer.label} "
                f"({shape.open} open now{asked_here}, limit {shape.policy.max_pilots})"
            )
        case "site_cap":
            used_up = "; ".join(words for words, left in _site_caps(site, shape) if left <= 0)
            return f"the admin of site {name} in {site.rules.file} ({used_up}{asked})"
        case "total_pilots":
            return f"max_pilots of all sites ({room_now.open} open now{asked_all}, limit {room_now.max_pilots})"
        case "cycle_limit":
            return f"max_submits_per_cycle ({room_now.new} asked for in this cycle)"
        case "breaker":
            return f"the breaker of site {name}, which lets {site.trials} through until its pilots are seen to work"


def _total_limits(room_now: Room) -> tuple[tuple[Limit, int], ...]:
    """What the limits over all sites leave."""
    return (
        ("total_pilots", room_now.max_pilots - room_now.open - room_now.new),
        ("cycle_limit", room_now.max_submits_per_cycle - room_now.new),
    )


def _limits(site: SiteRoom, shape: ShapeRoom) -> tuple[tuple[Limit, int], ...]:
    """What each limit of the site leaves for one of its shapes, the narrowest owner first."""
    caps = [left for _, left in _site_caps(site, shape)]
    found: list[tuple[Limit, int]] = []
    if site.trials is not None:
        found.append(("breaker", site.trials - site.new))
    if caps:
        found.append(("site_cap", min(caps)))
    if site.ramp is not None:
        found.append(("ramp", site.ramp - site.new))
    found.append(("max_pending", site.policy.max_pending - site.pending - site.new))
    found.append(("max_pilots", site.policy.max_pilots - site.open - site.new))
    if shape.policy.max_pilots is not None:
        found.append(("shape_pilots", shape.policy.max_pilots - shape.open - shape.new))
    return tuple(found)


def _site_caps(site: SiteRoom, shape: ShapeRoom) -> list[tuple[str, int]]:
    """The caps in the file of the site's admin: words with the numbers, and the pilots that each leaves."""
    rules, cores = site.rules, shape.policy.offer.shape.cores
    caps: list[tuple[str, int]] = []
    if rules.max_pending is not None:
        words = f"max_pending {rules.max_pending}, {site.pending} waiting now"
        caps.append((words, rules.max_pending - site.pending - site.new))
    if rules.max_pilots is not None:
        words = f"max_pilots {rules.max_pilots}, {site.open} open now"
        caps.append((words, rules.max_pilots - site.open - site.new))
    if rules.max_cores is not None:
        words = f"max_cores {rules.max_cores}, {site.cores} in open pilots now, {cores} in each new one"
        caps.append((words, (rules.max_cores - site.cores - site.new_cores) // cores))
    return caps


def _site_room(
    site: SitePolicy,
    pilots: Iterable[PilotRecord],
    *,
    breaks: int | None,
    block: Reason | None,
    sight: SiteSight | None,
    ramp: int | None,
    now_s: float,
) -> SiteRoom:
    pilots = tuple(pilots)
    of_shape = Counter(pilot.offer.name for pilot in pilots)
    return SiteRoom(
        policy=site,
        open=len(pilots),
        pending=sum(map(is_pending, pilots)),
        trials=breaks,
        block=block,
        ramp=ramp,
        cores=sum(pilot.offer.shape.cores for pilot in pilots),
        wait_s=max(
            (int(now_s) - (p.intended_s if p.submitted_s is None else p.submitted_s) for p in pilots if is_pending(p)),
            default=0,
        ),
        rules=rules_of(sight),
        shapes=tuple(
            ShapeRoom(
                policy=entry,
                open=of_shape[entry.offer.name],
                block=outage_reason(entry.offer, site, sight, now_s),
            )
            for entry in site.entries
        ),
    )


def _ramp(site: SitePolicy, policy: Policy) -> int | None:
    """What a site that begins to fail in this very cycle can cost at most."""
    if policy.ramp_percent >= 100:
        return None
    return max(1, -(-site.max_pilots * policy.ramp_percent // 100))


def _block(
    state: BreakerState,
    site: SitePolicy,
    sights: Mapping[str, SiteSight],
    stops: Mapping[str, SiteStop],
    now_s: float,
) -> Reason | None:
    """Why a site gets nothing at all in this cycle; an operator's word comes first, then what we cannot see."""
    stop = stops.get(state.site)
    if stop is not None:
        return Reason(
            code="stopped",
            text=f"site {state.site} was stopped at {utc(stop.since_s)} by {stop.by}: {stop.reason}",
            owner="operator",
        )
    match sights.get(state.site):
        case SiteSeen(rules=rules):
            if rules.closed:
                return Reason(code="paused", text=f"site {state.site} is closed: {rules.closed}", owner="site")
        case SiteUnseen(reason=why):
            return Reason(code="site_unseen", text=f"site {state.site} is not seen: {why}", owner="site")
        case None:
            return Reason(code="site_unseen", text=f"site {state.site} was not looked at", owner="site")
    if state.mode == "open":
        return Reason(
            code="breaker",
            text=f"breaker of site {state.site} is open after {state.failures} failures in a row "
            f"(last: {state.reason}); next probe at {utc(state.retry_at_s)}",
            allowed=0,
        )
    # Of several shapes a shorter one may end before the outage.
    blocks = [outage_reason(entry.offer, site, sights.get(state.site), now_s) for entry in site.entries]
    return blocks[0] if all(blocks) else None


def _frozen(observation: Observation) -> str:
    """Why nothing may be asked for at all."""
    slots = observation.slots
    return f"the pool's slots are not seen: {slots.reason}" if isinstance(slots, SlotsUnseen) else ""


def utc(epoch_s: int | None) -> str:
    """A time for people."""
    if epoch_s is None:
        return "an unknown time"
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
