"""The nouns of the ledger and of usage, as plain values: no ORM object leaves this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from glidein.model import BatchRecord, EndReason, EndReport, Offer, PilotId, PilotPhase

Sent = Literal["intended", "uncertain", "submitted"]
"""What is known of the submission: only the intent, sent with the answer lost, or answered with a job id."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PilotRecord:
    """One pilot as the ledger has it; times are epoch seconds."""

    pilot_id: PilotId
    offer: Offer
    cycle: str
    sent: Sent
    phase: PilotPhase
    intended_s: int
    submit_deadline_s: int
    """From then on the submission can no longer take effect at the site, whatever was lost on the way."""
    submitted_s: int | None = None
    batch_id: str | None = None
    batch_reason: str = ""
    """Why it waits, in the scheduler's words."""
    started_s: int | None = None
    joined_s: int | None = None
    slot_seen_s: int | None = None
    """When its slot was last in the collector."""
    surplus_since_s: int | None = None
    """Since when no idle job needs this pilot although it still waits at the site."""
    cancel_intended_s: int | None = None
    ended_s: int | None = None
    end_reason: EndReason | None = None
    detail: str = ""
    jobs: int | None = None
    """Payload jobs it started, from its end report."""
    batch: BatchRecord | None = None
    """The last record of the batch system; final once the pilot has ended."""
    report: EndReport | None = None
    asked_for: str = ""
    """The demand bucket on whose behalf it was asked for; empty for adopted pilots and those from before 0.2."""
    barren_since_s: int | None = None
    """Since when it stands empty in the pool beside idle jobs of that bucket."""

    @property
    def requeued(self) -> bool:
        """Whether it waits again after it had started: the site requeued it, and its second run will only leave."""
        return self.phase is PilotPhase.PENDING and self.started_s is not None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CancelIntent:
    """A decision to cancel a pilot that still waits, before anything is sent."""

    pilot_id: PilotId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SiteStop:
    """An operator's word that a site gets no new pilots."""

    site: str
    since_s: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Lease:
    """Who acts for an instance, and until when."""

    instance: str
    holder: str
    expires_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRecord:
    """One entry of the decision journal: equal cycles in a row are one entry with a count."""

    cycle: str
    first_s: float
    last_s: float
    count: int
    format: int
    """How it is written: 1 observation and plan as two whole texts, 2 a root with shared parts."""
    root: bytes
    """The observation in format 1."""
    parts: Mapping[str, bytes]
    """By name; in format 1 only ``plan``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a record, named by its content by whoever made it."""

    data: bytes
    children: tuple[str, ...]
    """Parts that it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A decision to write down; equal digests in a row are one entry with a count."""

    root: Part
    parts: Mapping[str, Part]
    """Every part that the root reaches, by name."""
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalBounds:
    """How much of the journal is kept for each instance."""

    entries: int
    size_bytes: int
    """Of the compressed records; the entry in force is kept even where it alone is larger."""


UsageKey = Literal["user", "project", "site", "day", "ap", "vo"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class UsageRow:
    """Usage of payload jobs in one group; core seconds are wall seconds times provisioned cores."""

    key: tuple[str, ...]
    """Values of the keys asked for, in their order; a day is the UTC date of the attempt's end."""
    attempts: int
    jobs: int
    wall_s: int
    core_s: int
    cpu_s: float
    residual_core_s: int
    """Part of core_s that no epoch record tells of: history said so (an AP died hard); flagged, never hidden."""
    running: int
    """Attempts that run now; they are in no other column."""
    running_core_s: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PilotUsageRow:
    """What the pilots of one site cost and how much of it the payload used, over the same period."""

    site: str
    pilots: int
    running: int
    pilot_core_s: int
    payload_core_s: int
    unaccounted: int
    """Ended pilots whose final sacct record has not been read yet: no number is made up for them."""

    @property
    def efficiency(self) -> float | None:
        """Payload core seconds per pilot core second; None where nothing was charged."""
        return self.payload_core_s / self.pilot_core_s if self.pilot_core_s else None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class StreamState:
    """How far one AP's history has been read: every number from it is true up to ``read_s``."""

    ap: str
    mark_s: int
    """EpochWriteDate up to which all attempts are in the database."""
    read_s: float | None
    """Last successful reading; None: never."""
    problem: str
    """Why the last reading failed; empty when it did not."""
    gap_since_s: int | None
    """Set when records were rotated away before they were read."""
    quarantined: int
    catching_up: bool = False
    """The last reading was cut by its limit: there are records between ``mark_s`` and ``read_s`` still to be read."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FinishedJob:
    """A job that ended by itself, with its last attempt; times are epoch seconds."""

    ap: str
    global_job_id: str
    owner: str
    project: str
    submit_s: int
    start_s: int
    end_s: int
    cores: int
    """What its last attempt was given, likewise memory and GPUs."""
    memory_mib: int
    gpus: int
