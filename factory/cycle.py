"""One cycle: observe, reconcile, match, plan, commit, act, settle. The order is law 2: intent before effect."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

import structlog

from accounting.ledger import Ledger
from accounting.model import JournalBounds, Lease, PilotRecord
from accounting.runtimes import Sort
from config.names import cycle_id, pilot_id, split_pilot_id
from factory.act import Render, cancel_waiting, forget_ended, prepare_sites, submit_intents
from factory.breaker import outcomes_of
from factory.crash import Crash
from factory.habits import with_usual_times
from factory.journal import packed
from factory.model import Observation, Plan, Policy, Reconciled
from factory.observe import Care, Looker, Pool, Sights
from factory.plan import plan as make_plan
from factory.reconcile import reconcile
from factory.sites.causes import cause_of
from factory.sites.contract import (
    CancelOutcome,
    FinalSeen,
    NotSent,
    Refused,
    Site,
    SiteSeen,
    SiteUnseen,
    SubmitOutcome,
    Submitted,
    Uncertain,
)
from factory.watch import CycleReport, Nobody, Steps, Watcher
from glidein.model import PilotPhase, label_site
from overlay.model import DemandUnseen, MatchTable, SlotsUnseen

log = structlog.get_logger()

UNACCOUNTED_MAX = 200
"""Ended pilots asked about in one cycle because sacct has not yet said what they cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a cycle works on and with; all that could differ between two runs is in here."""

    instance: str
    policy: Policy
    sites: Mapping[str, Site]
    """Configured sites, and those that were removed and still have pilots."""
    aps: tuple[str, ...]
    pool: Pool
    match: Callable[[Observation, Policy], MatchTable]
    render: Render
    clock: Callable[[], float]
    nonce: Callable[[], int]
    crash: Crash
    submit_patience_s: int
    """A submission takes effect this long after its intent at the latest."""
    journal: JournalBounds
    habits: Callable[[float], Mapping[Sort, int]] = field(default=lambda _now_s: {})
    """Usual run times of jobs as of a moment."""
    watcher: Watcher = field(default_factory=Nobody)


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSummary:
    """What a cycle did, for the canonical log line and for tests."""

    cycle: str
    sites_unseen: tuple[str, ...]
    aps_unseen: tuple[str, ...]
    slots_unseen: bool
    jobs_idle: int
    pilots_open: int
    submitted: int
    refused: int
    uncertain: int
    not_sent: int
    cancelled: int
    frozen: str
    problems: tuple[tuple[str, str], ...]
    """Sites where the bundle could not be put, with the reason."""


def run_cycle(world: World, ledger: Ledger, looker: Looker, *, lease: Callable[[], Lease | None]) -> CycleSummary:
    """
    Do one whole cycle.

    ``lease`` gives the lease if it still holds. It is asked at the commit, and again right before effects, because a
    process that was stopped meanwhile may have lost it.

    :raises LedgerUnavailable: the ledger cannot be read or written; then nothing was sent.
    :raises LeaseLost: another factory acts for this instance; then nothing was sent.
    """
    now_s = world.clock()
    steps = Steps(clock=time.monotonic)
    cycle = cycle_id(epoch_s=int(now_s), nonce=world.nonce())
    sights = look(world, ledger, looker)
    steps.done("look")
    world.crash("observed")
    observation, ended = record(world, ledger, sights, cycle=cycle, now_s=now_s)
    steps.done("record")
    world.crash("recorded")
    decided = make_plan(observation, world.match(observation, world.policy), world.policy)
    steps.done("decide")
    # Every seen site, not only those that get pilots now: the bundle's minutes must not be the first job's wait.
    problems = prepare_sites(world.sites, sorted(configured_and_seen(world, sights)))
    steps.done("prepare")
    intents = intents_of(decided, world, now_s=world.clock(), leave_out=frozenset(problems))
    commit(world, ledger, observation, decided, intents, lease=lease())
    steps.done("commit")
    world.crash("committed")
    outcomes: tuple[SubmitOutcome, ...] = ()
    cancels: tuple[CancelOutcome, ...] = ()
    if lease() is not None:
        outcomes = submit_intents(world.sites, intents, render=world.render, crash=world.crash)
        steps.done("submit")
        settle_submissions(ledger, outcomes, now_s=world.clock())
        hold_off_where_too_much(world, looker, outcomes)
        steps.done("settle")
        world.crash("settled")
        cancels = cancel_waiting(world.sites, decided.cancels, observation.pilots)
        world.crash("cancelled")
        ledger.settle_cancels(tuple(pilot for outcome in cancels for pilot in outcome.sent), world.clock())
        steps.done("cancel")
        forget_ended(world.sites, left_over_spools(ledger, sights))
        steps.done("forget")
        world.crash("forgotten")
    world.watcher.cycle_done(
        CycleReport(
            observation=observation,
            plan=decided,
            sites=tuple(site.name for site in world.policy.sites),
            site_of={pilot.pilot_id: pilot.offer.site for pilot in intents},
            submissions=outcomes,
            cancels=cancels,
            ended=ended,
            steps=steps.taken(),
        )
    )
    cancelled = sum(len(outcome.sent) for outcome in cancels)
    return summary(sights, observation, decided, outcomes, cancelled=cancelled, problems=problems)


def look(world: World, ledger: Ledger, looker: Looker) -> Sights:
    """Ask every site, the collector and every access point."""
    return looker.look(
        sites=world.sites,
        pool=world.pool,
        aps=world.aps,
        pilots=(*ledger.open_pilots(world.instance), *ledger.unaccounted(world.instance, limit=UNACCOUNTED_MAX)),
        clock=world.clock,
        care=Care(vanish=world.policy.vanish, patience=world.policy.patience, words=ledger.resume_words()),
    )


def record(
    world: World, ledger: Ledger, sights: Sights, *, cycle: str, now_s: float
) -> tuple[Observation, tuple[PilotRecord, ...]]:
    """Bring the ledger up to what was seen; the observation that the decision is made from, and what has ended."""
    known = ledger.open_pilots(world.instance)
    reconciled = reconcile(known, sights.sites, sights.slots, now_s=now_s, instance=world.instance, policy=world.policy)
    before = {pilot.pilot_id: pilot for pilot in known}
    updates = tuple(pilot for pilot in reconciled.pilots if before[pilot.pilot_id] != pilot)
    if reconciled.adopted:
        ledger.adopt(reconciled.adopted, now_s)
    ledger.record_observed((*updates, *accounted(ledger.unaccounted(world.instance), sights)), now_s)
    _log_changes(reconciled, updates, before)
    ended = tuple(pilot for pilot in updates if pilot.phase is PilotPhase.ENDED)
    return observation_of(world, ledger, sights, reconciled, cycle=cycle, now_s=now_s), ended


def observe(world: World, ledger: Ledger, sights: Sights, *, cycle: str, now_s: float) -> Observation:
    """The observation alone, for those who only want to know what would be decided; writes nothing."""
    known = ledger.open_pilots(world.instance)
    reconciled = reconcile(known, sights.sites, sights.slots, now_s=now_s, instance=world.instance, policy=world.policy)
    return observation_of(world, ledger, sights, reconciled, cycle=cycle, now_s=now_s)


def observation_of(
    world: World, ledger: Ledger, sights: Sights, reconciled: Reconciled, *, cycle: str, now_s: float
) -> Observation:
    """Everything that the decision is made from; reads the ledger, writes nothing."""
    return Observation(
        cycle=cycle,
        now_s=now_s,
        sites=sights.sites,
        slots=sights.slots,
        demands=with_usual_times(sights.demands, world.habits(now_s)),
        pilots=reconciled.open_pilots,
        outcomes=outcomes_of(ledger.outcomes(world.instance)),
        stops=ledger.stops(),
    )


def _log_changes(reconciled: Reconciled, updates: tuple[PilotRecord, ...], before: dict[str, PilotRecord]) -> None:
    """Events of what was seen."""
    for pilot in reconciled.adopted:
        log.warning("pilot.adopted", pilot_id=pilot.pilot_id, batch_id=pilot.batch_id)
    for alarm in reconciled.alarms:
        log.warning("pilots.alarm", problem=alarm)
    for pilot in updates:
        if pilot.joined_s is not None and before[pilot.pilot_id].joined_s is None:
            log.info("pilot.joined", pilot_id=pilot.pilot_id)
            for drift in reconciled.drift:
                if drift.pilot_id == pilot.pilot_id:
                    log.warning("slot.differs_from_offer", **asdict(drift))
        if pilot.phase is PilotPhase.ENDED and pilot.end_reason is not None:
            log.info("pilot.ended", pilot_id=pilot.pilot_id, reason=pilot.end_reason.value, detail=pilot.detail)


def accounted(waiting: tuple[PilotRecord, ...], sights: Sights) -> tuple[PilotRecord, ...]:
    """Ended pilots whose final record of the site's accounting has come by now."""
    final = {
        record.name: record
        for sight in sights.sites
        if isinstance(sight, SiteSeen) and isinstance(sight.final, FinalSeen)
        for record in sight.final.records
        if record.state.is_final and record.elapsed_s is not None
    }
    return tuple(replace(pilot, batch=final[pilot.pilot_id]) for pilot in waiting if pilot.pilot_id in final)


