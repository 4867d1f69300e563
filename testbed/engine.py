"""Docker itself: found, installed if missing, started if it does not run; and the two ways we talk to it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import CommandFailed, EngineMissing

if TYPE_CHECKING:
    import docker

Say = Callable[[str], None]
"""Where progress lines go; an argument everywhere, so that tests can stay silent."""

PACKAGES = ("docker.io", "debootstrap", "iptables")
DOCKERD_WAIT_S = 60.0
PID_FILE = Path("/var/run/docker.pid")


def cache_dir() -> Path:
    """Directory of this machine for what is worth keeping between clones: wheels, logs, the lock."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(root) / "aerotow"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def step(say: Say, what: str) -> Iterator[None]:
    """Say what was done and how long it took."""
    begin_s = time.monotonic()
    yield
    say(f"{what}  {time.monotonic() - begin_s:.1f} s")


def run(argv: list[str], *, stdin: bytes | None = None, timeout_s: float = 900, **env: str) -> str:
    """
    Run a command of this machine and return its output.

    :raises CommandFailed: exit status other than 0; the text carries the end of its output.
    """
    done = subprocess.run(
        argv, input=stdin, capture_output=True, timeout=timeout_s, check=False, env={**os.environ, **env}
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise CommandFailed(where="this machine", argv=tuple(argv), exit_status=done.returncode, output=output)
    return done.stdout.decode(errors="replace")


def docker_command() -> str:
    """
    Path of the docker client that can build.

    The distribution's own client comes first: a newer stand-alone client without buildx falls back to the legacy
    builder, which refuses ``RUN --mount``.
    """
    distribution = Path("/usr/bin/docker")
    return str(distribution) if distribution.exists() else shutil.which("docker") or "docker"


def docker_cli(*args: str, stdin: bytes | None = None, timeout_s: float = 1800) -> str:
    """Run the docker client with BuildKit; see :func:`run`."""
    return run([docker_command(), *args], stdin=stdin, timeout_s=timeout_s, DOCKER_BUILDKIT="1")


@functools.cache
def client() -> docker.DockerClient:
    """One connection to the Docker daemon for this process."""
    import docker

    return docker.from_env(timeout=120)


def _answers() -> bool:
    done = subprocess.run([docker_command(), "info"], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def ensure_engine(say: Say) -> None:
    """
    Make sure that a Docker daemon answers; a daemon that already runs is taken as it is.

    :raises EngineMissing: it cannot be installed or does not start.
    """
    if not all(shutil.which(tool) for tool in ("docker", "dockerd", "debootstrap", "iptables")) and not (
        shutil.which("docker") and shutil.which("iptables") and _answers()
    ):
        with step(say, f"installed {', '.join(PACKAGES)}"):
            _install()
    if _answers():
        return
    with step(say, f"started dockerd (log: {cache_dir() / 'dockerd.log'})"):
        _start_dockerd()


def _install() -> None:
    if os.geteuid() != 0:
        raise EngineMissing(f"Docker is missing and only root can install it: apt-get install {' '.join(PACKAGES)}")
    try:
        # One broken source of some other product must not stop us: what counts is whether the install works.
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=600, check=False)
        run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES],
            timeout_s=1200,
            DEBIAN_FRONTEND="noninteractive",
        )
    except CommandFailed as error:
        raise EngineMissing(f"Docker cannot be installed: {error}") from error


def _start_dockerd() -> None:
    if os.geteuid() != 0:
        raise EngineMissing("the Docker daemon does not run and only root can start it: start it, then run this again")
    remove_stale_pid_file()
    log_path = cache_dir() / "dockerd.log"
    with log_path.open("ab") as log:
        # A session of its own: it outlives us, and a Ctrl-C here does not reach it.
        daemon = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    deadline_s = time.monotonic() + DOCKERD_WAIT_S
    while time.monotonic() < deadline_s:
        if _answers():
            return
        if daemon.poll() is not None:
            break
        time.sleep(0.3)
    tail = log_path.read_text(errors="replace")[-2000:]
    raise EngineMissing(f"dockerd did not start within {DOCKERD_WAIT_S:.0f} s; the end of {log_path}:\n{tail}")


def remove_stale_pid_file() -> None:
    """Forget the pid of a daemon that was killed: dockerd refuses to start while any process has that number."""
    try:
        pid = int(PID_FILE.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        name = ""
    if name != "dockerd":
        PID_FILE.unlink(missing_ok=True)
