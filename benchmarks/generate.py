"""
Workloads by seed: kinds of jobs with Requirements as condor_submit of HTCondor 25.14 writes them, sites, pilots.

The same numbers and seed give the same world. What is drawn: requests for memory, disk, cores and GPUs (memory has some
thousand different values, as users write them), declared run times, lists of sites in four spellings, an operating
system's release or a container for some, users of 40 projects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random

from accounting.model import PilotRecord
from config.names import pilot_id
from factory.matching import slot_ads
from factory.model import BreakerPolicy, Observation, Policy, SitePolicy
from factory.sites.contract import FinalSeen, SiteSeen
from glidein.model import Lifetimes, Offer, PilotPhase, Shape
from overlay.classads import parse_ad
from overlay.demand import bucket_of
from overlay.model import Bucket, DemandSeen, Slot, SlotsSeen

NOW_S = 1_800_000_000
CYCLE = "6b49d200abcd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a workload is."""

    jobs: int
    kinds: int
    sites: int
    pilots: int
    seed: int = 1


def workload(size: Size) -> tuple[Observation, Policy]:
    """An observation of this size and the policy for its sites."""
    rng = Random(size.seed)
    sites = tuple(_site(rng, n) for n in range(size.sites))
    policy = Policy(
        sites=sites,
        max_pilots=20_000,
        max_submits_per_cycle=200,
        lifetimes=Lifetimes(join_timeout_s=300, idle_timeout_s=600, default_job_runtime_s=3600),
        breaker=BreakerPolicy(failures=5, fizzle_s=120, backoff_s=300, backoff_max_s=7200),
        surplus_after_s=600,
        ads_max_age_s=600,
        drain_target_s=1800,
    )
    observation = Observation(
        cycle=CYCLE,
        now_s=NOW_S,
        sites=tuple(
            SiteSeen(site=site.name, taken_s=NOW_S, live=(), final=FinalSeen(records=()), reports=()) for site in sites
        ),
        slots=SlotsSeen(taken_s=NOW_S, slots=()),
        demands=(),
        pilots=(),
    )
    slots, pilots = _pilots(rng, size.pilots, policy, observation)
    found = tuple(kind(rng, n, jobs=max(1, size.jobs // size.kinds), sites=size.sites) for n in range(size.kinds))
    demand = DemandSeen(ap="ap1", taken_s=NOW_S, buckets=tuple(sorted(found)), running=0)
    return replace(observation, slots=SlotsSeen(taken_s=NOW_S, slots=slots), demands=(demand,), pilots=pilots), policy


def next_cycle(observation: Observation, *, changed: float, seed: int, after_s: int = 60) -> Observation:
    """
    The observation of the next cycle, a share of its kinds replaced by new ones and the counts of as many others moved.

    The same share of the pilots is replaced by others that have just joined, and that of their slots is used otherwise
    than before. Everything is made anew, as it comes from the schedd, the collector and the ledger: no object of the
    cycle before is used again.
    """
    rng = Random(seed)
    (demand,) = observation.demands
    assert isinstance(demand, DemandSeen)
    buckets = [
        replace(bucket, ad_text="".join(("", bucket.ad_text[:1], bucket.ad_text[1:]))) for bucket in demand.buckets
    ]
    some = rng.sample(range(len(buckets)), max(1, round(len(buckets) * changed)))
    for n in some:
        buckets[n] = kind(rng, seed * 1_000_000 + n, jobs=buckets[n].jobs, sites=len(observation.sites))
    for n in rng.sample(range(len(buckets)), len(some)):
        buckets[n] = replace(buckets[n], jobs=rng.randint(1, 2 * buckets[n].jobs))
    now_s = int(observation.now_s) + after_s
    slots, pilots = _next_pilots(Random(f"pilots {seed}"), observation, changed=changed, now_s=now_s, seed=seed)
    return replace(
        observation,
        now_s=now_s,
        demands=(replace(demand, buckets=tuple(sorted(buckets))),),
        slots=SlotsSeen(taken_s=now_s, slots=slots),
        pilots=pilots,
    )


def kind(rng: Random, number: int, *, jobs: int, sites: int) -> Bucket:
    """One kind of idle jobs; ``number`` goes into the ids of its jobs only."""
    cores = rng.choice((1, 1, 1, 1, 2, 4, 8, 16))
    gpus = rng.choice((0,) * 19 + (1,))
    memory_mib = rng.choice((cores * rng.choice((1000, 1024, 2000, 2048, 4000)), rng.randint(500, 4500) * cores))
    disk_kib = rng.choice((1_048_576, 10_485_760, rng.randint(1000, 40_000_000)))
    runtime_s = rng.choice((None, None, 600, 3600, 7200, 43_200, 86_400, rng.randint(60, 100_000)))
    own, attributes = _own(rng, sites)
    clauses = [*own, '(TARGET.Arch == "X86_64")', '(TARGET.OpSys == "LINUX")']
    clauses += ['(versionGE(split(TARGET.CondorVersion)[1],"25.12.0") || (TARGET.Disk >= RequestDisk))']
    clauses += ["(TARGET.Memory >= RequestMemory)"]
    # 25.14 leaves the clause out for one core.
    clauses += ["(TARGET.Cpus >= RequestCpus)"] if cores > 1 else []
    clauses += ["(TARGET.GPUs >= RequestGPUs)"] if gpus else []
    clauses += ["((TARGET.FileSystemDomain == MY.FileSystemDomain) || (TARGET.HasFileTransfer))"]
    user = rng.randint(0, 199)
    ad = {
        "JobStatus": "1",
        "JobUniverse": "5",
        "Owner": f'"u{user}"',
        "User": f'"u{user}@pool"',
        "AcctGroup": f'"dp{user % 40:03}"',
        "AccountingGroup": f'"dp{user % 40:03}.u{user}"',
        "RequestCpus": str(cores),
        "RequestMemory": str(memory_mib)
        if rng.random() < 0.9
        else f"ifThenElse(MemoryUsage isnt undefined,MemoryUsage,{memory_mib})",
        "RequestDisk": str(disk_kib),
        "FileSystemDomain": '"ap1.example.org"',
        **attributes,
        "Requirements": " && ".join(clauses),
        "JobCount": str(jobs),
        "JobIds": f'"{number}.0 ... {number}.{jobs - 1}"',
    }
    if gpus:
        ad["RequestGPUs"] = str(gpus)
    if runtime_s is not None:
        ad["AllowedExecuteDuration"] = str(runtime_s)
    return bucket_of(parse_ad("[ " + "; ".join(f"{name} = {text}" for name, text in ad.items()) + " ]"), ap="ap1")


def _own(rng: Random, sites: int) -> tuple[list[str], dict[str, str]]:
    """What a user adds: clauses and the attributes that they read."""
    clauses: list[str] = []
    attributes: dict[str, str] = {}
    # Users share lists: a list belongs to a project rather than to a job.
    names = [f"site{n:04}" for n in Random(rng.randint(0, 199)).sample(range(sites), min(sites, 6))]
    match rng.randint(0, 9):
        case 0:
            clauses.append(f'(stringListMember(TARGET.GlideinSite,"{",".join(names)}"))')
        case 1:
            attributes["DESIRED_Sites"] = f'"{",".join(names)}"'
            clauses.append("(stringListIMember(GlideinSite,DESIRED_Sites))")
        case 2:
            clauses.append("((" + " || ".join(f'TARGET.GlideinSite == "{name}"' for name in names[:3]) + "))")
        case 3:
            clauses.append(f'(TARGET.GlideinSite =!= "{names[0]}")')
    if rng.random() < 0.2:
        clauses.append(rng.choice(("(HasSingularity)", "(TARGET.HasSingularity is true)")))
    if rng.random() < 0.1:
        clauses.append(rng.choice(("(OpSysMajorVer >= 8)", '(regexp("^Alma",TARGET.OpSysName))')))
    return clauses, attributes


def _site(rng: Random, number: int) -> SitePolicy:
    """One site with its shape and what its operator says of it."""
    cores = rng.choice((1, 4, 8, 16, 32, 64, 128))
    attributes = {"OpSysMajorVer": rng.choice(("7", "8", "9"))}
    if rng.random() < 0.6:
        attributes["HasSingularity"] = "true"
    if rng.random() < 0.5:
        attributes["OpSysName"] = rng.choice(('"AlmaLinux"', '"Rocky"'))
    shape = Shape(
        cores=cores,
        memory_mib=cores * rng.choice((2000, 4000, 8000)) + rng.randint(0, 20) * 100,
        disk_mib=cores * rng.choice((5000, 20_000)) + rng.randint(0, 20) * 1000,
        gpus=rng.choice((0,) * 7 + (1, 4)),
        walltime_s=rng.choice((4, 12, 24, 48, 72)) * 3600,
    )
    offer = Offer(
        site=f"site{number:04}",
        shape=shape,
        account="dx1",
        partition="main",
        slot_attributes=tuple(sorted(attributes.items())),
    )
    return SitePolicy(offer=offer, max_pilots=200, max_pending=20)


def _next_pilots(
    rng: Random, observation: Observation, *, changed: float, now_s: int, seed: int
) -> tuple[tuple[Slot, ...], tuple[PilotRecord, ...]]:
    """A share of the pilots left and as many others joined; of as many more the jobs that they run are others."""
    assert isinstance(observation.slots, SlotsSeen)
    both = [
        (replace(slot, ad_text="".join(("", slot.ad_text[:1], slot.ad_text[1:]))), replace(pilot, slot_seen_s=now_s))
        for slot, pilot in zip(observation.slots.slots, observation.pilots, strict=True)
    ]
    if not both:
        return (), ()
    count = max(1, round(len(both) * changed))
    for n in rng.sample(range(len(both)), count):
        slot, pilot = both[n]
        both[n] = _busy(slot, rng.randint(0, slot.cores)), pilot
    for n in rng.sample(range(len(both)), count):
        # At any site that has some: the ad is that of another pilot there, but for its name and its times.
        slot, pilot = rng.choice(both)
        name = pilot_id(instance="tow", site=slot.site, cycle=f"{0x6B49D200 + seed:x}abcd", n=n)
        text = slot.ad_text.replace(slot.pilot_id, name)
        ends_s = now_s + pilot.offer.shape.walltime_s
        for attribute, at_s in (("GlideinToDie", ends_s), ("GlideinToRetire", ends_s - 300)):
            text = re.sub(rf" {attribute} = \d+;", f" {attribute} = {at_s};", text)
        slot = replace(slot, pilot_id=name, name=f"slot1@{name}", to_die_s=ends_s, started_s=now_s - 10, ad_text=text)
        pilot = replace(
            pilot, pilot_id=name, cycle=f"{0x6B49D200 + seed:x}abcd", intended_s=now_s - 70,
            submit_deadline_s=now_s - 10, started_s=now_s - 10, joined_s=now_s,
        )  # fmt: skip
        both[n] = _busy(slot, 0), pilot
    # As the ledger gives them.
    both.sort(key=lambda pair: pair[0].pilot_id)
    return tuple(slot for slot, _ in both), tuple(pilot for _, pilot in both)


def _busy(slot: Slot, cores: int) -> Slot:
    """The slot with jobs in so many of its cores."""
    return replace(slot, busy_cores=cores, busy_memory_mib=cores * 1000, busy_disk_mib=cores * 100, running_jobs=cores)


def _pilots(
    rng: Random, count: int, policy: Policy, observation: Observation
) -> tuple[tuple[Slot, ...], tuple[PilotRecord, ...]]:
    """Running pilots with their slots; they began at any time of their walltime."""
    ads = slot_ads(observation, policy)
    slots: list[Slot] = []
    pilots: list[PilotRecord] = []
    for n in range(count):
        offer = rng.choice(policy.sites).offer
        name = pilot_id(instance="tow", site=offer.site, cycle="6b49d100abcd", n=n)
        left_s = rng.randint(600, offer.shape.walltime_s)
        text = ads[f"offer:{offer.site}"].replace(f"offer-{offer.site}", name)
        text = text.replace(" GlideinToDie = ", f" GlideinToDie = {NOW_S + left_s}; WasToDie = ")
        text = text.replace(" GlideinToRetire = ", f" GlideinToRetire = {NOW_S + left_s - 300}; WasToRetire = ")
        started_s = NOW_S + left_s - offer.shape.walltime_s
        busy = rng.randint(0, offer.shape.cores)
        slots.append(
            Slot(
                pilot_id=name, site=offer.site, name=f"slot1@{name}", cores=offer.shape.cores,
                memory_mib=offer.shape.memory_mib, disk_mib=offer.shape.disk_mib, busy_cores=busy,
                busy_memory_mib=busy * 1000, busy_disk_mib=busy * 100, running_jobs=busy, to_die_s=NOW_S + left_s,
                started_s=started_s, accepting=True, ad_text=text,
            )
        )  # fmt: skip
        pilots.append(
            PilotRecord(
                pilot_id=name, offer=offer, cycle="6b49d100abcd", sent="submitted", phase=PilotPhase.BUSY,
                intended_s=started_s - 60, submit_deadline_s=started_s, batch_id=str(n), started_s=started_s,
                joined_s=started_s + 10, slot_seen_s=NOW_S,
            )
        )  # fmt: skip
    return tuple(slots), tuple(pilots)
