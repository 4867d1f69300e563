"""Why pilots were or were not asked for: read from the planner's own steps, so that it cannot tell another story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from factory.absorb import need_s, new_life_s
from factory.caps import binding, denial, limit_words, room_after, utc
from factory.model import (
    Decision,
    Granted,
    Late,
    Observation,
    Placed,
    Policy,
    Reason,
    Room,
    ShapeRoom,
    SiteRoom,
    Verdict,
)
from factory.plan import decide, jobs_per_pilot
from glidein.model import Lifetimes, Offer
from glidein.start import slot_memory_mib
from overlay.model import Bucket, FailedClause, MatchTable


def verdicts(observation: Observation, match_table: MatchTable, policy: Policy, bucket_key: str) -> tuple[Verdict, ...]:
    """
    One verdict for each configured site, sorted by site.

    KeyError for a bucket that is not in the observation, which is the caller's bug.
    """
    return verdicts_of(decide(observation, match_table, policy), match_table, policy, bucket_key)


def verdicts_of(decision: Decision, match_table: MatchTable, policy: Policy, bucket_key: str) -> tuple[Verdict, ...]:
    """The same from a decision that is at hand."""
    placed = decision.placed[bucket_key]
    room = room_after(decision.room, decision.plan.order[: placed.asked])
    return tuple(_verdict(placed, site, room, match_table, policy) for site in room.sites)


def verdict_at(decision: Decision, match_table: MatchTable, policy: Policy, bucket_key: str, *, site: str) -> Verdict:
    """The verdict on one bucket at one site; KeyError for a bucket or site that was not decided about."""
    placed = decision.placed[bucket_key]
    room = room_after(decision.room, decision.plan.order[: placed.asked])
    for one in room.sites:
        if one.policy.name == site:
            return _verdict(placed, one, room, match_table, policy)
    raise KeyError(site)


def _verdict(placed: Placed, site: SiteRoom, room: Room, table: MatchTable, policy: Policy) -> Verdict:
    """What became of one bucket at one site."""
    name = site.policy.name
    bucket = placed.bucket
    here = {absorbed.site: absorbed for absorbed in placed.absorbed}.get(name)
    mine = [one for one in placed.new if one.site == name]
    granted = sum(one.count for one in mine)
    usable = [(shape, n) for shape in site.shapes if (n := jobs_per_pilot(bucket, shape.policy.offer, table, policy))]
    more = placed.rest + (0 if site.late else _not_covered(placed.late)) - sum(one.jobs for one in mine)
    wanted = granted - -more // max(n for _, n in usable) if usable else 0
    reasons = [] if usable else _misfits(bucket, site, table, policy)
    if placed.rest < bucket.jobs:
        reasons.append(_absorbed(placed))
    denied = "" if site.rules.closed else denial(bucket, site, room)
    if denied:
        text = f"the admin of site {name} keeps the job out: {denied}"
        reasons.append(Reason(code="denied", text=text, wanted=wanted, allowed=0, owner="site"))
    elif granted < wanted:
        shapes = tuple(shape for shape, _ in usable)
        reasons.extend(_held_back(placed, site, shapes, room, numbers=(wanted, granted)))
    reasons.extend(_late(placed.late, name, policy))
    return Verdict(
        bucket=bucket.key,
        site=name,
        absorbed_running=here.running if here else 0,
        absorbed_waiting=here.waiting if here else 0,
        wanted=wanted,
        granted=granted,
        reasons=tuple(reasons),
    )


def _misfits(bucket: Bucket, site: SiteRoom, table: MatchTable, policy: Policy) -> list[Reason]:
    """Why no pilot of the site can run the bucket's jobs, at any time."""
    return [reason for shape in site.shapes for reason in _misfit(bucket, shape.policy.offer, table, policy.lifetimes)]


def _misfit(bucket: Bucket, offer: Offer, table: MatchTable, lifetimes: Lifetimes) -> list[Reason]:
    """The same for one of the site's shapes."""
    reasons = []
    fits = table.matches_key(bucket.key, offer.key)
    if fits is None:
        text = f"the job was not compared with a pilot of site {offer.label}"
        reasons.append(Reason(code="requirements", text=text))
    elif not fits:
        match = table.get(bucket.key, offer.key)
        clauses = "; ".join(map(_clause_words, match.failed)) or "the match failed as a whole"
        owner = "job" if all(failed.owner == "job" for failed in match.failed) else "site"
        text = f"the job and a pilot of site {offer.label} do not accept each other: {clauses}"
        reasons.append(Reason(code="requirements", text=text, owner=owner, failed=match.failed))
    shape = offer.shape
    has_and_needs = (
        ("cores", shape.cores, max(1, bucket.cores)),
        ("memory_mib", slot_memory_mib(shape), bucket.memory_mib),
        ("disk_mib", shape.disk_mib, bucket.disk_mib),
        ("gpus", shape.gpus, bucket.gpus),
    )
    short = [f"{name} {needs}, a pilot has {has}" for name, has, needs in has_and_needs if needs > 0 and has < needs]
    if short:
        text = f"the job is too large for site {offer.label}: it asks for {'; '.join(short)}"
        reasons.append(Reason(code="too_large", text=text, owner="job"))
    if need_s(bucket, lifetimes) >= new_life_s(shape, lifetimes):
        declared = "the default" if bucket.runtime_s is None else "declared"
        runtime_s = need_s(bucket, lifetimes) - lifetimes.retire_margin_s
        text = (
            f"the job is too long for site {offer.label}: {runtime_s} s run time ({declared}) and "
            f"{lifetimes.retire_margin_s} s margin do not fit in the {new_life_s(shape, lifetimes)} s that a pilot "
            "is sure to work"
        )
        reasons.append(Reason(code="too_long", text=text, owner="job"))
    return reasons


