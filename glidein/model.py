"""The nouns of pilots: what a site offers, what a pilot is called, and what a batch system says of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

PilotId = str
"""``<instance>-<site>-<cycle>-<n>``; see :func:`config.names.pilot_id`. Also the Slurm job name and the EP's name."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Shape:
    """What one pilot asks the batch system for."""

    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int = 0
    walltime_s: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Offer:
    """One kind of pilot at one site (an entry): where it is charged and what it brings."""

    site: str
    shape: Shape
    account: str
    partition: str
    qos: str | None = None
    slot_attributes: tuple[tuple[str, str], ...] = ()
    """Further slot attributes: names and ClassAd text of the values, sorted by name."""
    name: str = ""
    """Which of the site's shapes; empty for a site that has one."""
    exclude: tuple[str, ...] = ()
    """Nodes that the pilot must not be put on; known while it is asked for only, the ledger does not keep it."""

    @property
    def label(self) -> str:
        """``SITE`` or ``SITE/SHAPE``: what a plan calls it, unlike that of any other offer."""
        return f"{self.site}/{self.name}" if self.name else self.site

    @property
    def key(self) -> str:
        """The slot key under which a match table speaks of it."""
        return f"offer:{self.label}"


def label_site(label: str) -> str:
    """The site in an offer's label; no name of a site has a slash."""
    return label.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Lifetimes:
    """The clocks of a pilot, in seconds; START and the factory's slot ad are rendered from the same ones."""

    join_timeout_s: int
    idle_timeout_s: int
    default_job_runtime_s: int
    """Assumed for a job without AllowedExecuteDuration."""
    retire_margin_s: int = 60
    """A job must be able to end this long before the pilot does."""
    claim_life_s: int = 1200
    """How long an access point may give a part of the pilot to the same user's next job without being asked again."""


class BatchState(Enum):
    """A batch job's state in our words; every scheduler's table maps onto it, unknown text onto UNKNOWN."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    NODE_FAIL = "node_fail"
    OUT_OF_MEMORY = "out_of_memory"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the job can no longer run; UNKNOWN is not final."""
        return self in _FINAL


_FINAL = frozenset(
    {
        BatchState.COMPLETED,
        BatchState.FAILED,
        BatchState.CANCELLED,
        BatchState.TIMEOUT,
        BatchState.PREEMPTED,
        BatchState.NODE_FAIL,
        BatchState.OUT_OF_MEMORY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BatchRecord:
    """One normalised record of a batch job, live or final, whatever the scheduler; times are UTC epoch seconds."""

    name: str
    """The job's name; ours are pilot ids."""
    job_id: str
    state: BatchState
    raw_state: str
    """The scheduler's own word, for people."""
    reason: str = ""
    """Why it waits or how it ended, in the scheduler's words."""
    exit_code: int | None = None
    exit_signal: int | None = None
    submit_s: int | None = None
    start_s: int | None = None
    end_s: int | None = None
    elapsed_s: int | None = None
    alloc_cpus: int | None = None
    partition: str = ""
    account: str = ""
    node: str = ""


class EndReason(Enum):
    """Why a pilot ended: the pilot's own word first, else the batch system's, else the factory's."""

    # The pilot's end report; pilot.sh exits with the code in EXIT_CODES.
    IDLE = "idle"
    LIFETIME = "lifetime"
    NOT_JOINED = "not_joined"
    STOPPED = "stopped"
    BAD_BUNDLE = "bad_bundle"
    BAD_INPUT = "bad_input"
    NO_SCRATCH = "no_scratch"
    CONDOR_FAILED = "condor_failed"
    REQUEUED = "requeued"
    """The site ran the batch job a second time; that run leaves at once, because the first took token and jobs."""
    # The batch system, where no end report came.
    CANCELLED = "cancelled"
    CANCELLED_PENDING = "cancelled_pending"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    NODE_FAIL = "node_fail"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    ENDED_SILENTLY = "ended_silently"
    """The batch system says completed, and no end report was found."""
    # The factory.
    REFUSED = "refused"
    """The scheduler refused the submission; there never was a job."""
    NEVER_APPEARED = "never_appeared"
    """The submission's outcome was unknown, and squeue and sacct were both clean past its remote deadline."""


EXIT_CODES: dict[EndReason, int] = {
    EndReason.IDLE: 0,
    EndReason.LIFETIME: 10,
    EndReason.STOPPED: 20,
    EndReason.NOT_JOINED: 21,
    EndReason.BAD_BUNDLE: 22,
    EndReason.BAD_INPUT: 23,
    EndReason.NO_SCRATCH: 24,
    EndReason.CONDOR_FAILED: 25,
    EndReason.REQUEUED: 26,
}
"""Exit codes of pilot.sh, one for each reason that the pilot itself can name; 0 is the normal end, no work left."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EndReport:
    """What a pilot wrote last: one JSON line, ``end.json`` in its spool directory. Times are epoch seconds."""

    pilot_id: PilotId
    reason: EndReason
    exit_code: int
    start_s: int
    joined_s: int | None
    end_s: int
    node: str
    cores: int
    memory_mib: int
    jobs: int
    """Payload jobs started."""
    detail: str = ""


class PilotPhase(IntEnum):
    """Where a pilot is in its life, in the order of that life."""

    INTENDED = 0
    """In the ledger, not yet sent."""
    UNCERTAIN = 1
    """Sent; the answer was lost; counts as a pilot until squeue and sacct are both clean past the deadline."""
    PENDING = 2
    STARTING = 3
    """Runs at the site, its slot has not been seen."""
    IDLE = 4
    """Its slot is in the pool, no job runs in it."""
    BUSY = 5
    ENDING = 6
    """Completing at the site, or its slot said it takes no more jobs."""
    ENDED = 7
    UNKNOWN = 8
    """Seen nowhere that was looked at, or in a state that is in no table: never a guess."""


OPEN_PHASES = frozenset(set(PilotPhase) - {PilotPhase.ENDED})
