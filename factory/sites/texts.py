"""
Pure readers of what Slurm's commands print, and the pure builders of their options.

A reader gives records or an :class:`Unreadable` with the reason; it never raises for any text. The lines are the same
on 22.05, 24.11 and 26.05 (tests/recorded).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from config.names import split_pilot_id
from config.units import format_walltime
from factory.sites.contract import NotSent, Refused, SubmitOutcome, Submitted, Uncertain
from factory.sites.scripts import SACCT_FIELDS, SQUEUE_FIELDS
from factory.sites.states import batch_state
from glidein.model import BatchRecord, BatchState, EndReason, EndReport, Offer, PilotId
from glidein.siterules import SiteRules, parse_site_rules

WARNING_LEAD_S = 20
"""
Slurm sends the pilot's shell SIGTERM this long before the time limit, and up to 60 s earlier still (measured).

Even then it comes after the last job that the pilot may take has ended, and without it KILL would come first.
"""
ESSENCE_MAX = 300

_TROUBLE = re.compile(r"error|invalid|unable|failed|failure|timed out|refused|denied", re.IGNORECASE)
"""In stderr beside status 0: squeue of 24.11 says ``Invalid user`` and exits 0 (measured)."""
_LOST = re.compile(
    r"timed out|Zero Bytes were transmitted|Unexpected message received|Message receive failure|send/recv operation"
    r"|Transport endpoint|Unspecified error|Protocol authentication error|Incomplete|Connection reset",
    re.IGNORECASE,
)
"""The controller may have taken the job (measured for ``Socket timed out``: the job ran)."""
_NO_CONTACT = re.compile(
    r"connect failure|Connection refused|Munge encode failed|Could not establish a configuration|command not found"
    r"|No such file or directory|Unable to resolve|Address to contact",
    re.IGNORECASE,
)
"""The request never left, so there is no job (measured for ``connect failure``)."""
_COMMAND_MISSING = (126, 127)
_OURSELVES = re.compile(r"^(sbatch|squeue|sacct|scancel|slurm_load_jobs)?:? ?(error|fatal): ", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A command's answer cannot be believed; it says nothing."""

    reason: str


def essence(text: str, *, status: int | None = None) -> str:
    """What an error text says, on one line of at most 300 characters that any terminal may print."""
    lines = [_OURSELVES.sub("", "".join(filter(_printable, line)).strip()) for line in text.splitlines()]
    said = "; ".join(dict.fromkeys(line for line in lines if line))
    if len(said) > ESSENCE_MAX:
        said = said[: ESSENCE_MAX - 4] + " ..."
    if said:
        return said
    return f"status {status} and no word" if status is not None else "no word"


def parse_squeue(stdout: str, stderr: str, status: int | None, *, nonce: str) -> tuple[BatchRecord, ...] | Unreadable:
    """
    Read ``squeue -h -t all -o 'NONCE|...|NONCE'``; no line at all with status 0 is a valid "no jobs".

    Each record stands between two nonces, so that a line cut short, or a foreign job's name with a newline or a bar
    in it, is never taken for something else.
    """
    trouble = _trouble("squeue", stderr, status)
    if trouble is not None:
        return trouble
    before, *chunks = re.split(rf"^{re.escape(nonce)}\|", stdout, flags=re.MULTILINE)
    if before.strip():
        return Unreadable(reason=f"squeue: not an answer: {essence(before)}")
    records: list[BatchRecord] = []
    for chunk in chunks:
        body, found, rest = chunk.rstrip("\n").rpartition(f"|{nonce}")
        values = body.split("|", len(SQUEUE_FIELDS) - 1)
        if not found or rest or len(values) != len(SQUEUE_FIELDS) or not values[0].isdigit():
            return Unreadable(reason=f"squeue: a line does not parse: {essence(chunk)}")
        records.append(live_record(dict(zip(SQUEUE_FIELDS, values, strict=True))))
    return tuple(records)


def parse_sacct(stdout: str, stderr: str, status: int | None) -> tuple[BatchRecord, ...] | Unreadable:
    """Read ``sacct -X -D -n -P``; see :func:`whole_ends`."""
    trouble = _trouble("sacct", stderr, status)
    if trouble is not None:
        return trouble
    names = SACCT_FIELDS.split(",")
    rows: list[dict[str, str]] = []
    for line in stdout.splitlines():
        values = line.split("|", len(names) - 1)
        if len(values) != len(names) or not re.fullmatch(r"[0-9]+(\.\w+)?([_+][0-9]+)?", values[0]):
            return Unreadable(reason=f"sacct: a line does not parse: {essence(line)}")
        rows.append(dict(zip(names, values, strict=True)))
    return whole_ends(rows)


