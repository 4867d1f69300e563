"""Small worlds for the planner: few sites, pilots and buckets, but every kind of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from accounting.model import PilotRecord, SiteStop
from config.names import pilot_id
from factory.model import (
    BreakerPolicy,
    Observation,
    Outcome,
    Plan,
    Policy,
    ShapePolicy,
    SiteOutcomes,
    SitePolicy,
    VoShare,
)
from factory.sites.contract import FinalSeen, SiteSeen, SiteSight, SiteUnseen
from glidein.model import EndReason, Lifetimes, Offer, PilotPhase, Shape
from overlay.model import (
    Bucket,
    Demand,
    DemandAtLeast,
    DemandSeen,
    DemandUnseen,
    FailedClause,
    Match,
    MatchTable,
    Slot,
    Slots,
    SlotsSeen,
    SlotsUnseen,
)
from tests.tables import pairs_of, table_of

T = TypeVar("T")
NOW_S = 1_800_000_000
CYCLE = "6b49d200abcd"
SITES = ("alpha", "beta", "gamma")
REMOVED_SITE = "omega"
DEMAND_KINDS = ("seen",) * 5 + ("at_least", "unseen")
OPEN_PHASES = tuple(phase for phase in PilotPhase if phase is not PilotPhase.ENDED)
LIFETIMES = Lifetimes(join_timeout_s=300, idle_timeout_s=600, default_job_runtime_s=1200)
NO = Match(matches=False, failed=(FailedClause(owner="job", text="TARGET.Wanted", values=(("Wanted", "false"),)),))
YES = Match(matches=True)


@dataclass(frozen=True, kw_only=True)
class World:
    """All that the planner is given."""

    observation: Observation
    table: MatchTable
    policy: Policy


def record(*, site: str, n: int, offer: Offer, phase: PilotPhase, **more: object) -> PilotRecord:
    """A pilot of an earlier cycle."""
    fields: dict[str, object] = {
        "pilot_id": pilot_id(instance="tow", site=site, cycle="6b49d100abcd", n=n),
        "offer": offer,
        "cycle": "6b49d100abcd",
        "sent": "submitted",
        "phase": phase,
        "intended_s": NOW_S - 600,
        "submit_deadline_s": NOW_S - 540,
    }
    return PilotRecord(**{**fields, **more})  # type: ignore[arg-type]


shapes = st.builds(
    Shape,
    cores=st.sampled_from((1, 2, 4, 8)),
    memory_mib=st.sampled_from((1000, 4000, 16000)),
    disk_mib=st.sampled_from((1000, 20000)),
    gpus=st.sampled_from((0, 0, 1)),
    walltime_s=st.sampled_from((7200, 7200, 3600, 1000)),
)


def offers(site: str) -> st.SearchStrategy[Offer]:
    return st.builds(Offer, site=st.just(site), shape=shapes, account=st.just("dx1"), partition=st.just("main"))


@st.composite
def site_policies(draw: st.DrawFn, site: str) -> SitePolicy:
    first = draw(offers(site))
    shapes: tuple[ShapePolicy, ...] = ()
    if draw(st.sampled_from((False, False, True))):
        shapes = tuple(
            ShapePolicy(offer=replace(offer, name=name), max_pilots=draw(st.sampled_from((None, None, 2, 0))))
            for name, offer in (("large", first), ("small", draw(offers(site))))
        )
        first = shapes[0].offer
    return SitePolicy(
        offer=first,
        max_pilots=draw(st.sampled_from((8, 8, 4, 4, 3, 0))),
        max_pending=draw(st.sampled_from((6, 6, 4, 3, 1, 0))),
        shapes=shapes,
        weight=draw(st.sampled_from((1, 1, 3))),
    )


SHARES = (
    (),
    (),
    (VoShare(vo="astro", weight=2.0), VoShare(vo="bio", guaranteed_cores=4)),
    (VoShare(vo="astro", maximum_cores=5),),
)
PROJECT_VOS = (("bio1", ("bio",)), ("dx1", ("astro",)), ("dx2", ("astro",)))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    names = draw(st.sampled_from((SITES, SITES[:2], SITES[1:], SITES[:1])))
    return Policy(
        sites=tuple(draw(site_policies(site)) for site in sorted(names)),
        project_vos=PROJECT_VOS,
        shares=draw(st.sampled_from(SHARES)),
        placement=draw(st.sampled_from(("spread", "spread", "fill", "weights"))),
        drain_target_s=draw(st.sampled_from((0, 0, 300, 1800))),
        ramp_percent=draw(st.sampled_from((100, 100, 50))),
        max_pilots=draw(st.sampled_from((40, 40, 40, 12, 6, 0))),
        max_submits_per_cycle=draw(st.sampled_from((20, 20, 20, 5, 2, 0))),
        lifetimes=LIFETIMES,
        breaker=BreakerPolicy(
            failures=draw(st.sampled_from((5, 2, 1))), fizzle_s=60, backoff_s=300, backoff_max_s=3600
        ),
        surplus_after_s=300,
        ads_max_age_s=300,
    )


@st.composite
def buckets(draw: st.DrawFn, ap: str, n: int) -> Bucket:
    return Bucket(
        key=f"{ap}/{n}",
        ap=ap,
        user="ada@pool",
        group=draw(st.sampled_from(("dx1", "dx1", "dx2", "bio1", ""))),
        jobs=draw(st.sampled_from((1, 3, 7, 12, 0))),
        first_job=f"{n}.0",
        cores=draw(st.sampled_from((1, 1, 1, 2, 2, 3, 4, 9))),
        memory_mib=draw(st.sampled_from((300, 300, 900, 900, 2000, 5000, 0, 17000))),
        disk_mib=draw(st.sampled_from((100, 100, 100, 400, 0, 2000))),
        gpus=draw(st.sampled_from((0, 0, 0, 0, 0, 1))),
        runtime_s=draw(st.sampled_from((None, 60, 60, 600, 600, 3000, 9000))),
        usual_s=draw(st.sampled_from((None, None, 30, 500))),
        ad_text="",
    )


@st.composite
def demands(draw: st.DrawFn, ap: str, kinds: tuple[str, ...] = DEMAND_KINDS) -> Demand:
    kind = draw(st.sampled_from(kinds))
    if kind == "unseen":
        return DemandUnseen(ap=ap, taken_s=NOW_S, reason="no answer in 25 s")
    found = tuple(draw(buckets(ap, n)) for n in range(draw(st.sampled_from((2, 3, 1, 0)))))
    if kind == "at_least":
        return DemandAtLeast(ap=ap, taken_s=NOW_S, buckets=found, reason="more than 10000 ads")
    return DemandSeen(ap=ap, taken_s=NOW_S, buckets=found, running=0)


@st.composite
def pilots(draw: st.DrawFn, site: str, n: int, offer: Offer) -> PilotRecord:
    phase = draw(st.sampled_from(OPEN_PHASES))
    joined = phase in (PilotPhase.IDLE, PilotPhase.BUSY, PilotPhase.ENDING)
    started = joined or phase is PilotPhase.STARTING or (phase is PilotPhase.UNKNOWN and draw(st.booleans()))
    uncertain = phase in (PilotPhase.INTENDED, PilotPhase.UNCERTAIN)
    return record(
        site=site,
        n=n,
        offer=offer,
        phase=phase,
        sent="uncertain" if uncertain else "submitted",
        intended_s=NOW_S - draw(st.integers(0, 5)) * 200,
        started_s=NOW_S - 400 if started else None,
        joined_s=NOW_S - 350 if joined else None,
        slot_seen_s=NOW_S - draw(st.sampled_from((60, 299, 301))) if joined else None,
        surplus_since_s=draw(st.none() | st.sampled_from((NOW_S - 60, NOW_S - 900))),
        cancel_intended_s=draw(st.sampled_from((None, None, NOW_S - 30))),
    )


@st.composite
def slots_of(draw: st.DrawFn, pilot: PilotRecord) -> Slot:
    shape = pilot.offer.shape
    busy = draw(st.integers(0, shape.cores))
    return Slot(
        pilot_id=pilot.pilot_id,
        site=pilot.offer.site,
        name=f"slot1@{pilot.pilot_id}",
        cores=shape.cores,
        memory_mib=shape.memory_mib,
        disk_mib=shape.disk_mib,
        busy_cores=busy,
        busy_memory_mib=draw(st.integers(0, shape.memory_mib)) if busy else 0,
        busy_disk_mib=0,
        running_jobs=busy,
        to_die_s=draw(st.none() | st.sampled_from((NOW_S - 5, NOW_S + 600, NOW_S + 5000))),
        started_s=NOW_S - 390,
        accepting=draw(st.sampled_from((True, True, False))),
        ad_text="",
    )


@st.composite
def outcomes(draw: st.DrawFn, site: str) -> SiteOutcomes:
    drawn = []
    for n in range(draw(st.sampled_from((1, 3, 6)))):
        joined = draw(st.booleans())
        drawn.append(
            Outcome(
                at_s=NOW_S - draw(st.integers(0, 2000)),
                pilot_id=pilot_id(instance="tow", site=site, cycle="6b49d000abcd", n=n),
                joined=joined,
                reason=draw(st.sampled_from(EndReason) if not joined else st.none() | st.sampled_from(EndReason)),
                ran_s=draw(st.none() | st.integers(0, 200)),
                jobs=draw(st.none() | st.integers(0, 2)) if joined else None,
            )
        )
    return SiteOutcomes(site=site, outcomes=tuple(drawn))


@st.composite
def sights(draw: st.DrawFn, site: str) -> SiteSight:
    if draw(st.sampled_from((True, True, True, False))):
        return SiteSeen(site=site, taken_s=NOW_S, live=(), final=FinalSeen(records=()), reports=())
    return SiteUnseen(site=site, taken_s=NOW_S, reason="squeue gave no answer in 30 s")


@st.composite
def worlds(draw: st.DrawFn, demand_kinds: tuple[str, ...] = DEMAND_KINDS) -> World:
    """Any world; most have some room and some demand, so that something is decided."""
    policy = draw(policies())
    configured = {site.name: tuple(entry.offer for entry in site.entries) for site in policy.sites}
    offer_of = {site: configured.get(site) or (draw(offers(site)),) for site in (*configured, REMOVED_SITE)}
    found = tuple(
        draw(pilots(site, n, draw(st.sampled_from(offer_of[site]))))
        for site in offer_of
        for n in range(draw(st.sampled_from((0, 1, 2))))
    )
    joined = [p for p in found if p.phase in (PilotPhase.IDLE, PilotPhase.BUSY, PilotPhase.ENDING)]
    slots: Slots = SlotsSeen(
        taken_s=NOW_S, slots=tuple(draw(slots_of(pilot)) for pilot in joined if draw(st.booleans()))
    )
    if draw(st.sampled_from((False,) * 15 + (True,))):
        slots = SlotsUnseen(taken_s=NOW_S, reason="no answer in 25 s")
    stopped = draw(st.sampled_from(((), (), (), SITES[:1], (SITES[1], REMOVED_SITE))))
    observation = Observation(
        cycle=CYCLE,
        now_s=NOW_S,
        sites=tuple(draw(sights(site)) for site in offer_of),
        slots=slots,
        demands=tuple(draw(demands(ap, demand_kinds)) for ap in ("ap1", "ap2")),
        pilots=found,
        outcomes=tuple(draw(outcomes(site)) for site in configured if draw(st.sampled_from((False, False, True)))),
        stops=tuple(SiteStop(site=site, since_s=NOW_S - 50, by="ada", reason="power work") for site in stopped),
    )
    return World(observation=observation, table=draw(tables(observation, policy)), policy=policy)


@st.composite
def tables(draw: st.DrawFn, observation: Observation, policy: Policy) -> MatchTable:
    """A match table that speaks of every configured or former site, and of every slot."""
    keys = sorted(
        {f"offer:{site}" for site in SITES} | {entry.offer.key for site in policy.sites for entry in site.entries}
    )
    if isinstance(observation.slots, SlotsSeen):
        keys += [f"pilot:{slot.pilot_id}" for slot in observation.slots.slots]
    found = {
        (bucket.key, key): draw(st.sampled_from((YES, YES, YES, NO)))
        for demand in observation.demands
        if not isinstance(demand, DemandUnseen)
        for bucket in demand.buckets
        for key in keys
    }
    return table_of(found)


def shuffled(world: World, random: Random) -> World:
    """The same world told in another order."""

    def mixed(items: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(random.sample(items, len(items)))

    seen = world.observation
    slots = replace(seen.slots, slots=mixed(seen.slots.slots)) if isinstance(seen.slots, SlotsSeen) else seen.slots
    return World(
        observation=replace(
            seen,
            sites=mixed(seen.sites),
            slots=slots,
            demands=mixed(
                tuple(d if isinstance(d, DemandUnseen) else replace(d, buckets=mixed(d.buckets)) for d in seen.demands)
            ),
            pilots=mixed(seen.pilots),
            outcomes=mixed(tuple(replace(site, outcomes=mixed(site.outcomes)) for site in seen.outcomes)),
            stops=mixed(seen.stops),
        ),
        table=table_of(dict(mixed(tuple(pairs_of(world.table).items())))),
        policy=replace(world.policy, sites=mixed(world.policy.sites)),
    )


def with_intents(world: World, decided: Plan) -> World:
    """The world after the plan's pilots were written down and nothing else happened."""
    offers_of = {entry.offer.label: entry.offer for site in world.policy.sites for entry in site.entries}
    intents = tuple(
        PilotRecord(
            pilot_id=pilot_id(instance="tow", site=offers_of[label].site, cycle=decided.cycle, n=n),
            offer=offers_of[label],
            cycle=decided.cycle,
            sent="intended",
            phase=PilotPhase.INTENDED,
            intended_s=int(world.observation.now_s),
            submit_deadline_s=int(world.observation.now_s) + 60,
            asked_for=bucket,
        )
        for n, (label, bucket) in enumerate(zip(decided.order, decided.asked_for, strict=True), start=1)
    )
    return replace(world, observation=replace(world.observation, pilots=world.observation.pilots + intents))


