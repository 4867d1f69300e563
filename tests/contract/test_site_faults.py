"""Faults of the way and of Slurm itself, on the three real Slurms: what is unknown is said to be unknown."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benches import INSTANCE, SlurmBench, eventually, request, slurm_bench

from factory.sites import scripts
from factory.sites.contract import (
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    SiteSeen,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from factory.sites.exchange import exchange
from factory.sites.shell import Script
from factory.sites.slurm import spool_archive, submit_orders
from testbed import containers
from testbed import site as sites
from testbed.model import PILOT_USER

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["alpha", "beta", "gamma"])
def bench(request: pytest.FixtureRequest) -> Iterator[SlurmBench]:
    with tempfile.TemporaryDirectory() as directory, slurm_bench(request.param, Path(directory)) as made:
        yield made


@pytest.fixture(autouse=True)
def healed(bench: SlurmBench) -> Iterator[None]:
    """Whatever a test broke runs again, and answers."""
    yield
    containers.heal(sites.login_host(bench.site.name))
    for _ in range(40):
        if isinstance(bench.site.look((), now_s=time.time()), SiteSeen):
            return
        time.sleep(0.5)
    raise AssertionError("the site does not come back")


def known(*requests: SubmitRequest) -> tuple[KnownPilot, ...]:
    """As the ledger has them after a lost answer: no id."""
    return tuple(KnownPilot(pilot_id=one.pilot_id, batch_id=None, intended_s=int(time.time()) - 60) for one in requests)


def look(bench: SlurmBench, *requests: SubmitRequest) -> SiteSeen | SiteUnseen:
    return bench.site.look(known(*requests), now_s=time.time())


def submit(bench: SlurmBench, wanted: SubmitRequest, *, patience_s: float = 30) -> SubmitOutcome:
    (outcome,) = bench.site.submit((wanted,), deadline_s=time.time() + patience_s)
    return outcome


def jobs_named(bench: SlurmBench, pilot_id: str) -> int:
    """How many jobs of that name Slurm has, counted by squeue and not through our code."""
    argv = ["squeue", "-h", "-t", "all", "--name", pilot_id, "-o", "%A"]
    return len(containers.execute(sites.login_host(bench.site.name), argv, user=PILOT_USER).split())


def on_login(bench: SlurmBench, command: str) -> None:
    argv = ["sh", "-c", command]
    containers.execute_raw(sites.login_host(bench.site.name), argv, user=PILOT_USER)


def in_thread(bench: SlurmBench, wanted: SubmitRequest, then: threading.Event) -> tuple[threading.Thread, list[object]]:
    """Submit beside the test."""
    outcomes: list[object] = []

    def call() -> None:
        outcomes.append(submit(bench, wanted))
        then.set()

    thread = threading.Thread(target=call)
    thread.start()
    return thread, outcomes


def remote_sbatch_runs(bench: SlurmBench, pilot_id: str) -> bool:
    argv = ["pgrep", "-x", "-a", "sbatch"]
    done = containers.execute_raw(sites.login_host(bench.site.name), argv, user=PILOT_USER)
    return pilot_id in done.stdout.decode()


def until_sbatch_hangs(bench: SlurmBench, pilot_id: str) -> None:
    for _ in range(50):
        if remote_sbatch_runs(bench, pilot_id):
            time.sleep(0.5)
            return
        time.sleep(0.2)
    raise AssertionError("sbatch never ran")


def our_clients(bench: SlurmBench) -> list[int]:
    """ssh clients of this test's connection, not its master."""
    pattern = f"ssh .*{bench.shell._control_path}.*ControlMaster=no"
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def test_lost_answers_are_uncertain_and_every_job_is_found_once(bench: SlurmBench) -> None:
    """
    ssh killed, the remote sbatch killed, and sbatch's own time-out, all while the controller is stuck.

    Measured before: in each case the job appears once the controller goes on.
    """
    cut, killed, late = (request(bench, "stays") for _ in range(3))
    assert isinstance(look(bench), SiteSeen)
    sites.signal_daemon(bench.site.name, "slurmctld", "STOP")

    thread, outcomes = in_thread(bench, cut, threading.Event())
    until_sbatch_hangs(bench, cut.pilot_id)
    for pid in our_clients(bench):
        os.kill(pid, signal.SIGKILL)
    thread.join(20)
    assert [Uncertain] == [type(outcome) for outcome in outcomes]

    thread, outcomes = in_thread(bench, killed, threading.Event())
    until_sbatch_hangs(bench, killed.pilot_id)
    on_login(bench, f"pkill -9 -f '^[^ ]*sbatch .*{killed.pilot_id}'")
    thread.join(20)
    assert [Uncertain] == [type(outcome) for outcome in outcomes]

    outcome = submit(bench, late)
    assert isinstance(outcome, Uncertain)
    assert "timed out" in outcome.reason

    sites.signal_daemon(bench.site.name, "slurmctld", "CONT")
    wanted = (cut, killed, late)
    eventually(
        bench,
        known(*wanted),
        lambda sight: {one.pilot_id for one in wanted} <= {record.name for record in sight.live},
    )
    assert [1, 1, 1] == [jobs_named(bench, one.pilot_id) for one in wanted]


