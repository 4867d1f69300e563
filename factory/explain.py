"""Why a job waits: the planner's own verdicts on the last recorded observation, for one job's bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from accounting.model import PilotRecord
from factory.journal import Recorded
from factory.model import NONE_LATE, Late, Observation, Policy, Verdict
from factory.plan import decide
from factory.verdict import verdicts_of
from glidein.model import PilotPhase
from overlay.model import Bucket, Demand, DemandAtLeast, DemandSeen, DemandUnseen, MatchTable

_RUNNING = frozenset({PilotPhase.IDLE, PilotPhase.BUSY})
_COMING = frozenset(set(PilotPhase) - {PilotPhase.ENDED, PilotPhase.ENDING} - _RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What becomes of an idle job, by the last recorded cycle; times are epoch seconds."""

    as_of_s: float
    """Until when the observation was known to hold."""
    bucket: Bucket
    """The job's bucket as the cycle counted it, or the job alone when it did not."""
    counted: bool
    """False: the cycle did not see this kind of job; the verdicts say what it would decide with this one job."""
    verdicts: tuple[Verdict, ...]
    """One for each configured site, sorted by site."""
    unplaced: int
    """Jobs of the kind that neither an existing nor a new pilot takes."""
    late: Late = NONE_LATE
    """What became of those whose pilots have waited too long to be counted on."""
    takers: tuple[PilotRecord, ...]
    """Open pilots of the sites where such jobs are taken or were granted pilots; the most certain first."""

    @property
    def runs_nowhere(self) -> bool:
        """Whether no configured site's pilots could ever run it."""
        return all(_never(verdict) for verdict in self.verdicts)


def explain(
    bucket: Bucket,
    last: Recorded,
    *,
    policy: Policy,
    pilots: Iterable[PilotRecord],
    match: Callable[[Observation, Policy], MatchTable],
) -> Explanation:
    """The verdicts on a bucket; ``pilots`` are the open ones by the ledger now."""
    observation = last.observation
    known = _bucket(observation, bucket.key)
    if known is None:
        observation = replace(observation, demands=_with(observation.demands, bucket))
    table = match(observation, policy)
    decision = decide(observation, table, policy)
    found = verdicts_of(decision, table, policy, bucket.key)
    running = {one.site for one in found if one.absorbed_running > 0}
    placed = decision.placed[bucket.key]
    coming = {one.site for one in found if one.absorbed_waiting + one.granted > 0}
    coming |= {site for site, _ in placed.late.covered}
    takers = [
        pilot
        for pilot in pilots
        if (pilot.phase in _RUNNING and pilot.offer.site in running)
        or (pilot.phase in _COMING and pilot.offer.site in coming)
    ]
    return Explanation(
        as_of_s=last.last_s,
        bucket=bucket if known is None else known,
        counted=known is not None,
        verdicts=found,
        unplaced=placed.unplaced,
        late=placed.late,
        takers=tuple(sorted(takers, key=_nearness)),
    )


def _never(verdict: Verdict) -> bool:
    """Whether the site's pilots cannot run the job at any time: not a cap, not a pause."""
    return any(reason.code in ("requirements", "too_large", "too_long") for reason in verdict.reasons)


def _nearness(pilot: PilotRecord) -> tuple[int, int, str]:
    """Running pilots first, then those that start, then those that wait; the oldest of each first."""
    order = {
        PilotPhase.IDLE: 0,
        PilotPhase.STARTING: 1,
        PilotPhase.BUSY: 2,
        PilotPhase.PENDING: 3,
        PilotPhase.INTENDED: 4,
        PilotPhase.UNCERTAIN: 4,
        PilotPhase.UNKNOWN: 5,
    }
    return order[pilot.phase], pilot.intended_s, pilot.pilot_id


def _bucket(observation: Observation, key: str) -> Bucket | None:
    """The bucket as the observation counted it."""
    for demand in observation.demands:
        if isinstance(demand, DemandUnseen):
            continue
        for bucket in demand.buckets:
            if bucket.key == key:
                return bucket
    return None


def _with(demands: tuple[Demand, ...], bucket: Bucket) -> tuple[Demand, ...]:
    """The demands with one more bucket; an AP that was not seen then has at least that."""
    changed: list[Demand] = []
    for demand in demands:
        if demand.ap != bucket.ap:
            changed.append(demand)
            continue
        match demand:
            case DemandSeen() | DemandAtLeast():
                changed.append(replace(demand, buckets=tuple(sorted((*demand.buckets, bucket)))))
            case DemandUnseen(reason=reason):
                changed.append(DemandAtLeast(ap=demand.ap, taken_s=demand.taken_s, buckets=(bucket,), reason=reason))
    if all(demand.ap != bucket.ap for demand in demands):
        moment_s = demands[0].taken_s if demands else 0.0
        changed.append(DemandAtLeast(ap=bucket.ap, taken_s=moment_s, buckets=(bucket,), reason="asked about"))
    return tuple(changed)
