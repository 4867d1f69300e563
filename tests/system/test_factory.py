"""The factory on real HTCondor and three real Slurms; pilots are counted in Slurm's own records."""

from __future__ import annotations

import time

import pytest

from factory.crash import CRASH_POINTS
from testbed import containers, model, site
from tests.system.fleet import (
    Fleet,
    assert_all_done,
    jobs_left,
    new_fleet,
    on_login,
    remove_all_jobs,
    remove_jobs,
    squeue_of,
    submit_jobs,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed")]

ALPHA, BETA, GAMMA = model.SITES


@pytest.fixture
def fleet():
    made = new_fleet()
    yield made
    clean_up(made)


@pytest.fixture
def alpha_fleet():
    """One site only."""
    made = new_fleet(sites=(ALPHA,))
    yield made
    clean_up(made)


def clean_up(fleet: Fleet) -> None:
    """Leave no factory and no pilot behind, whatever happened."""
    if fleet.running():
        fleet.kill()
    remove_all_jobs(fleet)
    for row in fleet.sites:
        names = ",".join(job.job_id for job in squeue_of(row, fleet.instance))
        if names:
            on_login(row, f"scancel {names.replace(',', ' ')}")
    fleet.wait_empty(timeout_s=60)


def run_to_the_end(fleet: Fleet, clusters: dict[int, int], *, timeout_s: float = 300) -> None:
    """Wait for all jobs, then for the pilots to leave by themselves, and look into everybody's books."""
    wait_until("all jobs are done", lambda: jobs_left(*clusters) == 0, timeout_s=timeout_s, pause_s=2)
    assert_all_done(clusters)
    fleet.wait_ended()
    fleet.assert_no_pilot_doubled()
    fleet.assert_no_pilot_lost()


def test_jobs_run_on_all_three_sites_and_nothing_is_left(fleet: Fleet) -> None:
    fleet.start()
    clusters = {submit_jobs(fleet, 4, where=f'TARGET.GlideinSite == "{row.name}"'): 4 for row in fleet.sites}
    run_to_the_end(fleet, clusters)
    ended = fleet.ask("pilots", "--all")
    assert {row.name for row in fleet.sites} == {pilot["site"] for pilot in ended}
    assert [] == [pilot for pilot in ended if not pilot["end_reason"]]


def test_one_idle_job_that_matches_all_sites_makes_one_pilot(fleet: Fleet) -> None:
    # Mutation: count a claimed slot that is still idle as taken (overlay/slots.py), and this makes two.
    fleet.start()
    cluster = submit_jobs(fleet, 1, seconds=20)
    run_to_the_end(fleet, {cluster: 1})
    assert 1 == len(fleet.sacct())


def test_one_idle_job_makes_one_pilot_also_while_its_site_is_blocked(fleet: Fleet) -> None:
    # Mutation: let waiting pilots absorb nothing (factory/absorb.py), and every cycle adds one.
    for row in fleet.sites:
        on_login(row, f"scontrol update PartitionName={row.partition} State=INACTIVE", user="root")
        on_login(row, f"scontrol update PartitionName={row.partition} State=DOWN", user="root")
    cluster = 0
    try:
        fleet.start()
        cluster = submit_jobs(fleet, 1)
        wait_until("a pilot waits", lambda: len(fleet.squeue()) >= 1)
        time.sleep(30)
        assert 1 == len(fleet.sacct())
    finally:
        for row in fleet.sites:
            on_login(row, f"scontrol update PartitionName={row.partition} State=UP", user="root")
    run_to_the_end(fleet, {cluster: 1})
    assert 1 == len(fleet.sacct())


def test_one_idle_job_makes_one_pilot_also_while_a_site_is_unseen(fleet: Fleet) -> None:
    site.stop_daemon("alpha", "sshd")
    try:
        fleet.start()
        cluster = submit_jobs(fleet, 1, seconds=20)
        wait_until("all jobs are done", lambda: jobs_left(cluster) == 0, timeout_s=180)
        assert "alpha" in [line["site"] for line in fleet.ask("status")["sites"] if line["state"] != "seen"]
    finally:
        site.start_daemon("alpha", "sshd")
    run_to_the_end(fleet, {cluster: 1})
    assert 1 == len(fleet.sacct())


def test_a_pilot_that_nothing_needs_any_more_is_cancelled_while_it_waits(alpha_fleet: Fleet) -> None:
    fleet = alpha_fleet
    try:
        on_login(ALPHA, "scontrol update PartitionName=main State=DOWN", user="root")
        fleet.start()
        cluster = submit_jobs(fleet, 1)
        wait_until("a pilot waits", lambda: len(fleet.squeue()) == 1)
        remove_jobs(cluster)
        wait_until("it is cancelled", lambda: not fleet.squeue(), timeout_s=60)
    finally:
        on_login(ALPHA, "scontrol update PartitionName=main State=UP", user="root")
    wait_until(
        "the ledger says so",
        lambda: [pilot["end_reason"] for pilot in fleet.ask("pilots", "--all")] == ["cancelled_pending"],
    )


@pytest.mark.timeout(900)
def test_killed_at_every_named_point_no_pilot_is_lost_or_doubled(fleet: Fleet) -> None:
    # Mutation: never give up an intent that was not sent (past_deadline in glidein/phase.py): its jobs wait for ever.
    clusters: dict[int, int] = {}
    for point in CRASH_POINTS:
        clusters[submit_jobs(fleet, 3, seconds=5)] = 3
        fleet.start("--crash-at", point)
        wait_until(f"it dies at {point}", lambda: not fleet.running(), timeout_s=90, pause_s=0.5)
    fleet.start()
    run_to_the_end(fleet, clusters)


@pytest.mark.timeout(900)
def test_ssh_cut_in_the_middle_of_sbatch_loses_and_doubles_nothing(fleet: Fleet) -> None:
    fleet.start()
    clusters: dict[int, int] = {}
    for _ in range(5):
        clusters[submit_jobs(fleet, 4, seconds=5)] = 4
        end = time.monotonic() + 10
        while time.monotonic() < end:
            containers.execute_raw(
                model.factory_host(), ["pkill", "-9", "-x", "ssh"], user=model.FACTORY_USER, timeout_s=20
            )
            time.sleep(0.4)
        time.sleep(5)
    run_to_the_end(fleet, clusters)


@pytest.mark.timeout(900)
def test_a_controller_stopped_for_a_minute_holds_up_nobody_else(fleet: Fleet) -> None:
    fleet.start()
    first = {
        submit_jobs(fleet, 6, seconds=20): 6,
        submit_jobs(fleet, 4, seconds=20, where='TARGET.GlideinSite == "beta"'): 4,
    }
    wait_until("beta has a pilot", lambda: bool(squeue_of(BETA, fleet.instance)), timeout_s=60)
    before = {job.name for job in squeue_of(BETA, fleet.instance)}
    site.signal_daemon("beta", "slurmctld", "STOP")
    try:
        time.sleep(25)
        second = {submit_jobs(fleet, 6, seconds=5, where='TARGET.GlideinSite != "beta"'): 6}
        wait_until("the others go on", lambda: jobs_left(*second) == 0, timeout_s=120)
        beta = next(line for line in fleet.ask("status")["sites"] if line["site"] == "beta")
        assert "unseen" == beta["state"]
        assert beta["since_s"]
        assert beta["reason"]
        time.sleep(10)
    finally:
        site.signal_daemon("beta", "slurmctld", "CONT")
    wait_until(
        "beta is seen again",
        lambda: next(line for line in fleet.ask("status")["sites"] if line["site"] == "beta")["state"] == "seen",
        timeout_s=60,
    )
    assert [] == [event for event in fleet.events("pilots.cancelled") if event["site"] == "beta"]
    assert before <= {job.name for job in fleet.sacct()}
    run_to_the_end(fleet, {**first, **second})


@pytest.mark.timeout(1800)
@pytest.mark.long
def test_killed_twenty_times_at_random_during_a_burst(fleet: Fleet) -> None:
    from random import Random

    random = Random(20)
    clusters = {submit_jobs(fleet, 40, seconds=15): 40}
    for _ in range(20):
        fleet.start()
        time.sleep(random.uniform(0.5, 6))
        fleet.kill()
        if random.random() < 0.3:
            clusters[submit_jobs(fleet, 8, seconds=8)] = 8
    fleet.start()
    run_to_the_end(fleet, clusters, timeout_s=600)


@pytest.mark.timeout(1200)
@pytest.mark.long
def test_one_idle_job_makes_one_pilot_counted_for_ten_minutes(fleet: Fleet) -> None:
    fleet.start()
    cluster = submit_jobs(fleet, 1, seconds=540)
    time.sleep(600)
    assert 1 == len(fleet.sacct())
    run_to_the_end(fleet, {cluster: 1})
