"""
What payload jobs used: attempts from an AP's epoch history, final ads from its history, and what runs now.

Both histories are read newest first until an ad older than the mark; a reading that fills a page goes on below it.
Facts of 25.14.1 that the readers rest on, each tried:

- An EPOCH ad says how an attempt ended only together with VacateReasonCode: an evicted attempt carries the signal that
  evicted it, and that is not its result.
- ActivationDuration of an attempt that ended fast is still the one before; it is taken only where it fits.
- RemoteUserCpu and RemoteSysCpu are of this attempt, RemoteWallClockTime is of those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from overlay.classads import ClassAd, check_bindings, evaluate, integer, number, parse_ad, text
from overlay.client import Ap, NoAnswer, PoolClient, ask, history_step, jobs_step
from overlay.errors import AdUnreadable
from overlay.model import EpochRecord, HistoryRecord, Records, RecordsSeen, RecordsUnseen, RunningRecord, Unreadable

OVERLAP_S = 600
"""Read again below the mark: records have whole seconds, and a shadow may write late. Rows are unique by their key."""

Stream = Literal["epochs", "history"]

_IDENTITY = ("ClusterId", "ProcId", "GlobalJobId", "Owner", "AcctGroup", "AccountingGroup", "JobUniverse")
_EXIT = ("ExitBySignal", "ExitCode", "ExitSignal")
_WHERE = ("MachineAttrGlideinSite0", "MachineAttrGlideinPilotId0", "RemoteHost", "CpusProvisioned", "RequestCpus")

_EPOCH_PROJECTION = (
    *_IDENTITY,
    *_EXIT,
    *_WHERE,
    "RunInstanceID",
    "EpochWriteDate",
    "EpochAdType",
    "ShadowBday",
    "JobCurrentStartExecutingDate",
    "ActivationDuration",
    "MemoryProvisioned",
    "RequestMemory",
    "GpusProvisioned",
    "RemoteUserCpu",
    "RemoteSysCpu",
    "ResidentSetSize",
    "ResidentSetSize_RAW",
    "VacateReasonCode",
)
_HISTORY_PROJECTION = (
    *_IDENTITY,
    *_EXIT,
    *_WHERE,
    "JobStatus",
    "RemoteWallClockTime",
    "NumShadowStarts",
    "CompletionDate",
    "EnteredCurrentStatus",
)
_RUNNING_PROJECTION = (*_IDENTITY, *_WHERE, "JobStatus", "ShadowBday", "JobCurrentStartDate")

_VANILLA = "JobUniverse == 5"
_COMPLETED = 4
"""JobStatus of a job that ended by itself."""
_UNREADABLE_TEXT_MAX = 20_000

R = TypeVar("R", EpochRecord, HistoryRecord, RunningRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one reading."""

    page: int = 5_000
    """Ads in one query."""
    pages: int = 20
    """Queries for each of the two histories."""
    running: int = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """Ads of one stream, newest first; the same ad can come twice, at the border of two pages."""

    ads: tuple[str, ...]
    complete: bool


LIMITS = Limits()


def read_records(client: PoolClient, ap: Ap, *, since_s: int, now_s: float, limits: Limits = LIMITS) -> Records:
    """
    Read an AP's records written since ``since_s``, the end of the newest attempt that is known; 0: from the first.

    :returns: ``RecordsUnseen`` if any part of it could not be read, so that a cursor moves for all or for nothing.
    """
    check_bindings()
    first = ask(client, _first_steps(since_s, limits), ap=ap, question="records")
    if isinstance(first, NoAnswer):
        return RecordsUnseen(ap=ap.name, taken_s=now_s, reason=first.reason)
    epochs = _all_pages(client, ap, "epochs", first.steps[0], since_s, limits)
    if isinstance(epochs, NoAnswer):
        return RecordsUnseen(ap=ap.name, taken_s=now_s, reason=epochs.reason)
    finals = _all_pages(client, ap, "history", first.steps[1], since_s, limits)
    if isinstance(finals, NoAnswer):
        return RecordsUnseen(ap=ap.name, taken_s=now_s, reason=finals.reason)
    running, known = first.steps[2:4]
    return records_of(
        ap.name,
        epochs=epochs,
        finals=finals,
        running=running,
        gap=since_s > 0 and not known,
        now_s=now_s,
        limits=limits,
    )


