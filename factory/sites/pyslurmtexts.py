"""What is asked of the process that has pyslurm, and what its lines say; pure."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from factory.sites import texts
from factory.sites.contract import KnownPilot, NotSent, Refused, SubmitOutcome, SubmitRequest, Submitted, Uncertain
from factory.sites.exchange import Exchange
from factory.sites.restversions import Place, batch_script
from factory.sites.scripts import SACCT_FIELDS, SQUEUE_FIELDS
from factory.sites.texts import WARNING_LEAD_S, Unreadable, essence
from glidein.model import BatchRecord, PilotId

ALARM_STATUSES = (-signal.SIGALRM, 128 + signal.SIGALRM)
"""The process reached its own deadline; the second one is what a carrier makes of it."""
REFUSALS = range(2000, 5000)
"""Numbers that slurmctld itself answers with; those around them are of the way to it. Source: slurm/slurm_errno.h."""

Line = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The lines of a process, as far as they came, and why there are no more, or empty."""

    lines: tuple[Line, ...]
    problem: str
    dead: bool
    """It has surely ended, and all that it said is here: what was not announced was not done."""


def look_request(known: Iterable[KnownPilot], *, now_s: float, slack_s: int, timeout_s: float) -> bytes:
    """The queue, and accounting for the known pilots: by id, or by name where the id was never learnt."""
    pilots = tuple(known)
    unnumbered = [pilot for pilot in pilots if pilot.batch_id is None]
    since_s = min((pilot.intended_s for pilot in unnumbered), default=int(now_s)) - slack_s
    return _request(
        kind="look",
        timeout_s=timeout_s,
        ids=[pilot.batch_id for pilot in pilots if pilot.batch_id is not None],
        names=[pilot.pilot_id for pilot in unnumbered],
        since_s=max(since_s, 1),
    )


def submit_request(requests: Iterable[SubmitRequest], places: Place, *, limit_s: float) -> bytes:
    """Submit each; ``places.spool`` has all spool directories, ``limit_s`` is the deadline in epoch seconds."""
    jobs = [(one.pilot_id, description(one, replace(places, spool=places.spool / one.pilot_id))) for one in requests]
    # Each submission has its own few seconds; these are for what comes before the first.
    return _request(kind="submit", timeout_s=20, limit_s=limit_s, jobs=jobs)


def cancel_request(pilots: Iterable[KnownPilot], *, timeout_s: float) -> bytes:
    """Cancel those that wait, by name, and by id where it is known."""
    return _request(kind="cancel", timeout_s=timeout_s, pilots=[(one.pilot_id, one.batch_id) for one in pilots])


def _request(**what: object) -> bytes:
    return json.dumps(what).encode()