def whole_ends(rows: Iterable[dict[str, str]]) -> tuple[BatchRecord, ...]:
    """
    For each job of accounting its latest record with the time of all its runs, sorted by job id as text.

    Half records are left out, because they tell what is not so: 22.05 shows a running job as PENDING without
    partition or time limit for some seconds, and after an outage of slurmdbd a COMPLETED one without an end (measured).
    """
    records: list[BatchRecord] = []
    for row in rows:
        record = _final_record(row)
        if not row["TimelimitRaw"] or not row["Partition"] or (record.state.is_final and record.end_s is None):
            continue
        records.append(record)
    return whole_jobs(records)


def whole_jobs(records: Iterable[BatchRecord]) -> tuple[BatchRecord, ...]:
    """
    One record for each job, sorted by job id as text: its latest, with the time of all its runs.

    A job that the site has requeued keeps its id and has a record for each run; what the runs before cost was charged.
    """
    runs: dict[str, list[BatchRecord]] = {}
    for record in records:
        runs.setdefault(record.job_id, []).append(record)
    found = []
    for _, same in sorted(runs.items()):
        # Sorted, and stable: of equal ones the later line counts.
        *earlier, last = sorted(same, key=lambda record: record.submit_s or 0)
        if earlier:
            before = [record for record in earlier if record.start_s is not None]
            last = replace(
                last,
                start_s=before[0].start_s if before else last.start_s,
                elapsed_s=None
                if last.elapsed_s is None
                else last.elapsed_s + sum(record.elapsed_s or 0 for record in before),
                alloc_cpus=before[-1].alloc_cpus if last.alloc_cpus is None and before else last.alloc_cpus,
                node=last.node or (before[-1].node if before else ""),
            )
        found.append(last)
    return tuple(found)


def parse_sbatch(pilot_id: PilotId, stdout: str, stderr: str, status: int | None) -> SubmitOutcome:
    """
    What became of one submission, from the answer of ``sbatch --parsable``.

    Only a text that says that the request never left is "not sent"; a text that says that the answer was lost is
    "uncertain", though sbatch ends with the same status 1 (measured: that job ran).
    """
    if status == 0:
        found = re.search(r"^([0-9]+)(;\S+)?\s*\Z", stdout.rstrip().rpartition("\n")[2])
        if found:
            return Submitted(pilot_id=pilot_id, batch_id=found[1])
        return Uncertain(pilot_id=pilot_id, reason=f"sbatch gave no job id: {essence(stdout + stderr)}")
    reason = essence(stderr or stdout, status=status)
    if status is None or (status >= 124 and status not in (*_COMMAND_MISSING, 255)):
        return Uncertain(pilot_id=pilot_id, reason=f"sbatch did not end: {reason}")
    if status in _COMMAND_MISSING:
        return NotSent(pilot_id=pilot_id, reason=f"sbatch cannot be run: {reason}")
    if _NO_CONTACT.search(stderr):
        return NotSent(pilot_id=pilot_id, reason=reason)
    if _LOST.search(stderr):
        return Uncertain(pilot_id=pilot_id, reason=reason)
    return Refused(pilot_id=pilot_id, reason=reason)


def says_gone(stderr: str) -> bool:
    """Whether scancel failed only because the job has ended: 22.05 says so, later versions are silent (measured)."""
    return re.search(r"Invalid job id|already completing or completed", stderr, re.IGNORECASE) is not None