def records_of(
    ap: str, *, epochs: _Read, finals: _Read, running: Sequence[str], gap: bool, now_s: float, limits: Limits
) -> RecordsSeen:
    """Turn texts of ads into records; one that cannot be read is kept as such and stops no other."""
    unreadable: list[Unreadable] = []
    attempts = _each(ap, "epochs", epochs.ads, epoch_record, unreadable)
    endings = _each(ap, "history", finals.ads, history_record, unreadable)
    now_running = _each(ap, "running", running, running_record, unreadable)
    return RecordsSeen(
        ap=ap,
        taken_s=now_s,
        epochs=tuple(sorted(set(attempts))),
        history=tuple(sorted(set(endings))),
        running=tuple(sorted(set(now_running))),
        unreadable=tuple(sorted(set(unreadable))),
        complete=epochs.complete and finals.complete and len(running) < limits.running,
        gap=gap,
    )


def epoch_record(ap: str, ad: ClassAd) -> EpochRecord:
    """Read one EPOCH ad."""
    start_s, end_s = _needed(ad, "ShadowBday"), _needed(ad, "EpochWriteDate")
    if end_s < start_s:
        raise AdUnreadable(what="EPOCH ad", problem=f"it ends at {end_s}, before its start at {start_s}")
    vacate_code = integer(ad, "VacateReasonCode")
    exit_code, exit_signal = (None, None) if vacate_code is not None else _exit(ad)
    return EpochRecord(
        **_job(ap, ad),
        run_instance_id=_needed(ad, "RunInstanceID"),
        start_s=start_s,
        end_s=end_s,
        execution_s=_execution_s(ad, start_s, end_s),
        cores=_cores(ad),
        memory_mib=integer(ad, "MemoryProvisioned") or integer(ad, "RequestMemory") or 0,
        gpus=integer(ad, "GpusProvisioned") or 0,
        user_cpu_s=max(0.0, number(ad, "RemoteUserCpu") or 0.0),
        sys_cpu_s=max(0.0, number(ad, "RemoteSysCpu") or 0.0),
        peak_rss_kib=integer(ad, "ResidentSetSize_RAW") or integer(ad, "ResidentSetSize"),
        exit_code=exit_code,
        exit_signal=exit_signal,
        vacate_code=vacate_code,
        site=text(ad, "MachineAttrGlideinSite0") or "",
        pilot_id=text(ad, "MachineAttrGlideinPilotId0") or "",
        remote_host=text(ad, "RemoteHost") or "",
    )


def history_record(ap: str, ad: ClassAd) -> HistoryRecord:
    """Read one final ad. CompletionDate is missing, or 0, for a job that was removed."""
    status = _needed(ad, "JobStatus")
    # A removed job still has the signal that removed it, or one that an earlier attempt ended with.
    exit_code, exit_signal = _exit(ad) if status == _COMPLETED else (None, None)
    return HistoryRecord(
        **_job(ap, ad),
        status=status,
        wall_s=max(0.0, number(ad, "RemoteWallClockTime") or 0.0),
        shadow_starts=integer(ad, "NumShadowStarts") or 0,
        completed_s=integer(ad, "CompletionDate") or None,
        exit_code=exit_code,
        exit_signal=exit_signal,
        cores=_cores(ad),
    )


def running_record(ap: str, ad: ClassAd) -> RunningRecord:
    """Read the ad of a job that runs now."""
    start_s = integer(ad, "ShadowBday") or integer(ad, "JobCurrentStartDate")
    if start_s is None:
        raise AdUnreadable(what="running job", problem="neither ShadowBday nor JobCurrentStartDate")
    job = _job(ap, ad)
    return RunningRecord(
        ap=ap,
        global_job_id=job["global_job_id"],
        owner=job["owner"],
        group=job["group"],
        start_s=start_s,
        cores=_cores(ad),
        site=text(ad, "MachineAttrGlideinSite0") or "",
        pilot_id=text(ad, "MachineAttrGlideinPilotId0") or "",
    )


def _first_steps(since_s: int, limits: Limits) -> list[dict[str, Any]]:
    """Both histories' first pages, what runs, and whether the mark's own record is still there."""
    return [
        _page("epochs", since_s, limits.page, until_s=None),
        _page("history", since_s, limits.page, until_s=None),
        jobs_step(
            option="plain",
            constraint=f"{_VANILLA} && JobStatus == 2",
            projection=_RUNNING_PROJECTION,
            limit=limits.running,
        ),
        history_step(
            kind="epochs",
            constraint=f"EpochWriteDate <= {since_s}",
            projection=("EpochWriteDate",),
            limit=1,
            since=None,
        ),
    ]