def description(request: SubmitRequest, place: Place) -> dict[str, object]:
    """
    One pilot in the words of ``pyslurm.JobSubmitDescription`` (25.11); None of what it holds is a secret.

    The script only starts ``pilot.sh`` in the spool directory, as with slurmrestd.
    """
    shape, offer = request.offer.shape, request.offer
    optional: dict[str, object] = {
        "qos": offer.qos,
        "excluded_nodes": list(offer.exclude),
        "gpus": shape.gpus,
    }
    return {
        "name": request.pilot_id,
        "account": offer.account,
        "partitions": offer.partition,
        "nodes": 1,
        "ntasks": 1,
        "cpus_per_task": shape.cores,
        "memory_per_node": shape.memory_mib,
        "time_limit": -(-shape.walltime_s // 60),
        "is_requeueable": False,
        "signal": {"signal": int(signal.SIGTERM), "time": WARNING_LEAD_S, "batch_only": True},
        "working_directory": str(place.spool),
        "standard_output": str(place.spool / "slurm.out"),
        "environment": {
            "HOME": str(place.home),
            "USER": place.user,
            "LOGNAME": place.user,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        },
        "script": batch_script(place.spool),
        **{key: value for key, value in optional.items() if value},
    }


def read(answer: Exchange) -> Told:
    """Take apart what a process wrote; any bytes give an answer, if only an empty one."""
    lines: list[Line] = []
    problem = _ending(answer)
    ended, damaged = False, False
    for text in answer.stdout.decode(errors="replace").splitlines(keepends=True):
        line = _line(text)
        if line is None or ended:
            problem = problem or f"pyslurm's process: a line does not parse: {essence(text)}"
            damaged = True
            break
        match line:
            case ("done",):
                ended = True
            case ("failed", str(words)):
                problem, ended = essence(words), True
            case _:
                lines.append(line)
    if not ended and not problem:
        problem = "pyslurm's process: the answer was cut short"
    return Told(lines=tuple(lines), problem=problem, dead=answer.ending == "exited" and not damaged)


def _line(text: str) -> Line | None:
    try:
        line = json.loads(text) if text.endswith("\n") else None
    except ValueError:
        return None
    return tuple(line) if isinstance(line, list) else None


def _ending(answer: Exchange) -> str:
    """Why a process did not end well, or empty."""
    words = answer.stderr.decode(errors="replace")
    if answer.ending == "not_started":
        return f"pyslurm's process cannot be started: {essence(words)}"
    if answer.ending == "timed_out" or answer.status in ALARM_STATUSES:
        return f"no answer of libslurm in {answer.elapsed_s:.0f} s"
    if answer.ending == "too_much":
        return "pyslurm's process: the answer was longer than any answer of ours"
    if answer.status is not None and answer.status < 0:
        return f"pyslurm's process was ended by {_signal_name(-answer.status)}: {essence(words)}"
    return f"pyslurm's process: {essence(words, status=answer.status)}" if answer.status else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def live_records(told: Told) -> tuple[BatchRecord, ...] | Unreadable:
    """Our user's jobs in the controller's memory."""
    rows = _rows(told, "live", SQUEUE_FIELDS)
    return rows if isinstance(rows, Unreadable) else tuple(texts.live_record(row) for row in rows)


def final_records(told: Told) -> tuple[BatchRecord, ...] | Unreadable:
    """What accounting has of the known jobs; half records are left out, see :func:`factory.sites.texts.whole_ends`."""
    for line in told.lines:
        match line:
            case ("final failed", str(words)):
                return Unreadable(reason=essence(words))
    rows = _rows(told, "final", tuple(SACCT_FIELDS.split(",")))
    return rows if isinstance(rows, Unreadable) else texts.whole_ends(rows)


def _rows(told: Told, word: str, names: Sequence[str]) -> list[dict[str, str]] | Unreadable:
    """The rows of one list, if the list is whole; a process that died over the next one has told the truth so far."""
    rows: list[dict[str, str]] = []
    for line in told.lines:
        match line:
            case (str(said), list(values)) if said == word:
                if len(values) != len(names) or not all(isinstance(one, str) for one in values):
                    return Unreadable(reason=f"pyslurm's process: a row does not parse: {essence(str(values))}")
                rows.append(dict(zip(names, values, strict=True)))
            case (str(said), int(count)) if said == f"{word} end" and count == len(rows):
                return rows
    return Unreadable(reason=told.problem or "pyslurm's process: a part of the answer is missing")


def submit_outcome(pilot_id: PilotId, told: Told) -> SubmitOutcome:
    """
    What became of one request.

    Slurm's words are those that sbatch prints, so :func:`factory.sites.texts.parse_sbatch` reads them; a refusal is
    believed only with a number of slurmctld's own, for pyslurm takes the number from a place that others write to.
    """
    sending = False
    for line in told.lines:
        match line:
            case ("submitted", str(name), str(job_id)) if name == pilot_id:
                if re.fullmatch(r"[1-9][0-9]{0,11}", job_id):
                    return Submitted(pilot_id=pilot_id, batch_id=job_id)
                return Uncertain(pilot_id=pilot_id, reason=f"pyslurm gave no job id: {essence(job_id)}")
            case ("error", str(name), int(number), str(words)) if name == pilot_id:
                outcome = texts.parse_sbatch(pilot_id, "", words, 1)
                if isinstance(outcome, Refused) and number not in REFUSALS:
                    return Uncertain(pilot_id=pilot_id, reason=f"{outcome.reason} ({number})")
                return outcome
            case ("not sent", str(name), str(words)) if name == pilot_id:
                return NotSent(pilot_id=pilot_id, reason=essence(words))
            case ("late", str(name)) if name == pilot_id:
                return NotSent(pilot_id=pilot_id, reason="the deadline passed before it could be sent")
            case ("sending", str(name)) if name == pilot_id:
                sending = True
    reason = told.problem or "the answer says nothing of it"
    made = NotSent if told.dead and told.problem and not sending else Uncertain
    return made(pilot_id=pilot_id, reason=reason)


def asked_to_end(told: Told) -> dict[str, tuple[PilotId, str]]:
    """Of each job that was asked to end: its id, its name, and what pyslurm said, which decides nothing."""
    found: dict[str, tuple[PilotId, str]] = {}
    for line in told.lines:
        match line:
            case ("asked", str(name), str(job_id), str(words)):
                found[job_id] = (name, words)
    return found


def packages_dir() -> Path:
    """Where the packages of aerotow are, for a process that has only the standard library's path."""
    return Path(__file__).resolve().parents[2]
