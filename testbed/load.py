"""
A real mixed load, submitted as ordinary users with the plain submit files of ``examples/``.

Every job hashes an input that was drawn for this run, so its output can be verified afterwards.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from testbed import containers, model
from testbed.errors import LoadFailed

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DAG_STEPS = ("prepare", *(f"work{n}" for n in range(12)), "gather")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One submit file, who submits it where, and the names of its jobs' inputs."""

    name: str
    user: str
    ap: str
    file: str
    steps: tuple[str, ...]
    settings: tuple[str, ...] = ()
    runs: bool = True
    """False for the job that can run nowhere."""

    @property
    def is_dag(self) -> bool:
        """Whether DAGMan runs it."""
        return self.file.endswith(".dag")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedBatch:
    """A batch in a queue."""

    batch: Batch
    directory: str
    cluster: int
    """The cluster, or DAGMan's own."""
    submitted_s: float
    checksums: dict[str, str]
    """Step to the SHA-256 of its input."""


def mixed_load(random: Random) -> tuple[Batch, ...]:
    """The demo's load: 163 jobs that can run, and one that asks for a memory size drawn here."""
    numbered = _numbered
    impossible_gib = random.randint(100, 900)
    return (
        numbered("singles", user="alice", ap="ap1", jobs=70),
        numbered("multicore", user="bob", ap="ap1", jobs=16),
        numbered("onesite", user="bob", ap="ap1", jobs=10, settings=("site=gamma",)),
        numbered("bigmemory", user="alice", ap="ap1", jobs=6),
        numbered("pairs", user="carol", ap="ap2", jobs=41),
        numbered("wholepilot", user="dave", ap="ap2", jobs=6),
        Batch(name="fanout", user="carol", ap="ap2", file="fanout.dag", steps=DAG_STEPS),
        numbered("impossible", user="alice", ap="ap1", jobs=1, settings=(f"memory={impossible_gib}GB",), runs=False),
    )


def _numbered(name: str, *, user: str, ap: str, jobs: int, settings: tuple[str, ...] = (), runs: bool = True) -> Batch:
    """A batch of jobs that HTCondor numbers."""
    return Batch(
        name=name,
        user=user,
        ap=ap,
        file=f"{name}.sub",
        steps=tuple(str(n) for n in range(jobs)),
        settings=(f"jobs={jobs}", *settings),
        runs=runs,
    )


def submit(batch: Batch, *, run: str, random: Random) -> SubmittedBatch:
    """Lay the files out in the user's home and submit as that user."""
    directory = f"/home/{batch.user}/{run}/{batch.name}"
    inputs = {step: random.randbytes(4096) for step in batch.steps}
    _lay_out(batch, directory, inputs)
    command = (
        ["condor_submit_dag", "-force", batch.file] if batch.is_dag else ["condor_submit", *batch.settings, batch.file]
    )
    submitted_s = time.time()
    answer = _as_user(batch, directory, command)
    found = re.search(r"submitted to cluster (\d+)", answer)
    if found is None:
        raise LoadFailed(batch=batch.name, problem=f"{' '.join(command)} answered: {answer.strip()}")
    checksums = {step: hashlib.sha256(content).hexdigest() for step, content in inputs.items()}
    return SubmittedBatch(
        batch=batch, directory=directory, cluster=int(found[1]), submitted_s=submitted_s, checksums=checksums
    )


def left_in_queue(batches: tuple[SubmittedBatch, ...]) -> int:
    """Jobs of these batches that have not left their queue, DAGMan and its nodes included."""
    left = 0
    for ap in sorted({one.batch.ap for one in batches}):
        here = [one for one in batches if one.batch.ap == ap]
        terms = " || ".join(f"ClusterId == {one.cluster} || DAGManJobId =?= {one.cluster}" for one in here)
        left += len(queue_ads(ap, terms, ("ClusterId", "ProcId")))
    return left


def queue_ads(ap: str, constraint: str, attributes: tuple[str, ...]) -> list[dict[str, object]]:
    """Ads of jobs in an access point's queue, as condor_q prints them."""
    return _ads(ap, ["condor_q", "-allusers", "-json", "-constraint", constraint], attributes)


def history_ads(ap: str, constraint: str, attributes: tuple[str, ...]) -> list[dict[str, object]]:
    """Ads of jobs that have left an access point's queue, as condor_history prints them."""
    return _ads(ap, ["condor_history", "-json", "-constraint", constraint], attributes)


def verify(one: SubmittedBatch) -> tuple[str, ...]:
    """What is wrong with a batch's results: jobs not completed with exit code 0, wrong checksums; empty is good."""
    batch = one.batch
    constraint = f"DAGManJobId =?= {one.cluster}" if batch.is_dag else f"ClusterId == {one.cluster}"
    ads = history_ads(batch.ap, constraint, ("ProcId", "JobStatus", "ExitCode", "DAGNodeName"))
    problems = [f"{batch.name}: {ad}" for ad in ads if ad.get("JobStatus") != 4 or ad.get("ExitCode") != 0]
    if len(ads) != len(batch.steps):
        problems.append(f"{batch.name}: {len(ads)} jobs in the history, {len(batch.steps)} submitted")
    script = 'cd "$1" && for f in out.*; do printf "%s %s\\n" "${f#out.}" "$(head -c 200 "$f")"; done'
    host = model.host_named(batch.ap)
    answer = containers.execute(host, ["sh", "-c", script, "verify", one.directory], user=batch.user)
    found = dict(line.split(" ", 1) for line in answer.splitlines() if " " in line)
    problems += [
        f"{batch.name}: step {step} printed {found.get(step, 'nothing')!r}, its input's checksum is {checksum}"
        for step, checksum in one.checksums.items()
        if found.get(step, "").strip() != checksum
    ]
    return tuple(problems)


def _lay_out(batch: Batch, directory: str, inputs: dict[str, bytes]) -> None:
    """Submit files, payload and inputs into the user's own directory, as that user."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in (
            EXAMPLES / "payload.sh",
            EXAMPLES / batch.file,
            *([EXAMPLES / "fanout.sub"] if batch.is_dag else []),
        ):
            _add(tar, path.name, path.read_bytes(), mode=0o755 if path.suffix == ".sh" else 0o644)
        for step, content in inputs.items():
            _add(tar, f"in.{step}", content, mode=0o644)
    script = 'mkdir -p "$1" && tar -x -C "$1"'
    host = model.host_named(batch.ap)
    containers.execute(host, ["sh", "-c", script, "lay-out", directory], user=batch.user, stdin=archive.getvalue())


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _as_user(batch: Batch, directory: str, command: list[str]) -> str:
    """Run a command in the batch's directory as its user."""
    script = 'cd "$1" && shift && exec "$@"'
    host = model.host_named(batch.ap)
    return containers.execute(host, ["sh", "-c", script, "run", directory, *command], user=batch.user)


def _ads(ap: str, command: list[str], attributes: tuple[str, ...]) -> list[dict[str, object]]:
    """Ads as HTCondor's own tool prints them; no output at all is no ad."""
    argv = [*command, "-attributes", ",".join(attributes)]
    text = containers.execute(model.host_named(ap), argv).strip()
    ads: list[dict[str, object]] = json.loads(text) if text else []
    return ads
