"""
The decision: one pure, deterministic, total function of what was observed.

Existing pilots take jobs first (:mod:`factory.absorb`). For the jobs left over new pilots are asked for one by one,
each at the emptiest site that matches and that every cap lets have one (:mod:`factory.caps`), and what such a pilot has
left takes further jobs. So an idle job asks for one pilot, however many sites it matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from accounting.model import CancelIntent, PilotRecord
from factory.absorb import Vacancy, by_age, fits, matches, new_vacancy, running_cores, size, slots_by_pilot, supply
from factory.barren import barren, brakes, by_bucket, shut
from factory.brakes import exclusions
from factory.caps import Doors, breakers, room, rules_of
from factory.latecomers import Latecomers, Reserve, latecomers
from factory.model import (
    NONE_LATE,
    Absorbed,
    Brake,
    Decision,
    Granted,
    Late,
    Observation,
    Placed,
    Plan,
    Policy,
    Room,
    SubmitPilots,
)
from factory.openings import Openings
from factory.outages import cancels_before_outages
from factory.packing import Stock
from factory.shares import Turns
from factory.sites.contract import SiteSeen
from glidein.model import Offer, PilotId, PilotPhase
from overlay.model import Bucket, DemandSeen, DemandUnseen, MatchTable

_UNUSABLE = frozenset({"stopped", "paused", "site_unseen"})
"""Blocks that keep all pilots from a site, whatever pilots there are."""


def plan(observation: Observation, match_table: MatchTable, policy: Policy) -> Plan:
    """What to submit and what to cancel."""
    return decide(observation, match_table, policy).plan


def decide(observation: Observation, match_table: MatchTable, policy: Policy) -> Decision:
    """The plan with its steps, bucket by bucket."""
    states = breakers(observation, policy)
    room_now = room(observation, policy, states)
    stopped = () if room_now.frozen else _taken_back(observation, policy)
    vacancies = supply(observation, policy, frozenset(cancel.pilot_id for cancel in stopped))
    running = running_cores(observation.slots)
    held = brakes(observation, match_table, policy)
    late = latecomers(observation, policy)
    poured = _pour(_tallies(observation, held), vacancies, room_now, match_table, policy, running=running, late=late)
    gone = frozenset(cancel.pilot_id for cancel in stopped)
    surplus = _surplus(observation, vacancies, gone | poured.kept) if not room_now.frozen else ()
    decided = Plan(
        cycle=observation.cycle,
        submits=_counted(poured.order),
        cancels=tuple(sorted((*stopped, *_cancels_of_surplus(surplus, observation, policy)))),
        surplus=tuple(pilot.pilot_id for pilot in surplus),
        breakers=states,
        excludes=exclusions(observation, policy),
        frozen=room_now.frozen,
        order=tuple(offer.label for offer in poured.order),
        asked_for=tuple(poured.asked_for),
        barren=barren(observation),
        brakes=held,
    )
    return Decision(plan=decided, placed={key: told.placed() for key, told in poured.tallies.items()}, room=room_now)


@dataclass(slots=True)
class _Tally:
    """What became of one bucket so far."""

    bucket: Bucket
    brakes: tuple[Brake, ...] = ()
    absorbed: dict[str, tuple[int, int]] = field(default_factory=dict)
    rest: int = 0
    granted: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    unplaced: int = 0
    over: str = ""
    asked: int = 0
    late: dict[str, int] = field(default_factory=dict)
    covered: dict[str, int] = field(default_factory=dict)
    moved: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    stuck: int = 0

    def placed(self) -> Placed:
        """The same for good."""
        return Placed(
            bucket=self.bucket,
            absorbed=tuple(Absorbed(site=s, running=r, waiting=w) for s, (r, w) in sorted(self.absorbed.items()))
            if self.absorbed
            else (),
            rest=self.rest,
            granted=_granted(self.granted),
            unplaced=self.unplaced,
            over=self.over,
            asked=self.asked,
            brakes=self.brakes,
            late=Late(
                jobs=tuple(sorted(self.late.items())),
                covered=tuple(sorted(self.covered.items())),
                granted=_granted(self.moved),
                left=self.stuck,
            )
            if self.late
            else NONE_LATE,
        )

    def shut(self) -> frozenset[str]:
        """Sites that may get no more pilots on its behalf."""
        granted = (*self.granted.items(), *self.moved.items())
        return shut(self.brakes, ((site, count) for (site, _), (count, _) in granted))


def _granted(counts: Mapping[tuple[str, str], tuple[int, int]]) -> tuple[Granted, ...]:
    return tuple(
        Granted(site=site, shape=shape, count=count, jobs=jobs)
        for (site, shape), (count, jobs) in sorted(counts.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Behind:
    """Jobs of a bucket that were given to late pilots in one turn, at sites that were seen and at others."""

    tally: _Tally
    jobs: int
    unseen: int
    closed: frozenset[str]


@dataclass(slots=True)
class _Poured:
    """All buckets after one another."""

    tallies: dict[str, _Tally]
    order: list[Offer] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    behind: list[_Behind] = field(default_factory=list)
    kept: frozenset[PilotId] = frozenset()
    """Late pilots that are no surplus, though others may do without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """What jobs can be given to."""

    stock: Stock
    openings: Openings
    late: Latecomers
    slow: frozenset[str]
    """Sites where one of ours is late."""
    reserve: Reserve

    def fast(self, closed: frozenset[str]) -> frozenset[str]:
        """Sites that are not asked while there are others: those closed to the jobs, and those where ours are late."""
        return closed | self.slow if closed else self.slow


