"""
Run our fixed scripts where a site's Slurm commands are: here, or behind one multiplexed OpenSSH connection.

The remote command line is always ``timeout ... sh -c 'eval "$(head -c N)"'``: the script itself is the first N bytes of
stdin and its data follow, so no name, id or secret is ever in an argument, quoting happens once, and the account's
login shell (bash, csh, fish) does not matter. A script is one function called on its last line: cut short on the way
it is a syntax error, and nothing of it runs.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from factory.errors import SiteSetupError
from factory.sites.exchange import Exchange, exchange

REMOTE_KILL_S = 2
"""A remote command that ignores SIGTERM at its deadline is killed this much later."""
LOCAL_GRACE_S = 5.0
"""We wait this much longer than the remote deadline, for the remote end to report it."""
CONNECT_TIMEOUT_S = 20.0
CONTROL_TIMEOUT_S = 5.0
TIMED_OUT_STATUSES = (124, 137)
"""Exit statuses of timeout(1): at the deadline, and when it had to kill."""
SSH_FAILED_STATUS = 255
"""ssh's own failure; also a remote command ended by a signal. Source: ssh(1), EXIT STATUS."""
CONTROL_PATH_MAX_BYTES = 85
"""sun_path holds 108 bytes, and ssh binds a temporary name 17 bytes longer first."""


class Outcome(Enum):
    """How far a command got."""

    ANSWERED = "answered"
    """It ran to its end and its status is known."""
    NOT_CONNECTED = "not_connected"
    """There was no connection: nothing was sent."""
    CONNECTION_LOST = "connection_lost"
    """Sent, or partly sent, and its end is not known."""
    TIMED_OUT = "timed_out"
    TOO_MUCH = "too_much"
    """Its output passed the limit; the rest was not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A fixed POSIX sh script with its data, its deadline in seconds from now, and the limit of its output."""

    text: str
    data: bytes = field(default=b"", repr=False)
    timeout_s: float
    limit_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellResult:
    """What came back, however far it got."""

    outcome: Outcome
    stdout: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)
    status: int | None = None


