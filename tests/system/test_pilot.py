"""Pilots placed by hand on three real Slurms, in a real pool: what pilot.sh promises, seen from the outside."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from glidein.model import EXIT_CODES, EndReason
from tests.system.conftest import Bed
from tests.system.fleet import wait_until
from tests.system.hand import SITES, SLEEPER, Hand, new_hand, take_back


@pytest.fixture
def hand(bed: Bed) -> Iterator[Hand]:
    made = new_hand(bed)
    yield made
    take_back(made)


@pytest.mark.parametrize("site", SITES)
def test_pilot_joins_runs_a_job_and_leaves_when_idle(hand: Hand, site: str) -> None:
    pilot_id = hand.pilot(site, idle_s=8)
    cluster = hand.submit("#!/bin/sh\necho $PATH; read x; exit 3\n", only=pilot_id)
    wait_until("the job is done", lambda: hand.statuses(cluster) == [4])
    row = hand.jobs(cluster)[0]
    assert (False, 3, pilot_id) == (row["ExitBySignal"], row["ExitCode"], row["MachineAttrGlideinPilotId0"])
    wait_until("the token has left the home", lambda: hand.spooled(pilot_id, "token") is None, timeout_s=15)
    wait_until("the pilot has left", lambda: hand.ended(pilot_id), timeout_s=60)
    report = hand.report(pilot_id)
    assert (EndReason.IDLE, 0, 1, 1) == (report.reason, report.exit_code, report.jobs, report.cores)
    assert report.joined_s is not None
    wait_until("sacct agrees", lambda: hand.slurm(pilot_id) == ("COMPLETED", "0"), timeout_s=20)
    assert [] == hand.slots(pilot_id)
    assert [] == hand.scratch_left([pilot_id])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "0" * 64}, EndReason.BAD_BUNDLE),
        ({"token": "nonsense\n", "join_s": 10}, EndReason.NOT_JOINED),
        # A proper token, of another site: the collector takes the connection and drops the ads without a word.
        ({"token_of": "beta", "join_s": 20}, EndReason.NOT_JOINED),
        ({"scratch_dir": "/nonexistent"}, EndReason.NO_SCRATCH),
        ({"disk_mib": 100_000_000}, EndReason.NO_SCRATCH),
    ],
)
def test_pilot_that_cannot_work_says_why_and_leaves_nothing(hand: Hand, change: dict, reason: EndReason) -> None:
    pilot_id = hand.pilot("alpha", **change)
    wait_until("the pilot has left", lambda: hand.ended(pilot_id), timeout_s=60)
    report = hand.report(pilot_id)
    assert (reason, EXIT_CODES[reason]) == (report.reason, report.exit_code), report
    assert hand.spooled(pilot_id, "token") is None
    assert (hand.spooled(pilot_id, "log.tail") is not None) == (reason is EndReason.NOT_JOINED)
    wait_until("sacct agrees", lambda: hand.slurm(pilot_id) == ("FAILED", str(EXIT_CODES[reason])), timeout_s=20)
    assert [] == hand.slots(pilot_id)


def test_no_secret_of_a_pilot_can_be_seen_at_the_site(hand: Hand) -> None:
    token = hand.mint("alpha").strip()
    secret = token.rpartition(".")[2]
    # Planted where the pilot's must not be: the look below finds it, so it would find the pilot's too.
    planted = f"PLANTED={secret} setsid sleep 900 >/dev/null 2>&1 & echo $!"
    planted_pid = hand.bed.run("n1.alpha", ["sh", "-s"], stdin=planted.encode()).strip()
    pilot_id = hand.pilot("alpha", token=token + "\n")
    _, job_id = hand.placed[pilot_id]
    wait_until("the pilot is in the pool", lambda: hand.slots(pilot_id) != [])
    seen = hand.bed.sites["alpha"].sh(f"scontrol show job {job_id}; scontrol write batch_script {job_id} -")
    # The pattern comes by a file, or the look would find itself.
    look = (
        "umask 077; cat >/root/pattern; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null"
        " | tr '\\0' '\\n' | grep -cFf /root/pattern; rm /root/pattern"
    )
    found = {
        node: hand.bed.attempt(f"{node}.alpha", ["sh", "-c", look], stdin=secret.encode()).stdout.decode().strip()
        for node in ("n1", "n2")
    }
    hand.bed.run("n1.alpha", ["kill", planted_pid])
    assert {"n1": "1", "n2": "0"} == found
    assert secret not in seen
    for node in ("n1", "n2"):
        modes = hand.bed.attempt(f"{node}.alpha", ["sh", "-c", "stat -c %a /tmp/atw.*/tokens.d/* /tmp/atw.*"])
        assert set(modes.stdout.decode().split()) <= {"600", "700"}


def test_start_refuses_a_job_that_cannot_end_in_time(hand: Hand) -> None:
    pilot_id = hand.pilot("alpha", walltime_s=300)
    long = hand.submit("#!/bin/sh\necho never\n", only=pilot_id, extra="allowed_execute_duration = 400")
    short = hand.submit("#!/bin/sh\necho once\n", only=pilot_id, extra="allowed_execute_duration = 20")
    wait_until("the short one is done", lambda: hand.statuses(short) == [4])
    assert [1] == hand.statuses(long)


def test_pilot_ends_by_itself_before_its_time_limit(hand: Hand) -> None:
    pilot_id = hand.pilot("gamma", walltime_s=120)
    wait_until("the pilot has left", lambda: hand.ended(pilot_id), timeout_s=130, pause_s=3)
    report = hand.report(pilot_id)
    assert (EndReason.LIFETIME, 10) == (report.reason, report.exit_code)
    assert 85 <= report.end_s - report.start_s <= 120


@pytest.mark.parametrize("site", SITES)
def test_scancel_hands_jobs_back_and_none_is_reported_completed(hand: Hand, site: str) -> None:
    """Twenty jobs without a signal handler over the three sites; every one ends elsewhere as if nothing had been."""
    count = {"alpha": 7, "beta": 7, "gamma": 6}[site]
    cores = 2 if site == "gamma" else 4
    first = [hand.pilot(site, cores=cores) for _ in range(-(-count // cores))]
    cluster = hand.submit(SLEEPER.format(seconds=25), count=count)
    wait_until("all run", lambda: hand.statuses(cluster) == [2] * count)
    time.sleep(3)
    for pilot_id in first:
        hand.cancel(pilot_id)
    wait_until("all are idle again", lambda: hand.statuses(cluster) == [1] * count, timeout_s=20)
    for pilot_id in first:
        wait_until("the pilot has left", lambda p=pilot_id: hand.ended(p), timeout_s=30)
        report = hand.report(pilot_id)
        assert (EndReason.STOPPED, 20) == (report.reason, report.exit_code)
    wait_until("no scratch is left", lambda: hand.scratch_left(first) == [], timeout_s=10)
    for _ in first:
        hand.pilot(site, cores=cores)
    wait_until("all are done", lambda: hand.statuses(cluster) == [4] * count, timeout_s=120)
    rows = hand.jobs(cluster)
    assert [(2, False, 0)] * count == [(r["NumJobStarts"], r["ExitBySignal"], r["ExitCode"]) for r in rows]
    assert not {r["MachineAttrGlideinPilotId0"] for r in rows} & set(first)


def test_payload_that_kills_itself_with_the_same_signal_is_reported_so(hand: Hand) -> None:
    pilot_id = hand.pilot("beta")
    cluster = hand.submit("#!/bin/sh\nkill -TERM $$\n", only=pilot_id)
    wait_until("the job is done", lambda: hand.statuses(cluster) == [4])
    row = hand.jobs(cluster)[0]
    assert (True, 15) == (row["ExitBySignal"], row["ExitSignal"])