def _pour(
    tallies: dict[str, _Tally],
    vacancies: list[Vacancy],
    room_now: Room,
    table: MatchTable,
    policy: Policy,
    *,
    running: Mapping[str, int],
    late: Latecomers,
) -> _Poured:
    """
    Give all jobs to the pilots that there are, and ask for new ones for the rest; late pilots are made up for last.

    The order depends on the demand and the policy alone, so the next cycle pours the same jobs into the same pilots.
    """
    slow = [vacancy for vacancy in vacancies if vacancy.pilot_id in late.late and not vacancy.running]
    means = _Means(
        reserve=Reserve(slow, table, policy.lifetimes),
        stock=Stock(vacancies, table, policy.lifetimes),
        openings=Openings(room_now, table, policy),
        late=late,
        slow=frozenset(site.policy.name for site in room_now.sites if site.late),
    )
    doors = Doors(room_now)
    poured = _Poured(tallies=tallies)
    turns = Turns(
        (tally.bucket for tally in poured.tallies.values()), policy, running, quantum=_largest(room_now, table)
    )
    for turn in turns:
        tally = poured.tallies[turn.bucket.key]
        if turn.over:
            tally.rest += turn.jobs
            tally.unplaced += turn.jobs
            tally.over, tally.asked = turn.over, means.openings.asked
            continue
        failed = _serve(tally, turn.jobs, means, poured, closed=doors.closed_to(turn.bucket))
        turns.served(turn.bucket, turn.jobs - failed)
        if failed:
            left = turns.drop(turn.bucket)
            tally.rest += left
            tally.unplaced += left
    _make_up(means, poured)
    poured.kept = frozenset(means.reserve.kept)
    return poured


def _serve(tally: _Tally, jobs: int, means: _Means, poured: _Poured, *, closed: frozenset[str]) -> int:
    """Some jobs of a bucket: pilots that are there first, then new ones; how many nobody may have a pilot for."""
    left, to_wait, late, unseen = jobs, jobs, 0, 0
    for vacancy, taken in means.stock.absorb(tally.bucket, jobs, closed):
        left -= taken
        running, waiting = tally.absorbed.get(vacancy.site, (0, 0))
        if vacancy.running:
            to_wait -= taken
            tally.absorbed[vacancy.site] = running + taken, waiting
            continue
        tally.absorbed[vacancy.site] = running, waiting + taken
        if vacancy.pilot_id in means.late.late:
            late += taken
            tally.late[vacancy.site] = tally.late.get(vacancy.site, 0) + taken
        elif vacancy.pilot_id in means.late.unseen:
            unseen += taken
    means.reserve.pour(tally.bucket, to_wait, closed)
    if late or unseen:
        poured.behind.append(_Behind(tally=tally, jobs=late, unseen=unseen, closed=closed))
    tally.rest += left
    # Where one of ours is late others would be, too.
    failed = _ask(tally, left, means, poured, granted=tally.granted, closed=means.fast(closed))
    if means.slow:
        failed = _ask(tally, failed, means, poured, granted=tally.granted, closed=closed)
    tally.unplaced += failed
    return failed