def _page(stream: Stream, since_s: int, limit: int, *, until_s: int | None) -> dict[str, Any]:
    """
    One query, newest first.

    ``since`` stops the reading at the first ad for which it is true. A final ad is written when the job leaves the
    queue, which for a spooled job is long after its end, so such a one must not stop it.
    """
    stamp = _STAMP[stream]
    oldest_s = max(0, since_s - OVERLAP_S)
    until = "" if until_s is None else f" && {stamp} <= {until_s}"
    old = f"{stamp} < {oldest_s}"
    if stream == "history":
        old += " && StageInFinish is undefined && LeaveJobInQueue =?= False"
    return history_step(
        kind=stream,
        constraint=f"{_VANILLA} && {stamp} >= {oldest_s}{until}",
        projection=_EPOCH_PROJECTION if stream == "epochs" else _HISTORY_PROJECTION,
        limit=limit,
        since=old,
    )


_STAMP: dict[Stream, str] = {"epochs": "EpochWriteDate", "history": "EnteredCurrentStatus"}


def _all_pages(
    client: PoolClient, ap: Ap, stream: Stream, first: tuple[str, ...], since_s: int, limits: Limits
) -> _Read | NoAnswer:
    """
    Go on below a full page until one is not full or the pages are used up.

    The border's second is read again, because it may go on below; one second that fills a page takes a larger one.
    """
    ads = list(first)
    page = first
    size = limits.page
    until_s: int | None = None
    for _ in range(limits.pages - 1):
        if len(page) < size:
            return _Read(ads=tuple(ads), complete=True)
        oldest_s = _oldest(stream, page)
        if oldest_s is None:
            return _Read(ads=tuple(ads), complete=False)
        if oldest_s == until_s:
            size *= 2
        until_s = oldest_s
        answer = ask(client, [_page(stream, since_s, size, until_s=until_s)], ap=ap)
        if isinstance(answer, NoAnswer):
            return answer
        page = answer.steps[0]
        ads.extend(page)
    return _Read(ads=tuple(ads), complete=len(page) < size)


def _oldest(stream: Stream, page: Iterable[str]) -> int | None:
    """The oldest time stamp of a page; unreadable ads have none."""
    stamps: list[int] = []
    for ad_text in page:
        try:
            stamp = integer(parse_ad(ad_text), _STAMP[stream])
        except AdUnreadable:
            continue
        if stamp is not None:
            stamps.append(stamp)
    return min(stamps, default=None)


def _each(
    ap: str, stream: str, ads: Iterable[str], read: Callable[[str, ClassAd], R], unreadable: list[Unreadable]
) -> list[R]:
    records: list[R] = []
    for ad_text in ads:
        try:
            records.append(read(ap, parse_ad(ad_text, what=stream)))
        except AdUnreadable as error:
            kept = ad_text[:_UNREADABLE_TEXT_MAX]
            unreadable.append(Unreadable(ap=ap, stream=stream, text=kept, problem=str(error)))
    return records


def _job(ap: str, ad: ClassAd) -> dict[str, Any]:
    """Whose job it is, as every kind of record has it."""
    global_job_id, owner = text(ad, "GlobalJobId"), text(ad, "Owner")
    if not global_job_id or not owner:
        raise AdUnreadable(what="job", problem="no GlobalJobId or no Owner")
    return {
        "ap": ap,
        "global_job_id": global_job_id,
        "cluster": _needed(ad, "ClusterId"),
        "proc": _needed(ad, "ProcId"),
        "owner": owner,
        "group": text(ad, "AcctGroup") or (text(ad, "AccountingGroup") or "").removesuffix(f".{owner}"),
    }


def _exit(ad: ClassAd) -> tuple[int | None, int | None]:
    """Exit code and signal; each only where ExitBySignal says that it is the one, because both can be left over."""
    by_signal = evaluate(ad, "ExitBySignal")
    if by_signal is True:
        return None, integer(ad, "ExitSignal")
    return (integer(ad, "ExitCode"), None) if by_signal is False else (None, None)


def _execution_s(ad: ClassAd, start_s: int, end_s: int) -> int | None:
    """Seconds since the payload was started; None where it was not started in this attempt."""
    began_s = integer(ad, "JobCurrentStartExecutingDate")
    if began_s is None or not start_s <= began_s <= end_s:
        return None
    activation_s = integer(ad, "ActivationDuration")
    if activation_s is not None and 0 <= activation_s <= end_s - start_s:
        return activation_s
    return end_s - began_s


def _cores(ad: ClassAd) -> int:
    """What the attempt occupied, else what it asked for."""
    return max(1, integer(ad, "CpusProvisioned") or integer(ad, "RequestCpus") or 1)


def _needed(ad: ClassAd, name: str) -> int:
    value = integer(ad, name)
    if value is None:
        raise AdUnreadable(what="record", problem=f"{name} is no number")
    return value
