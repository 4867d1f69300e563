"""
A schedd of somebody else's pool, reached with a token: look at our jobs there, submit, edit and remove.

As in :mod:`overlay.client`, each request is a process of its own with a deadline and an output limit, and nothing
raises for what the other side does.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overlay.client import NoAnswer, PoolClient, read_answer, run_worker, worker_environment

JOBS_MAX = 20_000
"""Jobs of ours that one look reads; a queue with more is not believed."""
_WORKER = (sys.executable, "-P", "-m", "overlay.remote_worker")

Ad = Mapping[str, Any]
"""Attributes with plain values: bool, int, float or str."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where the schedd is and how we are known there. ``addresses`` keeps where it was last seen."""

    collector: str
    schedd: str
    token_file: Path
    """An IDTOKEN or a SciToken, mode 0600; read anew for every request."""
    work_dir: Path
    """0700, ours alone."""
    ca_file: Path | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = _WORKER


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What a token says of itself; nothing of it is checked here."""

    subject: str
    expires_s: float | None
    idtoken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look brought."""

    schedd: Ad | None
    """The schedd's ad; None if its collector did not have it and the schedd was found where it was before."""
    jobs: tuple[Ad, ...]
    past: tuple[Ad, ...]
    past_problem: str
    clock_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job to submit: its submit description, and its ``TransferInput`` once it may go."""

    name: str
    description: Mapping[str, str] = field(repr=False)
    inputs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How far a submission got: for each job its words in order, and why the whole stopped, if it did."""

    words: Mapping[str, tuple[tuple[str, str], ...]]
    problem: str


def read_token(path: Path, *, now_s: float) -> TokenFacts | NoAnswer:
    """Look into a token file; what keeps it from being used is told with its remedy."""
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        return NoAnswer(reason=f"token_file {path}: {reason}; put the site's token there, mode 0600")
    if stat.S_IMODE(mode) & 0o077:
        return NoAnswer(reason=f"token_file {path}: others may read it, so HTCondor does not; chmod 0600")
    try:
        header, payload = (_claims(part) for part in text.split(".")[:2])
        expires = payload.get("exp")
        facts = TokenFacts(
            subject=str(payload.get("sub", "")),
            expires_s=float(expires) if isinstance(expires, int | float) else None,
            idtoken=str(header.get("alg", "")).startswith("HS"),
        )
    except (ValueError, binascii.Error):
        return NoAnswer(reason=f"token_file {path}: this is no token; put the site's token there, one line")
    if facts.expires_s is not None and facts.expires_s <= now_s:
        ago = math.ceil(now_s - facts.expires_s)
        return NoAnswer(reason=f"token_file {path}: the token expired {ago} s ago; ask the site for a new one")
    return facts


def _claims(part: str) -> dict[str, Any]:
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(claims, dict):
        raise ValueError("no claims")
    return claims


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for: jobs by ``constraint``, and those of ``names`` (by ``attribute``) that are jobs no more."""

    constraint: str
    projection: tuple[str, ...]
    attribute: str
    names: tuple[str, ...] = ()
    ad_projection: tuple[str, ...] = ()
    """Attributes of the schedd's own ad."""


def look(remote: Remote, query: Query, *, timeout_s: float, now_s: float) -> Looked | NoAnswer:
    """
    Our jobs, and for each of the names that is not among them its record in the history.

    Four requests to the site however many jobs: its collector, the clock, the queue, and the history where one is gone.
    """
    request = {
        "do": "look",
        "constraint": query.constraint,
        "projection": list(query.projection),
        "attribute": query.attribute,
        "names": list(query.names),
        "ad_projection": list(query.ad_projection),
        "limit": JOBS_MAX,
    }
    steps = _ask(remote, request, steps=5, timeout_s=timeout_s, now_s=now_s)
    if isinstance(steps, NoAnswer):
        return steps
    found, jobs, past, problems, clock = steps
    if len(jobs) >= JOBS_MAX:
        return NoAnswer(reason=f"more than {JOBS_MAX} jobs of ours are in the queue")
    clock_s = clock[0].get("ServerTime") if clock else None
    return Looked(
        schedd=found[0] if found else None,
        jobs=jobs,
        past=past,
        past_problem=str(problems[0].get("problem", "no reason is given")) if problems else "",
        clock_s=float(clock_s) if isinstance(clock_s, int) and 0 < clock_s < 2**53 else None,
    )


def submit(
    remote: Remote,
    jobs: Sequence[Job],
    *,
    constraint: str,
    attribute: str,
    stop_at_s: float,
    timeout_s: float,
    now_s: float,
) -> Told:
    """Submit each job with its files, then let them go; none is begun after ``stop_at_s`` by this machine's clock."""
    request = {
        "do": "submit",
        "constraint": constraint,
        "attribute": attribute,
        "stop_at_s": stop_at_s,
        "jobs": [{"name": job.name, "description": dict(job.description), "inputs": job.inputs} for job in jobs],
    }
    output = _run(remote, request, timeout_s=timeout_s, now_s=now_s)
    problem = ""
    if isinstance(output, NoAnswer):
        problem, output = output.reason, output.output
    return read_told(output, problem=problem)