def configured_and_seen(world: World, sights: Sights) -> set[str]:
    """Sites that may get pilots and have just answered."""
    seen = {sight.site for sight in sights.sites if isinstance(sight, SiteSeen)}
    return seen & {site.name for site in world.policy.sites}


def intents_of(decided: Plan, world: World, *, now_s: float, leave_out: frozenset[str]) -> tuple[PilotRecord, ...]:
    """One record for each pilot that the plan asks for, named and with its deadline, before anything is sent."""
    offers = {entry.offer.label: entry.offer for site in world.policy.sites for entry in site.entries}
    # Numbered in the order of placing, so that the next cycle packs the same jobs into the same pilots.
    exclude = {one.site: one.nodes for one in decided.excludes}
    wanted = [
        (replace(offers[label], exclude=exclude.get(label_site(label), ())), bucket)
        for label, bucket in zip(decided.order, decided.asked_for, strict=True)
        if label_site(label) not in leave_out
    ]
    intents = []
    for n, (offer, bucket) in enumerate(wanted, start=1):
        intents.append(
            PilotRecord(
                pilot_id=pilot_id(instance=world.instance, site=offer.site, cycle=decided.cycle, n=n),
                offer=offer,
                cycle=decided.cycle,
                sent="intended",
                phase=PilotPhase.INTENDED,
                intended_s=int(now_s),
                submit_deadline_s=int(now_s) + world.submit_patience_s,
                asked_for=bucket,
            )
        )
    return tuple(intents)


