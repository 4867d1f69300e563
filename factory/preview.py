"""What the next cycle would do: the same looks, match and plan, and neither a commit nor an effect."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from accounting.ledger import Ledger
from accounting.model import CancelIntent, JournalBounds, PilotRecord
from config.model import Config
from factory.crash import never
from factory.cycle import World, look, observe
from factory.habits import Habits
from factory.matching import match_observation
from factory.model import Decision, Observation, Plan, Policy, Reason, Verdict
from factory.observe import Looker, Sights
from factory.plan import decide
from factory.policy import policy_of
from factory.sites.contract import Site, SiteUnseen
from factory.verdict import verdicts_of
from factory.wiring import clocks_of, make_pool, make_site
from overlay.model import Bucket, DemandUnseen, MatchTable, SlotsUnseen

EXPLAINED_BUCKETS = 500
"""Kinds of jobs whose reasons are collected, those with most jobs first; the plan itself is of all."""

_NEVER = frozenset({"requirements", "too_large", "too_long"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePreview:
    """What one site would be asked, and what keeps it from more."""

    site: str
    seen: bool
    submits: int
    cancels: tuple[CancelIntent, ...]
    jobs_running: int
    """Idle jobs that pilots in the pool will take."""
    jobs_waiting: int
    """Idle jobs that pilots on their way will take."""
    jobs_unfit: int
    """Idle jobs that its pilots can never run."""
    unfit: Bucket | None
    """The kind of them with most jobs, for 'aerotow why'."""
    reasons: tuple[Reason, ...]
    """Why it gets no more, one for each kind of limit; misfits of single jobs are for 'aerotow why'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One cycle without effects."""

    observation: Observation
    plan: Plan
    sites: tuple[SitePreview, ...]
    unseen: tuple[tuple[str, str], ...]
    """Sites, access points and collector that could not be looked at, with the reason."""
    nowhere: tuple[Bucket, ...]
    """Kinds of jobs that no configured site can ever run."""
    explained: int
    """Kinds of jobs that the reasons are from."""
    kinds: int


def preview(config: Config, ledger: Ledger) -> Preview:
    """
    Look at everything now and plan.

    The connections to the sites are its own, so that a factory that runs beside it keeps its own.
    """
    policy = policy_of(config)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aerotow-")))
        sites = _sites(config, directory, stack)
        world = _world(config, policy, sites, ledger)
        looker = Looker(patience_s=clocks_of(config).patience_s)
        stack.callback(looker.close)
        sights = look(world, ledger, looker)
        observation = observe(world, ledger, sights, cycle="preview", now_s=time.time())
    return preview_of(observation, sights, policy=policy, table=match_observation(observation, policy))


def preview_of(observation: Observation, sights: Sights, *, policy: Policy, table: MatchTable) -> Preview:
    """The plan of an observation with its reasons by site."""
    decision = decide(observation, table, policy)
    buckets = sorted(
        (placed.bucket for placed in decision.placed.values()), key=lambda bucket: (-bucket.jobs, bucket.key)
    )
    explained = buckets[:EXPLAINED_BUCKETS]
    told = {bucket.key: verdicts_of(decision, table, policy, bucket.key) for bucket in explained}
    return Preview(
        observation=observation,
        plan=decision.plan,
        sites=_by_site(decision, told, observation, policy),
        unseen=_unseen(sights),
        nowhere=tuple(bucket for bucket in explained if policy.sites and all(map(_is_unfit, told[bucket.key]))),
        explained=len(explained),
        kinds=len(buckets),
    )


def _by_site(
    decision: Decision, told: Mapping[str, tuple[Verdict, ...]], observation: Observation, policy: Policy
) -> tuple[SitePreview, ...]:
    """One preview for each configured site, sorted."""
    running: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    unfit: Counter[str] = Counter()
    unfit_kind: dict[str, Bucket] = {}
    reasons: dict[str, dict[str, Reason]] = defaultdict(dict)
    for key, verdicts in told.items():
        for verdict in verdicts:
            running[verdict.site] += verdict.absorbed_running
            waiting[verdict.site] += verdict.absorbed_waiting
            if _is_unfit(verdict):
                unfit[verdict.site] += decision.placed[key].bucket.jobs
                # Buckets come with most jobs first.
                unfit_kind.setdefault(verdict.site, decision.placed[key].bucket)
                continue
            for reason in verdict.reasons:
                if reason.code != "absorbed":
                    _keep_widest(reasons[verdict.site], reason)
    submits: Counter[str] = Counter()
    for submit in decision.plan.submits:
        submits[submit.site] += submit.count
    site_of = {pilot.pilot_id: pilot.offer.site for pilot in observation.pilots}
    unseen = {sight.site for sight in observation.sites if isinstance(sight, SiteUnseen)}
    return tuple(
        SitePreview(
            site=site.name,
            seen=site.name not in unseen,
            submits=submits[site.name],
            cancels=tuple(one for one in decision.plan.cancels if site_of.get(one.pilot_id) == site.name),
            jobs_running=running[site.name],
            jobs_waiting=waiting[site.name],
            jobs_unfit=unfit[site.name],
            unfit=unfit_kind.get(site.name),
            reasons=tuple(sorted(reasons[site.name].values())),
        )
        for site in sorted(policy.sites, key=lambda site: site.name)
    )


def _keep_widest(reasons: dict[str, Reason], reason: Reason) -> None:
    """Of the reasons of one kind keep the one that held back most."""
    before = reasons.get(reason.code)
    if before is None or _held_back(reason) > _held_back(before):
        reasons[reason.code] = reason


def _held_back(reason: Reason) -> int:
    """Pilots that a reason kept from being asked for."""
    return (reason.wanted or 0) - (reason.allowed or 0)


def _is_unfit(verdict: Verdict) -> bool:
    """Whether the site can never run the jobs."""
    return any(reason.code in _NEVER for reason in verdict.reasons)


def _unseen(sights: Sights) -> tuple[tuple[str, str], ...]:
    """What could not be looked at."""
    unseen = [(sight.site, sight.reason) for sight in sights.sites if isinstance(sight, SiteUnseen)]
    unseen += [(demand.ap, demand.reason) for demand in sights.demands if isinstance(demand, DemandUnseen)]
    if isinstance(sights.slots, SlotsUnseen):
        unseen.append(("collector", sights.slots.reason))
    return tuple(unseen)


def _sites(config: Config, directory: Path, stack: ExitStack) -> dict[str, Site]:
    """Adapters of the configured sites with sockets in a directory of their own, closed at the end."""
    instance = config.instance.model_copy(update={"state_dir": directory})
    private = config.model_copy(update={"instance": instance})
    sites = {}
    for name, site in sorted(config.sites.items()):
        sites[name] = make_site(name, site, private)
        stack.callback(sites[name].close)
    return sites


def _world(config: Config, policy: Policy, sites: Mapping[str, Site], ledger: Ledger) -> World:
    """A world that can be looked at and in which nothing can be done."""

    def render(_pilot: PilotRecord) -> tuple[tuple[str, bytes], ...]:
        raise AssertionError("a preview submits nothing")

    return World(
        instance=config.instance.name,
        policy=policy,
        sites=sites,
        aps=tuple(sorted(config.access_points)),
        pool=make_pool(config),
        match=match_observation,
        render=render,
        clock=time.time,
        nonce=lambda: 0,
        crash=never,
        submit_patience_s=0,
        journal=JournalBounds(entries=1, size_bytes=0),
        habits=Habits(ledger.usual_run_times),
    )
