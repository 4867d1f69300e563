"""Continuous load: small jobs of two virtual organisations over both access points, never more than so many at once."""

from __future__ import annotations

import hashlib
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from random import Random

from testbed import containers, model
from tests.chaos.checks import WantedJob
from tests.system.fleet import Fleet

USERS = {"ap1": (("alice", "dp001"), ("bob", "dp001")), "ap2": (("carol", "bio01"), ("dave", "bio01"))}
MOST_IN_FLIGHT = 14
"""At each access point."""
WAVE_S = 100.0
EBB_S = 35.0
"""At the end of each wave hardly anything is submitted, so that pilots leave and new ones have to come."""
PAYLOAD = "payload.sh"
PAYLOAD_TEXT = """#!/bin/sh
sleep "$2"
printf %s "$1" | sha256sum | cut -d" " -f1
"""
# Where the machine of a job vanished, its access point gives it up after the lease; the default is 40 minutes.
# A pilot whose disk is full makes HTCondor hold the job that it could not take in: whoever has a release rule lives on.
SUBMIT = """
executable = {payload}
arguments = {run}.$(Cluster).$(Process) {seconds}
should_transfer_files = YES
output = out.$(Cluster).$(Process)
error = err.$(Cluster).$(Process)
request_cpus = 1
request_memory = 256MB
request_disk = 10MB
allowed_execute_duration = 180
job_lease_duration = 60
periodic_release = NumHolds < 20 && time() - EnteredCurrentStatus > 10
accounting_group = {project}
requirements = TARGET.FleetName == "{fleet}" && TARGET.GlideinSite == "{site}"
My.FleetName = "{fleet}"
queue {count}
"""


def output_of(run: str, job: str) -> str:
    """What the payload prints for a job."""
    return hashlib.sha256(f"{run}.{job}".encode()).hexdigest()


@dataclass(slots=True, kw_only=True)
class Load:
    """The submitting threads, one for each access point; what the access point did not confirm is not counted on."""

    fleet: Fleet
    seed: int
    wanted: list[WantedJob] = field(default_factory=list)
    refused: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def run(self) -> str:
        """Directory of the jobs below each user's home, and the first part of what they hash."""
        return f"chaos-{self.fleet.instance}"

    def start(self) -> None:
        """Lay the payload out and begin."""
        for ap, users in USERS.items():
            for user, _ in users:
                script = f"mkdir -p {self.run} && cd {self.run} && cat >{PAYLOAD} && chmod 755 {PAYLOAD}"
                self._as(ap, user, f"cd && {script}", stdin=PAYLOAD_TEXT)
        for ap in USERS:
            thread = threading.Thread(target=self._keep_busy, args=(ap,), name=f"load-{ap}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Submit nothing more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=150)

    def _keep_busy(self, ap: str) -> None:
        random = Random(f"{self.seed}/{ap}")
        began_s = time.monotonic()
        turn = 0
        while not self._stop.wait(3):
            try:
                ebb = (time.monotonic() - began_s) % WAVE_S > WAVE_S - EBB_S
                if self._in_flight(ap) < (2 if ebb else MOST_IN_FLIGHT):
                    self._submit(ap, random, model.SITES[turn % len(model.SITES)].name)
                    turn += 1
            except (AssertionError, subprocess.TimeoutExpired, ValueError):
                # An access point under a fault takes nothing; its users try again later.
                self.refused += 1

    def _in_flight(self, ap: str) -> int:
        argv = ["condor_q", "-allusers", "-constraint", f'FleetName =?= "{self.fleet.instance}"', "-af", "ClusterId"]
        done = containers.execute_raw(model.host_named(ap), argv, timeout_s=60)
        assert done.returncode == 0, done.stderr
        return len(done.stdout.split())

    def _submit(self, ap: str, random: Random, site: str) -> None:
        user, project = random.choice(USERS[ap])
        seconds = random.choice((1, 2, 2, 4, 4, 8, 30))
        text = SUBMIT.format(
            payload=PAYLOAD,
            run=self.run,
            seconds=seconds,
            project=project,
            fleet=self.fleet.instance,
            site=site,
            count=random.randint(1, 5),
        )
        answer = self._as(ap, user, f"cd ~/{self.run} && condor_submit -terse /dev/stdin", stdin=text)
        found = re.search(r"(\d+)\.(\d+) - \1\.(\d+)", answer)
        if found is None:
            raise ValueError(answer)
        cluster, first, last = (int(part) for part in found.groups())
        self.wanted += [
            WantedJob(ap=ap, job=f"{cluster}.{proc}", output=output_of(self.run, f"{cluster}.{proc}"))
            for proc in range(first, last + 1)
        ]

    @staticmethod
    def _as(ap: str, user: str, script: str, *, stdin: str) -> str:
        argv = ["env", f"HOME=/home/{user}", "sh", "-c", script]
        done = containers.execute_raw(model.host_named(ap), argv, user=user, stdin=stdin.encode(), timeout_s=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()
