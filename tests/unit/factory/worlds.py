"""Plain worlds for the core's tests: one place for what a test does not care about."""

from __future__ import annotations

from dataclasses import replace

from accounting.model import PilotRecord
from config.names import pilot_id
from factory.model import BreakerPolicy, Observation, Outcome, Policy, SiteOutcomes, SitePolicy
from factory.sites.contract import FinalSeen, FinalUnseen, SiteSeen
from glidein.model import BatchRecord, BatchState, EndReason, EndReport, Lifetimes, Offer, PilotPhase, Shape
from overlay.model import Bucket, Demand, DemandSeen, Match, MatchTable, Slot, Slots, SlotsSeen
from tests.tables import table_of

NOW_S = 1_800_000_000
OLD_CYCLE = "6b49d100abcd"
SHAPE = Shape(cores=4, memory_mib=8192, disk_mib=10_000, walltime_s=7200)
LIFETIMES = Lifetimes(join_timeout_s=300, idle_timeout_s=600, default_job_runtime_s=1200)
BREAKER = BreakerPolicy(failures=3, fizzle_s=60, backoff_s=300, backoff_max_s=1000)


def name(site: str, n: int) -> str:
    return pilot_id(instance="tow", site=site, cycle=OLD_CYCLE, n=n)


def offer(site: str, shape: Shape = SHAPE) -> Offer:
    return Offer(site=site, shape=shape, account="dx1", partition="main")


def policy(*sites: SitePolicy, max_pilots: int = 100, max_submits: int = 50) -> Policy:
    return Policy(
        sites=sites,
        max_pilots=max_pilots,
        max_submits_per_cycle=max_submits,
        lifetimes=LIFETIMES,
        breaker=BREAKER,
        surplus_after_s=300,
        ads_max_age_s=300,
    )


def site_policy(site: str, *, max_pilots: int = 10, max_pending: int = 10, shape: Shape = SHAPE) -> SitePolicy:
    return SitePolicy(offer=offer(site, shape), max_pilots=max_pilots, max_pending=max_pending)


def seen(
    site: str,
    *live: BatchRecord,
    final: tuple[BatchRecord, ...] | None = (),
    reports: tuple[EndReport, ...] = (),
    taken_s: float = NOW_S,
) -> SiteSeen:
    told = FinalUnseen(reason="sacct: slurmdbd is down") if final is None else FinalSeen(records=final)
    return SiteSeen(site=site, taken_s=taken_s, live=live, final=told, reports=reports)


def bucket(key: str = "ap1/a", *, jobs: int = 1, cores: int = 1, **more: object) -> Bucket:
    fields: dict[str, object] = {
        "key": key,
        "ap": "ap1",
        "user": "ada@pool",
        "group": "dx1",
        "jobs": jobs,
        "first_job": "12.0",
        "cores": cores,
        "memory_mib": 1000,
        "disk_mib": 10,
        "ad_text": "",
    }
    return Bucket(**{**fields, **more})  # type: ignore[arg-type]


def demand(*buckets: Bucket, ap: str = "ap1") -> Demand:
    return DemandSeen(ap=ap, taken_s=NOW_S, buckets=buckets, running=0)


def record(site: str, n: int, phase: PilotPhase, **more: object) -> PilotRecord:
    base = PilotRecord(
        pilot_id=name(site, n),
        offer=offer(site),
        cycle=OLD_CYCLE,
        sent="submitted",
        phase=phase,
        intended_s=NOW_S - 600,
        submit_deadline_s=NOW_S - 540,
        submitted_s=NOW_S - 598,
        batch_id=str(8000 + n),
    )
    return replace(base, **more)  # type: ignore[arg-type]


def slot(pilot: PilotRecord, *, busy_cores: int = 0, **more: object) -> Slot:
    shape = pilot.offer.shape
    base = Slot(
        pilot_id=pilot.pilot_id,
        site=pilot.offer.site,
        name=f"slot1@{pilot.pilot_id}",
        cores=shape.cores,
        memory_mib=shape.memory_mib - 128,
        disk_mib=shape.disk_mib,
        busy_cores=busy_cores,
        busy_memory_mib=busy_cores * 1000,
        busy_disk_mib=0,
        running_jobs=busy_cores,
        to_die_s=NOW_S + 5000,
        started_s=NOW_S - 500,
        accepting=True,
        ad_text="",
    )
    return replace(base, **more)  # type: ignore[arg-type]


def slots(*found: Slot) -> Slots:
    return SlotsSeen(taken_s=NOW_S, slots=found)


def observation(
    *, sites: tuple[str, ...] = ("alpha", "beta"), demands: tuple[Demand, ...] = (), **more: object
) -> Observation:
    base = Observation(
        cycle="6b49d200abcd",
        now_s=NOW_S,
        sites=tuple(seen(site) for site in sites),
        slots=slots(),
        demands=demands,
        pilots=(),
    )
    return replace(base, **more)  # type: ignore[arg-type]


def table(observed: Observation, **no: Match) -> MatchTable:
    """Everything matches, except at the offers of the sites named."""
    keys = [f"offer:{sight.site}" for sight in observed.sites]
    if isinstance(observed.slots, SlotsSeen):
        keys += [f"pilot:{found.pilot_id}" for found in observed.slots.slots]
    buckets = [b for d in observed.demands for b in getattr(d, "buckets", ())]
    yes = Match(matches=True)
    return table_of({(b.key, key): no.get(key.removeprefix("offer:"), yes) for b in buckets for key in keys})


def batch(site: str, n: int, state: BatchState, **more: object) -> BatchRecord:
    base = BatchRecord(name=name(site, n), job_id=str(8000 + n), state=state, raw_state=state.name)
    return replace(base, **more)  # type: ignore[arg-type]


def report(site: str, n: int, reason: EndReason = EndReason.IDLE, **more: object) -> EndReport:
    base = EndReport(
        pilot_id=name(site, n),
        reason=reason,
        exit_code=0,
        start_s=NOW_S - 500,
        joined_s=NOW_S - 480,
        end_s=NOW_S - 20,
        node="n1",
        cores=4,
        memory_mib=8192,
        jobs=3,
    )
    return replace(base, **more)  # type: ignore[arg-type]


def outcome(at_s: int, reason: EndReason | None, *, joined: bool = False, **more: object) -> Outcome:
    base = Outcome(at_s=at_s, pilot_id=name("alpha", at_s % 1000), joined=joined, reason=reason, ran_s=None, jobs=None)
    return replace(base, **more)  # type: ignore[arg-type]


def outcomes(*told: Outcome) -> SiteOutcomes:
    return SiteOutcomes(site="alpha", outcomes=told)
