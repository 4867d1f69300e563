"""
The pyslurm adapter with a module of that name in place of the real one, and a real process for each request.

The stub has the shapes of pyslurm 25.11.2; what the real one does is tried by the contract suite where it is installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from factory.sites import pyslurmtexts, pyslurmworker
from factory.sites.contract import (
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    Refused,
    SiteSeen,
    SiteUnseen,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from factory.sites.exchange import Exchange
from factory.sites.meter import CallMeter
from factory.sites.pyslurmsite import PyslurmSite, worker_command
from factory.sites.shell import LocalShell
from factory.sites.slurm import SlurmSettings
from glidein.model import BatchState, Offer, Shape

PILOT = "tow-alpha-00000001-1"
OFFER = Offer(
    site="alpha", shape=Shape(cores=2, memory_mib=200, disk_mib=100, walltime_s=630), account="a", partition="main"
)
REQUEST = SubmitRequest(pilot_id=PILOT, offer=OFFER, files=(("pilot.sh", b"#!/bin/sh\n"), ("token", b"own-secret\n")))
KNOWN = (KnownPilot(pilot_id=PILOT, batch_id="17", intended_s=1),)
STUB = """
import json, os, signal, sys, time
from types import SimpleNamespace as N
__version__ = "25.11.2"
class RPCError(Exception):
    def __init__(self, errno, msg):
        self.errno = errno
        super().__init__(msg)
def job(**other):
    base = dict(id=17, state="PENDING", user_id=os.getuid(), submit_time=5, start_time=None, end_time=None, cpus=2,
        partition="main", account="a", allocated_nodes=None, state_reason="Priority", name="tow-alpha-00000001-1")
    return N(**{**base, **other})
class Jobs:
    @staticmethod
    def load(): return {n: one for n, one in enumerate(LIVE())}
class Job:
    def __init__(self, number): self.number = number
    def cancel(self): CANCEL(self.number)
class db:
    class JobFilter:
        def __init__(self, **what): self.what = what
    class Jobs:
        @staticmethod
        def load(filter): return {n: one for n, one in enumerate(FINAL(filter.what))}
class JobSubmitDescription:
    def __init__(self, **what): self.what = what
    def submit(self): return SUBMIT(self.what)
