"""
Kinds of jobs as the schedd would group them, and which of them which pilots take.

A kind becomes the same :class:`overlay.model.Bucket` that the product reads from a schedd, with the Requirements that
condor_submit of 25.14 writes, and is matched by the product's own code.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from config.condortext import classad_string, classad_text
from glidein.epconfig import PoolFacts
from glidein.model import Lifetimes, Offer
from glidein.slot import offer_ad_text
from overlay.matching import match_table
from overlay.model import Bucket
from simulation.model import TraceJob

AP = "ap1"
DOMAIN = "pool"
LONG_S = 10**9
"""A life that no job is too long for: what is left of a pilot's life is worked out apart."""
SUBMITTED = (
    '(TARGET.Arch == "X86_64")',
    '(TARGET.OpSys == "LINUX")',
    "(TARGET.Disk >= RequestDisk)",
    "(TARGET.Memory >= RequestMemory)",
    "(TARGET.HasFileTransfer)",
)
"""What condor_submit adds to every job's Requirements."""


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One job in the pool; instants are epoch seconds of the world's clock."""

    number: int
    asked: TraceJob
    submit_s: float
    attempt: int = 0
    """Attempts begun; an event that names an earlier one is void."""
    end_s: float | None = None
    held: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Kind:
    """Jobs that nothing but their run time and their submission tells apart."""

    bucket: Bucket
    idle: deque[Job] = field(default_factory=deque)
    """Oldest first."""

    @property
    def user(self) -> str:
        """Whose they are."""
        return self.bucket.user


KindKey = tuple[int, int, int, int, int | None, str, str, str]


def kind_key(job: TraceJob) -> KindKey:
    """What tells kinds apart."""
    return (
        job.cores,
        job.memory_mib,
        job.disk_mib,
        job.gpus,
        job.declared_s,
        job.user,
        job.project,
        job.requirements,
    )


def ad_text(job: TraceJob) -> str:
    """The ad of a job of this kind, as far as matching needs it."""
    clauses = [*([f"({job.requirements})"] if job.requirements else []), *SUBMITTED]
    if job.cores > 1:
        clauses.append("(TARGET.Cpus >= RequestCpus)")
    if job.gpus:
        clauses.append("(TARGET.GPUs >= RequestGPUs)")
    attributes = {
        "AcctGroup": classad_string(job.project),
        "JobStatus": "1",
        "JobUniverse": "5",
        "Owner": classad_string(job.user),
        "RequestCpus": str(job.cores),
        "RequestDisk": str(job.disk_mib * 1024),
        "RequestMemory": str(job.memory_mib),
        "Requirements": " && ".join(clauses),
        "User": classad_string(f"{job.user}@{DOMAIN}"),
    }
    if job.gpus:
        attributes["RequestGPUs"] = str(job.gpus)
    if job.declared_s is not None:
        attributes["AllowedExecuteDuration"] = str(job.declared_s)
    return classad_text(attributes)


def bucket_of_kind(job: TraceJob, *, number: int) -> Bucket:
    """The bucket of a kind, without jobs; ``number`` makes its name and keeps the order of first submission."""
    return Bucket(
        key=f"{AP}:{number:06d}",
        ap=AP,
        user=f"{job.user}@{DOMAIN}",
        group=job.project,
        jobs=0,
        first_job=f"{number + 1}.0",
        cores=job.cores,
        memory_mib=job.memory_mib,
        disk_mib=job.disk_mib,
        gpus=job.gpus,
        runtime_s=job.declared_s,
        ad_text=ad_text(job),
    )


class Fits:
    """Whether jobs of a kind and pilots of an offer accept each other, whatever is left of the pilot's life."""

    def __init__(self, *, lifetimes: Lifetimes, condor_version: str) -> None:
        self._lifetimes = lifetimes
        self._condor_version = condor_version
        self._known: dict[tuple[str, Offer], bool] = {}

    def __call__(self, kind: Kind, offer: Offer) -> bool:
        """By classad2, once for each pair."""
        key = kind.bucket.key, offer
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._evaluated(kind.bucket, offer)
        return known

    def slot_ad(self, offer: Offer, *, start_s: int) -> str:
        """The ad of the slot of a pilot that started then."""
        # The offer's ad allows for the longest time to join; this one has joined.
        return self._ad(offer, now_s=start_s + self._lifetimes.join_timeout_s)

    def _ad(self, offer: Offer, *, now_s: int) -> str:
        return offer_ad_text(
            offer=offer,
            lifetimes=self._lifetimes,
            pool=PoolFacts(collector="", trust_domain=DOMAIN),
            condor_version=self._condor_version,
            now_s=now_s,
        )

    def _evaluated(self, bucket: Bucket, offer: Offer) -> bool:
        ad = self._ad(replace(offer, shape=replace(offer.shape, walltime_s=LONG_S)), now_s=0)
        slot = f"offer:{offer.site}"
        return match_table((bucket,), {slot: ad}, now_s=0).get(bucket.key, slot).matches
