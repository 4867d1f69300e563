"""pilot.sh under three shells, with a condor_master that plays a part."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from factory.sites.texts import parse_report
from glidein.epconfig import PoolFacts
from glidein.model import EXIT_CODES, EndReason, EndReport, Lifetimes, Offer, Shape
from glidein.script import PILOT_SCRIPT, BundleRef, SiteFacts, spool_files

PILOT = "bed-alpha-0000abcd-1"
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}

MASTER = """\
#!/bin/sh
D=$(sed -n 's/^LOCAL_DIR = //p' "$CONDOR_CONFIG")
joined() {
    echo '<10.0.0.1:5?CCBID=c#1>' >$D/log/.startd_address
    echo 'Initial update sent to collector(s)' >>$D/log/StartLog
}
cp "$CONDOR_CONFIG" "$HOME/config"
env >"$HOME/environment"
ls -l $D/tokens.d >"$HOME/tokens"
echo $D >"$HOME/scratch"
. "$HOME/part"
"""
IDLE = 'joined; sleep 9; echo "No resources have been claimed for 5 seconds" >>$D/log/StartLog; exit 0'
STAY = 'joined; trap "exit 0" TERM; while :; do sleep 1; done'
STUBBORN = """joined; exec "$PYTHON" -c 'import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, lambda *_: sys.exit(0))
while True: time.sleep(1)'"""
NEVER = 'echo why >$D/log/MasterLog; trap "exit 0" TERM; while :; do sleep 1; done'
REFUSED = 'echo "Socket closed when trying to write 9 bytes to collector cm" >>$D/log/StartLog; ' + STAY
DIES = "echo bad >$D/log/MasterLog; exit 4"


@dataclass
class Pilot:
    home: Path
    spool: Path
    shell: list[str]
    process: subprocess.Popen[str] | None = None

    def start(self, part: str = IDLE, **variables: str) -> None:
        (self.home / "part").write_text(part)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "USER": "pilot",
            "LOGNAME": "pilot",
            "SECRET_OF_LOGIN": "x",
            "SLURM_JOB_ID": "77",
            "SLURM_CPUS_ON_NODE": "3",
            "SLURM_MEM_PER_NODE": "4000",
            "SLURMD_NODENAME": "n1",
            **variables,
        }
        self.process = subprocess.Popen(
            [*self.shell, str(PILOT_SCRIPT), str(self.spool)], env=environment, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> tuple[EndReason, EndReport]:
        assert self.process is not None
        _, errors = self.process.communicate(timeout=60)
        found = parse_report(PILOT, (self.spool / "end.json").read_text())
        assert isinstance(found, EndReport), (found, errors)
        assert EXIT_CODES[found.reason] == found.exit_code == self.process.returncode, errors
        assert [] == list((self.home / "tmp").glob("*")), "scratch is left"
        assert not (self.spool / "token").exists(), "the token is left in the home"
        return found.reason, found

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.spool / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture(params=SHELLS)
def pilot(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pilot]:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    home, spool = tmp_path / "home", tmp_path / "home/.aerotow/bed/pilots" / PILOT
    spool.mkdir(parents=True)
    (home / "tmp").mkdir()
    master = tmp_path / "condor_master"
    master.write_text(MASTER)
    master.chmod(0o755)
    with tarfile.open(home / "bundle.tar.gz", "w:gz") as tar:
        tar.add(master, "condor/sbin/condor_master")
    files = spool_files(
        pilot_id=PILOT,
        offer=Offer(
            site="alpha",
            shape=Shape(cores=2, memory_mib=2048, disk_mib=1, walltime_s=3600),
            account="a",
            partition="p",
        ),
        pool=PoolFacts(collector="cm:9618", trust_domain="pool"),
        lifetimes=Lifetimes(join_timeout_s=30, idle_timeout_s=5, default_job_runtime_s=60),
        bundle=BundleRef(
            path=PurePosixPath(home / "bundle.tar.gz"),
            sha256=hashlib.sha256((home / "bundle.tar.gz").read_bytes()).hexdigest(),
        ),
        site=SiteFacts(scratch_dir=str(home / "tmp"), vo_map={"bio01": ("bio",)}),
    )
    for file in files:
        (spool / file.name).write_text(file.text)
        (spool / file.name).chmod(file.mode)
    (spool / "token").write_text("secret-token\n")
    (spool / "token").chmod(0o600)
    made = Pilot(home=home, spool=spool, shell=shell)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.1)