LIVE = lambda: [job(), job(id=18, user_id=os.getuid() + 1, name="tow-alpha-00000001-2")]
FINAL = lambda what: []
SUBMIT = lambda what: 17
CANCEL = lambda number: None
"""


class Bench:
    """A site on this machine with a stub of pyslurm, and a sinfo that tells its version."""

    def __init__(self, base: Path, *, more: str = "", slurm: str = "slurm 25.11.4", have: str = "25.11.2") -> None:
        self.home = base / "home"
        for path in (self.home, base / "bin", base / f"pyslurm-{have}.dist-info"):
            path.mkdir()
        (base / "pyslurm.py").write_text(STUB + more)
        (base / f"pyslurm-{have}.dist-info" / "METADATA").write_text(f"Name: pyslurm\nVersion: {have}\n")
        for name, text in (("sinfo", f"echo '{slurm}'"), ("scontrol", "echo No reservations in the system")):
            (base / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (base / "bin" / name).chmod(0o755)
        settings = SlurmSettings(
            site="alpha", instance="tow", bundle_path=base, bundle_sha256="0" * 64, command_timeout_s=3
        )
        path = f"{Path(__file__).parents[3]}:{base}"
        command = ("env", f"PATH={base}/bin:{os.environ['PATH']}", f"PYTHONPATH={path}", sys.executable, "-P", "-m")
        self.meter = CallMeter()
        self.site = PyslurmSite(
            settings,
            LocalShell(home=self.home),
            command=(*command, "factory.sites.pyslurmworker"),
            clock=time.time,
            nonce=lambda: "abc",
            meter=self.meter,
        )

    def submit(self) -> object:
        return self.site.submit((REQUEST,), deadline_s=time.time() + 8)[0]

    def look(self) -> object:
        return self.site.look(KNOWN, now_s=time.time())


@pytest.mark.parametrize("slurm", ["slurm 24.11.5", "slurm-wlm 26.05.5", ""])
def test_another_slurm_is_unseen_with_a_remedy_and_gets_nothing(tmp_path: Path, slurm: str) -> None:
    # Mutation: mismatch() compares with "is not None" only, so any two versions are one.
    bench = Bench(tmp_path, slurm=slurm, more="raise SystemExit('imported')\n")
    sight = bench.look()
    assert isinstance(sight, SiteUnseen)
    assert "pyslurm 25.11.2 is for its own release of Slurm only" in sight.reason
    assert "take 'pyslurm' out of the site's table" in sight.reason
    assert isinstance(bench.submit(), NotSent)
    assert "pyslurm" not in sys.modules


def test_versions_are_one_however_they_are_written() -> None:
    # Mutation: _release() gives the text of the two parts and not their numbers.
    assert "" == pyslurmworker.mismatch("26.5.0", "slurm-wlm 26.05.5")
    assert "install pyslurm==24.11.*" in pyslurmworker.mismatch("25.11.2", "slurm 24.11.5")


def test_only_our_users_jobs_are_seen_and_a_waiting_one_has_no_cores(tmp_path: Path) -> None:
    # Mutation: _jobs() keeps every user's jobs.
    sight = Bench(tmp_path).look()
    assert isinstance(sight, SiteSeen)
    assert [(PILOT, "17", BatchState.PENDING, None)] == [
        (one.name, one.job_id, one.state, one.alloc_cpus) for one in sight.live
    ]
    assert FinalSeen(records=()) == sight.final


@pytest.mark.parametrize("how", ["time.sleep(60)", "raise RPCError(-1, 'Failed to get Jobs')", "os.abort()"])
def test_dead_accounting_leaves_the_queue_seen_and_ends_open(tmp_path: Path, how: str) -> None:
    # Mutation: _rows() gives told.problem before it looks for the list.
    sight = Bench(tmp_path, more=f"def FINAL(what): {how}\n").look()
    assert isinstance(sight, SiteSeen), sight
    assert 1 == len(sight.live)
    assert isinstance(sight.final, FinalUnseen)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("time.sleep(60)", "no answer of libslurm"),
        ("raise RPCError(1, 'Unable to contact')", "slurmctld: Unable to contact"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("sys.exit('fatal: no slurm.conf')", "no slurm.conf"),
        ("os._exit(0)", "the answer was cut short"),
    ],
)
def test_a_queue_that_cannot_be_read_is_not_empty(tmp_path: Path, how: str, told: str) -> None:
    # Mutation: _rows() gives the rows it has at the end of the lines.
    began_s = time.monotonic()
    sight = Bench(tmp_path, more=f"def LIVE(): {how}\n").look()
    assert isinstance(sight, SiteUnseen), sight
    assert told in sight.reason
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("return 17", Submitted),
        ("return 0", Uncertain),
        ("raise RPCError(2000, 'Invalid partition name specified')", Refused),
        ("raise RPCError(0, 'Success')", Uncertain),
        ("raise RPCError(5004, 'Socket timed out on send/recv operation')", Uncertain),
        ("raise RPCError(1001, 'Unable to contact slurm controller (connect failure)')", NotSent),
        ("raise ValueError('no such signal')", NotSent),
        ("time.sleep(60)", Uncertain),
        ("os.abort()", Uncertain),
    ],
)
def test_a_submission_is_what_slurm_surely_said_of_it(tmp_path: Path, how: str, kind: type) -> None:
    # Mutation: submit_outcome() believes every refusal; another: it is NotSent also after "sending".
    outcome = Bench(tmp_path, more=f"def SUBMIT(what): {how}\n").submit()
    assert isinstance(outcome, kind), outcome


def test_a_line_cut_in_two_may_have_been_the_announcement() -> None:
    # Mutation: read() calls a process with a damaged line dead.
    told = pyslurmtexts.read(Exchange(ending="exited", stdout=b'["sending", "tow', status=-9))
    assert isinstance(pyslurmtexts.submit_outcome(PILOT, told), Uncertain)


def test_the_description_has_no_secret_and_no_variable_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Mutation: answer() leaves the SLURM_ variables.
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    more = f"def SUBMIT(what): open('{tmp_path}/told', 'w').write(json.dumps([what, dict(os.environ)])); return 17\n"
    assert isinstance(Bench(tmp_path, more=more).submit(), Submitted)
    what, environment = json.loads((tmp_path / "told").read_text())
    assert "SLURM_JOB_ID" not in environment
    assert "own-secret" not in json.dumps(what)
    assert (11, 200, False, 2) == tuple(
        what[key] for key in ("time_limit", "memory_per_node", "is_requeueable", "cpus_per_task")
    )
    assert f"{tmp_path}/home/.aerotow/tow/pilots/{PILOT}/pilot.sh" in what["script"]


def test_a_cancel_is_judged_by_what_became_of_the_job(tmp_path: Path) -> None:
    # Mutation: cancel() takes what pyslurm raised for a failure.
    more = """
gone = []
LIVE = lambda: [job(state="CANCELLED" if gone else "PENDING")]
def CANCEL(number):
    gone.append(number)
    raise RPCError(11, "Resource temporarily unavailable")
"""
    assert (PILOT,) == Bench(tmp_path, more=more).site.cancel(KNOWN).sent


def test_a_running_pilot_is_not_cancelled_and_one_that_still_waits_is_told(tmp_path: Path) -> None:
    # Mutation: _cancel() does not look at the state.
    more = "LIVE = lambda: [job(state='RUNNING', allocated_nodes='n1')]\ndef CANCEL(n): open('/proc/self/oom', 'w')\n"
    bench = Bench(tmp_path, more=more)
    assert "" == bench.site.cancel(KNOWN).problem
    assert 0 == bench.site.raced
    (tmp_path / "again").mkdir()
    still = Bench(tmp_path / "again", more="def CANCEL(n): raise RPCError(2, 'Access denied')\n").site.cancel(KNOWN)
    assert ((), "cancel: Access denied") == (still.sent, still.problem)


def test_the_calls_of_a_look_are_limited_and_as_many_for_many_pilots(tmp_path: Path) -> None:
    # Mutation: _ask() does not ask the meter.
    bench = Bench(tmp_path)
    bench.meter.limit = 2
    many = tuple(KnownPilot(pilot_id=f"tow-alpha-00000001-{n}", batch_id=str(n), intended_s=1) for n in range(1, 300))
    assert isinstance(bench.site.look(many, now_s=time.time()), SiteSeen)
    assert 2 == bench.meter.calls().calls
    sight = bench.look()
    assert isinstance(sight, SiteUnseen)
    assert "rate limit" in sight.reason
    assert "spool" not in sight.reason, "libslurm was asked all the same"


def test_the_process_of_the_product_says_that_there_is_no_pyslurm_here(tmp_path: Path) -> None:
    # Mutation: library() lets PackageNotFoundError through.
    bench = Bench(tmp_path)
    bench.site._command = worker_command()
    sight = bench.look()
    assert isinstance(sight, SiteUnseen)
    assert "install aerotow[pyslurm]" in sight.reason
