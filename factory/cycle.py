"""One cycle: observe, reconcile, match, plan, commit, act, settle. The order is law 2: intent before effect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from accounting.ledger import Ledger
from accounting.model import PilotRecord
from config.names import cycle_id, pilot_id
from factory import journal
from factory.act import Render, cancel_waiting, forget_ended, prepare_sites, submit_intents
from factory.crash import Crash
from factory.model import Observation, Outcome, Plan, Policy, SiteOutcomes
from factory.observe import Looker, Pool, Sights
from factory.plan import plan as make_plan
from factory.reconcile import reconcile
from factory.sites.contract import NotSent, Refused, Site, SiteSeen, SiteUnseen, SubmitOutcome, Submitted, Uncertain
from glidein.model import PilotPhase
from overlay.model import DemandUnseen, MatchTable, SlotsUnseen

log = structlog.get_logger()


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
    journal_keep: int


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


def run_cycle(world: World, ledger: Ledger, looker: Looker, *, lease_holds: Callable[[], bool]) -> CycleSummary:
    """
    Do one whole cycle.

    ``lease_holds`` is asked again right before effects, because a process that was stopped may have lost its lease.

    :raises LedgerUnavailable: the ledger cannot be read or written; then nothing was sent.
    """
    now_s = world.clock()
    cycle = cycle_id(epoch_s=int(now_s), nonce=world.nonce())
    sights = look(world, ledger, looker)
    world.crash("observed")
    observation = record(world, ledger, sights, cycle=cycle, now_s=now_s)
    world.crash("recorded")
    decided = make_plan(observation, world.match(observation, world.policy), world.policy)
    problems = prepare_sites(world.sites, (submit.site for submit in decided.submits))
    intents = intents_of(decided, world, now_s=world.clock(), leave_out=frozenset(problems))
    commit(world, ledger, observation, decided, intents)
    world.crash("committed")
    outcomes: tuple[SubmitOutcome, ...] = ()
    cancelled = 0
    if lease_holds():
        outcomes = submit_intents(world.sites, intents, render=world.render, crash=world.crash)
        settle_submissions(ledger, outcomes, now_s=world.clock())
        world.crash("settled")
        cancels = cancel_waiting(world.sites, decided.cancels, observation.pilots)
        world.crash("cancelled")
        ledger.settle_cancels(tuple(pilot for outcome in cancels for pilot in outcome.sent), world.clock())
        cancelled = sum(len(outcome.sent) for outcome in cancels)
        forget_ended(world.sites, left_over_spools(ledger, sights))
        world.crash("forgotten")
    return summary(sights, observation, decided, outcomes, cancelled=cancelled, problems=problems)


def look(world: World, ledger: Ledger, looker: Looker) -> Sights:
    """Ask every site, the collector and every access point."""
    return looker.look(
        sites=world.sites,
        pool=world.pool,
        aps=world.aps,
        pilots=ledger.open_pilots(world.instance),
        clock=world.clock,
    )


def record(world: World, ledger: Ledger, sights: Sights, *, cycle: str, now_s: float) -> Observation:
    """Bring the ledger up to what was seen and give the observation that the decision is made from."""
    observation, updates, adopted = observe(world, ledger, sights, cycle=cycle, now_s=now_s)
    if adopted:
        log.warning("pilots.adopted", pilots=[pilot.pilot_id for pilot in adopted])
        ledger.adopt(adopted, now_s)
    ledger.record_observed(updates, now_s)
    for pilot in updates:
        if pilot.phase is PilotPhase.ENDED and pilot.end_reason is not None:
            log.info("pilot.ended", pilot_id=pilot.pilot_id, reason=pilot.end_reason.value, detail=pilot.detail)
    return replace(observation, outcomes=outcomes_of(ledger.outcomes(world.instance)))


def observe(
    world: World, ledger: Ledger, sights: Sights, *, cycle: str, now_s: float
) -> tuple[Observation, tuple[PilotRecord, ...], tuple[PilotRecord, ...]]:
    """The observation, the pilots whose record changed, and those to adopt; writes nothing."""
    known = ledger.open_pilots(world.instance)
    reconciled = reconcile(
        pilots=known,
        sights=sights.sites,
        slots=sights.slots,
        now_s=now_s,
        instance=world.instance,
        policy=world.policy,
    )
    before = {pilot.pilot_id: pilot for pilot in known}
    updates = tuple(pilot for pilot in reconciled.pilots if before.get(pilot.pilot_id) != pilot)
    living = (*reconciled.pilots, *reconciled.adopted)
    observation = Observation(
        cycle=cycle,
        now_s=now_s,
        sites=sights.sites,
        slots=sights.slots,
        demands=sights.demands,
        pilots=tuple(
            sorted((pilot for pilot in living if pilot.phase is not PilotPhase.ENDED), key=lambda pilot: pilot.pilot_id)
        ),
        outcomes=outcomes_of(ledger.outcomes(world.instance)),
        stops=ledger.stops(),
    )
    return observation, updates, reconciled.adopted


def outcomes_of(pilots: tuple[PilotRecord, ...]) -> tuple[SiteOutcomes, ...]:
    """The recent past of each site as the breaker reads it, oldest first."""
    by_site: dict[str, list[Outcome]] = defaultdict(list)
    for pilot in pilots:
        at_s = pilot.joined_s if pilot.ended_s is None else pilot.ended_s
        if at_s is None:
            continue
        ran_s = None if pilot.started_s is None or pilot.ended_s is None else pilot.ended_s - pilot.started_s
        by_site[pilot.offer.site].append(
            Outcome(
                at_s=at_s,
                pilot_id=pilot.pilot_id,
                joined=pilot.joined_s is not None,
                reason=pilot.end_reason,
                ran_s=ran_s,
                jobs=pilot.jobs,
                detail=pilot.detail,
            )
        )
    return tuple(
        SiteOutcomes(site=site, outcomes=tuple(sorted(of_site, key=lambda one: (one.at_s, one.pilot_id))))
        for site, of_site in sorted(by_site.items())
    )


def intents_of(decided: Plan, world: World, *, now_s: float, leave_out: frozenset[str]) -> tuple[PilotRecord, ...]:
    """One record for each pilot that the plan asks for, named and with its deadline, before anything is sent."""
    offers = {site.name: site.offer for site in world.policy.sites}
    wanted = [
        site for submit in decided.submits if submit.site not in leave_out for site in [submit.site] * submit.count
    ]
    numbers: dict[str, int] = defaultdict(int)
    intents = []
    for site in wanted:
        numbers[site] += 1
        intents.append(
            PilotRecord(
                pilot_id=pilot_id(instance=world.instance, site=site, cycle=decided.cycle, n=numbers[site]),
                offer=offers[site],
                cycle=decided.cycle,
                sent="intended",
                phase=PilotPhase.INTENDED,
                intended_s=int(now_s),
                submit_deadline_s=int(now_s) + world.submit_patience_s,
            )
        )
    return tuple(intents)


def commit(
    world: World, ledger: Ledger, observation: Observation, decided: Plan, intents: tuple[PilotRecord, ...]
) -> None:
    """Write intents, cancel intents and the journal entry in one transaction."""
    observed, planned = journal.observation_json(observation), journal.plan_json(decided)
    ledger.commit_plan(
        instance=world.instance,
        cycle=decided.cycle,
        intents=intents,
        cancels=decided.cancels,
        surplus=decided.surplus,
        now_s=world.clock(),
        observation_json=observed,
        plan_json=planned,
        digest=journal.digest(observed, planned),
        keep=world.journal_keep,
    )


def settle_submissions(ledger: Ledger, outcomes: tuple[SubmitOutcome, ...], *, now_s: float) -> None:
    """Write what became of the submissions."""
    ledger.settle_submits(tuple((one.pilot_id, one.kind, _answer_text(one)) for one in outcomes), now_s)


def _answer_text(outcome: SubmitOutcome) -> str:
    """The job id of a submission, or the reason why there is none."""
    return outcome.batch_id if isinstance(outcome, Submitted) else outcome.reason


def left_over_spools(ledger: Ledger, sights: Sights) -> dict[str, tuple[str, ...]]:
    """
    Spool directories at seen sites whose pilot the ledger knows to have ended.

    One that the ledger does not know at all is left alone: it may be another factory's, or ours from before a lost
    ledger, and its pilot may still wait.
    """
    return {
        sight.site: tuple(sorted(pilot for pilot in sight.spools if _has_ended(ledger, pilot)))
        for sight in sights.sites
        if isinstance(sight, SiteSeen)
    }


def _has_ended(ledger: Ledger, pilot: str) -> bool:
    """Whether the ledger holds this pilot as ended."""
    known = ledger.pilot(pilot)
    return known is not None and known.phase is PilotPhase.ENDED


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
