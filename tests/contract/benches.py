"""Where the contract of a site is tried: a site, what may be asked of it, and how to wait there."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from config.names import cycle_id, pilot_id
from factory.sites import pyslurmworker
from factory.sites.condor import CondorSettings, CondorSite
from factory.sites.contract import KnownPilot, Site, SiteSeen, SubmitRequest
from factory.sites.fake import FakeSite
from factory.sites.pyslurmsite import PyslurmSite, worker_command
from factory.sites.restapi import RestSettings
from factory.sites.resthttp import Server
from factory.sites.shell import LocalShell, Script, Shell, SshShell
from factory.sites.slurm import SlurmSettings, SlurmSite
from factory.sites.slurmrestd import SlurmrestdSite
from glidein.model import BatchState, EndReason, EndReport, Offer, Shape
from overlay.remote import Remote

INSTANCE = "contract"
REPORT = """{"version": 1, "pilot_id": "%s", "reason": "idle", "exit_code": 0, "start": 100, "joined": 101,
 "end": 200, "node": "n1", "cores": 1, "memory_mib": 100, "jobs": 3, "detail": ""}"""
SCRIPTS = {
    "stays": "#!/bin/sh\nsleep 120\n",
    "fails": "#!/bin/sh\nexit 7\n",
    "reports": "#!/bin/sh\ncat > $1/end.json <<EOF\n%s\nEOF\n",
    "babbles": "#!/bin/sh\necho '<html>' > $1/end.json\n",
    "tells": '#!/bin/sh\n{ pwd; echo "$#" "$1"; umask; env; } > told\n',
}
"""What a pilot does in these tests."""


class Bench(Protocol):
    """A site to try."""

    site: Site
    offer: Offer

    def now_s(self) -> float: ...
    def wait(self, seconds: float) -> None: ...
    def settle(self) -> None:
        """Let what was submitted do what it does at once."""
        ...

    def waiting_offer(self) -> Offer:
        """An offer whose job is accepted and waits."""
        ...

    def refused_offer(self) -> Offer: ...
    def sibling(self, instance: str) -> Bench:
        """The same site for a factory of another instance."""
        ...


_numbers = itertools.count()
_cycle = cycle_id(epoch_s=int(time.time()), nonce=secrets.randbits(16))


def request(bench: Bench, does: str, *, offer: Offer | None = None, instance: str = INSTANCE) -> SubmitRequest:
    """A pilot with a name of its own."""
    name = pilot_id(instance=instance, site=bench.site.name, cycle=_cycle, n=next(_numbers))
    script = SCRIPTS[does].replace("%s", REPORT % name) if does == "reports" else SCRIPTS[does]
    files = (("pilot.sh", script.encode()), ("token", b"not a real token\n"))
    return SubmitRequest(pilot_id=name, offer=offer or bench.offer, files=files)


def eventually(bench: Bench, known: tuple[KnownPilot, ...], done: Callable[[SiteSeen], bool]) -> SiteSeen:
    """Look until it is so; a site that answers has 40 s for it."""
    for _ in range(40):
        sight = bench.site.look(known, now_s=bench.now_s())
        assert isinstance(sight, SiteSeen), sight
        if done(sight):
            return sight
        bench.wait(1)
    raise AssertionError(f"still not so after 40 s: {sight}")


@dataclass
class FakeBench:
    """The site in memory."""

    site: FakeSite
    time_s: float = 1_800_000_000.0

    offer = Offer(
        site="alpha",
        shape=Shape(cores=1, memory_mib=100, disk_mib=100, walltime_s=600),
        account="aerotow",
        partition="main",
    )

    @classmethod
    def make(cls) -> FakeBench:
        bench = cls(site=FakeSite(name="alpha", instance=INSTANCE, clock=lambda: 0.0))
        bench.site.clock = bench.now_s
        return bench

    def now_s(self) -> float:
        return self.time_s

    def wait(self, seconds: float) -> None:
        self.time_s += seconds

    def settle(self) -> None:
        self.wait(1)
        self.site.look((), now_s=self.time_s)
        for job in list(self.site.jobs.values()):
            if job.state is not BatchState.RUNNING:
                continue
            name, script = job.request.pilot_id, job.request.files[0][1].decode()
            if "exit 7" in script:
                self.site.finish(name, exit_code=7)
            elif "html" in script:
                self.site.unreadable.add(name)
                self.site.finish(name)
            elif "end.json" in script:
                self.site.finish(name, report=_report(name))

    def waiting_offer(self) -> Offer:
        self.site.room = sum(job.state is BatchState.RUNNING for job in self.site.jobs.values())
        return self.offer

    def refused_offer(self) -> Offer:
        self.site.faults = replace(self.site.faults, refuse="Invalid partition name specified")
        return self.offer

    def sibling(self, instance: str) -> FakeBench:
        other = FakeBench(site=replace_site(self.site, instance), time_s=self.time_s)
        other.site.clock = other.now_s
        return other


def replace_site(site: FakeSite, instance: str) -> FakeSite:
    """The same cluster, with the same jobs, for another factory."""
    return FakeSite(name=site.name, instance=instance, clock=site.clock, jobs=site.jobs, spools=dict(site.spools))


def _report(name: str) -> EndReport:
    return EndReport(
        pilot_id=name,
        reason=EndReason.IDLE,
        exit_code=0,
        start_s=100,
        joined_s=101,
        end_s=200,
        node="n1",
        cores=1,
        memory_mib=100,
        jobs=3,
    )


@dataclass
class SlurmBench:
    """A real Slurm of the test-bed, through OpenSSH."""

    site: SlurmSite
    shell: Shell
    settings: SlurmSettings
    offer: Offer

    def now_s(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def settle(self) -> None:
        time.sleep(2)

    def waiting_offer(self) -> Offer:
        # Accepted everywhere (EnforcePartLimits=NO), and waits for ever as PartitionTimeLimit; takes no cores.
        return replace(self.offer, shape=replace(self.offer.shape, walltime_s=30 * 86400))

    def refused_offer(self) -> Offer:
        return replace(self.offer, partition="nosuch")

    def sibling(self, instance: str) -> SlurmBench:
        settings = replace(self.settings, instance=instance)
        site = SlurmSite(settings, self.shell, clock=time.time, nonce=lambda: secrets.token_hex(8))
        return SlurmBench(site=site, shell=self.shell, settings=settings, offer=self.offer)


@contextmanager
def slurm_bench(name: str, directory: Path) -> Iterator[SlurmBench]:
    """One real site, reached with a key of our own; all jobs and spools of this instance are removed afterwards."""
    from testbed import bed, containers, model
    from testbed import site as sites

    if not os.environ.get("AEROTOW_TESTBED_AS_IS"):
        bed.up(lambda text: print(f"  {text}", file=sys.stderr))
    row, login = model.site_named(name), sites.login_host(name)
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "contract", "-f", str(key)], check=True)
    home = f"/home/{model.PILOT_USER}"
    owner = f"{model.PILOT_USER}:{model.PILOT_USER}"
    # Not authorized_keys: the test-bed writes that anew.
    second = f"{home}/.ssh/authorized_keys2"
    containers.write_file(login, second, key.with_suffix(".pub").read_bytes(), mode=0o600, owner=owner)
    host_key = containers.execute(login, ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).split()[:2]
    address = login.addresses[0][1]
    known_hosts = directory / "known_hosts"
    known_hosts.write_text(f"{address} {' '.join(host_key)}\n")
    options = (f"-oIdentityFile={key}", "-oIdentitiesOnly=yes", f"-oUserKnownHostsFile={known_hosts}", "-Fnone")
    shell = SshShell(site=name, login=f"{model.PILOT_USER}@{address}", control_dir=directory, options=options)
    bundle = directory / "bundle.tar.gz"
    bundle.write_bytes(b"a bundle that nobody unpacks\n" * 1000)
    sha256 = subprocess.run(["sha256sum", bundle], check=True, capture_output=True, text=True).stdout.split()[0]
    settings = SlurmSettings(
        site=name, instance=INSTANCE, bundle_path=bundle, bundle_sha256=sha256, command_timeout_s=30
    )
    shape = Shape(cores=1, memory_mib=100, disk_mib=100, walltime_s=600)
    offer = Offer(site=name, shape=shape, account=row.account, partition=row.partition)
    site = SlurmSite(settings, shell, clock=time.time, nonce=lambda: secrets.token_hex(8))
    try:
        yield SlurmBench(site=site, shell=shell, settings=settings, offer=offer)
    finally:
        site.close()
        clean = f"squeue -h -o '%A %j' | awk '$2 ~ /^{INSTANCE}/ {{print $1}}' | xargs -r scancel"
        clean += f"; rm -rf ~/.aerotow/{INSTANCE}* ~/.aerotow/bundles/{sha256}.tar.gz ~/.ssh/authorized_keys2"
        environment = ["env", f"HOME={home}", "sh", "-c", clean]
        containers.execute(login, environment, user=model.PILOT_USER)


class OnTheLoginHost(LocalShell):
    """
    The shell of a factory that runs where the Slurm commands are: the same commands and limits.

    Only that the login host is a container, into which the command is carried, and not this machine.
    """

    def __init__(self, host: str, user: str) -> None:
        super().__init__()
        self._carrier = ["docker", "exec", "-i", "-u", user, "-e", f"HOME=/home/{user}", host]

    def client_argv(self, script: Script) -> list[str]:
        return [*self._carrier, *super().client_argv(script)]


@contextmanager
def local_bench(name: str, directory: Path) -> Iterator[SlurmBench]:
    """The same real site for a factory on its login host."""
    from testbed import model
    from testbed import site as sites

    with slurm_bench(name, directory) as far:
        shell = OnTheLoginHost(sites.login_host(name).container, model.PILOT_USER)
        site = SlurmSite(far.settings, shell, clock=time.time, nonce=lambda: secrets.token_hex(8))
        yield SlurmBench(site=site, shell=shell, settings=far.settings, offer=far.offer)


@dataclass
class RestBench(SlurmBench):
    """A real Slurm of the test-bed, asked through its slurmrestd; files go through OpenSSH."""

    site: SlurmrestdSite
    rest: RestSettings

    def sibling(self, instance: str) -> RestBench:
        settings = replace(self.settings, instance=instance)
        site = SlurmrestdSite(settings, self.rest, self.shell, clock=time.time, nonce=lambda: secrets.token_hex(8))
        return RestBench(site=site, shell=self.shell, settings=settings, offer=self.offer, rest=self.rest)


@contextmanager
def rest_bench(name: str, directory: Path) -> Iterator[RestBench]:
    """The same real site through slurmrestd, with a token and an authority as its admin would give them."""
    from testbed import site as sites

    with slurm_bench(name, directory) as cli:
        token, authority = directory / "token", directory / "ca.pem"
        token.touch(mode=0o600)
        token.write_text(sites.rest_token(name))
        authority.write_bytes(sites.rest_authority(name))
        rest = RestSettings(
            server=Server.at(sites.rest_address(name), authority=authority, limit_bytes=8 * 1024 * 1024),
            token_file=token,
            user=None,
            timeout_s=30,
        )
        site = SlurmrestdSite(cli.settings, rest, cli.shell, clock=time.time, nonce=lambda: secrets.token_hex(8))
        yield RestBench(site=site, shell=cli.shell, settings=cli.settings, offer=cli.offer, rest=rest)


@dataclass
class PyslurmBench(SlurmBench):
    """A real Slurm asked by pyslurm, where it is installed."""

    site: PyslurmSite
    command: tuple[str, ...]

    @classmethod
    def of(cls, shell: Shell, settings: SlurmSettings, offer: Offer, command: tuple[str, ...]) -> PyslurmBench:
        site = PyslurmSite(settings, shell, command=command, clock=time.time, nonce=lambda: secrets.token_hex(8))
        return cls(site=site, shell=shell, settings=settings, offer=offer, command=command)

    def sibling(self, instance: str) -> PyslurmBench:
        return self.of(self.shell, replace(self.settings, instance=instance), self.offer, self.command)


PYSLURM = os.environ.get("AEROTOW_PYSLURM", "")
"""
Where pyslurm can be tried: ``account:partition`` of the Slurm of this machine, or a site of the test-bed.

