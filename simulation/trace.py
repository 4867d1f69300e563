"""
Traces of jobs as files: one JSON object a line, documented in docs/simulator.md.

A line with an unknown key, a missing one or a value without meaning is refused with its number: a trace that is read
half right gives an answer that is wholly wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from overlay.classads import parse_ad
from overlay.errors import AdUnreadable
from simulation.errors import TraceUnreadable
from simulation.model import TraceJob

JOBS_MAX = 5_000_000
_FIELDS = {field.name: field for field in fields(TraceJob)}
_REQUIRED = tuple(name for name, field in _FIELDS.items() if field.default is MISSING)
_TEXTS = frozenset({"user", "project", "requirements"})
_WHOLE = frozenset({"cores", "memory_mib", "disk_mib", "gpus", "declared_s"})
_LEAST = {"cores": 1, "runtime_s": 0, "submit_s": 0, "declared_s": 1}


def read_trace(path: Path) -> tuple[TraceJob, ...]:
    """
    The jobs of a trace file, in the order of their submission.

    :raises TraceUnreadable: the file cannot be read, or a line has no meaning.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return parse_trace(lines, path=path)
    except OSError as error:
        raise TraceUnreadable(
            path=path, line=None, problem=f"cannot be read ({error.strerror})", remedy="give the right path"
        ) from error
    except UnicodeDecodeError as error:
        raise TraceUnreadable(path=path, line=None, problem="is not UTF-8 text", remedy="save it as UTF-8") from error


def parse_trace(lines: Iterable[str], *, path: Path | str) -> tuple[TraceJob, ...]:
    """The jobs of the lines; empty ones and those that begin with ``#`` are left out."""
    jobs = []
    known: set[str] = {""}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        job = _job(line, path=path, number=number)
        if job.requirements not in known:
            _check_requirements(job.requirements, path=path, number=number)
            known.add(job.requirements)
        jobs.append(job)
        if len(jobs) > JOBS_MAX:
            raise TraceUnreadable(path=path, line=number, problem=f"more than {JOBS_MAX} jobs", remedy="cut the trace")
    return tuple(sorted(jobs, key=lambda job: job.submit_s))


def trace_lines(jobs: Iterable[TraceJob]) -> Iterator[str]:
    """Lines of a trace file, without line ends; what has its default is left out."""
    for job in jobs:
        told = {name: getattr(job, name) for name in _FIELDS}
        yield json.dumps(
            {name: value for name, value in told.items() if name in _REQUIRED or value != _FIELDS[name].default}
        )


def _job(line: str, *, path: Path | str, number: int) -> TraceJob:
    def refuse(problem: str, remedy: str) -> TraceUnreadable:
        return TraceUnreadable(path=path, line=number, problem=problem, remedy=remedy)

    try:
        told = json.loads(line)
    except ValueError as error:
        raise refuse(f"is no JSON ({error})", "write one JSON object a line") from error
    if not isinstance(told, dict):
        raise refuse("is no JSON object", 'write one like {"submit_s": 0, "runtime_s": 60}')
    foreign = sorted(set(told) - set(_FIELDS))
    if foreign:
        raise refuse(f"unknown key '{foreign[0]}'", f"the keys are {', '.join(_FIELDS)}")
    missing = [name for name in _REQUIRED if name not in told]
    if missing:
        raise refuse(f"no '{missing[0]}'", "add it, in seconds")
    for name, value in told.items():
        problem = _problem(name, value)
        if problem:
            raise refuse(f"'{name}' {problem}", "write another value, or leave the key out where it has a default")
    return TraceJob(**told)


def _problem(name: str, value: Any) -> str:
    """What is wrong with a value, or empty."""
    if name in _TEXTS:
        return "" if isinstance(value, str) else f"is no text: {value!r}"
    if name == "declared_s" and value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"is no number: {value!r}"
    if name in _WHOLE and not isinstance(value, int):
        return f"is no whole number: {value!r}"
    least = _LEAST.get(name, 0)
    return f"is less than {least}: {value!r}" if value < least else ""


def _check_requirements(text: str, *, path: Path | str, number: int) -> None:
    try:
        parse_ad(f"[ Requirements = ({text}) ]", what="requirements")
    except AdUnreadable as error:
        raise TraceUnreadable(
            path=path,
            line=number,
            problem=f"'requirements' is no ClassAd expression: {text!r}",
            remedy="write it as in a submit file",
        ) from error