def _make_up(means: _Means, poured: _Poured) -> None:
    """
    Find other pilots for jobs that were given to late ones: such as are on their way, or new ones where none is late.

    All jobs have been given a place before, as if nobody were late, so that late pilots change neither whose turn comes
    next nor what is asked for jobs without a pilot.
    """
    if not poured.behind:
        return
    means.stock.leave_out(means.late.all)
    for one in poured.behind:
        tally, left = one.tally, one.jobs
        for vacancy, taken in means.stock.absorb(tally.bucket, left, one.closed):
            left -= taken
            tally.covered[vacancy.site] = tally.covered.get(vacancy.site, 0) + taken
        tally.stuck += _ask(tally, left, means, poured, granted=tally.moved, closed=means.fast(one.closed))
    for one in poured.behind:
        # What was asked for in the place of a late pilot is no surplus once the late one's site is not seen.
        for _ in means.stock.absorb(one.tally.bucket, one.unseen, one.closed):
            pass


def _ask(
    tally: _Tally,
    jobs: int,
    means: _Means,
    poured: _Poured,
    *,
    granted: dict[tuple[str, str], tuple[int, int]],
    closed: frozenset[str],
) -> int:
    """New pilots for jobs of a bucket: how many jobs nobody may have one for."""
    while jobs > 0:
        asked = means.openings.ask(tally.bucket, jobs, closed | tally.shut() if tally.brakes else closed)
        if asked is None:
            break
        offer, vacancy = asked
        poured.order.append(offer)
        poured.asked_for.append(tally.bucket.key)
        taken = means.stock.add(vacancy, tally.bucket, jobs)
        jobs -= taken
        count, taken_before = granted.get((offer.site, offer.name), (0, 0))
        granted[offer.site, offer.name] = (count + 1, taken_before + taken)
    tally.asked = means.openings.asked
    return jobs


def _tallies(observation: Observation, held: tuple[Brake, ...]) -> dict[str, _Tally]:
    """One for each bucket, the largest jobs first."""
    brakes_of = by_bucket(held)
    return {
        bucket.key: _Tally(bucket, brakes_of.get(bucket.key, ())) for bucket in sorted(_buckets(observation), key=size)
    }


def _largest(room_now: Room, table: MatchTable) -> int:
    """
    Cores of the largest pilot that some job could get.

    A site that is not to be used, or that nothing matches, must not change the turns of all others; nor may what pilots
    there are, so caps and breakers do not count.
    """
    matched = 0
    for row in set(table.rows.values()):
        matched |= row
    return max(
        (
            shape.policy.offer.shape.cores
            for site in room_now.sites
            if site.block is None or site.block.code not in _UNUSABLE
            for shape in site.shapes
            if (column := table.columns.get(shape.policy.offer.key)) is not None and matched >> column & 1
        ),
        default=1,
    )


def _buckets(observation: Observation) -> list[Bucket]:
    """All idle jobs that were seen; an unseen access point adds nothing and freezes scale-down instead."""
    return [
        bucket
        for demand in observation.demands
        if not isinstance(demand, DemandUnseen)
        for bucket in demand.buckets
        if bucket.jobs > 0
    ]


def _counted(offers: Iterable[Offer]) -> tuple[SubmitPilots, ...]:
    """Pilots by site and shape, sorted."""
    counts = Counter((offer.site, offer.name) for offer in offers)
    return tuple(SubmitPilots(site=site, shape=shape, count=count) for (site, shape), count in sorted(counts.items()))


def jobs_per_pilot(bucket: Bucket, offer: Offer, table: MatchTable, policy: Policy) -> int:
    """How many of the bucket's jobs a fresh pilot of the offer takes; 0 when they do not go together."""
    vacancy = new_vacancy("", offer, policy)
    return fits(vacancy, bucket, policy.lifetimes) if matches(bucket, vacancy.slot_keys, table) else 0


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
    observation: Observation, vacancies: Iterable[Vacancy], spared: frozenset[PilotId]
) -> tuple[PilotRecord, ...]:
    """Waiting pilots that no idle job needs, newest first; nothing is surplus while some demand may be hidden."""
    if not observation.demands or not all(isinstance(demand, DemandSeen) for demand in observation.demands):
        return ()
    needed = {vacancy.pilot_id for vacancy in vacancies if vacancy.jobs > 0}
    stopped = _stops(observation)
    idle = [
        pilot
        for pilot in _may_cancel(observation)
        if pilot.pilot_id not in needed | spared and pilot.offer.site not in stopped
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
