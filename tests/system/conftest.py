"""The test-bed for system tests: brought up once a session, never taken down, so the next session starts at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import bed as federation
from testbed import containers, model, site, tower

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("system")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteHandle:
    """One site, from the side that a test needs: its row, commands on it, and faults in it."""

    row: model.SlurmSite

    def sh(self, script: str, *, user: str = model.PILOT_USER, timeout_s: float = 120) -> str:
        """Run a shell script on the login host, in the user's home and with the environment that Slurm needs."""
        argv = [
            "env",
            "-i",
            f"HOME=/home/{user}" if user != "root" else "HOME=/root",
            f"USER={user}",
            f"LOGNAME={user}",
        ]
        argv += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SLURM_TIME_FORMAT=%s", "sh", "-c", f"cd && {script}"]
        return containers.execute(site.login_host(self.row.name), argv, user=user, timeout_s=timeout_s)

    def ssh(self, command: str, *, timeout_s: float = 60) -> str:
        """Run a command as the factory would: over ssh, as the pilot account."""
        argv = ["ssh", f"{model.PILOT_USER}@login.{self.row.name}", command]
        return containers.execute(model.factory_host(), argv, user=model.FACTORY_USER, timeout_s=timeout_s)

    def sacct(self, fields: str = "JobIDRaw,State,JobName", *, since: str = "now-1hour") -> list[list[str]]:
        """Every job of the pilot account since then, as sacct counts them; one list per record."""
        options = f"-X -D -n -P -u {model.PILOT_USER} -S {since} -E now -o {fields}"
        return [line.split("|") for line in self.sh(f"sacct {options}").splitlines()]

    def stop(self, daemon: str, *, node: str | None = None, kill: bool = False) -> None:
        """End a daemon of the site; see testbed.site."""
        site.stop_daemon(self.row.name, daemon, node=node, kill=kill)

    def start(self, daemon: str, *, node: str | None = None) -> None:
        """Start a daemon of the site that is down."""
        site.start_daemon(self.row.name, daemon, node=node)

    def signal(self, daemon: str, signal: str, *, node: str | None = None) -> None:
        """Send a signal (``STOP``, ``CONT``) to a daemon of the site."""
        site.signal_daemon(self.row.name, daemon, signal, node=node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """The federation: commands and files on any host, by the host's name (``cm``, ``ap1``, ``n1.alpha`` ...)."""

    sites: dict[str, SiteHandle]

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stdin: bytes | None = None,
        timeout_s: float = 120,
    ) -> str:
        """Run a command and return its output; testbed.errors.CommandFailed unless its exit status is 0."""
        return containers.execute(model.host_named(host), argv, user=user, stdin=stdin, timeout_s=timeout_s)

    def attempt(
        self,
        host: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stdin: bytes | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command that may fail."""
        return containers.execute_raw(model.host_named(host), argv, user=user, stdin=stdin, timeout_s=timeout_s)

    def as_user(self, ap: str, user: str, script: str, *, timeout_s: float = 120) -> str:
        """Run a shell script as a user of an access point, in the user's home."""
        return self.run(ap, ["sh", "-c", f"cd && {script}"], user=user, timeout_s=timeout_s)

    def write(self, host: str, path: str, content: str | bytes, *, mode: int = 0o644, owner: str = "") -> None:
        """Put a file on a host."""
        raw = content.encode() if isinstance(content, str) else content
        containers.write_file(model.host_named(host), path, raw, mode=mode, owner=owner)

    def read(self, host: str, path: str) -> bytes | None:
        """A file of a host, or None."""
        return containers.read_file(model.host_named(host), path)

    def aerotow(self, *args: str, timeout_s: float = 120) -> str:
        """Run the command line on the factory's host."""
        return self.run("factory", ["aerotow", *args], user=model.FACTORY_USER, timeout_s=timeout_s)

    def start_factory(self) -> None:
        """Start ``aerotow run``."""
        tower.start_factory()

    def stop_factory(self, *, kill: bool = False) -> None:
        """End ``aerotow run`` with TERM or KILL."""
        tower.stop_factory(kill=kill)


@pytest.fixture(scope="session")
def bed() -> Bed:
    """The federation, up and healed. As root on a machine without Docker, this installs it."""
    if os.geteuid() != 0 and not Path("/var/run/docker.sock").exists():
        pytest.skip("the test-bed needs root, or a Docker that this user may use")
    federation.up(lambda text: print(f"  {text}", file=sys.stderr))
    # A demo's factory would supply the tests' jobs with pilots of its own.
    tower.stop_factory()
    return Bed(sites={row.name: SiteHandle(row=row) for row in model.SITES})


@pytest.fixture
def healed(bed: Bed) -> Iterator[Callable[[], None]]:
    """For tests that break something: whatever happens, every daemon of the sites and the pool runs afterwards."""

    def heal() -> None:
        for host in model.hosts():
            containers.heal(host)

    yield heal
    heal()