At the site's login host ``python3`` must find pyslurm, if need be in /opt/pyslurm. No machine of the suite has it, so
without this variable nothing of it is collected, and the end of the run says so.
"""


@contextmanager
def pyslurm_bench(where: str, directory: Path) -> Iterator[PyslurmBench]:
    """The real site through libslurm; all jobs and spools of this instance are removed afterwards."""
    if ":" in PYSLURM:
        with pyslurm_here(directory) as bench:
            yield bench
        return
    from testbed import containers, model
    from testbed import site as sites

    with slurm_bench(where, directory) as far:
        login = sites.login_host(where)
        worker = "/opt/pyslurmworker.py"
        text = Path(pyslurmworker.__file__).read_bytes()
        containers.write_file(login, worker, text, mode=0o644, owner="root:root")
        carrier = ("docker", "exec", "-i", "-u", model.PILOT_USER, "-e", f"HOME=/home/{model.PILOT_USER}")
        command = (*carrier, "-e", "PYTHONPATH=/opt/pyslurm", login.container, "python3", "-P", worker)
        shell = OnTheLoginHost(login.container, model.PILOT_USER)
        yield PyslurmBench.of(shell, far.settings, far.offer, command)


@contextmanager
def pyslurm_here(directory: Path) -> Iterator[PyslurmBench]:
    """The Slurm of this machine, as the factory itself would use it."""
    account, _, partition = PYSLURM.partition(":")
    bundle = directory / "bundle.tar.gz"
    bundle.write_bytes(b"a bundle that nobody unpacks\n" * 1000)
    sha256 = hashlib.sha256(bundle.read_bytes()).hexdigest()
    settings = SlurmSettings(
        site="here", instance=INSTANCE, bundle_path=bundle, bundle_sha256=sha256, command_timeout_s=30
    )
    shape = Shape(cores=1, memory_mib=100, disk_mib=100, walltime_s=600)
    offer = Offer(site="here", shape=shape, account=account, partition=partition)
    try:
        yield PyslurmBench.of(LocalShell(), settings, offer, worker_command())
    finally:
        clean = f"squeue -h -u $(id -u) -o '%A %j' | awk '$2 ~ /^{INSTANCE}/ {{print $1}}' | xargs -r scancel"
        clean += f"; rm -rf ~/.aerotow/{INSTANCE}* ~/.aerotow/bundles/{sha256}.tar.gz"
        subprocess.run(["sh", "-c", clean], check=True)


FIRST_RECORD = r"""set -e
seen() { condor_history -limit 1 -af ClusterId | grep -q .; }
if seen; then exit 0; fi
id=$(printf 'executable = /bin/true\nhold = true\nqueue\n' | condor_submit -terse - | cut -d. -f1)
condor_rm "$id"
for wait in 1 2 3 4 5 6 7 8 9 10; do if seen; then exit 0; fi; sleep 1; done
exit 1
"""


@dataclass
class CondorBench:
    """A real HTCondor of the test-bed, through its schedd and nothing else."""

    site: CondorSite
    remote: Remote
    settings: CondorSettings
    offer: Offer

    def now_s(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def settle(self) -> None:
        time.sleep(1)

    def waiting_offer(self) -> Offer:
        # No machine has it, and HTCondor lets it wait.
        return replace(self.offer, shape=replace(self.offer.shape, memory_mib=10_000_000))

    def refused_offer(self) -> Offer:
        return replace(self.offer, partition="nosuch")

    def sibling(self, instance: str) -> CondorBench:
        settings = replace(self.settings, instance=instance)
        remote = replace(self.remote, work_dir=self.remote.work_dir / instance)
        site = CondorSite(settings, remote, clock=time.time)
        return CondorBench(site=site, remote=remote, settings=settings, offer=self.offer)


@contextmanager
def condor_bench(name: str, directory: Path) -> Iterator[CondorBench]:
    """The real HTCondor site with a token as its admin would give it; all jobs of this instance are removed after."""
    from testbed import bed, containers, htcsite, model

    row = model.htc_site_named(name)
    if not os.environ.get("AEROTOW_TESTBED_AS_IS"):
        bed.up(lambda text: print(f"  {text}", file=sys.stderr), htc=[row])
    token = directory / "token"
    token.touch(mode=0o600)
    token.write_text(htcsite.token(name))
    bundle = directory / "bundle.tar.gz"
    bundle.write_bytes(b"a bundle that nobody unpacks\n" * 1000)
    sha256 = subprocess.run(["sha256sum", bundle], check=True, capture_output=True, text=True).stdout.split()[0]
    settings = CondorSettings(
        site=name,
        instance=INSTANCE,
        account=row.account,
        bundle_path=bundle,
        bundle_sha256=sha256,
        command_timeout_s=30,
    )
    work_dir = directory / "condor"
    work_dir.mkdir(mode=0o700)
    login = htcsite.login_host(name)
    # A schedd that is new has no history, and that is no witness of anything (overlay/remote_worker.py).
    containers.execute(login, ["sh", "-c", FIRST_RECORD], user=model.PILOT_USER)
    remote = Remote(collector=htcsite.collector(name), schedd=login.fqdn, token_file=token, work_dir=work_dir)
    shape = Shape(cores=1, memory_mib=100, disk_mib=100, walltime_s=600)
    offer = Offer(site=name, shape=shape, account=row.account, partition=row.queue)
    try:
        yield CondorBench(
            site=CondorSite(settings, remote, clock=time.time), remote=remote, settings=settings, offer=offer
        )
    finally:
        argv = ["condor_rm", "-constraint", f'regexp("^{INSTANCE}", AerotowInstance)']
        containers.execute_raw(login, argv, user="root")
