"""Pilots placed by hand on three real Slurms, in a real pool: what pilot.sh promises, seen from the outside."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pytest

from factory.sites.texts import parse_report
from glidein.epconfig import PoolFacts
from glidein.model import EXIT_CODES, EndReason, EndReport, Lifetimes, Offer, Shape
from glidein.script import BundleRef, SiteFacts, pilot_script_text, spool_dir, spool_files
from testbed import model, tower
from testbed.errors import CommandFailed
from tests.system.fleet import wait_until

HOME = PurePosixPath("/home/pilot")
INSTANCE = "hand"
BUNDLE = HOME / "hand-bundle.tar.gz"
AP, USER = "ap1", "alice"
SITES = [row.name for row in model.SITES]
SLEEPER = "#!/bin/sh\necho begun >&2\ni=0\nwhile [ $i -lt {seconds} ]; do sleep 1; i=$((i + 1)); done\necho finished\n"
"""No signal handler, and children that have none either."""


@dataclass
class Hand:
    """Puts pilots at sites and jobs at an access point, and takes back what is left of them."""

    bed: object
    bundle_sha256: str
    cycle: str = field(default_factory=lambda: secrets.token_hex(4))
    placed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Pilot id to site and Slurm job id."""
    clusters: list[int] = field(default_factory=list)

    def pilot(
        self,
        site: str,
        *,
        cores: int = 1,
        walltime_s: int = 600,
        idle_s: int = 300,
        join_s: int = 60,
        sha256: str | None = None,
        token_of: str | None = None,
        token: str | None = None,
        scratch_dir: str = "/tmp",
        disk_mib: int = 512,
    ) -> str:
        row = self.bed.sites[site].row
        pilot_id = f"{INSTANCE}-{site}-{self.cycle}-{len(self.placed)}"
        offer = Offer(
            site=site,
            shape=Shape(cores=cores, memory_mib=512 * cores + 256, disk_mib=disk_mib, walltime_s=walltime_s),
            account=row.account,
            partition=row.partition,
        )
        files = spool_files(
            pilot_id=pilot_id,
            offer=offer,
            pool=PoolFacts(collector="cm.pool:9618", trust_domain=model.TRUST_DOMAIN),
            lifetimes=Lifetimes(join_timeout_s=join_s, idle_timeout_s=idle_s, default_job_runtime_s=60),
            bundle=BundleRef(path=BUNDLE, sha256=sha256 or self.bundle_sha256),
            site=SiteFacts(scratch_dir=scratch_dir),
        )
        spool = spool_dir(home=HOME, instance=INSTANCE, pilot_id=pilot_id)
        login = f"login.{site}"
        self.bed.run(login, ["mkdir", "-p", "-m", "700", str(spool)], user=model.PILOT_USER)
        for file in files:
            self.bed.write(login, str(spool / file.name), file.text, mode=file.mode, owner="pilot:pilot")
        self.bed.write(login, str(spool / "pilot.sh"), pilot_script_text(), mode=0o700, owner="pilot:pilot")
        secret = token if token is not None else self.mint(token_of or site)
        self.bed.write(login, str(spool / "token"), secret, mode=0o600, owner="pilot:pilot")
        options = (
            f"--parsable --no-requeue -J {pilot_id} -p {row.partition} -A {row.account} -N 1 -n 1 -c {cores} "
            f"--mem={offer.shape.memory_mib} -t {-(-walltime_s // 60)} -o {spool}/slurm.out -e {spool}/slurm.out"
        )
        job_id = self.bed.sites[site].sh(f"umask 077; sbatch {options} {spool}/pilot.sh {spool}").strip()
        self.placed[pilot_id] = (site, job_id.partition(";")[0])
        return pilot_id

    def mint(self, site: str) -> str:
        scopes = ["-authz", "ADVERTISE_STARTD", "-authz", "ADVERTISE_MASTER"]
        return self.bed.run(
            "cm", ["condor_token_create", "-key", f"pilot-{site}", "-identity", f"pilot-{site}@pool", *scopes]
        )

    def spooled(self, pilot_id: str, name: str) -> str | None:
        site, _ = self.placed[pilot_id]
        spool = spool_dir(home=HOME, instance=INSTANCE, pilot_id=pilot_id)
        raw = self.bed.read(f"login.{site}", str(spool / name))
        return None if raw is None else raw.decode()

    def report(self, pilot_id: str) -> EndReport:
        text = self.spooled(pilot_id, "end.json")
        assert text is not None, self.spooled(pilot_id, "slurm.out")
        found = parse_report(pilot_id, text)
        assert isinstance(found, EndReport), found
        return found

    def slurm(self, pilot_id: str) -> tuple[str, str]:
        """State and exit code, in sacct's words."""
        site, job_id = self.placed[pilot_id]
        line = self.bed.sites[site].sh(f"sacct -X -D -n -P -j {job_id},{job_id} -o State,ExitCode").splitlines()
        state, code = line[0].split("|") if line else ("", "")
        return state.split(" ")[0], code.partition(":")[0]

    def ended(self, pilot_id: str) -> bool:
        """Whether a queue that answered no longer has it; a queue that does not answer says nothing."""
        site, job_id = self.placed[pilot_id]
        try:
            queue = self.bed.sites[site].sh("squeue -h -u pilot -t PD,R,CG -o %A")
        except CommandFailed:
            return False
        return job_id not in queue.split()

    def slots(self, pilot_id: str) -> list[str]:
        query = f"condor_status -constraint 'GlideinPilotId == \"{pilot_id}\"' -af Name"
        return self.bed.as_user(AP, USER, query).split()

    def submit(self, script: str, *, count: int = 1, only: str | None = None, extra: str = "") -> int:
        name = f"hand-{secrets.token_hex(3)}"
        where = f'GlideinPilotId == "{only}"' if only else f'regexp("^{INSTANCE}-.*-{self.cycle}-", GlideinPilotId)'
        text = (
            f"executable = {name}.sh\noutput = {name}.$(Process).out\nerror = {name}.$(Process).err\nlog = {name}.log\n"
            "should_transfer_files = yes\nrequest_cpus = 1\nrequest_memory = 128\nrequest_disk = 10M\n"
            f"requirements = {where}\n{extra}\nqueue {count}\n"
        )
        owner = f"{USER}:{USER}"
        self.bed.write(AP, f"/home/{USER}/{name}.sh", script, mode=0o755, owner=owner)
        self.bed.write(AP, f"/home/{USER}/{name}.sub", text, owner=owner)
        cluster = int(self.bed.as_user(AP, USER, f"condor_submit -terse {name}.sub").split(".")[0])
        self.clusters.append(cluster)
        return cluster

    def jobs(self, cluster: int) -> list[dict]:
        names = "ProcId,JobStatus,NumJobStarts,ExitBySignal,ExitCode,ExitSignal,MachineAttrGlideinPilotId0,VacateReason"
        command = f"condor_q -json {cluster} -attributes {names}; condor_history -json {cluster} -attributes {names}"
        rows = []
        for part in self.bed.as_user(AP, USER, command).replace("]\n[", "]\0[").split("\0"):
            rows += json.loads(part) if part.strip() else []
        return sorted(rows, key=lambda row: row["ProcId"])

    def statuses(self, cluster: int) -> list[int]:
        return [row["JobStatus"] for row in self.jobs(cluster)]

    def cancel(self, pilot_id: str) -> None:
        site, job_id = self.placed[pilot_id]
        self.bed.sites[site].sh(f"scancel {job_id}")

    def scratch_left(self, pilot_ids: list[str]) -> list[str]:
        """Scratch directories of these pilots on any node of their sites."""
        found = []
        for site in {self.placed[pilot_id][0] for pilot_id in pilot_ids}:
            look = f"grep -lE '{'|'.join(pilot_ids)}' /tmp/atw.*/condor_config 2>/dev/null || true"
            for node in self.bed.sites[site].row.nodes:
                found += self.bed.run(f"{node}.{site}", ["sh", "-c", look]).split()
        return found


@pytest.fixture
def hand(bed) -> Iterator[Hand]:
    content = bed.read("factory", tower.BUNDLE_FILE)
    assert content is not None
    sha256 = bed.run("factory", ["sha256sum", tower.BUNDLE_FILE]).split()[0]
    for site in SITES:
        there = bed.attempt(f"login.{site}", ["sha256sum", str(BUNDLE)]).stdout.decode()
        if sha256 not in there:
            bed.write(f"login.{site}", str(BUNDLE), content, owner="pilot:pilot")
    made = Hand(bed=bed, bundle_sha256=sha256)
    yield made
    for cluster in made.clusters:
        bed.attempt(AP, ["condor_rm", str(cluster)], user=USER)
    for pilot_id in made.placed:
        if not made.ended(pilot_id):
            made.cancel(pilot_id)


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
