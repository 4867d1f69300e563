"""
The one place that imports pyslurm: a process of its own, for one request on stdin, which answers in lines on stdout.

libslurm can hang, end its process or crash; here it takes nothing along. Nothing but the standard library is imported
beside pyslurm, and that only where it was built for the Slurm that is installed. Each line is a JSON list, written out
at once; the last one is ``["done"]``. What is asked and what is answered: :mod:`factory.sites.pyslurmtexts`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

VERSION_TIMEOUT_S = 5
STUCK_S = 3.0
"""A list that took so long met a controller that was stuck, and with it perhaps a submission from before."""
STUCK_PAUSE_S = 2.0
"""Such a submission takes effect within 1 s of the controller's return (measured), so look again after this."""
SUBMIT_MIN_S = 3
"""With less than this until the deadline nothing is submitted."""
SUBMIT_MAX_S = 20

Say = Callable[..., None]


class Failure(Exception):
    """The whole request fails, in these words."""


def main() -> None:
    """Answer one request; what libslurm or pyslurm print by themselves goes to stderr."""
    # A dump of a crash would hold the site's secrets, and fill the directory of the factory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)

        def say(*words: object) -> None:
            print(json.dumps(words), file=out, flush=True)

        answer(json.load(sys.stdin), say)


def answer(request: dict[str, Any], say: Say) -> None:
    """
    Do what is asked, within its seconds.

    SIGALRM keeps its default action, which ends the process also inside libslurm: a handler of ours would wait until
    libslurm has returned.
    """
    signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
    # pyslurm puts every SLURM_ variable that it finds into the environment of a job.
    for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
        del os.environ[name]
    try:
        _DEEDS[request["kind"]](library(), request, say)
    except Failure as failure:
        say("failed", str(failure))
        return
    say("done")


def library() -> Any:
    """Pyslurm, if its version is that of the Slurm that is installed."""
    try:
        have = metadata.version("pyslurm")
    except metadata.PackageNotFoundError:
        raise Failure(
            "pyslurm is not installed beside aerotow; install aerotow[pyslurm] in the version of the site's Slurm, or "
            "take 'pyslurm' out of the site's table: the commands serve as well"
        ) from None
    problem = mismatch(have, installed_slurm())
    if problem:
        raise Failure(problem)
    try:
        pyslurm = importlib.import_module("pyslurm")
    except Exception as error:
        raise Failure(f"pyslurm {have}: the import failed: {error}") from error
    problem = mismatch(str(pyslurm.__version__), have)
    if problem:
        raise Failure(problem)
    return pyslurm


def installed_slurm() -> str:
    """What ``sinfo --version`` says, such as ``slurm 24.11.5`` or ``slurm-wlm 26.05.5``."""
    try:
        said = subprocess.run(
            ["sinfo", "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"pyslurm: the version of Slurm is not known, because sinfo failed: {error}") from error
    if said.returncode != 0:
        raise Failure(f"pyslurm: the version of Slurm is not known, because sinfo failed: {said.stderr.strip()}")
    return said.stdout.strip()


def mismatch(pyslurm: str, slurm: str) -> str:
    """
    Why a version of pyslurm is not for a version of Slurm, or empty.

    pyslurm reads the structures of libslurm as they were in the headers of one major release; in another they are laid
    out otherwise, and what is read there is anything.
    """
    ours, theirs = _release(pyslurm), _release(slurm)
    if ours is not None and ours == theirs:
        return ""
    wanted = f"install pyslurm=={theirs[0]}.{theirs[1]}.*" if theirs else "see to what 'sinfo --version' says"
    return (
        f"pyslurm {pyslurm} is for its own release of Slurm only, and here is {slurm or 'none'}: {wanted}, or take "
        "'pyslurm' out of the site's table: the commands serve as well"
    )


def _release(version: str) -> tuple[int, int] | None:
    """Major and minor: ``26.05`` and PyPI's ``26.5`` are one."""
    found = re.search(r"([0-9]+)\.([0-9]+)", version)
    return (int(found[1]), int(found[2])) if found else None


def _look(pyslurm: Any, request: dict[str, Any], say: Say) -> None:
    began_s = time.monotonic()
    rows = _live(pyslurm)
    if time.monotonic() - began_s >= STUCK_S:
        time.sleep(STUCK_PAUSE_S)
        rows = _live(pyslurm)
    _say_all(say, "live", rows.values())
    try:
        rows_of_ended = _final(pyslurm, request)
    except Failure as failure:
        say("final failed", str(failure))
        return
    _say_all(say, "final", rows_of_ended)


def _submit(pyslurm: Any, request: dict[str, Any], say: Say) -> None:
    """Submit each job while there is time for it; each is announced, so that a dead process tells how far it was."""
    for name, description in request["jobs"]:
        left_s = request["limit_s"] - time.time()
        if left_s < SUBMIT_MIN_S:
            say("late", name)
            continue
        say("sending", name)
        signal.setitimer(signal.ITIMER_REAL, min(left_s, SUBMIT_MAX_S))
        try:
            job_id = pyslurm.JobSubmitDescription(**description).submit()
        except (ValueError, TypeError) as error:
            # pyslurm looks at the description before it sends anything.
            say("not sent", name, f"pyslurm: {error}")
        except Exception as error:
            number = getattr(error, "errno", None)
            say("error", name, number if isinstance(number, int) else 0, str(error))
        else:
            say("submitted", name, str(job_id))
    signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])


