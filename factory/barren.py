"""
Pilots that join and then run nothing of what they were asked for: a site whose slots are not what its offer says.

The plan believes the offer, so it would ask for one such pilot after the other. So for each bucket and site the pilots
that were asked for are judged, and several in a row that ran nothing hold the site back for this bucket as the breaker
does for all: back-off, and one probe at a time. It is derived from the ledger's pilots and from what is seen now.

A pilot whose jobs others took meanwhile is no failure: only time beside idle jobs of its own bucket counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from accounting.model import PilotRecord
from factory.absorb import need_s, slots_by_pilot
from factory.breaker import breaker
from factory.model import Brake, BreakerState, Observation, Outcome, Policy, SiteOutcomes
from glidein.model import EndReason, Lifetimes, PilotId, PilotPhase
from overlay.model import Bucket, DemandSeen, DemandUnseen, MatchTable, Slot

_Word = Literal["success", "failure", "undecided", "neither"]


@dataclass(slots=True)
class _Tried:
    """The pilots of one bucket at one site."""

    told: list[Outcome] = field(default_factory=list)
    undecided: int = 0


def brakes(observation: Observation, table: MatchTable, policy: Policy) -> tuple[Brake, ...]:
    """The sites that are held back for some bucket, sorted."""
    slots = slots_by_pilot(observation.slots)
    buckets = _buckets(observation)
    patience_s = patience(policy.lifetimes)
    tried: dict[tuple[str, str], _Tried] = {}
    for site in observation.outcomes:
        for outcome in site.outcomes:
            if outcome.asked_for in buckets and outcome.reason is not None:
                one = tried.setdefault((outcome.asked_for, site.site), _Tried())
                _count(one, _judge_ended(outcome, patience_s), outcome.at_s, outcome.pilot_id)
    for pilot in observation.pilots:
        bucket = buckets.get(pilot.asked_for)
        if bucket is None or pilot.phase is PilotPhase.ENDED:
            continue
        one = tried.setdefault((bucket.key, pilot.offer.site), _Tried())
        word = _judge(pilot, slots.get(pilot.pilot_id), bucket, table, now_s=observation.now_s, policy=policy)
        _count(one, word, pilot.joined_s or pilot.intended_s, pilot.pilot_id)
    found = []
    for (bucket_key, site_name), one in tried.items():
        outcomes = SiteOutcomes(site=site_name, outcomes=tuple(one.told))
        state = breaker(outcomes, policy.breaker, observation.now_s)
        if state.failures:
            found.append(
                Brake(
                    bucket=bucket_key,
                    site=site_name,
                    mode=state.mode,
                    failures=state.failures,
                    retry_at_s=state.retry_at_s,
                    allowed=_allowed(state, one.undecided, policy),
                )
            )
    return tuple(sorted(found, key=lambda brake: (brake.bucket, brake.site)))


def barren(observation: Observation) -> tuple[PilotId, ...]:
    """
    Pilots in the pool that stand empty beside idle jobs of their own bucket, sorted.

    Where pool or queue was not seen, and once a pilot leaves, what was said of it before stays.
    """
    buckets = _buckets(observation)
    all_seen = bool(observation.demands) and all(isinstance(demand, DemandSeen) for demand in observation.demands)
    slots = slots_by_pilot(observation.slots)
    found = []
    for pilot in observation.pilots:
        if not pilot.asked_for or pilot.joined_s is None or pilot.phase is PilotPhase.ENDED:
            continue
        slot = slots.get(pilot.pilot_id)
        if _is_busy(pilot, slot) or (pilot.asked_for not in buckets and all_seen):
            continue
        stands_empty = slot is not None and slot.accepting and pilot.asked_for in buckets
        if stands_empty or pilot.barren_since_s is not None:
            found.append(pilot.pilot_id)
    return tuple(sorted(found))


def by_bucket(found: tuple[Brake, ...]) -> Mapping[str, tuple[Brake, ...]]:
    """The brakes of each bucket."""
    told: dict[str, tuple[Brake, ...]] = {}
    for brake in found:
        told[brake.bucket] = (*told.get(brake.bucket, ()), brake)
    return told


def shut(held: tuple[Brake, ...], granted: Iterable[tuple[str, int]]) -> frozenset[str]:
    """Sites that may get no more pilots on a bucket's behalf, given those granted to it by site."""
    if not held:
        return frozenset()
    new: Counter[str] = Counter()
    for site, count in granted:
        new[site] += count
    return frozenset(brake.site for brake in held if new[brake.site] >= brake.allowed)


def patience(lifetimes: Lifetimes) -> int:
    """Seconds of standing empty that count: a negotiator needs some, and a pilot leaves after its idle timeout."""
    return max(1, lifetimes.idle_timeout_s // 2)


def _buckets(observation: Observation) -> dict[str, Bucket]:
    return {
        bucket.key: bucket
        for demand in observation.demands
        if not isinstance(demand, DemandUnseen)
        for bucket in demand.buckets
        if bucket.jobs > 0
    }


def _is_busy(pilot: PilotRecord, slot: Slot | None) -> bool:
    return pilot.phase is PilotPhase.BUSY if slot is None else slot.busy_cores > 0


def _judge_ended(outcome: Outcome, patience_s: int) -> _Word:
    """An ended pilot; what its report does not tell is held against nobody."""
    if outcome.jobs:
        return "success"
    return "failure" if outcome.jobs == 0 and outcome.joined and outcome.barren_s >= patience_s else "neither"


def _judge(
    pilot: PilotRecord, slot: Slot | None, bucket: Bucket, table: MatchTable, *, now_s: float, policy: Policy
) -> _Word:
    """
    An open pilot.

    One whose own slot refuses the jobs, or is refused by them, need not be waited for. A slot with too little life left
    for the jobs is as it should be.
    """
    if _is_busy(pilot, slot):
        return "success"
    if pilot.joined_s is None:
        return "undecided"
    if slot is None or not slot.accepting:
        return "neither"
    if slot.to_die_s is not None and slot.to_die_s - now_s <= need_s(bucket, policy.lifetimes):
        return "neither"
    refuses = table.matches_key(bucket.key, f"pilot:{pilot.pilot_id}") is False
    if refuses and table.matches_key(bucket.key, pilot.offer.key):
        return "failure"
    since_s = pilot.barren_since_s
    waited = since_s is not None and now_s - since_s >= patience(policy.lifetimes)
    return "failure" if waited else "undecided"


def _count(tried: _Tried, word: _Word, at_s: int, pilot_id: PilotId) -> None:
    """Dated by its joining, while it lives and after: a failure must not grow younger when the pilot ends."""
    match word:
        case "success":
            tried.told.append(Outcome(at_s=at_s, pilot_id=pilot_id, joined=True, reason=None, ran_s=None, jobs=1))
        case "failure":
            reason = EndReason.FAILED
            tried.told.append(Outcome(at_s=at_s, pilot_id=pilot_id, joined=False, reason=reason, ran_s=None, jobs=0))
        case "undecided":
            tried.undecided += 1
        case "neither":
            pass


def _allowed(state: BreakerState, undecided: int, policy: Policy) -> int:
    """As many as the breaker would let through: half open one probe, closed the failures that are still missing."""
    match state.mode:
        case "open":
            return 0
        case "half_open":
            return 0 if undecided else 1
        case "closed":
            return max(0, policy.breaker.failures - state.failures - undecided)
