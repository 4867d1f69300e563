"""
What is idle at an access point, grouped by everything that decides where a job may run.

The schedd groups (``QueryOpt.GroupBy``: 20,000 jobs of 500 kinds in 0.3 s, 25.14.1) by the *text* of the projected
expressions, and adds the attributes that they refer to. Two traps, both measured: the constraint is applied to the
groups again, so an attribute of it that is not projected gives no group and no error; and late-materialised jobs are
no jobs yet. So the schedd's own count of idle jobs is asked for in the same question, and no groups beside a count
that is not zero is "unseen", never "nothing".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from overlay.classads import ClassAd, ad_line, check_bindings, integer, number, parse_ad, text
from overlay.client import Answer, Ap, NoAnswer, PoolClient, ask, jobs_step
from overlay.errors import AdUnreadable
from overlay.model import Bucket, Demand, DemandAtLeast, DemandSeen, DemandUnseen

_IDLE = "JobUniverse == 5 && JobStatus == 1"
_VANILLA = "JobUniverse == 5"

PROJECTION = (
    "JobStatus",
    "JobUniverse",
    "Owner",
    "User",
    "AcctGroup",
    "AccountingGroup",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "RequestGPUs",
    "AllowedExecuteDuration",
    "Requirements",
)
"""What tells buckets apart; whatever these expressions refer to comes along by itself."""

_CLUSTER_PROJECTION = ("ClusterId", "TotalSubmitProcs", "JobMaterializeNextProcId")
_COUNTS = frozenset({"Id", "JobCount", "JobIds", "ServerTime"})
_DEFAULT_MEMORY_MIB = 128
"""JOB_DEFAULT_REQUESTMEMORY of 25.14."""


def read_demand(client: PoolClient, ap: Ap, *, max_buckets: int, now_s: float) -> Demand:
    """Ask an AP what is idle. More than ``max_buckets`` kinds give :class:`DemandAtLeast`."""
    check_bindings()
    answer = ask(
        client,
        [
            jobs_step(option="group", constraint=_IDLE, projection=PROJECTION, limit=max_buckets + 1),
            jobs_step(option="summary", constraint=_VANILLA, projection=("ClusterId",)),
            jobs_step(
                option="clusters",
                constraint="JobMaterializeDigestFile isnt undefined && ProcId is undefined",
                projection=_CLUSTER_PROJECTION,
                limit=max_buckets,
            ),
        ],
        ap=ap,
        question="demand",
    )
    return demand_of(answer, ap=ap.name, max_buckets=max_buckets, now_s=now_s)


def demand_of(answer: Answer | NoAnswer, *, ap: str, max_buckets: int, now_s: float) -> Demand:
    """Read an AP's answer of groups, summary and late-materialising clusters, in this order."""
    if isinstance(answer, NoAnswer):
        return DemandUnseen(ap=ap, taken_s=now_s, reason=answer.reason)
    groups, summaries, clusters = answer.steps
    try:
        idle, running = _counts(summaries)
        buckets = tuple(sorted(bucket_of(parse_ad(group, what=f"{ap}: group of jobs"), ap=ap) for group in groups))
        waiting = sum(_unmaterialized(parse_ad(cluster, what=f"{ap}: cluster")) for cluster in clusters)
    except AdUnreadable as error:
        return DemandUnseen(ap=ap, taken_s=now_s, reason=str(error))
    if not buckets and idle > 0:
        reason = f"the schedd counts {idle} idle jobs and shows none of them"
        return DemandUnseen(ap=ap, taken_s=now_s, reason=reason)
    if len(buckets) > max_buckets:
        reason = f"more than {max_buckets} kinds of idle jobs, {idle} idle jobs altogether"
        return DemandAtLeast(ap=ap, taken_s=now_s, buckets=buckets[:max_buckets], reason=reason)
    return DemandSeen(ap=ap, taken_s=now_s, buckets=buckets, running=running, unmaterialized=waiting)


def bucket_of(group: ClassAd, *, ap: str) -> Bucket:
    """Read one group; requests are expressions and are evaluated, what gives no number asks for the least."""
    jobs = integer(group, "JobCount")
    user = text(group, "User")
    if jobs is None or jobs < 1 or user is None:
        raise AdUnreadable(what=f"{ap}: group of jobs", problem=f"no JobCount or no User in {ad_line(group)[:200]}")
    first_job = (text(group, "JobIds") or "").split(" ", 1)[0]
    owner = text(group, "Owner") or user.partition("@")[0]
    accounting = text(group, "AccountingGroup") or ""
    names = sorted((name for name in group if name not in _COUNTS), key=str.lower)
    ad = ClassAd()
    for name in names:
        ad[name] = group.lookup(name)
    # Sorted by name, so that equal groups have equal text whatever order the schedd wrote them in.
    ad_text = "[ " + "; ".join(f"{name} = {group.lookup(name)}" for name in names) + " ]"
    runtime = integer(ad, "AllowedExecuteDuration")
    return Bucket(
        key=f"{ap}:{hashlib.sha256(ad_text.encode()).hexdigest()[:16]}",
        ap=ap,
        user=user,
        group=text(group, "AcctGroup") or accounting.removesuffix(f".{owner}").removesuffix(owner),
        jobs=jobs,
        first_job=first_job,
        cores=_at_least(number(ad, "RequestCpus"), least=1),
        memory_mib=_at_least(number(ad, "RequestMemory"), least=0, absent=_DEFAULT_MEMORY_MIB),
        disk_mib=_at_least(_mib(number(ad, "RequestDisk")), least=0),
        gpus=_at_least(number(ad, "RequestGPUs"), least=0),
        runtime_s=runtime if runtime is not None and runtime > 0 else None,
        ad_text=ad_text,
    )


def _counts(summaries: Sequence[str]) -> tuple[int, int]:
    """Idle and running vanilla jobs by the schedd's own count."""
    if len(summaries) != 1:
        raise AdUnreadable(what="summary", problem=f"{len(summaries)} ads where the schedd gives one")
    summary = parse_ad(summaries[0], what="summary")
    idle, running = integer(summary, "Idle"), integer(summary, "Running")
    if idle is None or running is None:
        raise AdUnreadable(what="summary", problem="no counts of idle and running jobs in it")
    return idle, running


def _unmaterialized(cluster: ClassAd) -> int:
    """
    Jobs of a cluster that the schedd still holds back.

    JobMaterializeLimit is what ``max_materialize`` says, not the cluster's size (25.14.1: limit 2, seven jobs).
    """
    size, next_proc = integer(cluster, "TotalSubmitProcs"), integer(cluster, "JobMaterializeNextProcId")
    return 0 if size is None or next_proc is None else max(0, size - next_proc)


def _mib(kib: float | None) -> float | None:
    return None if kib is None else kib / 1024


def _at_least(value: float | None, *, least: int, absent: int | None = None) -> int:
    if value is None or not math.isfinite(value):
        return least if absent is None else absent
    return max(least, math.ceil(value))
