"""
Ask a running pilot's execution point to take no more jobs, and to take them again, through the collector and CCB.

By HTCondor's own tool in a process with a deadline: its Python bindings cannot do it (25.14.1, tried). The collector
gives whoever is ADMINISTRATOR there a session for the pilot, so the pilot needs no key and nothing listens at the site.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_REASON_MAX = 300
_SLOT = re.compile(r"^slot\d+@[A-Za-z0-9._-]+@[A-Za-z0-9._-]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainClient:
    """
    The tool, and with what it may ask.

    ``tool`` is condor_drain's path; ``tokens_dir`` holds the one token for ADMINISTRATOR at the collector, 0600.
    """

    tool: Path
    collector: str
    tokens_dir: Path
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The execution point took the request; what it does then is seen in its slot's ad."""

    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDrained:
    """It said no, or nobody knows whether it took the request; asking again does no harm."""

    slot: str
    reason: str


def drain(client: DrainClient, slot: str, *, reason: str) -> Drained | NotDrained:
    """Let the slot's jobs end by themselves and give it no new ones; ``slot`` is the partitionable slot's full name."""
    return _run(client, slot, ["-graceful", "-reason", " ".join(reason.split())[:200], slot])


def take_back(client: DrainClient, slot: str) -> Drained | NotDrained:
    """End the draining: the slot takes jobs again."""
    return _run(client, slot, ["-cancel", slot])


def _run(client: DrainClient, slot: str, options: list[str]) -> Drained | NotDrained:
    if _SLOT.match(slot) is None:
        return NotDrained(slot=slot, reason="this is no partitionable slot's name")
    try:
        done = subprocess.run(
            [str(client.tool), "-pool", client.collector, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=client.timeout_s,
            env=environment(client),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return NotDrained(slot=slot, reason=f"no answer in {client.timeout_s:g} s")
    except OSError as error:
        return NotDrained(slot=slot, reason=f"{client.tool}: {error.strerror}")
    words = " ".join((done.stderr + b" " + done.stdout).decode(errors="replace").split())[:_REASON_MAX]
    if done.returncode != 0:
        return NotDrained(slot=slot, reason=words or f"condor_drain ended with status {done.returncode}")
    return Drained(slot=slot)


def environment(client: DrainClient) -> Mapping[str, str]:
    """
    Configure the tool for a host that is no part of the pool; only paths are in it, never a token.

    Without USE_SHARED_PORT=False CCB does not work where no HTCondor daemon runs (25.14.1, tried).
    """
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "CONDOR_CONFIG": "/dev/null",
        "_CONDOR_COLLECTOR_HOST": client.collector,
        "_CONDOR_SEC_TOKEN_DIRECTORY": str(client.tokens_dir),
        "_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY": str(client.tokens_dir),
        "_CONDOR_SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
        "_CONDOR_SEC_DEFAULT_ENCRYPTION": "REQUIRED",
        "_CONDOR_SEC_DEFAULT_INTEGRITY": "REQUIRED",
        "_CONDOR_USE_SHARED_PORT": "False",
    }
