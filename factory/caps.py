"""How many pilots may still be asked for, and which limit says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from accounting.model import PilotRecord, SiteStop
from factory.breaker import breaker, trials
from factory.model import BreakerState, Observation, Policy, Reason, Room, SiteOutcomes, SitePolicy, SiteRoom
from factory.outages import outage_reason
from factory.sites.contract import SiteSeen, SiteSight, SiteUnseen
from glidein.model import PilotPhase
from glidein.siterules import NO_RULES, SiteRules
from overlay.model import Bucket, SlotsUnseen

Limit = Literal["max_pilots", "max_pending", "site_cap", "total_pilots", "cycle_limit", "breaker"]

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
    return Room(
        sites=tuple(
            _site_room(
                site,
                at_site.get(site.name, ()),
                breaks=trials(state_of[site.name], policy.breaker, at_site.get(site.name, ())),
                block=_block(state_of[site.name], site, sights, stops, observation.now_s),
                rules=rules_of(sights.get(site.name)),
            )
            for site in sorted(policy.sites, key=lambda site: site.name)
        ),
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


def closed_to(bucket: Bucket, room_now: Room) -> frozenset[str]:
    """Sites whose own admin keeps the bucket's jobs out: neither their pilots nor new ones take any."""
    ruled = [site for site in room_now.sites if site.rules.closed or site.rules.allow or site.rules.deny]
    vos = dict(room_now.project_vos) if ruled else {}
    return frozenset(site.policy.name for site in ruled if _denial(bucket, site.rules, vos))


def _denial(bucket: Bucket, rules: SiteRules, vos: Mapping[str, tuple[str, ...]]) -> str:
    user = bucket.user.partition("@")[0]
    return rules.denies(user=user, project=bucket.group, vos=vos.get(bucket.group.lower(), ()))


def take(room_now: Room, site: str) -> Room:
    """The room after one more pilot was asked for at the site."""
    sites = tuple(replace(s, new=s.new + 1) if s.policy.name == site else s for s in room_now.sites)
    return replace(room_now, sites=sites, new=room_now.new + 1)


def allowance(site: SiteRoom, room_now: Room) -> int:
    """New pilots that the site may still get."""
    if site.block is not None or room_now.frozen:
        return 0
    return max(0, min(left for _, left in _limits(site, room_now)))


def binding(site: SiteRoom, room_now: Room) -> tuple[Limit, ...]:
    """The limits that are used up for a site that is not blocked."""
    return tuple(limit for limit, left in _limits(site, room_now) if left <= 0)


def limit_words(limit: Limit, site: SiteRoom, room_now: Room) -> str:
    """One limit with its numbers, for people."""
    name = site.policy.name
    asked = f", {site.new} asked for in this cycle" if site.new else ""
    asked_all = f", {room_now.new} asked for in this cycle" if room_now.new else ""
    match limit:
        case "max_pending":
            return f"max_pending of site {name} ({site.pending} waiting now{asked}, limit {site.policy.max_pending})"
        case "max_pilots":
            return f"max_pilots of site {name} ({site.open} open now{asked}, limit {site.policy.max_pilots})"
        case "site_cap":
            used_up = "; ".join(words for words, left in _site_caps(site) if left <= 0)
            return f"the admin of site {name} in {site.rules.file} ({used_up}{asked})"
        case "total_pilots":
            return f"max_pilots of all sites ({room_now.open} open now{asked_all}, limit {room_now.max_pilots})"
        case "cycle_limit":
            return f"max_submits_per_cycle ({room_now.new} asked for in this cycle)"
        case "breaker":
            return f"the breaker of site {name}, which lets {site.trials} through until its pilots are seen to work"


def _limits(site: SiteRoom, room_now: Room) -> tuple[tuple[Limit, int], ...]:
    """What each limit leaves, the narrowest owner first."""
    caps = [left for _, left in _site_caps(site)]
    own: tuple[tuple[Limit, int], ...] = (("site_cap", min(caps)),) if caps else ()
    site_limits: tuple[tuple[Limit, int], ...] = (
        *own,
        ("max_pending", site.policy.max_pending - site.pending - site.new),
        ("max_pilots", site.policy.max_pilots - site.open - site.new),
        ("total_pilots", room_now.max_pilots - room_now.open - room_now.new),
        ("cycle_limit", room_now.max_submits_per_cycle - room_now.new),
    )
    if site.trials is None:
        return site_limits
    return (("breaker", site.trials - site.new), *site_limits)


def _site_caps(site: SiteRoom) -> list[tuple[str, int]]:
    """The caps in the file of the site's admin: words with the numbers, and the pilots that each leaves."""
    rules, cores = site.rules, site.policy.offer.shape.cores
    caps: list[tuple[str, int]] = []
    if rules.max_pending is not None:
        words = f"max_pending {rules.max_pending}, {site.pending} waiting now"
        caps.append((words, rules.max_pending - site.pending - site.new))
    if rules.max_pilots is not None:
        words = f"max_pilots {rules.max_pilots}, {site.open} open now"
        caps.append((words, rules.max_pilots - site.open - site.new))
    if rules.max_cores is not None:
        words = f"max_cores {rules.max_cores}, {site.cores} in open pilots now, {cores} in each new one"
        caps.append((words, (rules.max_cores - site.cores) // cores - site.new))
    return caps


def _site_room(
    site: SitePolicy,
    pilots: Iterable[PilotRecord],
    *,
    breaks: int | None,
    block: Reason | None,
    rules: SiteRules,
) -> SiteRoom:
    pilots = tuple(pilots)
    return SiteRoom(
        policy=site,
        open=len(pilots),
        pending=sum(map(is_pending, pilots)),
        trials=breaks,
        block=block,
        cores=sum(pilot.offer.shape.cores for pilot in pilots),
        rules=rules,
    )


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
    return outage_reason(site.offer, site, sights.get(state.site), now_s)


def _frozen(observation: Observation) -> str:
    """Why nothing may be asked for at all."""
    slots = observation.slots
    return f"the pool's slots are not seen: {slots.reason}" if isinstance(slots, SlotsUnseen) else ""


def utc(epoch_s: int | None) -> str:
    """A time for people."""
    if epoch_s is None:
        return "an unknown time"
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