class Shell(Protocol):
    """Runs scripts on the host that has the Slurm commands. One caller at a time."""

    @property
    def connection(self) -> int:
        """Number of the present connection; what was remembered of an earlier one may be stale."""
        ...

    def run(self, script: Script) -> ShellResult:
        """Run one script; never raises for what the other side does."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


def remote_argv(script: Script) -> list[str]:
    """The command that reads the script, then its data, from stdin."""
    length = len(script.text.encode())
    deadline_s = max(1, math.ceil(script.timeout_s))
    return ["timeout", "-k", str(REMOTE_KILL_S), str(deadline_s), "sh", "-c", f'eval "$(head -c {length})"', "aerotow"]


class LocalShell:
    """This machine has the Slurm commands; ``home`` is a directory to use in place of the home directory."""

    connection = 1

    def __init__(self, *, home: Path | None = None) -> None:
        self._home = home

    def run(self, script: Script) -> ShellResult:
        """Run one script here."""
        answer = exchange(
            self.client_argv(script),
            data=script.text.encode() + script.data,
            timeout_s=script.timeout_s + REMOTE_KILL_S + LOCAL_GRACE_S,
            limit_bytes=script.limit_bytes,
        )
        if answer.ending == "not_started":
            return ShellResult(outcome=Outcome.NOT_CONNECTED, stderr=answer.stderr)
        return _result(answer, script)

    def client_argv(self, script: Script) -> list[str]:
        """The command itself, with another home directory where there is one."""
        return [*([] if self._home is None else ["env", f"HOME={self._home}"]), *remote_argv(script)]

    def close(self) -> None:
        """There is nothing to end."""


class SshShell:
    """
    One site behind one master connection of the OpenSSH client, which honours the operator's ssh_config.

    Commands go only through that master: a client that finds none fails instead of opening a connection of its own
    (measured: beyond MaxSessions OpenSSH does that silently). One caller at a time keeps us below MaxSessions.
    """

    def __init__(self, *, site: str, login: str, control_dir: Path, options: tuple[str, ...] = ()) -> None:
        self._site = site
        self._login = login
        self._options = options
        # Of this process alone: `aerotow plan` beside the loop must not end the loop's connection.
        self._control_path = control_dir / f"{site}-{os.getpid()}.sock"
        self._connection = 0
        if len(os.fsencode(self._control_path)) > CONTROL_PATH_MAX_BYTES:
            raise SiteSetupError(
                site=site,
                problem=f"{self._control_path} is too long for a socket's name",
                remedy="choose a shorter instance.state_dir",
            )
        if login.startswith("-"):
            raise SiteSetupError(site=site, problem=f"login {login!r} reads as an option", remedy="write user@host")

    @property
    def connection(self) -> int:
        """Number of the present connection."""
        return self._connection

    def run(self, script: Script) -> ShellResult:
        """Run one script at the site, connecting first where there is no connection."""
        problem = self._connect()
        if problem:
            return ShellResult(outcome=Outcome.NOT_CONNECTED, stderr=problem.encode())
        answer = exchange(
            self.client_argv(script),
            data=script.text.encode() + script.data,
            timeout_s=script.timeout_s + REMOTE_KILL_S + LOCAL_GRACE_S,
            limit_bytes=script.limit_bytes,
        )
        if answer.ending == "timed_out":
            # The remote end had to answer or be killed by its own timeout: the connection itself is stuck.
            self._disconnect()
        return _result(answer, script)

    def client_argv(self, script: Script) -> list[str]:
        """A client of the master connection; ``-F none`` because the master has what ssh_config says."""
        return [
            *self._control_argv(),
            "-oControlMaster=no",
            "-oProxyCommand=false",
            "-T",
            "--",
            self._login,
            shlex.join(remote_argv(script)),
        ]

    def close(self) -> None:
        """End the connection."""
        self._disconnect()

    def _control_argv(self) -> list[str]:
        return ["ssh", "-Fnone", "-oBatchMode=yes", f"-oControlPath={self._control_path}"]

    def _master_argv(self) -> list[str]:
        return [
            "ssh",
            "-oBatchMode=yes",
            "-oControlMaster=yes",
            f"-oControlPath={self._control_path}",
            # A factory that was killed leaves a master behind; it ends by itself after this many idle seconds.
            "-oControlPersist=300",
            f"-oConnectTimeout={math.floor(CONNECT_TIMEOUT_S / 2)}",
            "-oServerAliveInterval=5",
            "-oServerAliveCountMax=3",
            "-oClearAllForwardings=yes",
            "-oForwardAgent=no",
            "-oForwardX11=no",
            "-oRequestTTY=no",
            "-oRemoteCommand=none",
            "-oPermitLocalCommand=no",
            "-oLogLevel=ERROR",
            *self._options,
            "-fNT",
            "--",
            self._login,
        ]

    def _connect(self) -> str:
        """Make sure that the master connection is there; the problem in ssh's words, or empty."""
        if self._connection and self._control("check"):
            return ""
        self._disconnect()
        self._control_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The master keeps its stderr open when it goes to the background, so a pipe would never end.
        with tempfile.TemporaryFile() as stderr:
            try:
                process = subprocess.Popen(
                    self._master_argv(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,
                )
            except OSError as error:
                return f"ssh: {error.strerror}"
            try:
                status = process.wait(CONNECT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return f"ssh gave no connection in {CONNECT_TIMEOUT_S:.0f} s"
            if status != 0:
                stderr.seek(0)
                said = stderr.read(8192).decode(errors="replace").strip()
                return said or f"ssh ended with status {status}"
        self._connection += 1
        return ""

    def _disconnect(self) -> None:
        """End the master if there is one; a dead one's socket is removed."""
        if self._control_path.exists():
            self._control("exit")
            with contextlib.suppress(OSError):
                self._control_path.unlink()

    def _control(self, order: str) -> bool:
        """Give the master an order; whether it took it."""
        argv = [*self._control_argv(), "-O", order, "--", self._login]
        answer = exchange(argv, data=b"", timeout_s=CONTROL_TIMEOUT_S, limit_bytes=8192)
        return answer.ending == "exited" and answer.status == 0


def _result(answer: Exchange, script: Script) -> ShellResult:
    """How far a command got, from how its carrier ended."""
    died = answer.ending == "not_started" or answer.status == SSH_FAILED_STATUS or (answer.status or 0) < 0
    outcome = Outcome.ANSWERED
    if answer.ending == "too_much":
        outcome = Outcome.TOO_MUCH
    elif answer.ending == "timed_out" or answer.status in TIMED_OUT_STATUSES:
        outcome = Outcome.TIMED_OUT
    elif died and answer.elapsed_s > script.timeout_s:
        # timeout(1) that has to KILL dies with its group, and ssh has no status to give.
        outcome = Outcome.TIMED_OUT
    elif died:
        outcome = Outcome.CONNECTION_LOST
    return ShellResult(outcome=outcome, stdout=answer.stdout, stderr=answer.stderr, status=answer.status)
