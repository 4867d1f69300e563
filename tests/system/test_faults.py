"""Rows of the field's fault table, on real schedulers: what others do not survive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from testbed import containers, model, tower
from tests.system.fleet import (
    FACTORY,
    Fleet,
    give_keys_that_the_collector_does_not_know,
    new_fleet,
    on_login,
    submit_jobs,
    wait_until,
)
from tests.system.test_factory import ALPHA, BETA, GAMMA, clean_up, run_to_the_end

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(900)]

BREAKER = '\n[breaker]\nfailures = 3\nbackoff = "10 min"\n'


@pytest.fixture
def fleets() -> Iterator[list[Fleet]]:
    """Put a fleet in, and nothing of it is left afterwards."""
    made: list[Fleet] = []
    yield made
    for fleet in made:
        clean_up(fleet)


def site_line(fleet: Fleet, site: str) -> dict[str, Any]:
    """One site of ``aerotow sites --json``."""
    answer = fleet.ask("sites")
    lines = answer["sites"] if isinstance(answer, dict) else answer
    return next(line for line in lines if line["site"] == site)


def breaker_mode(fleet: Fleet, site: str) -> str:
    """What the breaker does; unknown before the first cycle."""
    breaker = site_line(fleet, site)["breaker"]
    return breaker["mode"] if breaker else "unknown"


def test_sbatch_always_refused_costs_a_few_tries_and_says_why(fleets: list[Fleet]) -> None:
    # TARDIS: 8 sbatch every 30 s for ever, nothing in its database or metrics.
    # Mutation: let trials() give None for a site without accepted pilots (factory/breaker.py).
    fleet = new_fleet(sites=(ALPHA,), changes={'account = "aerotow"': 'account = "nosuch"'}, extra=BREAKER)
    fleets.append(fleet)
    fleet.start()
    submit_jobs(fleet, 40)
    wait_until("the breaker is open", lambda: breaker_mode(fleet, "alpha") == "open", timeout_s=60)
    time.sleep(20)
    tried = fleet.ask("pilots", "--all")
    assert 3 == len(tried)
    assert {"refused"} == {pilot["end_reason"] for pilot in tried}
    assert all("Invalid account" in pilot["detail"] for pilot in tried)
    assert "Invalid account" in site_line(fleet, "alpha")["breaker"]["reason"]
    assert [] == fleet.sacct()


def test_pilots_that_never_join_leave_and_open_the_breaker(fleets: list[Fleet]) -> None:
    # TARDIS: 8 of 8 quota held for the whole wall time.
    fleet = new_fleet(sites=(BETA,), changes={'join_timeout = "2 min"': 'join_timeout = "15 s"'}, extra=BREAKER)
    fleets.append(fleet)
    give_keys_that_the_collector_does_not_know(fleet)
    fleet.start()
    submit_jobs(fleet, 40)
    wait_until("the breaker is open", lambda: breaker_mode(fleet, "beta") == "open", timeout_s=180)
    fleet.wait_ended(timeout_s=120)
    ended = fleet.ask("pilots", "--all")
    assert {"not_joined"} == {pilot["end_reason"] for pilot in ended}
    assert {21} == {pilot["batch"]["exit_code"] for pilot in ended if pilot["batch"] and pilot["batch"]["exit_code"]}
    assert len(fleet.sacct()) <= 8
    assert "not joined" in site_line(fleet, "beta")["breaker"]["reason"]


def test_a_collector_that_hangs_freezes_and_harms_nothing(fleets: list[Fleet]) -> None:
    fleet = new_fleet(changes={'cycle = "2 s"': 'cycle = "2 s"\nquery_timeout = "5 s"'})
    fleets.append(fleet)
    fleet.start()
    clusters = {submit_jobs(fleet, 8, seconds=40): 8}
    wait_until("pilots are asked for", lambda: bool(fleet.squeue()), timeout_s=60)
    time.sleep(8)
    before = {job.name for job in fleet.sacct()}
    signal_condor("cm", "condor_collector", "STOP")
    try:
        wait_until("status says so", lambda: fleet.ask("status")["collector"]["state"] == "unseen", timeout_s=60)
        clusters[submit_jobs(fleet, 40)] = 40
        time.sleep(15)
        assert before == {job.name for job in fleet.sacct()}
        assert "collector" in fleet.command("status")
        assert fleet.ask("status")["frozen"]
    finally:
        signal_condor("cm", "condor_collector", "CONT")
    run_to_the_end(fleet, clusters)


def test_a_schedd_that_hangs_is_not_an_empty_queue(fleets: list[Fleet]) -> None:
    # GlideinWMS: no answer reads as no jobs; a pool was drained.
    fleet = new_fleet(sites=(ALPHA,), changes={'cycle = "2 s"': 'cycle = "2 s"\nquery_timeout = "5 s"'})
    fleets.append(fleet)

    on_login(ALPHA, "scontrol update PartitionName=main State=DOWN", user="root")
    try:
        fleet.start()
        cluster = submit_jobs(fleet, 4)
        wait_until("a pilot waits", lambda: len(fleet.squeue()) == 1, timeout_s=60)
        signal_condor("ap1", "condor_schedd", "STOP")
        try:
            wait_until(
                "status says so",
                lambda: (
                    next(ap for ap in fleet.ask("status")["access_points"] if ap["ap"] == "ap1")["state"] == "unseen"
                ),
                timeout_s=60,
            )
            time.sleep(30)
            assert 1 == len(fleet.squeue())
            assert 1 == len(fleet.sacct())
        finally:
            signal_condor("ap1", "condor_schedd", "CONT")
    finally:
        on_login(ALPHA, "scontrol update PartitionName=main State=UP", user="root")
    run_to_the_end(fleet, {cluster: 4})
    assert 1 == len(fleet.sacct())


def signal_condor(host: str, daemon: str, signal: str) -> None:
    """Freeze or thaw one daemon of the pool."""
    containers.execute(model.host_named(host), ["pkill", f"-{signal}", "-f", f"^{daemon}( |$)"], user="root")


def test_jobs_that_can_run_nowhere_hold_up_no_others_of_their_user(fleets: list[Fleet]) -> None:
    # Mutation: take MAX_CONCURRENT_UPLOADS_PER_USER out of overlay/poolconfig.py: the schedd then offers 20 jobs only.
    fleet = new_fleet(sites=(GAMMA,))
    fleets.append(fleet)
    submit_jobs(fleet, 40, where='TARGET.GlideinSite == "nowhere"')
    cluster = submit_jobs(fleet, 2)
    fleet.start()
    run_to_the_end(fleet, {cluster: 2})


def test_a_factory_beside_the_loop_refuses_and_names_the_holder(fleets: list[Fleet]) -> None:
    fleet = new_fleet()
    fleets.append(fleet)
    fleet.start()
    wait_until("it has the lease", lambda: "lease held by" in fleet.command("status"), timeout_s=30)
    done = containers.execute_raw(
        FACTORY, ["aerotow", "--config", fleet.config, "run", "--once"], user=model.FACTORY_USER
    )
    assert 1 == done.returncode
    assert b"acts for it until" in done.stderr


def test_a_read_only_database_submits_nothing_and_says_so(fleets: list[Fleet]) -> None:
    fleet = new_fleet()
    fleets.append(fleet)
    fleet.command("status")
    containers.execute(
        FACTORY,
        ["sh", "-c", f"chown root {fleet.directory}/aerotow.db* && chmod 444 {fleet.directory}/aerotow.db*"],
        user="root",
    )
    submit_jobs(fleet, 4)
    done = containers.execute_raw(
        FACTORY, ["aerotow", "--config", fleet.config, "run", "--once"], user=model.FACTORY_USER
    )
    assert 0 != done.returncode
    assert b"read-only" in done.stderr
    assert [] == fleet.sacct()


def test_the_test_beds_own_configuration_is_good() -> None:
    containers.execute(FACTORY, ["aerotow", "config", "check", tower.CONFIG_FILE], user=model.FACTORY_USER)