def read_told(output: bytes, *, problem: str = "") -> Told:
    """Read how far a submission got, as far as whole lines came; any bytes give an answer."""
    words: dict[str, list[tuple[str, str]]] = {}
    ended = False
    for raw in output.split(b"\n")[:-1]:
        try:
            line = json.loads(raw)
        except ValueError:
            problem = problem or "the answer is damaged"
            break
        match line:
            case ["trying" | "late" | "spooled" | "gone" as word, str(name)]:
                words.setdefault(name, []).append((word, ""))
            case ["queued" | "problem" | "unspooled" | "stuck" as word, str(name), str(text)]:
                words.setdefault(name, []).append((word, text))
            case ["failed", _, str(text)]:
                problem = problem or text
            case ["done", _]:
                ended = True
            case ["address", _]:
                pass
            case _:
                problem = problem or "the answer makes no sense"
                break
    if not ended:
        problem = problem or "the answer is incomplete"
    return Told(words={name: tuple(told) for name, told in words.items()}, problem=problem)


def put(remote: Remote, description: Mapping[str, str], *, timeout_s: float, now_s: float) -> str | NoAnswer:
    """Leave files in the schedd's spool, as a job that never runs; the directory there."""
    request = {"do": "put", "description": dict(description)}
    steps = _ask(remote, request, steps=1, timeout_s=timeout_s, now_s=now_s)
    if isinstance(steps, NoAnswer):
        return steps
    place = steps[0][0].get("Iwd") if steps[0] else None
    return place if isinstance(place, str) else NoAnswer(reason="the schedd does not say where the files lie")


def edit(
    remote: Remote, *, constraint: str, attribute: str, value: str, timeout_s: float, now_s: float
) -> NoAnswer | None:
    """Set an attribute of the jobs for which ``constraint`` holds; none is no failure."""
    request = {"do": "edit", "constraint": constraint, "attribute": attribute, "value": value}
    steps = _ask(remote, request, steps=1, timeout_s=timeout_s, now_s=now_s)
    return steps if isinstance(steps, NoAnswer) else None


def remove(remote: Remote, *, constraint: str, why: str, timeout_s: float, now_s: float) -> NoAnswer | None:
    """Remove the jobs for which ``constraint`` holds when the schedd looks at it; none is no failure."""
    request = {"do": "remove", "constraint": constraint, "why": why}
    steps = _ask(remote, request, steps=1, timeout_s=timeout_s, now_s=now_s)
    if isinstance(steps, NoAnswer):
        return steps
    counts = [steps[0][0].get(name, 0) for name in ("TotalError", "TotalPermissionDenied")] if steps[0] else []
    if not all(isinstance(count, int) for count in counts):
        return NoAnswer(reason="the schedd does not say how many jobs it removed")
    return NoAnswer(reason=f"the schedd refused to remove {sum(counts)} job(s)") if sum(counts) else None


def machines(remote: Remote, *, projection: Sequence[str], timeout_s: float, now_s: float) -> tuple[Ad, ...] | NoAnswer:
    """The machines of that pool, as its collector has them; dynamic slots are parts of them."""
    steps = _ask(remote, {"do": "machines", "projection": list(projection)}, steps=1, timeout_s=timeout_s, now_s=now_s)
    return steps if isinstance(steps, NoAnswer) else steps[0]


def _ask(
    remote: Remote, request: Mapping[str, Any], *, steps: int, timeout_s: float, now_s: float
) -> tuple[tuple[Ad, ...], ...] | NoAnswer:
    """One request whose answer counts only as a whole."""
    output = _run(remote, request, timeout_s=timeout_s, now_s=now_s)
    if isinstance(output, NoAnswer):
        return output
    address, read = read_answer(output, steps=steps)
    if isinstance(read, NoAnswer):
        return read
    if address is not None:
        remote.addresses[remote.schedd] = address
    try:
        rows = tuple(tuple(json.loads(row) for row in step) for step in read)
    except (ValueError, RecursionError):
        return NoAnswer(reason="the answer is no JSON")
    # Ads go to others as plain mappings, and whoever reads them relies on that.
    if not all(isinstance(row, dict) and all(map(_plain, row.values())) for step in rows for row in step):
        return NoAnswer(reason="the answer is not a line of plain values for each ad")
    return rows


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)


def _run(remote: Remote, request: Mapping[str, Any], *, timeout_s: float, now_s: float) -> bytes | NoAnswer:
    """Run the worker with what it may know of us: one token, by its file."""
    token = read_token(remote.token_file, now_s=now_s)
    if isinstance(token, NoAnswer):
        return token
    tokens_dir = remote.work_dir / "tokens.d"
    link = tokens_dir / "site"
    try:
        tokens_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not link.is_symlink() or link.readlink() != remote.token_file:
            link.unlink(missing_ok=True)
            link.symlink_to(remote.token_file)
    except OSError as error:
        return NoAnswer(reason=f"{tokens_dir}: {error.strerror}")
    client = PoolClient(
        collector=remote.collector,
        tokens_dir=tokens_dir,
        timeout_s=timeout_s,
        output_max_bytes=64 << 20,
        command=remote.command,
    )
    environment = dict(worker_environment(client, timeout_s / 3))
    if not token.idtoken:
        environment["_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS"] = "SCITOKENS"
        environment["_CONDOR_SCITOKENS_FILE"] = str(remote.token_file)
    if remote.ca_file is not None:
        environment["_CONDOR_AUTH_SSL_CLIENT_CAFILE"] = str(remote.ca_file)
    whole = {
        **request,
        "collector": remote.collector,
        "schedd": remote.schedd,
        "address": remote.addresses.get(remote.schedd),
        "deadline_s": timeout_s,
    }
    return run_worker(client, json.dumps(whole).encode(), environment)
