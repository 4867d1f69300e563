"""
Traces from files in the Standard Workload Format 2.2 (https://www.cs.huji.ac.il/labs/parallel/workload/swf.html).

Eighteen numbers a line, -1 for what is not known, comments and the header after ``;``. A line that tells of no whole
job (cancelled before it ran, a part of a checkpointed job, no run time) is left out and counted.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from simulation.errors import TraceUnreadable
from simulation.model import TraceJob

FIELDS = 18
CANCELLED = 5
DEFAULT_MEMORY_MIB = 1024
"""Of each core, where the log does not know."""
PARTS = (2, 3, 4)
"""Status of the parts of a checkpointed job; its whole is on a line of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swf:
    """The jobs of a file, its header, and what was left out for which reason."""

    jobs: tuple[TraceJob, ...]
    header: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, int], ...]


def read_swf(path: Path, *, max_cores: int | None = None) -> Swf:
    """
    The jobs of a file, which may be compressed with gzip.

    :raises TraceUnreadable: it cannot be read, or a line has another form.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="latin-1") as lines:
                return parse_swf(lines, path=path, max_cores=max_cores)
        with path.open(encoding="latin-1") as lines:
            return parse_swf(lines, path=path, max_cores=max_cores)
    except (OSError, EOFError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise TraceUnreadable(
            path=path, line=None, problem=f"cannot be read ({problem})", remedy="give the right path"
        ) from error


def parse_swf(lines: Iterable[str], *, path: Path | str, max_cores: int | None = None) -> Swf:
    """
    The jobs of the lines.

    Times begin at the first job's submission. Cores are the requested processors, else the allocated ones; memory is
    the requested one of each processor, else the used one, times the cores; the declared time is the requested one,
    but never less than the job then ran, because HTCondor would hold it where the log's system did not.
    """
    header: list[tuple[str, str]] = []
    left_out: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if text.startswith(";"):
            key, colon, value = text.lstrip("; ").partition(":")
            if colon and not jobs:
                header.append((key.strip(), value.strip()))
            continue
        told = _job(_numbers(text, path=path, number=number), max_cores)
        if isinstance(told, str):
            left_out[told] += 1
        else:
            jobs.append(told)
    begin_s = min((job.submit_s for job in jobs), default=0.0)
    return Swf(
        jobs=tuple(sorted(replace(job, submit_s=job.submit_s - begin_s) for job in jobs)),
        header=tuple(header),
        left_out=tuple(sorted(left_out.items())),
    )


def _numbers(text: str, *, path: Path | str, number: int) -> list[float]:
    words = text.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != FIELDS or not all(map(math.isfinite, numbers)):
        raise TraceUnreadable(
            path=path,
            line=number,
            problem=f"is not {FIELDS} numbers: {text[:60]!r}",
            remedy="give a file in the Standard Workload Format; its comments begin with ';'",
        )
    return numbers


def _job(told: list[float], max_cores: int | None) -> TraceJob | str:
    """The job of a line, or why it tells of none."""
    _, submit_s, _, run_s, allocated, _, used_kib, asked, asked_s, asked_kib, status, user, group, *_ = told
    if status == CANCELLED and run_s <= 0:
        return "cancelled before it ran"
    if status in PARTS:
        return "part of a checkpointed job"
    if run_s < 0:
        return "no run time"
    if submit_s < 0:
        return "no submit time"
    cores = int(asked if asked > 0 else allocated)
    if cores < 1:
        return "no processors"
    if max_cores is not None and cores > max_cores:
        return f"more than {max_cores} cores"
    kib = asked_kib if asked_kib > 0 else used_kib
    return TraceJob(
        submit_s=submit_s,
        cores=cores,
        runtime_s=run_s,
        declared_s=math.ceil(max(asked_s, run_s, 1)) if asked_s > 0 else None,
        user=f"user{int(user)}" if user >= 0 else "user",
        project=f"group{int(group)}" if group >= 0 else "project",
        memory_mib=max(1, math.ceil(kib * cores / 1024)) if kib > 0 else DEFAULT_MEMORY_MIB * cores,
    )
