"""
The decision: one pure, deterministic, total function of what was observed.

Existing pilots take jobs first (:mod:`factory.absorb`). For the jobs left over new pilots are asked for one by one,
each at the emptiest site that matches and that every cap lets have one (:mod:`factory.caps`), and what such a pilot has
left takes further jobs. So an idle job asks for one pilot, however many sites it matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

from accounting.model import CancelIntent, PilotRecord
from factory.absorb import Vacancy, absorb, by_age, fits, matches, new_vacancy, size, slots_by_pilot, supply
from factory.caps import allowance, breakers, closed_to, room, rules_of, take
from factory.model import (
    Absorbed,
    Decision,
    Observation,
    Placed,
    Plan,
    Policy,
    Room,
    SitePolicy,
    SubmitPilots,
)
from factory.outages import cancels_before_outages
from factory.sites.contract import SiteSeen
from glidein.model import Lifetimes, PilotPhase
from overlay.model import Bucket, DemandSeen, DemandUnseen, MatchTable


def plan(observation: Observation, match_table: MatchTable, policy: Policy) -> Plan:
    """What to submit and what to cancel."""
    return decide(observation, match_table, policy).plan


def decide(observation: Observation, match_table: MatchTable, policy: Policy) -> Decision:
    """The plan with its steps, bucket by bucket."""
    states = breakers(observation, policy)
    room_now = room(observation, policy, states)
    stopped = () if room_now.frozen else _taken_back(observation, policy)
    vacancies = supply(observation, policy, frozenset(cancel.pilot_id for cancel in stopped))
    existing = tuple(vacancies)
    order: list[str] = []
    placed: dict[str, Placed] = {}
    for bucket in sorted(_buckets(observation), key=size):
        closed = closed_to(bucket, room_now)
        given = absorb(bucket, bucket.jobs, vacancies, match_table, policy.lifetimes, closed=closed)
        rest = bucket.jobs - sum(running + waiting for running, waiting in given.values())
        new, room_now, unplaced = _place(bucket, rest, match_table, room_now, policy.lifetimes, closed=closed)
        vacancies.extend(new)
        order.extend(vacancy.site for vacancy in new)
        placed[bucket.key] = Placed(
            bucket=bucket,
            absorbed=tuple(Absorbed(site=s, running=r, waiting=w) for s, (r, w) in sorted(given.items())),
            rest=rest,
            granted=_counted(vacancy.site for vacancy in new) if new else (),
            unplaced=unplaced,
            room=room_now,
        )
    gone = frozenset(cancel.pilot_id for cancel in stopped)
    surplus = _surplus(observation, existing, gone) if not room_now.frozen else ()
    decided = Plan(
        cycle=observation.cycle,
        submits=_counted(order),
        cancels=tuple(sorted((*stopped, *_cancels_of_surplus(surplus, observation, policy)))),
        surplus=tuple(pilot.pilot_id for pilot in surplus),
        breakers=states,
        frozen=room_now.frozen,
        order=tuple(order),
    )
    return Decision(plan=decided, placed=placed)


def _buckets(observation: Observation) -> list[Bucket]:
    """All idle jobs that were seen; an unseen access point adds nothing and freezes scale-down instead."""
    return [
        bucket
        for demand in observation.demands
        if not isinstance(demand, DemandUnseen)
        for bucket in demand.buckets
        if bucket.jobs > 0
    ]


def _counted(sites: Iterable[str]) -> tuple[SubmitPilots, ...]:
    """Pilots by site, sorted."""
    return tuple(SubmitPilots(site=site, count=count) for site, count in sorted(Counter(sites).items()))


def _place(
    bucket: Bucket,
    rest: int,
    table: MatchTable,
    room_now: Room,
    lifetimes: Lifetimes,
    *,
    closed: frozenset[str],
) -> tuple[list[Vacancy], Room, int]:
    """New pilots for the rest of a bucket, one by one; the room they leave, and the jobs that stay without."""
    new: list[Vacancy] = []
    if rest <= 0:
        return new, room_now, 0
    able = frozenset(
        site.policy.name
        for site in room_now.sites
        if site.block is None
        and site.policy.name not in closed
        and jobs_per_pilot(bucket, site.policy, table, lifetimes) > 0
    )
    while rest > 0:
        site = _emptiest(able, room_now)
        if site is None:
            break
        vacancy = new_vacancy(f"new-{room_now.new}", site.name, site.offer.shape, lifetimes)
        taken = min(rest, fits(vacancy, bucket, lifetimes))
        vacancy.take(bucket, taken)
        new.append(vacancy)
        rest -= taken
        room_now = take(room_now, site.name)
    return new, room_now, rest


def jobs_per_pilot(bucket: Bucket, site: SitePolicy, table: MatchTable, lifetimes: Lifetimes) -> int:
    """How many of the bucket's jobs a fresh pilot of the site runs at a time; 0 when they do not go together."""
    vacancy = new_vacancy("", site.name, site.offer.shape, lifetimes)
    return fits(vacancy, bucket, lifetimes) if matches(bucket, vacancy.slot_keys, table) else 0


