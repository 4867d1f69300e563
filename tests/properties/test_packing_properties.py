"""
Pouring and taking turns against the plainest way to do the same; it is what they promise, and what they must be worth.

Each comment names mutations of the code that turn the test red; each was tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from factory.absorb import Vacancy, filled, matches, need_s, needs
from factory.model import BreakerPolicy, Policy, VoShare
from factory.packing import FEW, Stock
from factory.shares import Turns
from glidein.model import Lifetimes
from overlay.model import Bucket, MatchTable

LIFETIMES = Lifetimes(join_timeout_s=300, idle_timeout_s=600, default_job_runtime_s=1200)
SITES = ("alpha", "beta", "gamma")
GROUPS = ("dx1", "DX1", "dx2", "bio1", "bio2", "")
seeds = st.integers(0, 2**32 - 1)


def _bucket(rng: Random, n: int) -> Bucket:
    return Bucket(
        key=f"ap1/{n}",
        ap="ap1",
        user="ada@pool",
        group=rng.choice(GROUPS),
        jobs=rng.randint(1, 12),
        first_job=f"{n}.0",
        cores=rng.choice((0, 1, 1, 2, 3, 8)),
        memory_mib=rng.choice((0, 100, 1000, 2100)),
        disk_mib=rng.choice((0, 1, 500)),
        gpus=rng.choice((0, 0, 0, 1)),
        runtime_s=rng.choice((None, 0, 10, 60, 700, 5000)),
        usual_s=rng.choice((None, None, 50)),
        ad_text="",
    )


def _vacancy(rng: Random, n: int) -> Vacancy:
    """A pilot; some have more in use than they own, some have no column in the table."""
    return filled(
        Vacancy(
            pilot_id=f"p{n}",
            site=rng.choice(SITES),
            slot_keys=rng.choice(((f"pilot:{n}", f"offer:{n % 7}"), (f"offer:{n % 7}",), ("offer:unknown",))),
            running=True,
            cores=rng.randint(-1, 8),
            memory_mib=rng.randint(-50, 9000),
            disk_mib=rng.choice((0, 3, 5000)),
            gpus=rng.choice((0, 0, 2)),
            life_s=rng.choice((-5, 500, 1300.5, 9000)),
            time_s=rng.choice((1, 1, 600, 3600)),
        )
    )


def _plain_fits(vacancy: Vacancy, bucket: Bucket) -> int:
    """What each thing allows by itself, and of that the least."""
    if need_s(bucket, LIFETIMES) >= vacancy.life_s:
        return 0
    busy_s = vacancy.busy_s(bucket)
    rounds = vacancy.time_s // busy_s
    free = (vacancy.cores, vacancy.memory_mib, vacancy.disk_mib, vacancy.gpus)
    allowed = [
        min(has // need * rounds, work // (need * busy_s))
        for has, work, need in zip(free, vacancy.work, needs(bucket), strict=True)
        if need > 0
    ]
    return max(0, min(allowed))


def _plain_absorb(
    vacancies: list[Vacancy], bucket: Bucket, jobs: int, table: MatchTable, closed: frozenset[str]
) -> Iterator[tuple[str, int]]:
    """First fit, one pilot after the other."""
    for vacancy in vacancies:
        taken = min(jobs, _plain_fits(vacancy, bucket))
        if taken > 0 and vacancy.site not in closed and matches(bucket, vacancy.slot_keys, table):
            vacancy.take(bucket, taken)
            jobs -= taken
            yield vacancy.pilot_id, taken


# Mutations: Stock._matching without _asked(late, row); Stock._asked takes a place without a column; Stock._able without
# "closed", or asks any level for twice the need, or for no work where a job takes no time; Stock._put forgets the other
# places of its site; _Levels.set returns where old <= new; absorb.fits gives up where has <= need, or where
# work <= need * busy_s.
@settings(max_examples=200)
@given(seeds, st.sampled_from((2, FEW - 1, FEW + 1, 4 * FEW)))
def test_jobs_go_to_the_first_pilots_that_have_room_for_them(seed: int, pilots: int) -> None:
    rng = Random(seed)
    buckets = [_bucket(rng, n) for n in range(rng.randint(5, 30))]
    keys = [f"offer:{n}" for n in range(7)] + [f"pilot:{n}" for n in range(0, pilots, 2)]
    rng.shuffle(keys)
    rows = [rng.getrandbits(len(keys)) for _ in range(6)]
    table = MatchTable(
        columns={key: n for n, key in enumerate(keys)},
        rows={bucket.key: rng.choice(rows) for bucket in buckets[1:]},
        failed=lambda bucket, slot: (),
    )
    there = [_vacancy(rng, n) for n in range(pilots)]
    plain = [replace(vacancy) for vacancy in there]
    stock = Stock(there, table, LIFETIMES)
    for bucket in buckets:
        closed = frozenset(rng.sample(SITES, rng.choice((0, 0, 1))))
        taken = [(vacancy.pilot_id, count) for vacancy, count in stock.absorb(bucket, bucket.jobs, closed)]
        assert list(_plain_absorb(plain, bucket, bucket.jobs, table, closed)) == taken
        for _ in range(rng.choice((0, 1, 1, 5))):
            new = _vacancy(rng, len(plain))
            plain.append(replace(new))
            count = min(3, _plain_fits(new, bucket))
            plain[-1].take(bucket, count)
            assert count == stock.add(new, bucket, 3)


class _PlainTurns(Turns):
    """The same turns, everybody looked at each time."""

    def __iter__(self) -> Iterator[object]:  # type: ignore[override]
        while waiting := [vo for vo in self._vos.values() if any(p.queue for p in vo.projects.values())]:
            vo = min(waiting, key=lambda one: one.rank())
            projects = [project for project in vo.projects.values() if project.queue]
            project = min(projects, key=lambda one: (one.served / one.weight, one.name))
            yield self._turn(vo, project, alone=len(waiting) == len(projects) == 1)


# Mutations: _Line.first does not put back who has grown; Turns.__iter__ lets the organisation leave with its first
# project, or says "alone" of the last organisation whatever its projects.
@settings(max_examples=300)
@given(seeds)
def test_each_turn_is_of_whoever_was_served_least(seed: int) -> None:
    rng = Random(seed)
    buckets = [_bucket(rng, n) for n in range(rng.randint(0, 12))]
    shares = tuple(
        VoShare(
            vo=vo,
            weight=rng.choice((1.0, 2.0, 0.3)),
            guaranteed_cores=rng.choice((0, 5, 20)),
            maximum_cores=rng.choice((None, None, 9)),
            projects=(("dx1", 3.0),),
        )
        for vo in ("astro", "bio")
    )
    policy = Policy(
        sites=(),
        max_pilots=1,
        max_submits_per_cycle=1,
        lifetimes=LIFETIMES,
        breaker=BreakerPolicy(failures=5, fizzle_s=60, backoff_s=300, backoff_max_s=3600),
        surplus_after_s=300,
        ads_max_age_s=300,
        project_vos=(("bio1", ("bio",)), ("bio2", ("bio",)), ("dx1", ("astro",)), ("dx2", ("astro",))),
        shares=rng.choice(((), shares)),
        drain_target_s=rng.choice((0, 600)),
    )
    running, quantum = {"dx1": rng.randint(0, 9), "other": 3}, rng.choice((1, 4))
    both = [make(buckets, policy, running, quantum=quantum) for make in (Turns, _PlainTurns)]
    for turn, plain in zip(*(iter(turns) for turns in both), strict=True):
        assert plain == turn
        if turn.over:
            continue
        given_away = rng.randint(0, turn.jobs)
        for turns in both:
            turns.served(turn.bucket, given_away)
        if given_away < turn.jobs and rng.random() < 0.5:
            assert len({turns.drop(turn.bucket) for turns in both}) == 1
