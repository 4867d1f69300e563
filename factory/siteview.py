"""One site in one recorded cycle: what was seen of it, what limited it, and what became of each kind of jobs there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from factory.caps import breakers, room
from factory.journal import Recorded
from factory.model import BreakerState, Decision, Observation, Plan, Policy, Reason, SiteRoom, Verdict
from factory.replay import Matcher, decided, pilots_of, policy_in_force
from factory.sites.contract import SiteSight
from factory.verdict import verdict_at
from glidein.model import PilotPhase
from overlay.model import Bucket, MatchTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Kinds of jobs of which the same became at the site."""

    outcome: str
    """``granted``, ``absorbed``, ``never`` (its pilots cannot run them), or the code of what held back most."""
    kinds: int
    jobs: int
    wanted: int
    """Pilots that they would need here alone, one kind by itself."""
    granted: int
    absorbed: int
    """Jobs for pilots of the site that are there."""
    example: Bucket
    """The kind with most jobs."""
    reasons: tuple[Reason, ...]
    """Why the example gets no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """The decision of one cycle for one site."""

    site: str
    sight: SiteSight | None
    """None: the cycle did not look at it."""
    room: SiteRoom | None
    """What the caps allowed at the beginning; None: it was not configured then."""
    pilots_open: int
    """At all sites."""
    policy: Policy
    breaker: BreakerState | None
    phases: tuple[tuple[PilotPhase, int], ...]
    submits: tuple[tuple[str, int], ...]
    """New pilots, by the label of their offer."""
    cancels: tuple[tuple[str, str], ...]
    """Pilots to be cancelled, with the reason."""
    frozen: str
    kinds: tuple[Kinds, ...]
    """Most jobs first."""
    identical: bool
    """Whether the recorded plan is the one that this program makes; else the kinds are what it would do."""


def site_view(recorded: Recorded, site: str, match: Matcher) -> SiteView:
    """
    The decision of a recorded cycle for a site, which it looked at or had configured.

    :raises RecordUnreadable: the record holds no policy.
    """
    policy, observation, plan = policy_in_force(recorded), recorded.observation, recorded.plan
    table = match(observation, policy)
    # The same table serves the decision and its reasons.
    decision = decided(observation, policy, lambda _observation, _policy: table)
    here = [pilot for pilot in observation.pilots if pilot.offer.site == site]
    all_rooms = room(observation, policy, breakers(observation, policy))
    mine = next((one for one in all_rooms.sites if one.policy.name == site), None)
    names = {pilot.pilot_id for pilot in here}
    return SiteView(
        site=site,
        sight=next((sight for sight in observation.sites if sight.site == site), None),
        room=mine,
        pilots_open=all_rooms.open,
        policy=policy,
        breaker=next((one for one in plan.breakers if one.site == site), None),
        phases=tuple((phase, count) for phase in PilotPhase if (count := sum(pilot.phase is phase for pilot in here))),
        submits=_submits(plan, site),
        cancels=tuple((one.pilot_id, one.reason) for one in plan.cancels if one.pilot_id in names),
        frozen=plan.frozen,
        kinds=() if mine is None else _kinds(decision, table, policy, site),
        identical=decision.plan == plan,
    )


def sites_of(observation: Observation, policy: Policy) -> tuple[str, ...]:
    """Sites of which a cycle can say something."""
    return tuple(sorted({sight.site for sight in observation.sites} | {site.name for site in policy.sites}))


def _submits(plan: Plan, site: str) -> tuple[tuple[str, int], ...]:
    return tuple((name, count) for name, count in sorted(pilots_of(plan).items()) if name.partition("/")[0] == site)


def _kinds(decision: Decision, table: MatchTable, policy: Policy, site: str) -> tuple[Kinds, ...]:
    """The buckets by what became of them; those that never match are told apart by bits, without a look at why."""
    offers = table.bits_of(key for key in table.columns if key == f"offer:{site}" or key.startswith(f"offer:{site}/"))
    groups: dict[str, list[tuple[Bucket, Verdict | None]]] = defaultdict(list)
    for key, placed in decision.placed.items():
        absorbed = any(one.site == site for one in placed.absorbed)
        if not absorbed and not table.rows.get(key, 0) & offers:
            groups["never"].append((placed.bucket, None))
            continue
        verdict = verdict_at(decision, table, policy, key, site=site)
        groups[_outcome(verdict)].append((placed.bucket, verdict))
    told = []
    for outcome, members in groups.items():
        members.sort(key=lambda pair: (-pair[0].jobs, pair[0].key))
        example, known = members[0]
        shown = known or verdict_at(decision, table, policy, example.key, site=site)
        told.append(
            Kinds(
                outcome=outcome,
                kinds=len(members),
                jobs=sum(bucket.jobs for bucket, _ in members),
                wanted=sum(one.wanted for _, one in members if one is not None),
                granted=sum(one.granted for _, one in members if one is not None),
                absorbed=sum(one.absorbed_running + one.absorbed_waiting for _, one in members if one is not None),
                example=example,
                reasons=tuple(reason for reason in shown.reasons if reason.code != "absorbed"),
            )
        )
    return tuple(sorted(told, key=lambda one: (-one.jobs, one.outcome)))


def _outcome(verdict: Verdict) -> str:
    """One word for what became of a kind at the site."""
    held = [reason for reason in verdict.reasons if reason.code != "absorbed"]
    if any(reason.code in ("requirements", "too_large", "too_long") for reason in held):
        return "never"
    if held and verdict.granted < verdict.wanted:
        return held[0].code
    if verdict.granted:
        return "granted"
    if verdict.absorbed_running + verdict.absorbed_waiting:
        return "absorbed"
    return held[0].code if held else "elsewhere"
