"""The nouns of a simulation: the jobs that come, how the sites behave, and what became of it all. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from glidein.model import EndReason, Offer


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TraceJob:
    """One job as it is submitted; ``submit_s`` counts from the beginning of the trace."""

    submit_s: float
    cores: int = 1
    memory_mib: int = 1024
    disk_mib: int = 100
    gpus: int = 0
    runtime_s: float
    """How long it runs at a site of speed 1."""
    declared_s: int | None = None
    """AllowedExecuteDuration; None when the job declares none."""
    user: str = "user"
    project: str = "project"
    requirements: str = ""
    """What the user wrote in ``requirements``, ClassAd text; condor_submit's own clauses are added."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Regime:
    """How a site's queue is for a while."""

    median_s: float
    """Median wait of a pilot, were the regime to last."""
    lasts_s: float
    """Mean length of the regime; lengths are exponential."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Outage:
    """A time in which the site answers nobody and starts nothing."""

    begin_s: float
    """From the beginning of the trace."""
    length_s: float
    kills: bool = True
    """Whether running pilots die at its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SiteModel:
    """How one site treats pilots."""

    name: str
    regimes: tuple[Regime, ...] = (Regime(median_s=60.0, lasts_s=10**9),)
    sigma: float = 0.6
    """Spread of the waits' logarithm within a regime."""
    rho: float = 0.5
    """Correlation of the waits of pilots submitted one after the other (AR(1) of the logarithm)."""
    join_s: float = 20.0
    """From the start of a pilot to its slot in the pool."""
    fizzle: float = 0.0
    """Share of pilots that die a few seconds after their start."""
    never_join: float = 0.0
    """Share of pilots that start and never join."""
    preempted_per_h: float = 0.0
    """Preemptions of a running pilot per hour."""
    room: int = 1_000_000
    """Pilots that the site runs at once."""
    speed: float = 1.0
    """Jobs run this many times as fast as the trace says."""
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class WorldModel:
    """Everything outside the factory."""

    sites: tuple[SiteModel, ...]
    negotiator_s: float = 60.0
    """NEGOTIATOR_INTERVAL."""
    claim_worklife_s: float = 1200.0
    """CLAIM_WORKLIFE: a claim older than this takes no further job."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class JobRun:
    """One attempt of a job in a pilot."""

    job: int
    site: str
    pilot_id: str
    cores: int
    start_s: float
    end_s: float
    good: bool
    """False when the pilot died under it."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class JobEnd:
    """What became of one job; None where it has not come to it."""

    job: int
    user: str
    cores: int
    submit_s: float
    end_s: float | None
    attempts: int
    held: bool
    """It ran past what it had declared, and HTCondor stopped it there."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PilotSpan:
    """One pilot's life; ``end_s`` is None for one that lived on."""

    pilot_id: str
    site: str
    cores: int
    submit_s: float
    start_s: float | None
    join_s: float | None
    end_s: float | None
    busy_core_s: float
    reason: EndReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole simulated run; instants are seconds from the beginning of the trace."""

    policy: str
    seed: int
    until_s: float
    jobs: tuple[JobEnd, ...]
    runs: tuple[JobRun, ...]
    pilots: tuple[PilotSpan, ...]
    cycles: int
    """Decisions that were made; quiet cycles are not among them."""
    offers: tuple[Offer, ...] = field(default=())
