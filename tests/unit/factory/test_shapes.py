"""Several shapes at a site, and pilots by work; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

from dataclasses import replace

from worlds import BREAKER, NOW_S, SHAPE, bucket, demand, observation, offer, policy, record, site_policy, table

from factory.model import Observation, Policy, ShapePolicy, SitePolicy
from factory.plan import decide, plan
from factory.verdict import verdicts
from glidein.model import Offer, PilotPhase, Shape
from overlay.model import MatchTable
from tests.tables import pairs_of, table_of

CORE = Shape(cores=1, memory_mib=4096, disk_mib=10_000, walltime_s=7200)
NODE = Shape(cores=64, memory_mib=256_000, disk_mib=100_000, walltime_s=7200)
GPU = Shape(cores=16, memory_mib=64_000, disk_mib=100_000, gpus=4, walltime_s=7200)


def shaped(*, caps: dict[str, int] | None = None, **shapes: Shape) -> SitePolicy:
    entries = tuple(
        ShapePolicy(offer=replace(offer("alpha", shape), name=name), max_pilots=(caps or {}).get(name))
        for name, shape in shapes.items()
    )
    return SitePolicy(offer=entries[0].offer, max_pilots=200, max_pending=200, shapes=entries)


TRUSTING = replace(BREAKER, failures=1000)
LADDER = replace(policy(shaped(core=CORE, node=NODE, gpu=GPU), max_pilots=1000, max_submits=1000), breaker=TRUSTING)


def everything(observed: Observation, rules: Policy) -> MatchTable:
    """Every job with every offer."""
    pairs = pairs_of(table(observed))
    some = {job: match for (job, _), match in pairs.items()}
    offers: tuple[Offer, ...] = tuple(entry.offer for site in rules.sites for entry in site.entries)
    return table_of(pairs | {(job, one.key): match for job, match in some.items() for one in offers})


def asked(observed: Observation, rules: Policy = LADDER) -> dict[str, int]:
    decided = plan(observed, everything(observed, rules), rules)
    labels = {f"{one.site}/{one.shape}" if one.shape else one.site: one.count for one in decided.submits}
    assert sorted(decided.order) == sorted(label for label, n in labels.items() for _ in range(n))
    return labels


def alone(*buckets_: object) -> Observation:
    return observation(sites=("alpha",), demands=(demand(*buckets_),))  # type: ignore[arg-type]


# Mutation: openings._waste answers the same for every shape.
def test_a_single_job_gets_the_shape_that_wastes_least() -> None:
    assert {"alpha/core": 1} == asked(alone(bucket()))
    assert {"alpha/gpu": 1} == asked(alone(bucket(gpus=1)))
    # Four idle GPUs and 4 idle cores are a greater waste than 52 idle cores.
    assert {"alpha/node": 1} == asked(alone(bucket(cores=12)))


# Mutation: openings._waste without the size of the shape in its answer.
def test_many_jobs_get_whole_nodes_and_the_rest_of_them_small_pilots() -> None:
    assert {"alpha/core": 3, "alpha/node": 2} == asked(alone(bucket(jobs=131)))


# Mutation: caps._limits without "shape_pilots".
def test_the_limit_of_a_shape_holds_and_is_named() -> None:
    rules = policy(shaped(core=CORE, node=NODE, caps={"core": 2, "node": 0}), max_pilots=1000)
    observed = alone(bucket(jobs=5))
    assert {"alpha/core": 2} == asked(observed, rules)
    told = verdicts(observed, everything(observed, rules), rules, "ap1/a")[0]
    # One node would do for what is left.
    assert (2, 3) == (told.granted, told.wanted)
    assert {"shape_pilots"} == {reason.code for reason in told.reasons}
    assert "max_pilots of shape alpha/core (0 open now, 2 asked for in this cycle, limit 2)" in told.reasons[0].text


# Mutation: absorb.new_vacancy gives the key of the site instead of the offer's own.
def test_a_waiting_pilot_takes_what_its_own_shape_matches() -> None:
    waiting = record("alpha", 1, PilotPhase.PENDING, offer=replace(offer("alpha", GPU), name="gpu"))
    assert {} == asked(replace(alone(bucket(gpus=4)), pilots=(waiting,)))
    small = replace(waiting, offer=replace(offer("alpha", CORE), name="core"))
    assert {"alpha/gpu": 1} == asked(replace(alone(bucket(gpus=4)), pilots=(small,)))


BUSY = replace(
    policy(site_policy("alpha", max_pilots=999, max_pending=999), max_pilots=999, max_submits=999), breaker=TRUSTING
)


# Mutation: absorb.fits without "* (vacancy.time_s // busy_s)".
def test_many_short_jobs_ask_for_pilots_by_their_work() -> None:
    jobs = alone(bucket(jobs=1000, runtime_s=60, memory_mib=10))
    half_an_hour = replace(BUSY, drain_target_s=1800)
    # 60,000 core seconds; a pilot of 4 cores does 7,200 in half an hour.
    assert {"alpha": 9} == asked(jobs, half_an_hour)
    assert {"alpha": 250} == asked(jobs, BUSY)
    assert {"alpha": 1} == asked(alone(bucket(jobs=1, runtime_s=60)), half_an_hour)
    # Nothing is known of how long they run.
    assert {"alpha": 250} == asked(alone(bucket(jobs=1000, memory_mib=10)), half_an_hour)


# Mutation: Vacancy.take without counting down "work".
def test_a_pilot_full_of_work_takes_no_more() -> None:
    rules = replace(BUSY, drain_target_s=1800)
    waiting = record("alpha", 1, PilotPhase.PENDING)
    kinds = [bucket(f"ap1/{n}", jobs=60, runtime_s=60, memory_mib=10) for n in range(4)]
    # 240 jobs, and the one that waits takes 120.
    assert {"alpha": 1} == asked(replace(alone(*kinds), pilots=(waiting,)), rules)


# Mutation: absorb.counted_on_s does not look at the life that is left.
def test_a_pilot_near_its_end_takes_what_it_still_can() -> None:
    rules = replace(BUSY, drain_target_s=1800)
    old = record(
        "alpha", 1, PilotPhase.BUSY, started_s=NOW_S - SHAPE.walltime_s + 400, joined_s=NOW_S - 6000, slot_seen_s=NOW_S
    )
    # 370 s are left to it and 60 of them are kept free: five jobs on each of its four cores, not thirty.
    observed = replace(alone(bucket(jobs=30, runtime_s=60, memory_mib=10)), pilots=(old,))
    rest = decide(observed, everything(observed, rules), rules).placed["ap1/a"].rest
    assert 10 == rest
