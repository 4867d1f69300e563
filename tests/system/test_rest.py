"""A factory whose sites are all behind slurmrestd; pilots are counted in Slurm's own records."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from testbed import containers, model, site, tower
from tests.system.fleet import (
    FACTORY,
    Fleet,
    assert_all_done,
    assert_pilots_leave_and_the_breaker_opens,
    jobs_left,
    let_no_pilot_join,
    new_fleet,
    on_login,
    remove_all_jobs,
    squeue_of,
    submit_jobs,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed")]

OWNER = f"{model.FACTORY_USER}:{model.FACTORY_USER}"


def put_token(directory: str, name: str, *, lifespan_s: int = 36_000) -> None:
    """What the site's own renewal would do."""
    token = site.rest_token(name, lifespan_s=lifespan_s).encode()
    containers.write_file(FACTORY, f"{directory}/{name}.token", token, mode=0o600, owner=OWNER)


@pytest.fixture
def rest_fleet() -> Iterator[tuple[Fleet, str]]:
    """The fleet, and where its tokens are."""
    directory = f"{tower.STATE_DIR}/rest-{secrets.token_hex(3)}"
    containers.execute(FACTORY, ["mkdir", "-p", directory], user=model.FACTORY_USER)
    changes = {}
    for row in model.SITES:
        host = site.login_host(row.name).fqdn
        put_token(directory, row.name)
        authority = site.rest_authority(row.name)
        containers.write_file(FACTORY, f"{directory}/{row.name}.pem", authority, owner=OWNER)
        login = f'login = "{model.PILOT_USER}@{host}"'
        changes[login] = (
            f'{login}\nrest = "https://{host}:{model.REST_PORT}"\n'
            f'token_file = "{directory}/{row.name}.token"\nca_file = "{directory}/{row.name}.pem"'
        )
    made = new_fleet(changes=changes)
    yield made, directory
    if made.running():
        made.kill()
    remove_all_jobs(made)
    for row in made.sites:
        names = " ".join(job.job_id for job in squeue_of(row, made.instance))
        if names:
            on_login(row, f"scancel {names}")
    made.wait_empty(timeout_s=60)


def test_jobs_run_at_all_three_sites_through_slurmrestd(rest_fleet: tuple[Fleet, str]) -> None:
    """
    And while a site's token has expired: its reason and remedy in `aerotow sites`, nothing submitted or cancelled.

    Turned red by: make_site without ``rest`` (no reason appears), or a SiteSeen with an expired token.
    """
    fleet, directory = rest_fleet
    fleet.start()
    clusters = {submit_jobs(fleet, 2, where=f'TARGET.GlideinSite == "{row.name}"'): 2 for row in fleet.sites}
    wait_until("all jobs are done", lambda: jobs_left(*clusters) == 0, timeout_s=180, pause_s=2)
    assert_all_done(clusters)
    assert {row.name for row in fleet.sites} == {pilot["site"] for pilot in fleet.ask("pilots", "--all")}

    put_token(directory, "beta", lifespan_s=1)
    wait_until("the reason is shown", lambda: "token expired" in fleet.command("sites"), timeout_s=40)
    assert "renew it" in fleet.command("sites")
    before = {job.job_id for job in fleet.sacct() if job.site == "beta"}
    late = submit_jobs(fleet, 1, where='TARGET.GlideinSite == "beta"')
    wait_until("the loop has seen the job", lambda: len(fleet.events("cycle.finished")) > 3, timeout_s=40)
    cycles = len(fleet.events("cycle.finished"))
    wait_until("three more cycles", lambda: len(fleet.events("cycle.finished")) >= cycles + 3, timeout_s=60)
    assert before == {job.job_id for job in fleet.sacct() if job.site == "beta"}
    put_token(directory, "beta")
    wait_until("the job is done", lambda: jobs_left(late) == 0, timeout_s=120, pause_s=2)

    fleet.wait_ended()
    fleet.assert_no_pilot_doubled()
    fleet.assert_no_pilot_lost()


@pytest.mark.long
def test_pilots_that_never_join_leave_and_open_the_breaker(rest_fleet: tuple[Fleet, str]) -> None:
    # Mutation: NOT_JOINED is no failure of the site (factory/breaker.py).
    fleet, _ = rest_fleet
    let_no_pilot_join(fleet)
    fleet.start()
    submit_jobs(fleet, 40, where='TARGET.GlideinSite == "gamma"')
    assert_pilots_leave_and_the_breaker_opens(fleet, "gamma")
    assert len(fleet.sacct()) <= 8
