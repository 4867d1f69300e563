"""
Ask the collector and the access points, each question in a process of its own with a deadline.

Nothing here raises for a daemon's failure: a question that got no complete answer gives :class:`NoAnswer`, which the
readers turn into an ``...Unseen``. An answer is complete only when it says so itself.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overlay.sparing import DUTY_MAX, Asked, Contacts

_REASON_MAX = 300
_STDERR_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ap:
    """An access point: the operator's name of it, and its schedd's Name in the collector."""

    name: str
    schedd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer: for each step of the request the texts of its ads."""

    steps: tuple[tuple[str, ...], ...]
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """No complete answer came; nothing may be concluded from it."""

    reason: str
    busy: bool = False
    """The schedd is spared because it says that it is busy; nothing was asked of it."""
    output: bytes = field(default=b"", repr=False, compare=False)
    """What had come when it was given up, for those who ask for effects and must know how far they got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClient:
    """Where the pool is and how it is asked. The only thing that changes is ``contacts``."""

    collector: str
    tokens_dir: Path
    """READ tokens of the factory, one file each, 0600: HTCondor picks the one whose key the daemon has."""
    timeout_s: float = 25.0
    output_max_bytes: int = 256 * 1024 * 1024
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "overlay.worker")
    busy_interval_s: float = 300.0
    """How often a schedd that says that it is busy is asked all the same."""
    contacts: Contacts = field(default_factory=Contacts)


def collector_step(*, ads: str, constraint: str, projection: Sequence[str]) -> dict[str, Any]:
    """Ask the collector for ``startd`` ads, or for its own (``collector``)."""
    return {"kind": "collector", "ads": ads, "constraint": constraint, "projection": list(projection)}


def jobs_step(*, option: str, constraint: str, projection: Sequence[str], limit: int = -1) -> dict[str, Any]:
    """Ask a schedd for jobs: ``plain``, ``group``, ``summary`` or ``clusters``."""
    return {
        "kind": "jobs",
        "option": option,
        "constraint": constraint,
        "projection": list(projection),
        "limit": limit,
    }


def history_step(
    *, kind: str, constraint: str, projection: Sequence[str], limit: int, since: str | None
) -> dict[str, Any]:
    """Ask a schedd for ``epochs`` or ``history``, newest first, until ``since`` becomes true."""
    return {
        "kind": kind,
        "constraint": constraint,
        "projection": list(projection),
        "limit": limit,
        "since": since,
    }


def ask(
    client: PoolClient, steps: Sequence[Mapping[str, Any]], *, ap: Ap | None = None, question: str = ""
) -> Answer | NoAnswer:
    """
    Ask something, of an AP's schedd where one is given, else of the collector alone.

    With a ``question``, the name of what is asked again and again, a slow or busy schedd is spared.
    """
    request: dict[str, Any] = {
        "deadline_s": client.timeout_s,
        "collector": client.collector,
        "steps": [dict(step) for step in steps],
    }
    began = time.monotonic()
    if ap is not None:
        request["schedd"] = ap.schedd
        request["address"] = client.contacts.addresses.get(ap.schedd)
        rest_s = client.contacts.rest_s(ap.schedd, question, now_s=began) if question else 0.0
        if rest_s > 0:
            took_s = client.contacts.asked[ap.schedd, question].took_s
            return NoAnswer(reason=f"the last question took {took_s:.0f} s; asked again in {math.ceil(rest_s)} s")
        if question and client.contacts.asked_lately(ap.schedd, question, now_s=began, within_s=client.busy_interval_s):
            request["spare_above"] = DUTY_MAX
    # A collector that hangs must leave time to ask the schedd where it was last seen.
    collector_timeout_s = client.timeout_s if ap is None else client.timeout_s / 3
    output = run_worker(client, json.dumps(request).encode(), worker_environment(client, collector_timeout_s))
    address, read = (None, output) if isinstance(output, NoAnswer) else read_answer(output, steps=len(steps))
    ended = time.monotonic()
    if ap is not None and address is not None and isinstance(read, tuple):
        client.contacts.addresses[ap.schedd] = address
    if ap is not None and question and not (isinstance(read, NoAnswer) and read.busy):
        client.contacts.asked[ap.schedd, question] = Asked(at_s=ended, took_s=ended - began)
    return read if isinstance(read, NoAnswer) else Answer(steps=read, duration_s=ended - began)


def read_answer(output: bytes, *, steps: int) -> tuple[str | None, tuple[tuple[str, ...], ...] | NoAnswer]:
    """
    Read what a worker wrote: the schedd's address, and the ads of each step or why there are none.

    Every count must be right and the last line must be ``done``: what is cut off anywhere is no answer.
    """
    ads: list[list[str]] = [[] for _ in range(steps)]
    ended = 0
    address: str | None = None
    try:
        for line in output.decode().splitlines():
            match json.loads(line):
                case ["ad", int(number), str(ad_text)] if number == ended < steps:
                    ads[number].append(ad_text)
                case ["end", int(number), int(count)] if number == ended < steps and len(ads[number]) == count:
                    ended += 1
                case ["address", str(found)]:
                    address = found
                case ["failed", str(kind), str(problem)]:
                    return None, NoAnswer(reason=_short(problem), busy=kind == "Busy")
                case ["done", int(count)] if count == steps == ended and output.endswith(f"{line}\n".encode()):
                    return address, tuple(tuple(step) for step in ads)
                case _:
                    return None, NoAnswer(reason=f"the answer makes no sense: {_short(line)}")
    except (ValueError, UnicodeDecodeError):
        return None, NoAnswer(reason="the answer is damaged")
    return None, NoAnswer(reason="the answer is incomplete")


def run_worker(client: PoolClient, request: bytes, environment: Mapping[str, str]) -> bytes | NoAnswer:
    """Run a worker to its end, its deadline or the limit of its output, whichever comes first."""
    try:
        process = subprocess.Popen(
            client.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return NoAnswer(reason=f"no process could be started: {error.strerror}")
    try:
        return _exchange(process, request, client)
    finally:
        _kill(process)


def _exchange(process: subprocess.Popen[bytes], request: bytes, client: PoolClient) -> bytes | NoAnswer:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + client.timeout_s
    output = bytearray()
    errors = bytearray()
    try:
        # Far smaller than a pipe holds, so this does not block.
        process.stdin.write(request)
        process.stdin.close()
    except OSError:
        return NoAnswer(reason="the process ended before it was asked")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return NoAnswer(reason=f"no answer in {client.timeout_s:g} s", output=bytes(output))
            for key, _ in selector.select(left_s):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
            if len(output) > client.output_max_bytes:
                return NoAnswer(reason=f"the answer is longer than {client.output_max_bytes} bytes")
            del errors[:-_STDERR_MAX_BYTES]
    try:
        status = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return NoAnswer(reason=f"no answer in {client.timeout_s:g} s")
    if status != 0 and not output:
        return NoAnswer(reason=f"the process ended with status {status}: {_short(errors.decode(errors='replace'))}")
    return bytes(output)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a worker for certain; it leads a process group of its own."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def worker_environment(client: PoolClient, collector_timeout_s: float) -> dict[str, str]:
    """
    Configure HTCondor for a host that is no part of the pool; only paths are in it, never a token.

    Without USE_SHARED_PORT=False CCB does not work where no HTCondor daemon runs, and without required authentication
    the client does not show its token to a daemon that would also take READ unauthenticated (25.14.1, tried).
    """
    packages = str(Path(__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONPATH": packages if not inherited else f"{packages}{os.pathsep}{inherited}",
        "CONDOR_CONFIG": "/dev/null",
        "_CONDOR_COLLECTOR_HOST": client.collector,
        "_CONDOR_SEC_TOKEN_DIRECTORY": str(client.tokens_dir),
        "_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY": str(client.tokens_dir),
        "_CONDOR_SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
        "_CONDOR_SEC_DEFAULT_ENCRYPTION": "REQUIRED",
        "_CONDOR_SEC_DEFAULT_INTEGRITY": "REQUIRED",
        "_CONDOR_USE_SHARED_PORT": "False",
        "_CONDOR_QUERY_TIMEOUT": str(max(1, int(collector_timeout_s))),
        "_CONDOR_Q_QUERY_TIMEOUT": str(max(1, int(client.timeout_s))),
    }


def _short(problem: str) -> str:
    """One line of a daemon's or process's words; it is shown to people and stored."""
    line = " ".join(problem.split())
    return line if len(line) <= _REASON_MAX else line[: _REASON_MAX - 1] + "…"
