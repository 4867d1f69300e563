"""Faults of the way and of HTCondor itself at a site that runs it: what is unknown is said to be unknown."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benches import CondorBench, condor_bench, eventually, request

from factory.sites.condor import CondorSite
from factory.sites.contract import (
    FinalSeen,
    KnownPilot,
    NotSent,
    SiteSeen,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from glidein.model import BatchState
from testbed import containers, htcsite
from testbed.model import PILOT_USER

pytestmark = pytest.mark.system

SITE = "delta"
LOGIN = htcsite.login_host(SITE)


@pytest.fixture(scope="module")
def bench() -> Iterator[CondorBench]:
    with tempfile.TemporaryDirectory() as directory, condor_bench(SITE, Path(directory)) as made:
        yield made


@pytest.fixture(autouse=True)
def healed(bench: CondorBench) -> Iterator[None]:
    """Whatever a test broke runs again, and answers."""
    yield
    daemon("CONT", "condor_schedd")
    daemon("CONT", "condor_collector")
    for _ in range(60):
        if isinstance(bench.site.look((), now_s=time.time()), SiteSeen):
            return
        time.sleep(0.5)
    raise AssertionError("the site does not come back")


def daemon(word: str, name: str) -> None:
    containers.execute_raw(LOGIN, ["pkill", f"-{word}", "-f", f"^{name}"], user="root")


def known(*requests: SubmitRequest) -> tuple[KnownPilot, ...]:
    """As the ledger has them after a lost answer: no id."""
    return tuple(KnownPilot(pilot_id=one.pilot_id, batch_id=None, intended_s=int(time.time()) - 60) for one in requests)


def look(bench: CondorBench, *requests: SubmitRequest) -> SiteSeen | SiteUnseen:
    return bench.site.look(known(*requests), now_s=time.time())


def submit(bench: CondorBench, wanted: SubmitRequest, *, patience_s: float = 30) -> SubmitOutcome:
    (outcome,) = bench.site.submit((wanted,), deadline_s=time.time() + patience_s)
    return outcome


def impatient(bench: CondorBench) -> CondorBench:
    """The same site for a factory that waits 4 s; it remembers where the schedd is."""
    site = CondorSite(replace(bench.settings, command_timeout_s=4), bench.remote, clock=time.time)
    site._rules, site._bundle_dir = bench.site._rules, bench.site._bundle_dir
    return replace(bench, site=site)


def jobs_named(pilot_id: str) -> list[str]:
    """JobStatus of every job of that name, from HTCondor's own queue and history."""
    constraint = f'AerotowPilot == "{pilot_id}"'
    command = f"-constraint '{constraint}' -af JobStatus"
    return containers.execute(LOGIN, ["sh", "-c", f"condor_q -allusers {command}; condor_history {command}"]).split()


def test_a_schedd_that_hangs_is_unseen_and_what_was_sent_to_it_is_found_once(bench: CondorBench) -> None:
    wanted = request(bench, "stays")
    assert bench.site.prepare() == ""
    assert isinstance(look(bench), SiteSeen)
    short = impatient(bench)
    daemon("STOP", "condor_schedd")
    sight = look(short)
    assert isinstance(sight, SiteUnseen)
    assert "no answer in 4 s" in sight.reason
    outcome = submit(short, wanted, patience_s=6)
    assert isinstance(outcome, Uncertain), outcome
    assert short.site.cancel(known(wanted)).sent == ()
    daemon("CONT", "condor_schedd")
    assert isinstance(look(bench, wanted), SiteSeen)
    time.sleep(2)
    # Its sender was killed: if the job is there at all, nobody sends its files, and it does not run.
    assert [] == [status for status in jobs_named(wanted.pilot_id) if status not in ("5", "3")]


def test_a_submission_killed_between_its_steps_never_runs_and_is_seen_by_its_name(bench: CondorBench) -> None:
    """The process that submits is killed after the job is queued and before its files are there."""
    wanted = request(bench, "stays")
    # Its files take so long that there is time between the steps.
    assert bench.site.prepare() == ""
    big = replace(wanted, files=(*wanted.files, ("ballast", b"x" * 300_000_000)))
    outcomes: list[SubmitOutcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(submit(bench, big)))
    thread.start()
    for _ in range(300):
        if jobs_named(wanted.pilot_id):
            break
        time.sleep(0.02)
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
    thread.join(40)
    assert [Uncertain] == [type(outcome) for outcome in outcomes], outcomes
    sight = eventually(bench, known(wanted), lambda sight: wanted.pilot_id in {record.name for record in sight.live})
    (record,) = [record for record in sight.live if record.name == wanted.pilot_id]
    assert BatchState.PENDING is record.state
    assert ["5"] == jobs_named(wanted.pilot_id)
    assert bench.site.cancel(known(wanted)).problem == ""
    eventually(bench, known(wanted), lambda sight: not [one for one in sight.live if one.name == wanted.pilot_id])