def test_idle_pilot_takes_its_shape_from_slurm_and_leaves(pilot: Pilot) -> None:
    before = int(time.time())
    pilot.start(IDLE)
    reason, report = pilot.end()
    assert (EndReason.IDLE, 3, 4000, "n1") == (reason, report.cores, report.memory_mib, report.node)
    assert report.joined_s is not None
    assert report.start_s <= report.joined_s <= report.end_s
    settings = dict(line.split(" = ", 1) for line in (pilot.home / "config").read_text().splitlines() if " = " in line)
    assert ("3", str(4000 - 128), '"77"') == (settings["NUM_CPUS"], settings["MEMORY"], settings["GlideinSlurmJobId"])
    assert 0 <= int(settings["GlideinToDie"]) - (before + 3600 - 30) <= 2
    assert 60 == int(settings["GlideinToDie"]) - int(settings["GlideinToRetire"])
    environment = (pilot.home / "environment").read_text()
    assert "SLURM" not in environment
    assert "SECRET_OF_LOGIN" not in environment
    assert (pilot.home / "tokens").read_text().splitlines()[-1].startswith("-rw-------")
    assert not (pilot.spool / "log.tail").exists()


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_stops_htcondor_first(pilot: Pilot, told: signal.Signals) -> None:
    pilot.start(STAY)
    wait_for(pilot.home / "scratch")
    time.sleep(0.5)
    assert pilot.process is not None
    pilot.process.send_signal(told)
    time.sleep(0.3)
    # Already now, because Slurm's SIGKILL may come before the end.
    assert "stopped" == json.loads((pilot.spool / "end.json").read_text())["reason"]
    assert EndReason.STOPPED is pilot.end()[0]


def test_htcondor_that_does_not_stop_is_told_more_sharply(pilot: Pilot) -> None:
    pilot.start(STUBBORN.replace("$PYTHON", sys.executable))
    wait_for(pilot.home / "scratch")
    time.sleep(0.5)
    assert pilot.process is not None
    pilot.process.terminate()
    reason, report = pilot.end()
    assert EndReason.STOPPED is reason
    assert report.end_s - report.start_s < 10


def test_pilot_that_does_not_join_leaves_with_its_log(pilot: Pilot) -> None:
    pilot.edit("pilot.env", "join_timeout_s=30", "join_timeout_s=5")
    pilot.start(NEVER)
    reason, report = pilot.end()
    assert (EndReason.NOT_JOINED, None) == (reason, report.joined_s)
    assert "why" in (pilot.spool / "log.tail").read_text()


def test_pilot_whose_ads_are_refused_has_not_joined(pilot: Pilot) -> None:
    pilot.edit("pilot.env", "join_timeout_s=30", "join_timeout_s=5")
    pilot.start(REFUSED)
    reason, report = pilot.end()
    assert EndReason.NOT_JOINED is reason
    assert "refuses" in report.detail


def test_htcondor_that_dies_is_reported(pilot: Pilot) -> None:
    pilot.start(DIES)
    reason, report = pilot.end()
    assert EndReason.CONDOR_FAILED is reason
    assert "ended with 4" in report.detail
    assert "bad" in (pilot.spool / "log.tail").read_text()


def test_lifetime_ends_it_before_slurm_does(pilot: Pilot) -> None:
    pilot.edit("pilot.env", "walltime_s=3600", "walltime_s=36")
    pilot.start(STAY)
    reason, report = pilot.end()
    assert EndReason.LIFETIME is reason
    assert 6 <= report.end_s - report.start_s <= 30


