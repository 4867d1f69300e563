"""
Pure readers of what slurmrestd answers; each gives records, or an :class:`Unreadable` with the reason and a remedy.

They never raise, whatever the bytes. The same meaning comes with other numbers from every version (tests/recorded):
what counts is Slurm's own error number in ``errors``, and only without one the status of HTTP.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from config.names import PILOT_ID
from factory.sites.contract import NotSent, Refused, SubmitOutcome, Submitted, Uncertain
from factory.sites.reservations import PartitionNodes, Reservation, expand_hosts, tres_cpus
from factory.sites.resthttp import Failure, NoReply, Reply
from factory.sites.states import batch_state
from factory.sites.texts import Unreadable, essence, whole_jobs
from glidein.model import BatchRecord, BatchState, PilotId

NO_SUCH_JOB = 2017
ALREADY_ENDED = 2021
NOT_IN_THAT_STATE = 2172
"""The controller found the job in another state than the one that was asked for, and left it alone."""
NOTHING_FOUND = 9003
"""v0.0.38's accounting says so as an error."""
NO_CONTACT = (1800,)
"""slurmrestd never reached the controller."""
BAD_TOKEN = (1007,)
AMBIGUOUS = (-1, 5005)
"""22.05 says these for a token that it does not take, and for its own outages too (measured)."""
REFUSALS = range(2000, 3000)
"""Slurm's own decisions about jobs; 9000 and above are slurmrestd's about the request."""

