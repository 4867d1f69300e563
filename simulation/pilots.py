"""A pilot in the modelled world: what it has left, what runs in it, and what its slot says."""

from __future__ import annotations

from dataclasses import dataclass, field

from glidein.model import EndReason, Lifetimes, Offer
from glidein.start import slot_memory_mib, to_die_s, to_retire_s
from overlay.model import Slot
from simulation.kinds import Job, Kind


@dataclass(slots=True, kw_only=True, eq=False)
class Claim:
    """A dynamic slot and the job in it."""

    kind: Kind
    job: Job
    since_s: float
    """When the claim was made; jobs may have followed each other in it."""
    job_start_s: float


@dataclass(slots=True, kw_only=True, eq=False)
class SimPilot:
    """One pilot; instants are epoch seconds of the world's clock."""

    pilot_id: str
    number: int
    offer: Offer
    submit_s: float
    start_s: float | None = None
    join_s: float | None = None
    end_s: float | None = None
    reason: EndReason | None = None
    draining: bool = False
    work: float = 0.0
    """Its part of the queue, as drawn."""
    cores: int = 0
    """Free ones; the other resources likewise."""
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: int = 0
    claims: dict[int, Claim] = field(default_factory=dict)
    """By the number of the job."""
    idle_since_s: float = 0.0
    jobs: int = 0
    busy_core_s: float = 0.0
    ad_text: str = ""
    """Its slot's ad, once it has joined."""
    die_s: float = 0.0
    retire_s: float = 0.0

    @property
    def site(self) -> str:
        """Where it is."""
        return self.offer.site

    def begin(self, now_s: float, lifetimes: Lifetimes) -> None:
        """It starts at the site: its whole shape is free."""
        shape = self.offer.shape
        self.start_s = now_s
        self.cores, self.memory_mib = shape.cores, slot_memory_mib(shape)
        self.disk_mib, self.gpus = shape.disk_mib, shape.gpus
        self.die_s = to_die_s(start_s=int(now_s), walltime_s=shape.walltime_s)
        self.retire_s = to_retire_s(start_s=int(now_s), walltime_s=shape.walltime_s, lifetimes=lifetimes)

    def accepts(self, now_s: float) -> bool:
        """Whether its slot takes jobs at all."""
        return self.join_s is not None and self.end_s is None and not self.draining and now_s < self.retire_s

    def has_room(self, kind: Kind) -> bool:
        """Whether what is free is enough for a job of the kind."""
        bucket = kind.bucket
        return (
            bucket.cores <= self.cores
            and bucket.memory_mib <= self.memory_mib
            and bucket.disk_mib <= self.disk_mib
            and bucket.gpus <= self.gpus
        )

    def has_time(self, kind: Kind, now_s: float, lifetimes: Lifetimes) -> bool:
        """What START asks of a job's declared run time (glidein.start)."""
        runtime_s = kind.bucket.runtime_s
        declared_s = lifetimes.default_job_runtime_s if runtime_s is None else runtime_s
        return declared_s + lifetimes.retire_margin_s < self.die_s - now_s

    def carve(self, kind: Kind, sign: int) -> None:
        """Take (1) or give back (-1) what a job of the kind needs."""
        bucket = kind.bucket
        self.cores -= sign * bucket.cores
        self.memory_mib -= sign * bucket.memory_mib
        self.disk_mib -= sign * bucket.disk_mib
        self.gpus -= sign * bucket.gpus

    def slot(self, now_s: float) -> Slot:
        """What the collector has of it, once it has joined."""
        assert self.start_s is not None
        shape = self.offer.shape
        memory_mib = slot_memory_mib(shape)
        return Slot(
            pilot_id=self.pilot_id,
            site=self.site,
            name=f"slot1@{self.pilot_id}",
            cores=shape.cores,
            memory_mib=memory_mib,
            disk_mib=shape.disk_mib,
            busy_cores=shape.cores - self.cores,
            busy_memory_mib=memory_mib - self.memory_mib,
            busy_disk_mib=shape.disk_mib - self.disk_mib,
            running_jobs=len(self.claims),
            to_die_s=int(self.die_s),
            started_s=int(self.start_s),
            accepting=self.accepts(now_s),
            ad_text=self.ad_text,
        )