def test_other_bundle_than_told_is_not_unpacked(pilot: Pilot) -> None:
    (pilot.home / "bundle.tar.gz").write_bytes(b"other")
    pilot.start()
    reason, report = pilot.end()
    assert EndReason.BAD_BUNDLE is reason
    assert hashlib.sha256(b"other").hexdigest() in report.detail
    assert not (pilot.home / "scratch").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("walltime_s=3600", "walltime_s=$(touch /tmp/pwned)"),
        ("walltime_s=3600", "walltime_s=1h"),
        ("walltime_s=3600\n", ""),
        ("disk_mib=1", "disk_mib=1\nPATH=/tmp"),
        ("join_timeout_s=30", "join_timeout_s=99999999999999999999"),
        (f"pilot_id={PILOT}", f"pilot_id={PILOT};reboot"),
    ],
)
def test_facts_that_are_not_plain_are_refused(pilot: Pilot, old: str, new: str) -> None:
    pilot.edit("pilot.env", old, new)
    pilot.start()
    assert pilot.process is not None
    pilot.process.communicate(timeout=30)
    assert 23 == pilot.process.returncode
    assert "bad_input" == json.loads((pilot.spool / "end.json").read_text())["reason"]
    assert not (pilot.spool / "token").exists()


def test_no_room_for_scratch_is_said(pilot: Pilot) -> None:
    pilot.edit("pilot.env", "disk_mib=1\n", "disk_mib=999999999\n")
    pilot.start()
    assert EndReason.NO_SCRATCH is pilot.end()[0]


def test_home_that_cannot_be_written_is_said_on_stderr(pilot: Pilot) -> None:
    pilot.edit("pilot.env", "disk_mib=1\n", "disk_mib=999999999\n")
    (pilot.spool / "end.json").mkdir()
    (pilot.spool / "end.json/x").write_text("")
    (pilot.spool / ".end.json").mkdir()
    pilot.start()
    assert pilot.process is not None
    _, errors = pilot.process.communicate(timeout=30)
    assert 24 == pilot.process.returncode
    assert '"reason": "no_scratch"' in errors
    assert "cannot write" in errors


def test_memory_per_cpu_counts_for_all_cores(pilot: Pilot) -> None:
    pilot.start(DIES, SLURM_MEM_PER_NODE="", SLURM_MEM_PER_CPU="1000")
    assert 3000 == pilot.end()[1].memory_mib


def test_script_cut_short_in_transfer_does_nothing(tmp_path: Path) -> None:
    script = PILOT_SCRIPT.read_text()
    for share in (0.3, 0.6, 0.9, 0.99):
        cut = tmp_path / "cut.sh"
        cut.write_text(script[: int(len(script) * share)])
        subprocess.run(["sh", str(cut), str(tmp_path)], capture_output=True, timeout=10, check=False)
        assert [cut] == list(tmp_path.iterdir())


def test_script_is_small_enough_to_be_read() -> None:
    assert len(PILOT_SCRIPT.read_text().splitlines()) <= 260


@pytest.mark.parametrize("first_run", ["reported", "killed"])
def test_run_again_by_the_site_it_leaves_at_once_and_keeps_what_the_first_run_said(
    pilot: Pilot, first_run: str
) -> None:
    # Mutation: pilot.sh without leave_again: it says bad_input, and the breaker counts a failure.
    (pilot.spool / "token").unlink()
    if first_run == "reported":
        (pilot.spool / "end.json").write_text(
            f'{{"version": 1, "pilot_id": "{PILOT}", "reason": "stopped", "exit_code": 20, "start": 1000, '
            '"joined": 1010, "end": 2000, "node": "n1", "cores": 2, "memory_mib": 4, "jobs": 3, "detail": "x"}\n'
        )
    pilot.start(SLURM_RESTART_COUNT="2")
    reason, report = pilot.end()
    assert EndReason.REQUEUED is reason
    assert "restart 2" in report.detail
    if first_run == "reported":
        assert (3, 1000, 1010) == (report.jobs, report.start_s, report.joined_s)
    else:
        assert (0, None) == (report.jobs, report.joined_s)


def test_a_first_run_that_counts_its_restarts_from_zero_works(pilot: Pilot) -> None:
    pilot.start(IDLE, SLURM_RESTART_COUNT="0")
    assert EndReason.REQUEUED is not pilot.end()[0]