def _clause_words(failed: FailedClause) -> str:
    """One failing clause with the values that it reads."""
    values = ", ".join(f"{name} {value}" for name, value in failed.values)
    return f"{failed.owner}'s {failed.text}" + (f" ({values})" if values else "")


def _absorbed(placed: Placed) -> Reason:
    """The jobs that need no new pilot."""
    running = sum(absorbed.running for absorbed in placed.absorbed)
    waiting = sum(absorbed.waiting for absorbed in placed.absorbed)
    where = ", ".join(f"{absorbed.site} {absorbed.running + absorbed.waiting}" for absorbed in placed.absorbed)
    text = (
        f"{running + waiting} of {placed.bucket.jobs} jobs will be taken by pilots that are there: "
        f"{running} by running ones, {waiting} by ones that start or wait ({where})"
    )
    return Reason(code="absorbed", text=text)


def _held_back(
    placed: Placed, site: SiteRoom, usable: tuple[ShapeRoom, ...], room: Room, *, numbers: tuple[int, int]
) -> list[Reason]:
    """Why a site that could run the jobs gets fewer pilots for them than it would need alone: wanted and granted."""
    wanted, granted = numbers
    reasons = []
    if room.frozen:
        text = f"nothing is asked for anywhere: {room.frozen}"
        reasons.append(Reason(code="slots_unseen", text=text, wanted=wanted, allowed=granted))
    if site.block is not None:
        reasons.append(replace(site.block, wanted=wanted, allowed=granted))
    if reasons:
        return reasons
    bound: dict[str, Reason] = {}
    for shape in usable:
        if shape.block is not None:
            bound.setdefault(shape.block.text, replace(shape.block, wanted=wanted, allowed=granted))
        for limit in binding(site, shape, room):
            text = f"capped from {wanted} to {granted} by {limit_words(limit, site, shape, room)}"
            owner = "site" if limit == "site_cap" else "factory"
            bound.setdefault(text, Reason(code=limit, text=text, wanted=wanted, allowed=granted, owner=owner))
    reasons.extend(bound.values())
    reasons.extend(_barren(placed, site, numbers))
    if placed.over:
        text = f"capped from {wanted} to {granted} by the shares: {placed.over}"
        reasons.append(Reason(code="share", text=text, wanted=wanted, allowed=granted))
    elsewhere = tuple(one for one in placed.new if one.site != site.policy.name)
    if elsewhere:
        text = f"the jobs get new pilots elsewhere: {_where(elsewhere)}"
        reasons.append(Reason(code="placed_elsewhere", text=text, wanted=wanted, allowed=granted))
    return reasons


def _where(granted: Iterable[Granted]) -> str:
    """New pilots by their offer."""
    counts: Counter[str] = Counter()
    for one in granted:
        counts[f"{one.site}{one.shape and '/' + one.shape}"] += one.count
    return ", ".join(f"{count} at {label}" for label, count in sorted(counts.items()))


def _not_covered(late: Late) -> int:
    """Jobs in whose late pilots' place new ones are wanted."""
    return late.left + sum(one.jobs for one in late.granted)


def _late(late: Late, site: str, policy: Policy) -> list[Reason]:
    """That the jobs' pilots at the site have waited too long, and who has been asked in their place."""
    here = dict(late.jobs).get(site, 0)
    if not here:
        return []
    total = sum(jobs for _, jobs in late.jobs)
    told = []
    if late.granted:
        told.append(f"new pilots are asked for in their place: {_where(late.granted)}")
    if late.covered:
        sites = ", ".join(name for name, _ in late.covered)
        told.append(f"pilots on their way at {sites} have room for {sum(jobs for _, jobs in late.covered)}")
    if late.left:
        told.append(f"no site where none of ours is late may be asked for {late.left}")
    others = f" ({total} at all sites)" if total > here else ""
    text = (
        f"{here} of these jobs count on pilots of site {site} that have waited longer than {policy.wait_noticed_s} s"
        f"{others}; {'; '.join(told)}"
    )
    return [Reason(code="late", text=text)]


def _barren(placed: Placed, site: SiteRoom, numbers: tuple[int, int]) -> list[Reason]:
    """That pilots of the site were asked for on these jobs' behalf, joined, and ran nothing."""
    wanted, granted = numbers
    held = next((brake for brake in placed.brakes if brake.site == site.policy.name), None)
    if held is None or granted < held.allowed:
        return []
    then = {
        "open": f"next probe at {utc(held.retry_at_s)}",
        "half_open": "one probe at a time until it runs one of them",
        "closed": "so only a few more are tried",
    }[held.mode]
    pilots = "the last pilot" if held.failures == 1 else f"the last {held.failures} pilots"
    text = (
        f"capped from {wanted} to {granted}: {pilots} that site {held.site} got for these jobs joined and ran nothing "
        f"while the jobs waited; {then}"
    )
    return [Reason(code="matches_nothing", text=text, wanted=wanted, allowed=granted)]
