"""The site's own admin decides: by the factory, and by running pilots while no factory runs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from testbed import containers, model
from tests.system.fleet import (
    Fleet,
    jobs_left,
    new_fleet,
    on_login,
    remove_jobs,
    submit_jobs,
    wait_until,
)
from tests.system.test_factory import clean_up

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed")]

ALPHA = model.SITES[0]
FILE = "/etc/aerotow-policy.conf"
HOSTS = ("login.alpha", *(f"{node}.alpha" for node in ALPHA.nodes))


def rules(text: str | None) -> None:
    """The site's root writes the file on every host of the site, or removes it."""
    for name in HOSTS:
        host = model.host_named(name)
        if text is None:
            containers.execute(host, ["rm", "-f", FILE], user="root")
        else:
            containers.write_file(host, FILE, text.encode())


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    rules(None)
    made = new_fleet(
        sites=(ALPHA,),
        changes={'partition = "main"': f'partition = "main"\npolicy_file = "{FILE}"', '"15 s"': '"10 min"'},
    )
    yield made
    rules(None)
    clean_up(made)


def verdict(fleet: Fleet, cluster: int) -> list[tuple[str, str, str]]:
    told = fleet.ask("why", f"ap1#{cluster}.0")["verdicts"] or []
    return [(one["code"], one["owner"], one["text"]) for site in told for one in site["reasons"]]


@pytest.mark.timeout(900)
def test_a_denied_project_gets_no_pilot_and_no_match_with_the_factory_stopped(fleet: Fleet) -> None:
    # Mutations: plan._place without `closed`; start_expression without rules_expression.
    rules("deny project dp002  # until its bill is paid\n")
    fleet.start()
    denied = submit_jobs(fleet, 1, project="dp002")
    wait_until("the verdict names the file", lambda: "denied" in str(verdict(fleet, denied)), timeout_s=60)
    assert [("denied", "site")] == [(code, owner) for code, owner, _ in verdict(fleet, denied)]
    assert FILE in fleet.command("why", f"ap1#{denied}.0")
    assert f"rules of the site's admin in {FILE} (owner: the site): deny project dp002" in fleet.command("sites")
    time.sleep(6)
    assert [] == fleet.squeue()
    # One pilot for another project; the denied job stays out of it, from its first ad on.
    taken = submit_jobs(fleet, 1, project="dp001", seconds=1)
    wait_until("the allowed job has run", lambda: jobs_left(taken) == 0, timeout_s=120)
    assert 1 == jobs_left(denied)
    fleet.stop()
    began = time.monotonic()
    rules("deny project dp002\ndeny user alice\n")
    last = 0
    while time.monotonic() - began < 150:
        last = submit_jobs(fleet, 1, project="dp001", seconds=1)
        time.sleep(20)
        if jobs_left(last):
            break
    print(f"refused after {time.monotonic() - began:.0f} s")
    assert (1, 1) == (jobs_left(last), jobs_left(denied))
    remove_jobs(last, denied)
    assert 1 == len(fleet.sacct())


@pytest.mark.timeout(600)
def test_pause_cap_and_garbage_are_the_sites_own_word(fleet: Fleet) -> None:
    rules("pause power work until Tuesday\n")
    fleet.start()
    cluster = submit_jobs(fleet, 9)
    wait_until("paused", lambda: "paused" in str(verdict(fleet, cluster)), timeout_s=60)
    assert "power work until Tuesday" in fleet.command("sites")
    rules("deny everybody\n")
    wait_until("garbage closes too", lambda: "line 1 is no rule" in str(verdict(fleet, cluster)), timeout_s=60)
    assert [] == fleet.squeue()
    on_login(ALPHA, f"scontrol update PartitionName={ALPHA.partition} State=DOWN", user="root")
    try:
        rules("cap max_cores 4\n")
        wait_until("one pilot of four cores", lambda: len(fleet.squeue()) == 1, timeout_s=60)
        wait_until("the cap is told", lambda: ("site_cap", "site") in [v[:2] for v in verdict(fleet, cluster)])
        assert 1 == len(fleet.squeue())
        rules("pause\n")
        wait_until("what waits is taken back", lambda: not fleet.squeue(), timeout_s=60)
    finally:
        on_login(ALPHA, f"scontrol update PartitionName={ALPHA.partition} State=UP", user="root")
    remove_jobs(cluster)