def crowded_world(seed: int) -> World:
    """
    A world in which everything is seen and much is wanted: different buckets fight for few pilots at every site.

    Made by plain random numbers: hypothesis favours small worlds, and packing goes wrong in large ones.
    """
    rng = Random(seed)
    memory_mib = rng.choice((2500, 4500, 16_000))

    def offer(site: str) -> Offer:
        shape = Shape(
            cores=rng.choice((2, 3, 4)), memory_mib=memory_mib, disk_mib=9000, gpus=rng.choice((0, 1)), walltime_s=7200
        )
        return Offer(site=site, shape=shape, account="dx1", partition="main")

    def site_policy(site: str) -> SitePolicy:
        shapes: tuple[ShapePolicy, ...] = ()
        if rng.random() < 0.4:
            shapes = tuple(
                ShapePolicy(offer=replace(offer(site), name=name), max_pilots=rng.choice((None, 1, 3)))
                for name in ("large", "small")
            )
        return SitePolicy(
            offer=shapes[0].offer if shapes else offer(site),
            max_pilots=rng.randint(1, 9),
            max_pending=rng.randint(1, 7),
            shapes=shapes,
            weight=rng.choice((1, 2)),
        )

    sites = tuple(site_policy(site) for site in SITES)
    phases = (PilotPhase.PENDING, PilotPhase.INTENDED, PilotPhase.UNKNOWN, PilotPhase.STARTING, PilotPhase.ENDING)
    found = tuple(
        record(
            site=site.name,
            n=n,
            offer=rng.choice(site.entries).offer,
            phase=rng.choice(phases),
            intended_s=NOW_S - rng.randint(0, 3),
        )
        for site in sites
        for n in range(rng.randint(0, 2))
    )
    demand_of = tuple(
        DemandSeen(
            ap=ap,
            taken_s=NOW_S,
            running=0,
            buckets=tuple(
                Bucket(
                    key=f"{ap}/{n}",
                    ap=ap,
                    user="ada@pool",
                    group=rng.choice(("dx1", "dx1", "dx2", "bio1")),
                    jobs=rng.randint(1, 6),
                    first_job=f"{n}.0",
                    cores=rng.randint(1, 3),
                    memory_mib=rng.choice((100, 1000, 2000)),
                    disk_mib=1,
                    gpus=rng.choice((0, 0, 0, 0, 1)),
                    runtime_s=rng.choice((None, 60)),
                    ad_text="",
                )
                for n in range(rng.randint(1, 4))
            ),
        )
        for ap in ("ap1", "ap2")
    )
    keys = [entry.offer.key for site in sites for entry in site.entries]
    return World(
        observation=Observation(
            cycle=CYCLE,
            now_s=NOW_S,
            sites=tuple(
                SiteSeen(site=site.name, taken_s=NOW_S, live=(), final=FinalSeen(records=()), reports=())
                for site in sites
            ),
            slots=SlotsSeen(taken_s=NOW_S, slots=()),
            demands=demand_of,
            pilots=found,
        ),
        table=table_of(
            {(b.key, key): rng.choice((YES, YES, NO)) for d in demand_of for b in d.buckets for key in keys}
        ),
        policy=Policy(
            sites=sites,
            max_pilots=rng.choice((4, 9, 40, 40)),
            max_submits_per_cycle=rng.choice((2, 5, 50, 50)),
            lifetimes=LIFETIMES,
            breaker=BreakerPolicy(failures=rng.choice((1, 3, 20)), fizzle_s=60, backoff_s=300, backoff_max_s=3600),
            surplus_after_s=300,
            ads_max_age_s=300,
            project_vos=PROJECT_VOS,
            shares=rng.choice(SHARES),
            placement=rng.choice(("spread", "fill", "weights")),
            drain_target_s=rng.choice((0, 0, 120, 1800)),
        ),
    )


crowded_worlds = st.integers(0, 2**32 - 1).map(crowded_world)


def late_world(seed: int) -> World:
    """A crowded world in which most pilots wait, and half of these have waited too long to be counted on."""
    rng = Random(f"late {seed}")
    world = crowded_world(seed)
    unseen = rng.choice((*SITES, None, None, None, None, None))
    pilots = []
    for pilot in world.observation.pilots:
        waits = pilot.phase is PilotPhase.PENDING or rng.random() < 0.6
        phase = PilotPhase.PENDING if waits else pilot.phase
        since_s = pilot.intended_s - (world.policy.wait_noticed_s + 1 if waits and rng.random() < 0.5 else 0)
        pilots.append(replace(pilot, phase=phase, intended_s=since_s))
    sights = tuple(
        SiteUnseen(site=sight.site, taken_s=NOW_S, reason="ssh timed out") if sight.site == unseen else sight
        for sight in world.observation.sites
    )
    return replace(world, observation=replace(world.observation, pilots=tuple(pilots), sites=sights))


late_worlds = st.integers(0, 2**32 - 1).map(late_world)