def _cancel(pyslurm: Any, request: dict[str, Any], say: Say) -> None:
    """Cancel those that wait, then tell how all are: pyslurm has no way to let the controller look at the state."""
    wanted = dict(request["pilots"])
    jobs = _jobs(pyslurm)
    for row in [_live_row(job) for job in jobs]:
        job_id, state, name = row[0], row[1], row[-1]
        if state != "PENDING" or name not in wanted or wanted[name] not in (None, job_id):
            continue
        problem = ""
        try:
            pyslurm.Job(int(job_id)).cancel()
        except Exception as error:
            # pyslurm 25.11 looks at errno also after a success, so only the state afterwards decides.
            problem = str(error)
        say("asked", name, job_id, problem)
    _say_all(say, "live", _live(pyslurm).values())


_DEEDS: dict[str, Callable[[Any, dict[str, Any], Say], None]] = {
    "look": _look,
    "submit": _submit,
    "cancel": _cancel,
}


def _say_all(say: Say, word: str, rows: Iterable[list[str]]) -> None:
    """All rows, then their number: a list that was cut short is known to be."""
    count = 0
    for row in rows:
        say(word, row)
        count += 1
    say(f"{word} end", count)


def _jobs(pyslurm: Any) -> list[Any]:
    """Our user's jobs that the controller knows; it has no filter by user, so all are loaded."""
    try:
        return [job for job in pyslurm.Jobs.load().values() if job.user_id == os.getuid()]
    except Exception as error:
        raise Failure(f"slurmctld: {error or type(error).__name__}") from error


def _live(pyslurm: Any) -> dict[str, list[str]]:
    return {row[0]: row for row in (_live_row(job) for job in _jobs(pyslurm))}


def _live_row(job: Any) -> list[str]:
    """One job in the columns of ``scripts.SQUEUE_FIELDS``."""
    return [
        str(job.id),
        job.state or "",
        *(_number(value) for value in (job.submit_time, job.start_time, job.end_time, job.cpus)),
        *(text or "" for text in (job.partition, job.account, job.allocated_nodes, job.state_reason, job.name)),
    ]


def _final(pyslurm: Any, request: dict[str, Any]) -> list[list[str]]:
    """What accounting has of the known jobs: at most two questions, by id and by name."""
    questions: list[dict[str, Any]] = []
    if request["ids"]:
        questions.append({"ids": [int(job_id) for job_id in request["ids"]]})
    if request["names"]:
        questions.append({"names": request["names"], "start_time": request["since_s"]})
    rows = []
    for question in questions:
        try:
            found = pyslurm.db.Jobs.load(pyslurm.db.JobFilter(**question))
            rows += [_final_row(job) for job in found.values()]
        except Exception as error:
            raise Failure(f"slurmdbd: {error or type(error).__name__}") from error
    return rows


def _final_row(job: Any) -> list[str]:
    """One job in the columns of ``scripts.SACCT_FIELDS``."""
    elapsed = job.elapsed_time
    if elapsed is None and job.end_time is not None and job.start_time in (None, job.end_time):
        # pyslurm gives None for 0.
        elapsed = 0
    return [
        str(job.id),
        job.state or "",
        f"{job.exit_code}:{job.exit_code_signal}",
        *(_number(value) for value in (job.submit_time, job.start_time, job.end_time, elapsed)),
        "" if job.time_limit is None else str(job.time_limit),
        _number(job.cpus),
        *(text or "" for text in (job.partition, job.account, job.nodelist, job.state_reason, job.name)),
    ]


def _number(value: object) -> str:
    return str(value) if isinstance(value, int) else ""


if __name__ == "__main__":
    main()
