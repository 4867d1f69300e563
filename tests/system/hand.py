"""Pilots and jobs put there by hand, without a factory."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from factory.sites.texts import parse_report
from glidein.epconfig import PoolFacts
from glidein.model import EndReport, Lifetimes, Offer, Shape
from glidein.script import BundleRef, SiteFacts, pilot_script_text, spool_dir, spool_files
from testbed import model, tower
from testbed.errors import CommandFailed
from tests.system.conftest import Bed

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

    bed: Bed
    bundle_sha256: str
    cycle: str = field(default_factory=lambda: secrets.token_hex(4))
    placed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Pilot id to site and Slurm job id."""
    clusters: list[int] = field(default_factory=list)

    def pilot(self, site: str, **changes: Any) -> str:
        """Put a pilot into the site's queue; ``changes`` are those of :meth:`lay_out`."""
        pilot_id, command = self.lay_out(site, **changes)
        self.sbatch(pilot_id, command)
        return pilot_id

    def next_id(self, site: str) -> str:
        """The name of the next pilot."""
        return f"{INSTANCE}-{site}-{self.cycle}-{len(self.placed)}"

    def sbatch(self, pilot_id: str, command: str) -> None:
        """Submit a pilot that is laid out."""
        site = self.placed[pilot_id][0]
        self.placed[pilot_id] = (site, self.bed.sites[site].sh(f"umask 077; {command}").strip().partition(";")[0])

    def lay_out(
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
    ) -> tuple[str, str]:
        """Put a pilot's spool directory at the site; its name, and the command that submits it."""
        row = self.bed.sites[site].row
        pilot_id = self.next_id(site)
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
        self.placed[pilot_id] = (site, "")
        return pilot_id, f"sbatch {options} {spool}/pilot.sh {spool}"

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


def new_hand(bed: Bed) -> Hand:
    """A hand with the bundle at every site."""
    content = bed.read("factory", tower.BUNDLE_FILE)
    assert content is not None
    sha256 = bed.run("factory", ["sha256sum", tower.BUNDLE_FILE]).split()[0]
    for site in SITES:
        there = bed.attempt(f"login.{site}", ["sha256sum", str(BUNDLE)]).stdout.decode()
        if sha256 not in there:
            bed.write(f"login.{site}", str(BUNDLE), content, owner="pilot:pilot")
    return Hand(bed=bed, bundle_sha256=sha256)


def take_back(hand: Hand) -> None:
    """Remove its jobs and pilots."""
    for cluster in hand.clusters:
        hand.bed.attempt(AP, ["condor_rm", str(cluster)], user=USER)
    for pilot_id in hand.placed:
        if not hand.ended(pilot_id):
            hand.cancel(pilot_id)
