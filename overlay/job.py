"""Where one job is now: asked of its AP's schedd, live, for people who ask why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from overlay.classads import ClassAd, check_bindings, integer, number, parse_ad, text
from overlay.client import Answer, Ap, NoAnswer, PoolClient, ask, jobs_step
from overlay.demand import PROJECTION, bucket_of
from overlay.errors import AdUnreadable
from overlay.model import Bucket

_JOB_PROJECTION = (
    "ClusterId",
    "ProcId",
    "JobUniverse",
    "JobStatus",
    "User",
    "AcctGroup",
    "RequestCpus",
    "RequestMemory",
    "CpusProvisioned",
    "QDate",
    "EnteredCurrentStatus",
    "JobCurrentStartDate",
    "NumShadowStarts",
    "HoldReason",
    "HoldReasonCode",
    "LastVacateReason",
    "RemoteHost",
    "MachineAttrGlideinSite0",
    "MachineAttrGlideinPilotId0",
)
_CLUSTER_PROJECTION = ("ClusterId", "TotalSubmitProcs", "JobMaterializeNextProcId")
_VANILLA = 5


class JobStatus(Enum):
    """HTCondor's JobStatus by name."""

    IDLE = 1
    RUNNING = 2
    REMOVED = 3
    COMPLETED = 4
    HELD = 5
    TRANSFERRING_OUTPUT = 6
    SUSPENDED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFound:
    """A job in its AP's queue; times are epoch seconds."""

    ap: str
    cluster: int
    proc: int
    taken_s: float
    status: JobStatus
    universe: int
    user: str
    group: str
    cores: int | None
    memory_mib: int | None
    queued_s: int | None
    since_s: int | None
    """When it came into its status."""
    starts: int
    """Attempts so far, the present one among them."""
    hold_reason: str
    last_vacate_reason: str
    site: str
    """Where it runs or ran last; empty where no pilot of ours took it."""
    pilot_id: str
    remote_host: str
    bucket: Bucket | None
    """The demand that this one idle job is, with the key of the AP's whole bucket; None unless it is idle."""
    kind: Literal["found"] = "found"

    @property
    def is_for_pilots(self) -> bool:
        """Whether it is of the universe that pilots run; a DAG's own job runs at the AP."""
        return self.universe == _VANILLA


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHeldBack:
    """The AP has not made this job of the cluster yet (late materialisation)."""

    ap: str
    cluster: int
    proc: int
    taken_s: float
    next_proc: int
    """The job of the cluster that is made next."""
    size: int
    kind: Literal["held_back"] = "held_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAbsent:
    """The AP answered completely and has no such job in its queue: it has left it, or never was."""

    ap: str
    cluster: int
    proc: int
    taken_s: float
    kind: Literal["absent"] = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUnseen:
    """The AP could not be asked: nothing is known of the job."""

    ap: str
    cluster: int
    proc: int
    taken_s: float
    reason: str
    kind: Literal["unseen"] = "unseen"


JobSight = JobFound | JobHeldBack | JobAbsent | JobUnseen


def find_job(client: PoolClient, ap: Ap, *, cluster: int, proc: int, now_s: float) -> JobSight:
    """Ask an AP for one job; the bucket has the key under which :func:`overlay.demand.read_demand` counts it."""
    check_bindings()
    this = f"ClusterId == {cluster} && ProcId == {proc}"
    answer = ask(
        client,
        [
            jobs_step(option="plain", constraint=this, projection=_JOB_PROJECTION, limit=2),
            # The schedd applies the constraint to the groups too, so its attributes have to be projected.
            jobs_step(
                option="group",
                constraint=f"{this} && JobStatus == 1",
                projection=(*PROJECTION, "ClusterId", "ProcId"),
                limit=2,
            ),
            jobs_step(
                option="clusters",
                constraint=f"ClusterId == {cluster} && ProcId is undefined",
                projection=_CLUSTER_PROJECTION,
                limit=2,
            ),
        ],
        ap=ap,
    )
    return job_of(answer, ap=ap.name, cluster=cluster, proc=proc, now_s=now_s)


def job_of(answer: Answer | NoAnswer, *, ap: str, cluster: int, proc: int, now_s: float) -> JobSight:
    """Read an AP's answer of the job, its group and its cluster, in this order."""
    if isinstance(answer, NoAnswer):
        return JobUnseen(ap=ap, cluster=cluster, proc=proc, taken_s=now_s, reason=answer.reason)
    jobs, groups, clusters = answer.steps
    try:
        if jobs:
            return _found(parse_ad(jobs[0], what=f"{ap}: job"), groups, ap=ap, now_s=now_s)
        for one in clusters:
            ad = parse_ad(one, what=f"{ap}: cluster")
            next_proc, size = integer(ad, "JobMaterializeNextProcId"), integer(ad, "TotalSubmitProcs")
            if next_proc is not None and size is not None and next_proc <= proc < size:
                return JobHeldBack(ap=ap, cluster=cluster, proc=proc, taken_s=now_s, next_proc=next_proc, size=size)
    except AdUnreadable as error:
        return JobUnseen(ap=ap, cluster=cluster, proc=proc, taken_s=now_s, reason=str(error))
    return JobAbsent(ap=ap, cluster=cluster, proc=proc, taken_s=now_s)


def _found(ad: ClassAd, groups: Sequence[str], *, ap: str, now_s: float) -> JobFound:
    """A job that is in the queue."""
    cluster, proc, status = integer(ad, "ClusterId"), integer(ad, "ProcId"), integer(ad, "JobStatus")
    if cluster is None or proc is None or status not in {one.value for one in JobStatus}:
        raise AdUnreadable(what=f"{ap}: job", problem=f"no ClusterId, ProcId or known JobStatus ({status}) in it")
    memory_mib = number(ad, "RequestMemory")
    cores = integer(ad, "CpusProvisioned") if status != JobStatus.IDLE.value else None
    return JobFound(
        ap=ap,
        cluster=cluster,
        proc=proc,
        taken_s=now_s,
        status=JobStatus(status),
        universe=integer(ad, "JobUniverse") or 0,
        user=text(ad, "User") or "",
        group=text(ad, "AcctGroup") or "",
        cores=integer(ad, "RequestCpus") if cores is None else cores,
        memory_mib=None if memory_mib is None else int(memory_mib),
        queued_s=integer(ad, "QDate"),
        since_s=integer(ad, "EnteredCurrentStatus"),
        starts=integer(ad, "NumShadowStarts") or 0,
        hold_reason=text(ad, "HoldReason") or "",
        last_vacate_reason=text(ad, "LastVacateReason") or "",
        site=text(ad, "MachineAttrGlideinSite0") or "",
        pilot_id=text(ad, "MachineAttrGlideinPilotId0") or "",
        remote_host=text(ad, "RemoteHost") or "",
        bucket=_bucket(groups, ap),
    )


def _bucket(groups: Sequence[str], ap: str) -> Bucket | None:
    """The job's bucket, without the two attributes that only picked the job."""
    if not groups:
        return None
    group = parse_ad(groups[0], what=f"{ap}: group of jobs")
    for name in ("ClusterId", "ProcId"):
        if name in group:
            del group[name]
    return bucket_of(group, ap=ap)
