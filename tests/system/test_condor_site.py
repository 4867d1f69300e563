"""A site that runs HTCondor: plain jobs of the pool in pilots there; its own queue and history are the witness."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from testbed import bed as federation
from testbed import containers, htcsite, model, tower
from tests.system.fleet import (
    FACTORY,
    Fleet,
    assert_all_done,
    assert_pilots_leave_and_the_breaker_opens,
    jobs_left,
    let_no_pilot_join,
    new_fleet,
    remove_all_jobs,
    submit_jobs,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed")]

DELTA = model.htc_site_named("delta")
LOGIN = htcsite.login_host(DELTA.name)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A factory that has this one site."""
    federation.up(print, htc=[DELTA])
    token_file = f"{tower.SECRETS_DIR}/{DELTA.name}.token"
    owner = f"{model.FACTORY_USER}:{model.FACTORY_USER}"
    content = f"{htcsite.token(DELTA.name)}\n".encode()
    containers.write_file(FACTORY, token_file, content, mode=0o600, owner=owner)
    made = new_fleet(sites=(), extra=tower.htc_site_text(DELTA, token_file=token_file))
    yield made
    if made.running():
        made.kill()
    remove_all_jobs(made)
    condor("condor_rm", "-constraint", f'AerotowInstance == "{made.instance}"', check=False)


def condor(*argv: str, check: bool = True) -> str:
    """A command of HTCondor's own at the site, as its admin."""
    done = containers.execute_raw(LOGIN, list(argv), user="root")
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def pilots_there(fleet: Fleet) -> list[dict[str, Any]]:
    """Every pilot that the site's HTCondor ever had of this factory: its queue and its history."""
    constraint = f'AerotowInstance == "{fleet.instance}" && AerotowPilot isnt undefined'
    attributes = "ClusterId,AerotowPilot,JobStatus,NumShadowStarts,ExitCode,HoldReason"
    queue = condor("condor_q", "-allusers", "-json", "-constraint", constraint, "-attributes", attributes)
    past = condor("condor_history", "-json", "-constraint", constraint, "-attributes", attributes)
    ads = [ad for text in (queue, past) if text.strip() for ad in json.loads(text)]
    # A job leaves the queue between the two questions, or is in both for a moment.
    return list({ad["ClusterId"]: ad for ad in ads}.values())


def assert_books_agree(fleet: Fleet) -> None:
    """Each pilot once at the site, started at most once, and in the ledger as ended."""
    there = pilots_there(fleet)
    names = [ad["AerotowPilot"] for ad in there]
    assert len(names) == len(set(names))
    assert [] == [ad for ad in there if ad.get("NumShadowStarts", 0) > 1]
    known = {pilot["pilot_id"]: pilot for pilot in fleet.ask("pilots", "--all")}
    assert set(names) <= set(known)
    assert {} == {name: known[name]["phase"] for name in names if known[name]["phase"] != "ended"}


def wait_pilots_ended(fleet: Fleet) -> None:
    wait_until(
        "the ledger has every pilot's end",
        lambda: all(pilot["phase"] == "ended" for pilot in fleet.ask("pilots", "--all")),
        timeout_s=120,
    )


def test_plain_jobs_run_in_pilots_there_although_the_factory_is_killed_while_it_submits(fleet: Fleet) -> None:
    # Mutation: AerotowPilot left out of the job's ad, and what the killed factory submitted is lost to the next one.
    cluster = submit_jobs(fleet, 4)
    fleet.start("--crash-at", "submitted")
    wait_until("it dies, and the ledger does not know what it submitted", lambda: not fleet.running(), timeout_s=60)
    assert pilots_there(fleet)
    fleet.start()
    wait_until("all jobs are done", lambda: jobs_left(cluster) == 0, timeout_s=120)
    assert_all_done({cluster: 4})
    wait_pilots_ended(fleet)
    assert_books_agree(fleet)
    ended = fleet.ask("pilots", "--all")
    assert {"idle"} == {pilot["end_reason"] for pilot in ended}
    # Nothing is left at the site but the bundle's own job.
    constraint = f'AerotowInstance == "{fleet.instance}" && AerotowBundle is undefined'
    wait_until(
        "the queue is empty",
        lambda: condor("condor_q", "-allusers", "-constraint", constraint, "-af", "ClusterId") == "",
        timeout_s=60,
    )


@pytest.mark.long
def test_pilots_that_never_join_leave_and_open_the_breaker(fleet: Fleet) -> None:
    # Mutation: NOT_JOINED is no failure of the site (factory/breaker.py).
    let_no_pilot_join(fleet)
    fleet.start()
    submit_jobs(fleet, 40)
    assert_pilots_leave_and_the_breaker_opens(fleet, DELTA.name)
    assert 3 <= len(pilots_there(fleet)) <= 8


def test_a_check_of_the_site_finds_it_well_and_leaves_nothing_there(fleet: Fleet) -> None:
    findings = check(fleet)
    assert {} == {what: one for what, one in findings.items() if one["verdict"] != "good"}
    assert "reaches the collector" in findings["network"]["text"]
    mine = 'regexp("^check", AerotowInstance)'
    wait_until(
        "nothing of the check is left",
        lambda: condor("condor_q", "-allusers", "-constraint", mine, "-af", "ClusterId") == "",
        timeout_s=60,
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("old", "new", "what", "words"),
    [
        ("cores = 2", "cores = 200", "machines", "none of 1 has 200 cores"),
        ("delta.token", "delta.no-token", "schedd", "put the site's token there"),
        (f'schedd = "{LOGIN.fqdn}"', 'schedd = "elsewhere"', "schedd", "does not tell where schedd elsewhere is"),
    ],
)
def test_a_check_of_the_site_names_what_is_wrong(fleet: Fleet, old: str, new: str, what: str, words: str) -> None:
    text = (containers.read_file(FACTORY, fleet.config) or b"").decode()
    before, mark, delta = text.partition("[sites.delta]")
    assert old in delta
    changed = before + mark + delta.replace(old, new)
    owner = f"{model.FACTORY_USER}:{model.FACTORY_USER}"
    containers.write_file(FACTORY, fleet.config, changed.encode(), owner=owner)
    found = check(fleet)[what]
    assert "bad" == found["verdict"]
    assert words in found["text"]
    assert found["remedy"]


def check(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Findings by what was looked at."""
    argv = ["aerotow", "--config", fleet.config, "site", "check", "delta", "--json", "--wait", "60"]
    done = containers.execute_raw(FACTORY, argv, user=model.FACTORY_USER, timeout_s=200)
    assert done.stdout, done.stderr.decode()
    return {one["what"]: one for one in json.loads(done.stdout)["findings"]}
