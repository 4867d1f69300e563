"""Make a recorded decision again: by its own rules, or by others, and say what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from factory.errors import RecordUnreadable
from factory.journal import Recorded
from factory.model import BreakerState, Decision, Observation, Plan, Policy
from factory.plan import decide
from factory.sites.contract import FinalSeen, SiteSeen
from overlay.model import MatchTable

Matcher = Callable[[Observation, Policy], MatchTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucketed:
    """What becomes of one kind of jobs under two policies."""

    bucket: str
    first_job: str
    user: str
    jobs: int
    pilots_before: int
    pilots_after: int
    unplaced_before: int
    """Jobs that neither an existing nor a new pilot takes."""
    unplaced_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """One observation, decided by two policies."""

    before: Plan
    after: Plan
    pilots: tuple[tuple[str, int, int], ...]
    """Site (or site and shape), new pilots before and after; every one that has any, sorted."""
    buckets: tuple[Bucketed, ...]
    """Kinds of jobs of which something changes; those with most jobs first."""
    added: tuple[str, ...]
    """Sites that the observation does not know; taken for seen and empty."""


def policy_in_force(recorded: Recorded) -> Policy:
    """
    The rules that a cycle decided by.

    :raises RecordUnreadable: the record is of a version that did not keep them.
    """
    if recorded.policy is None:
        raise RecordUnreadable(
            what=f"the policy of cycle {recorded.plan.cycle}", problem="the version that wrote the record kept none"
        )
    return recorded.policy


def replay(recorded: Recorded, match: Matcher) -> tuple[str, ...]:
    """
    Decide the recorded cycle again with what this program's match and plan are; what differs, a line each.

    :raises RecordUnreadable: the record holds no policy.
    """
    policy = policy_in_force(recorded)
    return differences(recorded.plan, decided(recorded.observation, policy, match).plan)


def decided(observation: Observation, policy: Policy, match: Matcher) -> Decision:
    """The decision with its steps."""
    return decide(observation, match(observation, policy), policy)


def differences(before: Plan, after: Plan) -> tuple[str, ...]:
    """What is not the same in two plans; nothing for equal ones."""
    if before.order and not before.asked_for:
        # A record from before it was kept for whom each pilot is asked for.
        after = replace(after, asked_for=())
    if before == after:
        return ()
    lines = []
    if before.cycle != after.cycle:
        lines.append(f"cycle: {before.cycle}, now {after.cycle}")
    if before.frozen != after.frozen:
        lines.append(f"nothing asked for because: {before.frozen or '-'}, now {after.frozen or '-'}")
    old, new = pilots_of(before), pilots_of(after)
    lines += [
        f"{site}: {old.get(site, 0)} new pilots, now {new.get(site, 0)}"
        for site in sorted(old.keys() | new.keys())
        if old.get(site, 0) != new.get(site, 0)
    ]
    if old == new and (before.order, before.submits) != (after.order, after.submits):
        lines.append("the order of the new pilots differs")
    lines += _set_lines(
        "cancel",
        {one.pilot_id: one.reason for one in before.cancels},
        {one.pilot_id: one.reason for one in after.cancels},
    )
    lines += _set_lines("surplus", dict.fromkeys(before.surplus, ""), dict.fromkeys(after.surplus, ""))
    lines += _breaker_lines(before.breakers, after.breakers)
    return tuple(lines) or ("the plans differ in something that this version does not name",)


def pilots_of(plan: Plan) -> dict[str, int]:
    """New pilots by site, or by site and shape where a site has several."""
    return dict(Counter(plan.order))


def _set_lines(what: str, before: dict[str, str], after: dict[str, str]) -> Iterable[str]:
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"{what} {name}: not any more"
        elif name not in before:
            yield f"{what} {name}: new" + (f" ({after[name]})" if after[name] else "")
        elif before[name] != after[name]:
            yield f"{what} {name}: {before[name]}, now {after[name]}"


def _breaker_lines(before: Iterable[BreakerState], after: Iterable[BreakerState]) -> Iterable[str]:
    old, new = {one.site: one for one in before}, {one.site: one for one in after}
    for site in sorted(old.keys() | new.keys()):
        if old.get(site) != new.get(site):
            words = [
                f"{one.mode} after {one.failures} failures" if one else "none" for one in (old.get(site), new.get(site))
            ]
            yield f"breaker of {site}: {words[0]}, now {words[1]}"


def what_if(observation: Observation, before: Policy, after: Policy, match: Matcher) -> WhatIf:
    """The same observation under two policies; a site that it does not know is taken for seen, and empty."""
    known = {sight.site for sight in observation.sites}
    added = tuple(sorted(site.name for site in after.sites if site.name not in known))
    old = decided(observation, before, match)
    new = decided(_with_sites(observation, added), after, match)
    pilots_before, pilots_after = pilots_of(old.plan), pilots_of(new.plan)
    return WhatIf(
        before=old.plan,
        after=new.plan,
        pilots=tuple(
            (name, pilots_before.get(name, 0), pilots_after.get(name, 0))
            for name in sorted(pilots_before.keys() | pilots_after.keys())
        ),
        buckets=_changed(old, new),
        added=added,
    )


def _with_sites(observation: Observation, names: Iterable[str]) -> Observation:
    """The observation with further sites, at which nothing is."""
    fresh = [
        SiteSeen(site=name, taken_s=observation.now_s, live=(), final=FinalSeen(records=()), reports=())
        for name in names
    ]
    return replace(observation, sites=tuple(sorted((*observation.sites, *fresh), key=lambda sight: sight.site)))


def _changed(old: Decision, new: Decision) -> tuple[Bucketed, ...]:
    """Kinds of jobs that get other pilots, or of which fewer or more stay without."""
    changed = []
    for key, before in old.placed.items():
        after = new.placed[key]
        if before.new == after.new and before.unplaced == after.unplaced:
            continue
        bucket = before.bucket
        changed.append(
            Bucketed(
                bucket=key,
                first_job=f"{bucket.ap}#{bucket.first_job}",
                user=bucket.user,
                jobs=bucket.jobs,
                pilots_before=sum(one.count for one in before.new),
                pilots_after=sum(one.count for one in after.new),
                unplaced_before=before.unplaced,
                unplaced_after=after.unplaced,
            )
        )
    return tuple(sorted(changed, key=lambda one: (-one.jobs, one.bucket)))
