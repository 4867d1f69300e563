"""
The one table of what differs between the API versions of slurmrestd, and the pure builders of requests from it.

Measured on Slurm 22.05.8, 24.11.5 and 26.05.5 (tests/recorded/rest-*). What reads the answers needs no table: a number
is plain or ``{"set": ..., "number": ...}``, a state is a word or a list of words, and a reader takes either.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from factory.sites.contract import SubmitRequest
from factory.sites.texts import WARNING_LEAD_S

QUERY_MAX_CHARACTERS = 6000
"""Of one query; slurmrestd takes 60,000 (measured), proxies before it usually 8,192 for the whole line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One version of the API: how to say what in it."""

    version: str
    script_inside: bool = True
    """The batch script is a key of ``job``; older: beside it."""
    environment_is_list: bool = True
    """``["HOME=/home/pilot"]``; older: an object."""
    nodes_are_text: bool = True
    """``"1"``; older: a list of the least and the most."""
    gpus_are_tres: bool = True
    warns: bool = True
    """The batch shell can be sent a signal before the time limit; v0.0.38 takes no ``B:`` (measured: 400)."""
    ids_repeat: bool = True
    """``step=1&step=2``; v0.0.38 takes the last of these, and ``step=1%2C2`` in its place."""
    cancels_by_state: bool = True
    """DELETE of many jobs with a state that the controller checks itself; older: one by one, and not checked."""
    accounts_exit_codes: bool = True
    """v0.0.38's accounting says ``SUCCESS, 0`` for every job that ended by itself (measured for exit 7)."""


DIALECTS: tuple[Dialect, ...] = (
    # Newest first: the first that a site has is used.
    Dialect(version="v0.0.45"),  # 26.05
    Dialect(version="v0.0.44"),  # 25.11, 26.05
    Dialect(version="v0.0.43"),  # 25.05 to 26.05
    Dialect(version="v0.0.42"),  # 24.11 to 26.05
    Dialect(version="v0.0.41"),  # 24.05, 24.11
    Dialect(version="v0.0.40"),  # 23.11 to 24.11
    Dialect(  # 22.05 to 23.11
        version="v0.0.38",
        script_inside=False,
        environment_is_list=False,
        nodes_are_text=False,
        gpus_are_tres=False,
        warns=False,
        ids_repeat=False,
        cancels_by_state=False,
        accounts_exit_codes=False,
    ),
)
"""
The versions that we speak. 22.05 also has v0.0.36 and v0.0.37, which nobody needs beside v0.0.38.

24.11 and 26.05 share only v0.0.42, and none with 22.05.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a pilot's files are at the site, as its hosts see it, and whose they are."""

    user: str
    home: PurePosixPath
    spool: PurePosixPath


def ping_path(dialect: Dialect) -> str:
    """Answers 404 where the server has not this version, also for a token that is no good (measured)."""
    return f"/slurm/{dialect.version}/ping"


def jobs_path(dialect: Dialect) -> str:
    """Every job that the controller knows and the token may see: the API has no filter by user."""
    return f"/slurm/{dialect.version}/jobs"


def reservations_path(dialect: Dialect) -> str:
    """Every reservation that the controller knows."""
    return f"/slurm/{dialect.version}/reservations"


def partitions_path(dialect: Dialect) -> str:
    """Every partition that the token may see."""
    return f"/slurm/{dialect.version}/partitions"


def final_paths(dialect: Dialect, *, ids: Iterable[str], names: Iterable[str], since_s: int) -> tuple[str, ...]:
    """Queries to accounting: by id, and by name where the id was never learnt, each short enough for one request."""
    base = f"/slurmdb/{dialect.version}/jobs?skip_steps=true"
    mark, joint = ("&step=", "&step=") if dialect.ids_repeat else ("&step=", "%2C")
    queries = [f"{base}{mark}{chunk}" for chunk in _chunks(ids, joint=joint)]
    # Every version takes a list of names in one word, and a time only with "uts" before it (v0.0.38) or in any form.
    queries += [f"{base}&start_time=uts{since_s}&job_name={chunk}" for chunk in _chunks(map(quote, names), joint="%2C")]
    return tuple(queries)


def submit_path(dialect: Dialect) -> str:
    """Where a job is submitted."""
    return f"/slurm/{dialect.version}/job/submit"


def submit_body(dialect: Dialect, request: SubmitRequest, place: Place) -> bytes:
    """
    One pilot as JSON. Neither the script nor the environment holds a secret: the token lies in the spool directory.

    The script that Slurm stores only starts ``pilot.sh`` there, in the same shell process, so signals reach it.
    """
    shape, offer = request.offer.shape, request.offer
    environment = {
        "HOME": str(place.home),
        "USER": place.user,
        "LOGNAME": place.user,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    job: dict[str, object] = {
        "name": request.pilot_id,
        "account": offer.account,
        "partition": offer.partition,
        "nodes": "1" if dialect.nodes_are_text else [1, 1],
        "tasks": 1,
        "cpus_per_task": shape.cores,
        "memory_per_node": shape.memory_mib,
        "time_limit": -(-shape.walltime_s // 60),
        "requeue": False,
        "current_working_directory": str(place.spool),
        "standard_output": str(place.spool / "slurm.out"),
        "environment": [f"{name}={value}" for name, value in environment.items()]
        if dialect.environment_is_list
        else environment,
    }
    if offer.qos:
        job["qos"] = offer.qos
    if shape.gpus and dialect.gpus_are_tres:
        job["tres_per_job"] = f"gres/gpu:{shape.gpus}"
    elif shape.gpus:
        job["gpus"] = str(shape.gpus)
    if dialect.warns:
        job["kill_warning_flags"] = ["BATCH_JOB"]
        job["kill_warning_signal"] = "TERM"
        job["kill_warning_delay"] = WARNING_LEAD_S
    script = batch_script(place.spool)
    body = {"job": {**job, "script": script}} if dialect.script_inside else {"job": job, "script": script}
    return json.dumps(body).encode()


def batch_script(spool: PurePosixPath) -> str:
    """The script of the batch job; one function called on its last line, like every script of ours."""
    directory = shlex.quote(str(spool))
    return f"#!/bin/sh\nmain() {{\numask 077\nexec {directory}/pilot.sh {directory}\n}}\nmain\n"


def cancel_path(dialect: Dialect) -> str:
    """Where many jobs are cancelled with one request."""
    assert dialect.cancels_by_state
    return f"/slurm/{dialect.version}/jobs/"


def cancel_body(job_ids: Iterable[str], *, user: str) -> bytes:
    """Cancel those of the jobs that wait at the moment in which the controller looks, and nobody else's."""
    return json.dumps({"jobs": list(job_ids), "job_state": ["PENDING"], "user_name": user}).encode()


def cancel_one_path(dialect: Dialect, job_id: str) -> str:
    """Where one job is cancelled, whatever it does by then."""
    return f"/slurm/{dialect.version}/job/{job_id}"


def _chunks(words: Iterable[str], *, joint: str) -> Iterator[str]:
    """The words joined, as often as it takes to keep each query short."""
    chunk = ""
    for word in words:
        if chunk and len(chunk) + len(joint) + len(word) > QUERY_MAX_CHARACTERS:
            yield chunk
            chunk = ""
        chunk = f"{chunk}{joint}{word}" if chunk else word
    if chunk:
        yield chunk