def test_a_submission_cut_while_it_is_sent_never_runs_a_half(bench: SlurmBench) -> None:
    """
    The client ends after part of the script or of the orders went over the real connection.

    Measured with a script on sbatch's stdin: it ran its first half, and ended COMPLETED.
    """
    assert isinstance(look(bench), SiteSeen)
    first, second = request(bench, "stays"), request(bench, "stays")
    bench.site._run(scripts.UPLOAD, spool_archive((first, second)))
    orders = submit_orders((first, second), limit_s=int(time.time()) + 600)
    raw = scripts.SUBMIT.encode() + f"cafe\n{INSTANCE}\n".encode() + orders
    argv = bench.shell.client_argv(Script(text=scripts.SUBMIT, timeout_s=20))
    after_first = raw.index(b"\nsubmit ") + len(f"\nsubmit {first.pilot_id}")
    for length in (100, len(scripts.SUBMIT) - 3, len(scripts.SUBMIT) + 30, after_first):
        exchange(argv, data=raw[:length], timeout_s=20, limit_bytes=100_000)
    time.sleep(1)
    assert [0, 0] == [jobs_named(bench, one.pilot_id) for one in (first, second)]
    exchange(argv, data=raw[: after_first + 1], timeout_s=20, limit_bytes=100_000)
    time.sleep(1)
    assert [1, 0] == [jobs_named(bench, one.pilot_id) for one in (first, second)]


def test_a_dead_controller_is_unseen_and_nothing_is_sent(bench: SlurmBench) -> None:
    wanted = request(bench, "stays")
    assert isinstance(look(bench), SiteSeen)
    sites.stop_daemon(bench.site.name, "slurmctld")
    sight = look(bench)
    assert isinstance(sight, SiteUnseen)
    assert "Unable to contact slurm controller" in sight.reason
    outcome = submit(bench, wanted)
    assert isinstance(outcome, NotSent), outcome
    assert "connect failure" in outcome.reason
    assert bench.site.cancel(known(wanted)).problem.startswith("scancel: ")
    sites.start_daemon(bench.site.name, "slurmctld")
    for _ in range(40):
        if isinstance(look(bench), SiteSeen):
            break
        time.sleep(0.5)
    assert jobs_named(bench, wanted.pilot_id) == 0


def test_dead_accounting_leaves_the_queue_seen_and_ends_open(bench: SlurmBench) -> None:
    wanted = request(bench, "stays")
    assert isinstance(submit(bench, wanted), Submitted)
    sites.stop_daemon(bench.site.name, "slurmdbd")
    sight = look(bench, wanted)
    assert isinstance(sight, SiteSeen)
    assert wanted.pilot_id in {record.name for record in sight.live}
    assert isinstance(sight.final, FinalUnseen)
    sites.start_daemon(bench.site.name, "slurmdbd")
    eventually(bench, known(wanted), lambda sight: isinstance(sight.final, FinalSeen))


def test_dead_authentication_is_unseen_and_nothing_is_sent(bench: SlurmBench) -> None:
    wanted = request(bench, "stays")
    sites.stop_daemon(bench.site.name, "munged")
    assert isinstance(look(bench), SiteUnseen)
    assert isinstance(submit(bench, wanted), NotSent)
    sites.start_daemon(bench.site.name, "munged")
    time.sleep(2)
    assert jobs_named(bench, wanted.pilot_id) == 0


def test_a_connection_that_died_is_made_anew(bench: SlurmBench) -> None:
    assert isinstance(look(bench), SiteSeen)
    before = bench.shell.connection
    masters = subprocess.run(
        ["pgrep", "-f", f"ControlMaster=yes.*{bench.shell._control_path}"], capture_output=True, text=True
    ).stdout.split()
    assert len(masters) == 1
    os.kill(int(masters[0]), signal.SIGKILL)
    assert isinstance(look(bench), SiteSeen)
    assert bench.shell.connection == before + 1


def test_a_host_without_sshd_is_unseen_and_nothing_is_sent(bench: SlurmBench) -> None:
    bench.site.close()
    sites.stop_daemon(bench.site.name, "sshd")
    sight = look(bench)
    assert isinstance(sight, SiteUnseen)
    assert sight.reason.startswith("no connection: ")
    assert isinstance(submit(bench, request(bench, "stays")), NotSent)


def test_all_goes_over_one_connection(bench: SlurmBench) -> None:
    before = bench.shell.connection
    for _ in range(5):
        assert isinstance(look(bench), SiteSeen)
    connections = bench.shell.connection - before
    assert connections <= 1
    argv = ["sh", "-c", "pgrep -u pilot -x sshd -c; true"]
    count = containers.execute(sites.login_host(bench.site.name), argv)
    assert int(count or 0) < 10