_NEVER_TAKEN = frozenset({400, 401, 403, 404, 405, 411, 413, 414, 415, 426, 429, 431})
"""Without a word of Slurm's: the server or a proxy turned the request away, so there is no job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer that is JSON, and what it says went wrong."""

    status: int
    data: dict[str, Any] = field(repr=False)
    errors: tuple[tuple[int, str], ...]
    """Slurm's error number and words."""

    @property
    def words(self) -> str:
        """All errors on one line."""
        return essence("\n".join(dict.fromkeys(f"{text} ({number})" for number, text in self.errors)))

    def has(self, numbers: tuple[int, ...]) -> bool:
        """Whether one of these errors is among them."""
        return any(number in numbers for number, _ in self.errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What the controller knows: our user's jobs, and how those ended that have."""

    records: tuple[BatchRecord, ...]
    codes: tuple[tuple[str, tuple[int, int]], ...]
    """Job id, exit code and signal of ended jobs: the one place where v0.0.38 tells them truly."""


def no_reply(answer: NoReply, *, timeout_s: float) -> str:
    """Why there is no answer, and what to do."""
    remedies = {
        Failure.NO_AUTHORITY: "ca_file must be a readable PEM file with the authority of the site's certificate",
        Failure.NOT_CONNECTED: "is slurmrestd, or the TLS proxy before it, running at the address in 'rest'?",
        Failure.NOT_TRUSTED: "ca_file must name the authority that signed it, and 'rest' the host that it is for",
        Failure.NO_TLS: "'rest' must be the address of the TLS side: slurmrestd itself speaks plain HTTP",
        Failure.LOST: "is slurmrestd running behind its proxy?",
        Failure.TIMED_OUT: "slurmrestd or its proxy hangs; factory.command_timeout is how long we wait",
        Failure.TOO_MUCH: "raise rest_limit, or ask the site for PrivateData=jobs, which lists only our own jobs",
    }
    what = {
        Failure.NO_AUTHORITY: "ca_file",
        Failure.NOT_CONNECTED: "no connection",
        Failure.NOT_TRUSTED: "the certificate is not trusted",
        Failure.NO_TLS: "no TLS",
        Failure.LOST: "the answer was cut off",
        Failure.TIMED_OUT: f"no whole answer in {timeout_s:.0f} s",
        Failure.TOO_MUCH: "the answer is too long",
    }[answer.failure]
    said = f": {essence(answer.detail)}" if answer.failure is not Failure.TIMED_OUT else ""
    return f"slurmrestd: {what}{said}; {remedies[answer.failure]}"


def read_reply(reply: Reply) -> Said | Unreadable:
    """The JSON of a reply; everything else that may come has a reason of its own."""
    if 300 <= reply.status < 400:
        where = essence(reply.location)
        return Unreadable(reason=f"slurmrestd: a redirect to {where}; write the last address into 'rest'")
    if reply.status == 429:
        return Unreadable(reason="slurmrestd: HTTP 429, it is asked too often; it is asked less often from now on")
    text = reply.body.decode(errors="replace").lstrip()
    if "html" in reply.content_type.lower() or text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
        page = f" ({essence(title[1])})" if title else ""
        return Unreadable(
            reason=f"slurmrestd: an HTML page{page}, HTTP {reply.status}, in place of JSON; "
            "a proxy or a login page answers: check 'rest'"
        )
    if reply.status == 401:
        return Unreadable(reason=f"slurmrestd: HTTP 401, {essence(text)}; it takes no token of this kind: ask the site")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        said = essence(text[:1000]) if text else "nothing at all"
        return Unreadable(reason=f"slurmrestd: HTTP {reply.status} with {said}, no JSON; check 'rest'")
    if not isinstance(data, dict) or not data:
        return Unreadable(reason=f"slurmrestd: HTTP {reply.status} with empty JSON; is that slurmrestd? check 'rest'")
    return Said(status=reply.status, data=data, errors=_errors(data))


def trouble(said: Said) -> str:
    """What is wrong with an answer that has errors, or a status of failure, and what to do; empty when nothing is."""
    if not said.errors and said.status == 200:
        return ""
    words = said.words if said.errors else f"HTTP {said.status}"
    if said.has(BAD_TOKEN):
        return f"slurmrestd: {words}: Slurm does not take the token; is it the site's, and of the right user?"
    if said.has(AMBIGUOUS):
        return f"slurmrestd: {words}: token expired or not taken, or Slurm itself is down (22.05 does not tell)"
    return f"slurmrestd: {words}; the site's Slurm says so"


def parse_queue(said: Said, *, user: str) -> Queue | Unreadable:
    """Our user's jobs in the controller's list; one entry that cannot be read makes all of it unreadable."""
    problem = trouble(said)
    if problem:
        return Unreadable(reason=problem)
    jobs = said.data.get("jobs")
    if not isinstance(jobs, list):
        return Unreadable(reason="slurmrestd: an answer without a list of jobs; is 'rest' the address of slurmrestd?")
    records: list[BatchRecord] = []
    codes: dict[str, tuple[int, int]] = {}
    for job in jobs:
        owner = _inside(job, "user_name")
        if owner != user and not _may_be_ours(job, owner):
            continue
        read = _live_record(job) if isinstance(job, dict) and owner == user else None
        if read is None:
            return Unreadable(reason=f"slurmrestd: a job that does not parse: {essence(json.dumps(job)[:1000])}")
        records.append(read)
        code = _exit_code(job.get("exit_code"))
        if read.state.is_final and code is not None:
            codes[read.job_id] = code
    return Queue(records=tuple(sorted(records)), codes=tuple(sorted(codes.items())))


def parse_final(said: Said, *, user: str, exit_codes: bool) -> tuple[BatchRecord, ...] | Unreadable:
    """
    Our user's records in accounting: for each job its latest, sorted by job id as text.

    Half records are left out, as from sacct (:func:`factory.sites.texts.parse_sacct`). ``exit_codes`` says whether
    this version's are true.
    """
    if said.errors and all(number == NOTHING_FOUND for number, _ in said.errors):
        return ()
    problem = trouble(said)
    if problem:
        return Unreadable(reason=problem)
    jobs = said.data.get("jobs")
    if not isinstance(jobs, list):
        return Unreadable(reason="slurmrestd: accounting answers without a list of jobs")
    records: list[BatchRecord] = []
    for job in jobs:
        owner = _inside(job, "user")
        if owner != user and not _may_be_ours(job, owner):
            continue
        read = _final_record(job) if isinstance(job, dict) and owner == user else None
        if read is None:
            return Unreadable(reason=f"slurmrestd: a record that does not parse: {essence(json.dumps(job)[:1000])}")
        if not read.partition or _inside(job, "time", "limit") is None or (read.state.is_final and read.end_s is None):
            continue
        records.append(read if exit_codes else replace(read, exit_code=None, exit_signal=None))
    return whole_jobs(records)


def parse_reservations(said: Said) -> tuple[Reservation, ...] | Unreadable:
    """The reservations that the controller knows."""
    problem = trouble(said)
    listed = said.data.get("reservations")
    if problem or not isinstance(listed, list):
        return Unreadable(reason=problem or "slurmrestd: an answer without a list of reservations")
    found = []
    for one in listed:
        start_s, end_s = _number(_inside(one, "start_time")), _number(_inside(one, "end_time"))
        nodes = expand_hosts(_text(_inside(one, "node_list")))
        if start_s is None or end_s is None or nodes is None:
            return Unreadable(reason=f"slurmrestd: a reservation that does not parse: {essence(json.dumps(one)[:500])}")
        flags = _inside(one, "flags")
        found.append(
            Reservation(
                name=_text(one.get("name")),
                start_s=start_s,
                end_s=end_s,
                nodes=nodes,
                cpus=tres_cpus(_text(one.get("tres"))),
                flags=frozenset(map(str, flags)) if isinstance(flags, list) else frozenset(),
                users=tuple(filter(None, _text(one.get("users")).split(","))),
                accounts=tuple(filter(None, _text(one.get("accounts")).split(","))),
            )
        )
    return tuple(found)


def parse_partitions(said: Said) -> tuple[PartitionNodes, ...] | Unreadable:
    """The partitions' nodes; CPUs of a node are the partition's mean, rounded up."""
    problem = trouble(said)
    listed = said.data.get("partitions")
    if problem or not isinstance(listed, list):
        return Unreadable(reason=problem or "slurmrestd: an answer without a list of partitions")
    found = []
    for one in listed:
        # v0.0.38 has plain values, later versions objects.
        nodes = expand_hosts(_text(_inside(one, "nodes", "configured")) or _text(_inside(one, "nodes")))
        total = _number(_inside(one, "cpus", "total")) or _number(_inside(one, "total_cpus"))
        name = _text(_inside(one, "name"))
        if nodes is None or not name:
            return Unreadable(reason=f"slurmrestd: a partition that does not parse: {essence(json.dumps(one)[:500])}")
        if nodes and total:
            found.append(PartitionNodes(partition=name, nodes=nodes, cpus_per_node=-(-total // len(nodes))))
    return tuple(found)


def with_codes(records: tuple[BatchRecord, ...], queue: Queue) -> tuple[BatchRecord, ...]:
    """Give ended records the exit code that the controller still knows, where accounting's version tells none."""
    codes = dict(queue.codes)
    return tuple(
        replace(record, exit_code=codes[record.job_id][0], exit_signal=codes[record.job_id][1])
        if record.exit_code is None and record.state.is_final and record.job_id in codes
        else record
        for record in records
    )


def parse_submit(pilot_id: PilotId, reply: Reply) -> SubmitOutcome:
    """
    What became of one submission.

    Only what says that the request never reached the controller is "not sent", and only the controller's own words
    are a refusal; what may come after the job was made is "uncertain".
    """
    said = read_reply(reply)
    if isinstance(said, Unreadable):
        if 300 <= reply.status < 400 or reply.status in _NEVER_TAKEN:
            return NotSent(pilot_id=pilot_id, reason=said.reason)
        return Uncertain(pilot_id=pilot_id, reason=said.reason)
    job_id = _number(said.data.get("job_id"))
    if job_id:
        # 22.05 gives the job's id beside an error that only says that it cannot start now (measured: 2015, 2068).
        return Submitted(pilot_id=pilot_id, batch_id=str(job_id))
    if not said.errors and said.status == 200:
        return Uncertain(pilot_id=pilot_id, reason="slurmrestd: it names no job id for the submission")
    if said.has(NO_CONTACT):
        return NotSent(pilot_id=pilot_id, reason=trouble(said))
    numbers = [number for number, _ in said.errors]
    if any(number in REFUSALS or number >= 9000 for number in numbers):
        return Refused(pilot_id=pilot_id, reason=said.words)
    if not numbers and said.status in _NEVER_TAKEN:
        return NotSent(pilot_id=pilot_id, reason=trouble(said))
    return Uncertain(pilot_id=pilot_id, reason=trouble(said))


def parse_cancel(said: Said, job_ids: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """
    Which of the jobs the request reached, and the problem, or empty.

    Reached are also those that have ended by then, and those that the controller left alone because they run.
    """
    harmless = (NO_SUCH_JOB, ALREADY_ENDED, NOT_IN_THAT_STATE)
    if said.errors and not all(number in harmless for number, _ in said.errors):
        hint = " (the controller gave no answer, or the jobs are not ours)" if said.has((1,)) else ""
        return (), f"cancel: {said.words}{hint}"
    if not said.errors and said.status != 200:
        return (), f"cancel: {trouble(said)}"
    failed: set[str] = set()
    problems: list[str] = []
    status = said.data.get("status")
    for entry in status if isinstance(status, list) else ():
        number = _number(_inside(entry, "error", "code"))
        if number and number not in harmless:
            failed.add(str(_inside(entry, "step_id")))
            problems.append(essence(str(_inside(entry, "error", "message"))))
    reached = tuple(job_id for job_id in job_ids if job_id not in failed)
    return reached, f"cancel: {'; '.join(dict.fromkeys(problems))}" if problems else ""


def _may_be_ours(job: object, owner: object) -> bool:
    """Whether a job whose owner the server could not name has the name of a pilot, or is no job at all."""
    named = isinstance(owner, str) and owner != ""
    name = _inside(job, "name")
    return not isinstance(job, dict) or (not named and (not isinstance(name, str) or bool(PILOT_ID.match(name))))


def _errors(data: dict[str, Any]) -> tuple[tuple[int, str], ...]:
    """Errors of an answer; v0.0.38 spells the number in two ways."""
    listed = data.get("errors")
    found: list[tuple[int, str]] = []
    for error in listed if isinstance(listed, list) else ():
        if not isinstance(error, dict):
            found.append((-1, essence(str(error))))
            continue
        number = error.get("error_number", error.get("error_code", -1))
        words = [str(error[key]) for key in ("error", "description") if error.get(key)]
        if not isinstance(number, int):
            number = -1
        if number != 0:
            found.append((number, essence(words[0] if words else "")))
    return tuple(found)


def _live_record(job: dict[str, Any]) -> BatchRecord | None:
    """One job of the controller's list; None when it cannot be one."""
    job_id, name, raw = _number(job.get("job_id")), job.get("name"), _state(job.get("job_state"))
    if not job_id or not isinstance(name, str) or not raw:
        return None
    state = batch_state(raw)
    nodes = _text(job.get("nodes"))
    reason = _text(job.get("state_reason"))
    # A waiting job may have an expected start, and one cancelled while it waited has its end there (measured).
    never_ran = not nodes or state is BatchState.PENDING
    return BatchRecord(
        name=name,
        job_id=str(job_id),
        state=state,
        raw_state=raw,
        reason="" if reason == "None" else reason,
        submit_s=_number(job.get("submit_time")) or None,
        start_s=None if never_ran else _number(job.get("start_time")) or None,
        end_s=(_number(job.get("end_time")) or None) if state.is_final else None,
        alloc_cpus=None if never_ran else _number(job.get("cpus")),
        partition=_text(job.get("partition")),
        account=_text(job.get("account")),
        node=nodes,
    )


def _final_record(job: dict[str, Any]) -> BatchRecord | None:
    """One record of accounting; None when it cannot be one."""
    job_id, name, raw = _number(job.get("job_id")), job.get("name"), _state(_inside(job, "state", "current"))
    if not job_id or not isinstance(name, str) or not raw:
        return None
    state = batch_state(raw)
    nodes = _text(job.get("nodes"))
    reason = _text(_inside(job, "state", "reason"))
    # As with sacct: a job cancelled while it waited has a start on 22.05 that it never had.
    never_ran = nodes in ("", "None assigned")
    code = _exit_code(job.get("exit_code")) if state.is_final else None
    return BatchRecord(
        name=name,
        job_id=str(job_id),
        state=state,
        raw_state=raw,
        reason="" if reason == "None" else reason,
        exit_code=None if code is None else code[0],
        exit_signal=None if code is None else code[1],
        submit_s=_number(_inside(job, "time", "submission")) or None,
        start_s=None if never_ran else _number(_inside(job, "time", "start")) or None,
        end_s=_number(_inside(job, "time", "end")) or None,
        elapsed_s=_number(_inside(job, "time", "elapsed")),
        alloc_cpus=None if never_ran else _allocated(_inside(job, "tres", "allocated")),
        partition=_text(job.get("partition")),
        account=_text(job.get("account")),
        node="" if never_ran else nodes,
    )


def _exit_code(value: object) -> tuple[int, int] | None:
    """Exit code and signal: of wait(2) in v0.0.38's queue, taken apart in every later answer."""
    plain = _number(value)
    if plain is not None:
        return (plain >> 8) & 0xFF, plain & 0x7F
    if not isinstance(value, dict):
        return None
    signal = _number(_inside(value, "signal", "id")) or _number(_inside(value, "signal", "signal_id")) or 0
    code = _number(value.get("return_code"))
    return None if code is None and not signal else (code or 0, signal)


def _allocated(tres: object) -> int | None:
    """Cores in a list of allocated resources."""
    for one in tres if isinstance(tres, list) else ():
        if isinstance(one, dict) and one.get("type") == "cpu":
            return _number(one.get("count"))
    return None


def _state(value: object) -> str:
    """A state as one text, words joined by commas; empty when there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return ",".join(value)
    return ""


def _number(value: object) -> int | None:
    """A whole number that is not negative, plain or as ``{"set": true, "number": 5}``; None when there is none."""
    if isinstance(value, dict):
        return _number(value.get("number")) if value.get("set") is True and value.get("infinite") is not True else None
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 10**15 else None  # type: ignore[operator, return-value]


def _inside(value: object, *keys: str) -> Any:
    """A value deep in objects; None when something on the way is no object."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