def _emptiest(able: frozenset[str], room_now: Room) -> SitePolicy | None:
    """Of the sites that may still get a pilot the one with the fewest of what it may have; ties by name."""
    open_to_us = [site for site in room_now.sites if site.policy.name in able and allowance(site, room_now) > 0]
    if not open_to_us:
        return None
    chosen = min(open_to_us, key=lambda s: (Fraction(s.open + s.new, s.policy.max_pilots), s.policy.name))
    return chosen.policy


def _may_cancel(observation: Observation) -> list[PilotRecord]:
    """Pilots that still wait at a site that was seen, by everything that is known, and are not being cancelled."""
    seen = {sight.site for sight in observation.sites if isinstance(sight, SiteSeen)}
    joined = slots_by_pilot(observation.slots)
    return [
        pilot
        for pilot in observation.pilots
        if pilot.phase is PilotPhase.PENDING
        and pilot.offer.site in seen
        and pilot.cancel_intended_s is None
        and pilot.started_s is None
        and pilot.joined_s is None
        and pilot.pilot_id not in joined
    ]


def _cancels_of_stopped_sites(observation: Observation) -> tuple[CancelIntent, ...]:
    """An operator's stop, or the site's own, takes the waiting pilots back at once, whatever is seen of the queues."""
    stops = _stops(observation)
    return tuple(
        CancelIntent(pilot_id=pilot.pilot_id, reason=stops[pilot.offer.site])
        for pilot in _may_cancel(observation)
        if pilot.offer.site in stops
    )


def _taken_back(observation: Observation, policy: Policy) -> tuple[CancelIntent, ...]:
    """Waiting pilots of stopped sites, and those that would run into an outage of which the scheduler does not know."""
    stopped = _cancels_of_stopped_sites(observation)
    named = {cancel.pilot_id for cancel in stopped}
    waiting = [pilot for pilot in _may_cancel(observation) if pilot.pilot_id not in named]
    return (*stopped, *_cancels_of_requeued(observation), *cancels_before_outages(observation, policy, waiting))


def _cancels_of_requeued(observation: Observation) -> tuple[CancelIntent, ...]:
    """What the site has put back into its queue: its second run would only leave, and a held one would stay."""
    seen = {sight.site for sight in observation.sites if isinstance(sight, SiteSeen)}
    return tuple(
        CancelIntent(pilot_id=pilot.pilot_id, reason="the site requeued it after it had started; its token is spent")
        for pilot in observation.pilots
        if pilot.requeued and pilot.offer.site in seen and pilot.cancel_intended_s is None
    )


def _stops(observation: Observation) -> dict[str, str]:
    """
    Sites at which nothing may wait, with the reason.

    A file of the site's admin that cannot be read is not his word: what waits may stay.
    """
    paused = {
        sight.site: f"site {sight.site}: {sight.rules.closed}"
        for sight in observation.sites
        if rules_of(sight).paused and isinstance(sight, SiteSeen)
    }
    return paused | {
        stop.site: f"site {stop.site} was stopped by {stop.by}: {stop.reason}" for stop in observation.stops
    }


def _surplus(
    observation: Observation, vacancies: Iterable[Vacancy], taken_back: frozenset[str]
) -> tuple[PilotRecord, ...]:
    """Waiting pilots that no idle job needs, newest first; nothing is surplus while some demand may be hidden."""
    if not observation.demands or not all(isinstance(demand, DemandSeen) for demand in observation.demands):
        return ()
    needed = {vacancy.pilot_id for vacancy in vacancies if vacancy.jobs > 0}
    stopped = _stops(observation)
    idle = [
        pilot
        for pilot in _may_cancel(observation)
        if pilot.pilot_id not in needed | taken_back and pilot.offer.site not in stopped
    ]
    return tuple(sorted(idle, key=by_age, reverse=True))


def _cancels_of_surplus(
    surplus: Iterable[PilotRecord], observation: Observation, policy: Policy
) -> tuple[CancelIntent, ...]:
    """Those of the surplus that have been so for long enough."""
    return tuple(
        CancelIntent(
            pilot_id=pilot.pilot_id,
            reason=f"waits at the site, and no idle job has needed it for {policy.surplus_after_s} s",
        )
        for pilot in surplus
        if pilot.surplus_since_s is not None and observation.now_s - pilot.surplus_since_s >= policy.surplus_after_s
    )
