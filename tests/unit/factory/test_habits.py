"""What jobs usually take: learnt from the ledger, and used for how much work a pilot is given, for nothing else."""

from __future__ import annotations

from dataclasses import replace

from worlds import NOW_S, bucket, demand, observation, policy, site_policy, table

from factory.habits import REFRESH_S, WINDOW_S, Habits, with_usual_times
from factory.model import Observation
from factory.plan import plan
from overlay.model import DemandUnseen

USUAL = {("ap1", "alice", "dp001", 1): 60}
HALF_AN_HOUR = replace(policy(site_policy("alpha", max_pilots=100, max_pending=100)), drain_target_s=1800)


def asked(observed: Observation) -> int:
    return sum(submit.count for submit in plan(observed, table(observed), HALF_AN_HOUR).submits)


def many(**more: object) -> Observation:
    jobs = bucket(jobs=12, memory_mib=10, user="alice@pool", group="dp001", **more)
    return observation(demands=(demand(jobs),), sites=("alpha",))


def learnt(observed: Observation) -> Observation:
    return replace(observed, demands=with_usual_times(observed.demands, USUAL))


def test_jobs_that_declare_nothing_and_are_usually_short_share_pilots() -> None:
    # Mutation: busy_s by runtime_s alone (factory/absorb.py). Four cores do 120 jobs of a minute in half an hour.
    assert (3, 1) == (asked(many()), asked(learnt(many())))


def test_what_is_declared_is_a_limit() -> None:
    # Mutation: expected_s prefers what is usual to what is declared (overlay/model.py).
    assert (1, 1) == (asked(many(runtime_s=30)), asked(learnt(many(runtime_s=30))))
    (jobs,) = learnt(many(runtime_s=30)).demands[0].buckets  # type: ignore[union-attr]
    assert (30, 60) == (jobs.expected_s, jobs.usual_s)
    assert (60, 60) == (replace(jobs, runtime_s=900).expected_s, replace(jobs, runtime_s=None).expected_s)


def test_a_job_that_is_declared_too_long_for_a_pilot_gets_none_however_short_they_usually_are() -> None:
    # Mutation: need_s by expected_s (factory/absorb.py): START refuses the job, and pilots come for nothing.
    assert 0 == asked(learnt(many(runtime_s=9000)))


def test_other_sorts_of_jobs_and_unseen_access_points_stay_as_they_are() -> None:
    # Mutation: leave the project, or the cores, out of the sort.
    unseen = DemandUnseen(ap="ap2", taken_s=NOW_S, reason="no answer")
    others = demand(
        bucket("ap1/a", user="alice@pool", group="dp002"),
        bucket("ap1/b", user="bob@pool", group="dp001"),
        bucket("ap1/c", user="alice@pool", group="dp001", cores=2),
    )
    assert (others, unseen) == with_usual_times((others, unseen), USUAL)


def test_the_ledger_is_asked_again_when_some_minutes_have_passed() -> None:
    # Mutations: ask each time; never again; not when the clock was put back.
    asked_since: list[float] = []

    def read(since_s: float) -> dict[tuple[str, str, str, int], int]:
        asked_since.append(since_s)
        return USUAL

    habits = Habits(read)
    for now_s in (NOW_S, NOW_S + REFRESH_S - 1, NOW_S + REFRESH_S, NOW_S - 1):
        assert USUAL == habits(now_s)
    assert [NOW_S - WINDOW_S, NOW_S + REFRESH_S - WINDOW_S, NOW_S - 1 - WINDOW_S] == asked_since
