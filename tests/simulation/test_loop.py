"""The real cycle, ledger and planner against fake sites: the fault table of the field, and a crash at every point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from accounting.model import SiteStop
from factory.crash import CRASH_POINTS
from factory.sites.fake import Faults
from glidein.model import BatchState, EndReason, PilotPhase
from tests.simulation.world import INSTANCE, SimWorld


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    return SimWorld(directory=tmp_path)


def done(world: SimWorld) -> bool:
    return all(job.done for job in world.jobs)


def run_to_the_end(world: SimWorld) -> None:
    """All jobs done, all pilots gone, all books equal."""
    world.run_until("all jobs are done", lambda: done(world))
    world.run_until("no pilot is left", lambda: not world.live_pilots())
    world.cycle()
    world.assert_books_agree()
    assert {True} == {pilot.end_reason is not None for pilot in world.ledger.pilots(INSTANCE, limit=10_000)}


def test_empty_queue_means_no_pilots(world: SimWorld) -> None:
    for _ in range(5):
        world.cycle()
    assert [] == world.pilots()


def test_a_burst_runs_and_nothing_is_left(world: SimWorld) -> None:
    world.submit_jobs(20)
    run_to_the_end(world)
    assert len(world.pilots()) <= 5


def test_one_idle_job_makes_one_pilot(world: SimWorld) -> None:
    world.submit_jobs(1, runtime_s=600)
    run_to_the_end(world)
    assert 1 == len(world.pilots())


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("visit", [1, 2, 3])
def test_killed_at_every_point_nothing_is_lost_or_doubled(world: SimWorld, point: str, visit: int) -> None:
    # Mutation: never give up an intent that was not sent (past_deadline in glidein/phase.py): its jobs wait for ever.
    world.submit_jobs(12)
    world.crash_at, world.crash_after = point, visit
    world.run_until("it was killed", lambda: not world.crash_at)
    run_to_the_end(world)
    # Twelve jobs of one core in pilots of four cores need three pilots; a kill may cost what it lost, no more.
    assert len(world.pilots()) <= 3


def test_killed_while_submissions_are_on_their_way_asks_for_nothing_twice(world: SimWorld) -> None:
    # Mutation: commit after submit_intents (factory/cycle.py). Nothing is at the site yet when the next factory looks,
    # so only the intents in the ledger keep it from asking again.
    world.submit_patience_s = 120
    world.submit_jobs(12)
    for site in world.sites.values():
        site.faults = Faults(lose_reply=True, effect_delay_s=100)
    world.crash_at = "submitted"
    world.run_until("it was killed", lambda: not world.crash_at)
    for site in world.sites.values():
        site.faults = Faults()
    run_to_the_end(world)
    assert 3 == len(world.pilots())


def test_a_lost_answer_does_not_make_a_second_pilot(world: SimWorld) -> None:
    # Mutation: treat Uncertain like NotSent (accounting/ledger.py), and this submits twice.
    world.submit_jobs(4)
    for site in world.sites.values():
        site.faults = Faults(lose_reply=True, effect_delay_s=15)
    world.cycle()
    for site in world.sites.values():
        site.faults = Faults()
    run_to_the_end(world)
    assert 1 == len(world.pilots())


def test_a_lost_request_is_made_up_for_after_its_deadline(world: SimWorld) -> None:
    world.submit_jobs(4)
    for site in world.sites.values():
        site.faults = Faults(lose_request=True)
    world.cycle()
    for site in world.sites.values():
        site.faults = Faults()
    run_to_the_end(world)
    assert 1 == len(world.pilots())
    gone = [p for p in world.ledger.pilots(INSTANCE) if p.end_reason is EndReason.NEVER_APPEARED]
    assert 1 == len(gone)


def test_sbatch_always_refused_costs_a_few_submissions_and_says_why(world: SimWorld) -> None:
    # TARDIS: 8 sbatch every 30 s for ever, nothing in DB or metrics.
    world.submit_jobs(40)
    for site in world.sites.values():
        site.faults = Faults(refuse="Invalid account")
    for _ in range(20):
        world.cycle()
    for site in world.sites.values():
        # Three failures open the breaker; 600 s hold at most two probes (300 s, then doubled).
        assert site.counts.sbatch <= world.breaker.failures + 2
    refused = [p for p in world.ledger.pilots(INSTANCE) if p.end_reason is EndReason.REFUSED]
    assert {"Invalid account"} == {pilot.detail for pilot in refused}


def test_a_refused_site_recovers_by_its_probe(world: SimWorld) -> None:
    world.submit_jobs(8)
    for site in world.sites.values():
        site.faults = Faults(refuse="QOSMaxSubmitJobPerUserLimit")
    for _ in range(4):
        world.cycle()
    for site in world.sites.values():
        site.faults = Faults()
    run_to_the_end(world)


def test_an_unseen_site_is_left_alone(world: SimWorld) -> None:
    world.submit_jobs(8, runtime_s=900)
    world.run_until("pilots run", lambda: len(world.live_pilots()) == 2)
    world.cycle()
    before = sorted(world.live_pilots())
    for site in world.sites.values():
        site.faults = Faults(unseen="ssh: connect to host: timed out")
    world.submit_jobs(20)
    for _ in range(5):
        told = world.cycle()
        assert told is not None
        assert ("alpha", "beta") == told.sites_unseen
        assert 0 == told.submitted + told.cancelled
    assert before == sorted(world.live_pilots())
    assert len(before) == len(world.ledger.open_pilots(INSTANCE))
    for site in world.sites.values():
        site.faults = Faults()
    run_to_the_end(world)


def test_an_unseen_access_point_is_not_an_empty_one(world: SimWorld) -> None:
    # GlideinWMS: a failed query reads as no jobs, and a pool was drained.
    for site in world.sites.values():
        site.room = 0
    world.submit_jobs(8)
    world.run_until("pilots wait", lambda: len(world.live_pilots()) == 2)
    world.ap_unseen = "no answer in 25 s"
    for _ in range(10):
        told = world.cycle()
        assert told is not None
        assert 0 == told.cancelled + told.submitted
    assert 2 == len(world.live_pilots())


def test_waiting_pilots_that_nothing_needs_are_cancelled(world: SimWorld) -> None:
    for site in world.sites.values():
        site.room = 0
    world.submit_jobs(8)
    world.run_until("pilots wait", lambda: len(world.live_pilots()) == 2)
    world.jobs.clear()
    world.run_until("they are cancelled", lambda: not world.live_pilots(), cycles=10)
    world.cycle()
    assert {EndReason.CANCELLED_PENDING} == {pilot.end_reason for pilot in world.ledger.pilots(INSTANCE)}


def test_the_collector_unseen_submits_and_cancels_nothing(world: SimWorld) -> None:
    world.submit_jobs(8)
    world.slots_unseen = "no answer in 25 s"
    for _ in range(5):
        told = world.cycle()
        assert told is not None
        assert told.frozen
    assert [] == world.pilots()
    world.slots_unseen = ""
    run_to_the_end(world)


def test_squeue_empty_with_status_zero_for_a_while_doubles_nothing(world: SimWorld) -> None:
    # TARDIS: 8 running pilots forgotten, 8 more submitted, orphans for ever.
    world.submit_jobs(16, runtime_s=900)
    world.run_until("four pilots run", lambda: len(world.live_pilots()) == 4)
    world.cycle()
    for site in world.sites.values():
        site.faults = Faults(squeue_text="")
    for _ in range(4):
        told = world.cycle()
        assert told is not None
        assert 0 == told.submitted + told.cancelled
    for site in world.sites.values():
        site.faults = Faults()
    run_to_the_end(world)
    assert 4 == len(world.pilots())


def test_squeue_empty_while_sacct_is_down_doubles_nothing(world: SimWorld) -> None:
    world.submit_jobs(16, runtime_s=900)
    world.run_until("four pilots run", lambda: len(world.live_pilots()) == 4)
    world.cycle()
    for site in world.sites.values():
        site.faults = Faults(squeue_text="", sacct_unseen="Connection refused")
    for _ in range(4):
        told = world.cycle()
        assert told is not None
        assert 0 == told.submitted + told.cancelled
    for site in world.sites.values():
        site.faults = Faults()
    run_to_the_end(world)
    assert 4 == len(world.pilots())


@pytest.mark.parametrize(
    "garbage", ["<html><body>Bad gateway</body></html>\n", "12|RUNN", "a|b|c\n", "slurm_load_jobs error\n"]
)
def test_garbage_from_squeue_is_an_unseen_site(world: SimWorld, garbage: str) -> None:
    world.submit_jobs(8)
    for site in world.sites.values():
        site.faults = Faults(squeue_text=garbage)
    for _ in range(3):
        told = world.cycle()
        assert told is not None
        assert ("alpha", "beta") == told.sites_unseen
    assert [] == world.pilots()


def test_pilots_that_never_join_open_the_breaker(world: SimWorld) -> None:
    # TARDIS: 8 of 8 quota held for the whole wall time.
    world.joins = False
    world.submit_jobs(40)

    def leave_unjoined() -> None:
        for site in world.sites.values():
            for job in list(site.jobs.values()):
                if job.state is BatchState.RUNNING and job.start_s is not None and world.now_s > job.start_s + 120:
                    report = replace(
                        world._report(job.request.pilot_id, site, EndReason.NOT_JOINED), joined_s=None, jobs=0
                    )
                    site.finish(job.request.pilot_id, exit_code=21, report=report)

    for _ in range(30):
        world.cycle()
        leave_unjoined()
    for site in world.sites.values():
        assert len(site.jobs) <= world.breaker.failures + world.max_pending + 3
    reasons = {pilot.end_reason for pilot in world.ledger.pilots(INSTANCE) if pilot.phase is PilotPhase.ENDED}
    assert {EndReason.NOT_JOINED} == reasons


def test_a_preempted_pilot_is_no_failure_and_its_jobs_run_elsewhere(world: SimWorld) -> None:
    world.submit_jobs(8, runtime_s=600)
    world.run_until("pilots run", lambda: any(job.started_s for job in world.jobs))
    world.cycle()
    victim = next(job.pilot_id for job in world.jobs if job.pilot_id)
    site = next(site for site in world.sites.values() if site.jobs_named(victim))
    site.kill(victim, BatchState.PREEMPTED)
    run_to_the_end(world)
    known = world.ledger.pilot(victim)
    assert known is not None
    assert EndReason.PREEMPTED is known.end_reason


def test_a_stopped_site_gets_nothing_and_its_waiting_pilots_go(world: SimWorld) -> None:
    world.sites["alpha"].room = 0
    world.submit_jobs(16, runtime_s=600)
    world.run_until("pilots wait at alpha", lambda: len(world.sites["alpha"].jobs) >= 1)
    world.ledger.stop_site(SiteStop(site="alpha", since_s=int(world.now_s), by="op", reason="maintenance"))
    before = len(world.sites["alpha"].jobs)
    run_to_the_end(world)
    assert before == len(world.sites["alpha"].jobs)
    assert {BatchState.CANCELLED} == {job.state for job in world.sites["alpha"].jobs.values()}


def test_a_removed_site_is_watched_until_its_pilots_have_ended(world: SimWorld) -> None:
    world.submit_jobs(8, runtime_s=300)
    world.run_until("alpha has a pilot", lambda: bool(world.sites["alpha"].jobs))
    before = len(world.sites["alpha"].jobs)
    world.removed.add("alpha")
    run_to_the_end(world)
    assert before == len(world.sites["alpha"].jobs)


def test_after_a_lost_ledger_live_pilots_are_adopted(world: SimWorld, tmp_path: Path) -> None:
    world.submit_jobs(8, runtime_s=900)
    world.run_until("pilots run", lambda: len(world.live_pilots()) == 2)
    for path in tmp_path.iterdir():
        path.unlink()
    world.start_factory()
    world.cycle()
    assert sorted(world.live_pilots()) == [pilot.pilot_id for pilot in world.ledger.open_pilots(INSTANCE)]
    run_to_the_end(world)
    assert 2 == len(world.pilots())


def test_spool_directories_of_ended_pilots_are_removed(world: SimWorld) -> None:
    world.submit_jobs(8)
    run_to_the_end(world)
    world.cycle()
    assert [{}, {}] == [site.spools for site in world.sites.values()]


def test_caps_hold_under_a_flood(world: SimWorld) -> None:
    world.submit_jobs(2000, runtime_s=1200)
    for _ in range(15):
        world.cycle()
        for site in world.sites.values():
            live = [job for job in site.jobs.values() if not job.state.is_final]
            assert len(live) <= world.max_pilots
            assert sum(job.state is BatchState.PENDING for job in live) <= world.max_pending


def test_what_a_pilot_cost_is_read_from_the_sites_accounting(world: SimWorld) -> None:
    world.submit_jobs(4)
    for site in world.sites.values():
        site.faults = Faults(sacct_lag_s=60)
        site.min_job_age_s = 40
    run_to_the_end(world)
    world.run_until("sacct has told", lambda: not world.ledger.unaccounted(INSTANCE), cycles=10)
    (pilot,) = world.ledger.pilots(INSTANCE)
    assert pilot.batch is not None
    assert pilot.batch.elapsed_s