def workers() -> list[int]:
    """Processes of this test that speak to the site."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "overlay.remote_worker"], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


def test_a_schedd_that_was_killed_comes_back_with_every_pilot(bench: CondorBench) -> None:
    wanted = request(bench, "stays")
    assert isinstance(submit(bench, wanted), Submitted)
    daemon("KILL", "condor_schedd")
    # Its master starts it anew, at another address.
    sights: list[SiteSeen] = []

    def back() -> bool:
        sight = look(bench, wanted)
        sights.extend([sight] if isinstance(sight, SiteSeen) else [])
        return bool(sights)

    for _ in range(60):
        if back():
            break
        time.sleep(0.5)
    assert wanted.pilot_id in {record.name for record in sights[0].live}
    assert 1 == len(jobs_named(wanted.pilot_id))


def test_without_its_collector_a_site_is_still_seen_where_the_schedd_was(bench: CondorBench) -> None:
    # Not one that hangs: its own schedd hangs with it then (25.14.1, seen), and the site is rightly unseen.
    assert isinstance(look(bench), SiteSeen)
    host = bench.remote.collector.partition(":")[0]
    nobody = replace(bench.remote, collector=f"{host}:1")
    stranger = CondorSite(bench.settings, replace(nobody, addresses={}), clock=time.time)
    assert isinstance(stranger.look((), now_s=time.time()), SiteUnseen)
    seen = look(impatient(replace(bench, remote=nobody)))
    assert isinstance(seen, SiteSeen), seen


@pytest.mark.parametrize("case", ["expired", "of another pool", "open to others", "no token", "without WRITE"])
def test_a_bad_token_is_told_and_nothing_is_sent(bench: CondorBench, case: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    good = bench.remote.token_file.read_text()
    text = {"expired": htcsite.token(SITE, lifetime_s=1) if case == "expired" else "", "no token": "<html>"}.get(
        case, good
    )
    if case == "of another pool":
        text = htcsite.token(SITE, identity="pilot@elsewhere", issuer="elsewhere")
    if case == "without WRITE":
        text = htcsite.token(SITE, scopes=("READ",))
    path.write_text(text)
    path.chmod(0o644 if case == "open to others" else 0o600)
    if case == "expired":
        time.sleep(2)
    remote = replace(bench.remote, token_file=path, work_dir=tmp_path, addresses={})
    site = CondorSite(bench.settings, remote, clock=time.time)
    site._bundle_dir = "/nowhere"
    wanted = request(bench, "stays")
    if case != "without WRITE":
        sight = site.look((), now_s=time.time())
        assert isinstance(sight, SiteUnseen), sight
        assert sight.reason
    (outcome,) = site.submit((wanted,), deadline_s=time.time() + 20)
    assert isinstance(outcome, NotSent), outcome
    assert [] == jobs_named(wanted.pilot_id)


def test_a_pilot_that_is_held_says_why_and_does_not_wait_for_ever(bench: CondorBench) -> None:
    wanted = request(bench, "stays", offer=bench.waiting_offer())
    assert isinstance(submit(bench, wanted), Submitted)
    time.sleep(1)
    containers.execute(LOGIN, ["condor_hold", "-constraint", f'AerotowPilot == "{wanted.pilot_id}"'], user=PILOT_USER)
    sight = eventually(bench, known(wanted), lambda sight: any("held" in one.reason for one in sight.live))
    (record,) = [one for one in sight.live if one.name == wanted.pilot_id]
    assert "held: held by a person" in record.reason
    # Two minutes are too long for a test; its admin says that they are over.
    qedit = ["condor_qedit", "-constraint", f'AerotowPilot == "{wanted.pilot_id}"', "EnteredCurrentStatus", "1"]
    containers.execute(LOGIN, qedit, user="root")
    sight = eventually(
        bench,
        known(wanted),
        lambda sight: (
            isinstance(sight.final, FinalSeen) and wanted.pilot_id in {record.name for record in sight.final.records}
        ),
    )
    assert isinstance(sight.final, FinalSeen)
    (final,) = [one for one in sight.final.records if one.name == wanted.pilot_id]
    assert BatchState.FAILED is final.state
    assert "held by a person" in final.reason


def test_a_pilot_that_lost_its_slot_does_not_run_again(bench: CondorBench) -> None:
    # Mutation: NumShadowStarts taken out of requirements and periodic_remove (condortexts.py): it runs twice.
    wanted = request(bench, "stays")
    assert isinstance(submit(bench, wanted), Submitted)
    eventually(
        bench,
        known(wanted),
        lambda sight: any(one.name == wanted.pilot_id and one.state is BatchState.RUNNING for one in sight.live),
    )
    constraint = f'AerotowPilot == "{wanted.pilot_id}"'
    containers.execute(LOGIN, ["condor_vacate_job", "-fast", "-constraint", constraint], user="root")
    sight = eventually(
        bench,
        known(wanted),
        lambda sight: (
            isinstance(sight.final, FinalSeen) and wanted.pilot_id in {record.name for record in sight.final.records}
        ),
    )
    assert isinstance(sight.final, FinalSeen)
    (final,) = [one for one in sight.final.records if one.name == wanted.pilot_id]
    assert BatchState.PREEMPTED is final.state
    argv = ["condor_history", "-constraint", constraint, "-af", "NumShadowStarts"]
    assert ["1"] == containers.execute(LOGIN, argv).split()


def test_the_token_is_in_no_job_ad(bench: CondorBench) -> None:
    wanted = request(bench, "stays")
    secret = b"a-secret-that-is-looked-for"
    wanted = replace(wanted, files=(wanted.files[0], ("token", secret)))
    assert isinstance(submit(bench, wanted), Submitted)
    ad = containers.execute(
        LOGIN, ["condor_q", "-allusers", "-long", "-constraint", f'AerotowPilot == "{wanted.pilot_id}"']
    )
    assert wanted.pilot_id in ad
    assert secret.decode() not in ad
    modes = containers.execute(
        LOGIN, ["sh", "-c", "find $(condor_config_val SPOOL) -name token -printf '%m %u\\n'"], user="root"
    )
    assert {"600 pilot"} == set(modes.splitlines())
