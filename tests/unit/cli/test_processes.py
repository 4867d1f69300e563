"""Commands as processes of their own: the loop and its signals, and a plan where nothing can be looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accounting.engine import open_database
from accounting.ledger import Ledger
from factory.matching import match_observation
from factory.observe import Sights
from factory.picture import history
from factory.preview import preview_of
from tests.simulation.world import INSTANCE
from tests.unit.cli.desk import Desk, bucket

CONFIG = """
[instance]
name = "lonely"
state_dir = "{directory}"

[pool]
collector = "127.0.0.1:1"
trust_domain = "pool"
secrets_dir = "{directory}"

[bundle]
path = "{directory}/bundle.tar.gz"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[factory]
cycle = "1 s"
usage_interval = "1 s"
query_timeout = "10 s"

[access_points.ap1]
schedd = "ap1.pool"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "aerotow.toml"
    path.write_text(CONFIG.format(directory=tmp_path))
    return path


def start(config: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aerotow", "--config", str(config), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_cycle(config: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ledger = Ledger(open_database(f"sqlite:///{config.parent / 'aerotow.db'}"))
        if ledger.journal_latest("lonely") is not None:
            return
        time.sleep(0.3)
    raise AssertionError("no cycle in 60 s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_in_order_and_gives_the_lease_back(config: Path, number: signal.Signals) -> None:
    # Mutation: leave SIGTERM to its default action (aerotow/cli/run.py), and the exit code is -15.
    process = start(config, "run", "--log-format", "json")
    wait_for_a_cycle(config)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (0, "") == (process.returncode, out), err
    events = [json.loads(line) for line in err.splitlines()]
    assert "cycle.finished" in {event["event"] for event in events}
    assert None is Ledger(open_database(f"sqlite:///{config.parent / 'aerotow.db'}")).lease("lonely")


def test_once_runs_one_cycle(config: Path) -> None:
    process = start(config, "run", "--once", "--log-format", "json")
    _, err = process.communicate(timeout=90)
    assert 0 == process.returncode, err
    cycles = [json.loads(line) for line in err.splitlines() if '"cycle.finished"' in line]
    assert 1 == len(cycles)
    assert cycles[0]["slots_unseen"]
    status = start(config, "status")
    out, _ = status.communicate(timeout=60)
    assert "nothing is asked for: the pool's slots are not seen" in out
    assert "ap1: unseen since" in out


def test_a_crash_point_kills(config: Path) -> None:
    process = start(config, "run", "--once", "--crash-at", "recorded:1")
    process.communicate(timeout=90)
    assert -signal.SIGKILL == process.returncode


def test_a_plan_of_what_cannot_be_seen_is_partly_done(config: Path) -> None:
    process = start(config, "plan", "--json")
    out, err = process.communicate(timeout=90)
    assert 3 == process.returncode, err
    assert {"ap1", "collector"} == {one["name"] for one in json.loads(out)["unseen"]}


def test_a_preview_gives_each_site_its_number_and_reasons(desk: Desk) -> None:
    desk.world.submit_jobs(100)
    desk.world.more = (bucket(jobs=2, first="7.0", memory=88231),)
    desk.world.cycle()
    last = next(history(desk.world.ledger, INSTANCE)).observation
    policy = desk.world.policy()
    sights = Sights(sites=last.sites, slots=last.slots, demands=last.demands)
    made = preview_of(last, sights, policy=policy, table=match_observation(last, policy))
    assert [5, 5] == [site.submits for site in made.sites]
    assert [True, True] == ["max_pending" in {reason.code for reason in site.reasons} for site in made.sites]
    assert [2, 2] == [site.jobs_unfit for site in made.sites]
    assert ["7.0"] == [kind.first_job for kind in made.nowhere]


def test_a_closed_pipe_is_no_traceback(config: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "aerotow", "config", "example"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