def parse_report(pilot_id: PilotId, text: str) -> EndReport | Unreadable:
    """Read a pilot's ``end.json``. A payload user may have had a hand in it, so nothing in it is taken on trust."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unreadable(reason=f"end.json: {error}")
    if not isinstance(data, dict) or data.get("pilot_id") != pilot_id:
        return Unreadable(reason="end.json: not the report of this pilot")
    numbers = {key: data.get(key) for key in ("exit_code", "start", "end", "cores", "memory_mib", "jobs")}
    joined = data.get("joined")
    if not all(_is_count(number) for number in (*numbers.values(), 0 if joined is None else joined)):
        return Unreadable(reason="end.json: a number is missing or is none")
    try:
        reason = EndReason(data.get("reason"))
    except ValueError:
        return Unreadable(reason="end.json: a reason that is in no table")
    return EndReport(
        pilot_id=pilot_id,
        reason=reason,
        exit_code=data["exit_code"],
        start_s=data["start"],
        joined_s=joined,
        end_s=data["end"],
        cores=data["cores"],
        memory_mib=data["memory_mib"],
        jobs=data["jobs"],
        node=essence(str(data.get("node", ""))),
        detail=essence(str(data["detail"])) if data.get("detail") else "",
    )


def parse_rules(file: str, stdout: str, stderr: str, status: int | None) -> SiteRules:
    """
    Read what ``od`` shows of the file of the site's admin; one that surely is not there is no restriction.

    The words are those of coreutils and of busybox with LC_ALL=C.
    """
    if status == 0:
        try:
            return parse_site_rules(bytes.fromhex(stdout), file=file)
        except ValueError:
            return SiteRules(file=file, problem="od gave no bytes")
    if status is not None and re.search(r"No such file or directory\s*\Z", stderr):
        return SiteRules(file=file)
    return SiteRules(file=file, problem=essence(stderr, status=status))


def ours(name: str, *, instance: str, site: str) -> bool:
    """Whether a job name is the id of a pilot that this instance has sent to this site."""
    parts = split_pilot_id(name)
    return parts is not None and parts[:2] == (instance, site)


def sbatch_options(pilot_id: PilotId, offer: Offer) -> list[str]:
    """Options of sbatch for one pilot; paths are added at the site, which knows its home directory."""
    shape = offer.shape
    return [
        "--parsable",
        "--no-requeue",
        f"--job-name={pilot_id}",
        f"--account={offer.account}",
        f"--partition={offer.partition}",
        *([f"--qos={offer.qos}"] if offer.qos else []),
        *([f"--exclude={','.join(offer.exclude)}"] if offer.exclude else []),
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={shape.cores}",
        f"--mem={shape.memory_mib}M",
        *([f"--gpus={shape.gpus}"] if shape.gpus else []),
        f"--time={format_walltime(timedelta(seconds=shape.walltime_s))}",
        f"--signal=B:TERM@{WARNING_LEAD_S}",
        "--export=ALL",
    ]


def _trouble(command: str, stderr: str, status: int | None) -> Unreadable | None:
    """Whether a reading command failed, by its status or by its words."""
    if status is None:
        return Unreadable(reason=f"{command}: the answer was cut short")
    if status != 0:
        return Unreadable(reason=f"{command}: {essence(stderr, status=status)}")
    if _TROUBLE.search(stderr):
        return Unreadable(reason=f"{command}: {essence(stderr)}")
    return None


def live_record(row: dict[str, str]) -> BatchRecord:
    """One record of squeue, by the names of its columns; a start or an end that is only expected is none."""
    state = batch_state(row["state"])
    # A waiting job may have an expected start, and one cancelled while it waited has its end there (measured).
    never_ran = not row["nodes"] or state is BatchState.PENDING
    return BatchRecord(
        name=row["name"],
        job_id=row["job_id"],
        state=state,
        raw_state=row["state"],
        reason="" if row["reason"] == "None" else row["reason"],
        submit_s=_epoch(row["submit"]),
        start_s=None if never_ran else _epoch(row["start"]),
        end_s=_epoch(row["end"]) if state.is_final else None,
        alloc_cpus=None if never_ran else _count(row["cpus"]),
        partition=row["partition"],
        account=row["account"],
        node=row["nodes"],
    )


def _final_record(row: dict[str, str]) -> BatchRecord:
    """One record of sacct."""
    state = batch_state(row["State"])
    code, _, signal = row["ExitCode"].partition(":")
    # Cancelled while it waited: 22.05 gives the end as the start and a core that it never had; later versions do not.
    never_ran = row["NodeList"] in ("", "None assigned")
    return BatchRecord(
        name=row["JobName"],
        job_id=row["JobIDRaw"],
        state=state,
        raw_state=row["State"],
        reason="" if row["Reason"] == "None" else row["Reason"],
        exit_code=_count(code) if state.is_final else None,
        exit_signal=_count(signal) if state.is_final else None,
        submit_s=_epoch(row["Submit"]),
        start_s=None if never_ran else _epoch(row["Start"]),
        end_s=_epoch(row["End"]),
        elapsed_s=_count(row["ElapsedRaw"]),
        alloc_cpus=None if never_ran else _count(row["AllocCPUS"]),
        partition=row["Partition"],
        account=row["Account"],
        node="" if never_ran else row["NodeList"],
    )


def _epoch(text: str) -> int | None:
    """A time; ``N/A``, ``None``, ``Unknown`` and 0 mean that there is none."""
    return _count(text) or None


def _count(text: str) -> int | None:
    """A whole number that is not negative, or none."""
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12


def _printable(character: str) -> bool:
    return character.isprintable()