def commit(
    world: World,
    ledger: Ledger,
    observation: Observation,
    decided: Plan,
    intents: tuple[PilotRecord, ...],
    *,
    lease: Lease | None,
) -> None:
    """Write intents, cancel intents and the journal entry in one transaction, which the lease guards."""
    ledger.commit_plan(
        instance=world.instance,
        cycle=decided.cycle,
        intents=intents,
        cancels=decided.cancels,
        surplus=decided.surplus,
        barren=decided.barren,
        now_s=world.clock(),
        packed=packed(observation, world.policy, decided),
        bounds=world.journal,
        lease=lease,
    )
    if intents:
        log.info("plan.committed", cycle=decided.cycle, pilots=[pilot.pilot_id for pilot in intents])


def settle_submissions(ledger: Ledger, outcomes: tuple[SubmitOutcome, ...], *, now_s: float) -> None:
    """Write what became of the submissions."""
    ledger.settle_submits(tuple((one.pilot_id, one.kind, _answer_text(one)) for one in outcomes), now_s)


def hold_off_where_too_much(world: World, looker: Looker, outcomes: tuple[SubmitOutcome, ...]) -> None:
    """Leave sites alone for a while whose scheduler answered a submission with "too much"."""
    told: dict[str, str] = {}
    for outcome in outcomes:
        parts = split_pilot_id(outcome.pilot_id)
        if parts is not None and not isinstance(outcome, Submitted) and cause_of(outcome.reason) == "overloaded":
            told[parts[1]] = outcome.reason
    for site, reason in sorted(told.items()):
        looker.hold_off(site, f"sbatch: {reason}", now_s=world.clock(), patience=world.policy.patience)


def _answer_text(outcome: SubmitOutcome) -> str:
    """The job id of a submission, or the reason why there is none."""
    return outcome.batch_id if isinstance(outcome, Submitted) else outcome.reason


def left_over_spools(ledger: Ledger, sights: Sights) -> dict[str, tuple[str, ...]]:
    """
    Spool directories at seen sites whose pilot the ledger knows to have ended.

    One that the ledger does not know at all is left alone: it may be another factory's, or ours from before a lost
    ledger, and its pilot may still wait.
    """
    there = {sight.site: sight.spools for sight in sights.sites if isinstance(sight, SiteSeen)}
    ended = ledger.ended_of(pilot for spools in there.values() for pilot in spools)
    return {site: tuple(sorted(ended & set(spools))) for site, spools in there.items()}


def summary(
    sights: Sights,
    observation: Observation,
    decided: Plan,
    outcomes: tuple[SubmitOutcome, ...],
    *,
    cancelled: int,
    problems: dict[str, str],
) -> CycleSummary:
    """The cycle in numbers."""
    return CycleSummary(
        cycle=decided.cycle,
        sites_unseen=tuple(sight.site for sight in sights.sites if isinstance(sight, SiteUnseen)),
        aps_unseen=tuple(demand.ap for demand in sights.demands if isinstance(demand, DemandUnseen)),
        slots_unseen=isinstance(sights.slots, SlotsUnseen),
        jobs_idle=sum(
            bucket.jobs
            for demand in sights.demands
            if not isinstance(demand, DemandUnseen)
            for bucket in demand.buckets
        ),
        pilots_open=len(observation.pilots),
        submitted=sum(isinstance(outcome, Submitted) for outcome in outcomes),
        refused=sum(isinstance(outcome, Refused) for outcome in outcomes),
        uncertain=sum(isinstance(outcome, Uncertain) for outcome in outcomes),
        not_sent=sum(isinstance(outcome, NotSent) for outcome in outcomes),
        cancelled=cancelled,
        frozen=decided.frozen,
        problems=tuple(sorted(problems.items())),
    )
