"""The nouns of the pool as the factory sees it: demand in buckets, slots of pilots, matches, attempts of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Bucket:
    """A group of idle jobs at one AP that nothing we look at tells apart (autocluster-like)."""

    key: str
    """Stable name: the AP and a digest of the grouped expressions, not of the count."""
    ap: str
    user: str
    """``owner@domain`` as the schedd has it."""
    group: str
    """AccountingGroup without the user's part, usually the project; empty when none."""
    jobs: int
    """Idle jobs in the bucket."""
    first_job: str
    """``cluster.proc`` of one of them, for people."""
    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int = 0
    runtime_s: int | None = None
    """AllowedExecuteDuration, None when the job declares none."""
    ad_text: str
    """The job's ad as far as matching needs it, new-ClassAd text."""
    usual_s: int | None = None
    """Wall seconds of most jobs of the same user, project and size; None: insufficient data."""

    @property
    def expected_s(self) -> int | None:
        """How long a job will take: what is usual, and never more than what it declares; None: nobody knows."""
        usual_s, declared_s = self.usual_s, self.runtime_s
        if usual_s is None or declared_s is None:
            return declared_s if usual_s is None else usual_s
        return min(usual_s, declared_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSeen:
    """Everything idle at an AP."""

    ap: str
    taken_s: float
    buckets: tuple[Bucket, ...]
    running: int
    """Running jobs, for the status line only."""
    unmaterialized: int = 0
    """Jobs that late materialisation still holds back (the schedd's JobsUnmaterialized)."""
    kind: Literal["seen"] = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandAtLeast:
    """The query reached its own limit: there is at least this much. May scale up, never down."""

    ap: str
    taken_s: float
    buckets: tuple[Bucket, ...]
    reason: str
    kind: Literal["at_least"] = "at_least"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandUnseen:
    """The AP could not be asked: nothing is known, which is not nothing."""

    ap: str
    taken_s: float
    reason: str
    kind: Literal["unseen"] = "unseen"


Demand = DemandSeen | DemandAtLeast | DemandUnseen


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slot:
    """One pilot's partitionable slot, with what is really in use; times are epoch seconds."""

    pilot_id: str
    site: str
    name: str
    cores: int
    memory_mib: int
    disk_mib: int
    busy_cores: int
    """Cores of dynamic slots that run a job; a claimed slot that is idle counts as free."""
    busy_memory_mib: int
    busy_disk_mib: int
    running_jobs: int
    to_die_s: int | None
    """GlideinToDie; None when the ad has none."""
    started_s: int | None
    """DaemonStartTime."""
    accepting: bool
    """False when it drains, retires, or has no way in (no CCBID)."""
    ad_text: str
    """The partitionable slot's ad with the totals as if it were empty, new-ClassAd text."""
    gpus: int | None = None
    """None in records from before they were read."""
    busy_gpus: int = 0
    busy_groups: tuple[tuple[str, int], ...] = ()
    """Cores in which jobs run, by the accounting group without the user's part; sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsSeen:
    """All slots of pilots in the pool's collector."""

    taken_s: float
    slots: tuple[Slot, ...]
    kind: Literal["seen"] = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsUnseen:
    """The collector could not be asked."""

    taken_s: float
    reason: str
    kind: Literal["unseen"] = "unseen"


Slots = SlotsSeen | SlotsUnseen


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FailedClause:
    """One top-level conjunct that is not true for a pair of job and slot."""

    owner: Literal["job", "slot"]
    """Whose expression it stands in."""
    text: str
    values: tuple[tuple[str, str], ...]
    """Attributes it reads and their values, for example ``(("Memory", "3500"), ("RequestMemory", "88231"))``."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Match:
    """Whether a bucket's job and a slot (an offer's, or a pilot's) accept each other, and why not."""

    matches: bool
    failed: tuple[FailedClause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchTable:
    """
    Every bucket against every slot ad that could serve it.

    A slot key is ``offer:<site>`` or ``pilot:<pilot id>``. The answers are one bit each: 10,000 kinds of jobs at 1,000
    sites are 1.3 MB. Why a pair does not match is worked out when somebody asks.
    """

    columns: Mapping[str, int]
    """The bit of each slot key, from 0."""
    rows: Mapping[str, int]
    """By bucket key: the bits of the slots that match. Buckets that match the same slots have equal rows."""
    failed: Callable[[str, str], tuple[FailedClause, ...]] = field(compare=False, repr=False)
    """Why a bucket and a slot that are both in the table do not match; nothing for a running pilot's slot."""

    def matches_key(self, bucket: str, slot: str) -> bool | None:
        """Whether a bucket and a slot accept each other; None when they were not compared."""
        row, column = self.rows.get(bucket), self.columns.get(slot)
        return None if row is None or column is None else bool(row >> column & 1)

    def bits_of(self, slots: Iterable[str]) -> int:
        """The bits of several slot keys together, for ``rows[bucket] & bits``; unknown keys have none."""
        bits = 0
        for slot in slots:
            column = self.columns.get(slot)
            if column is not None:
                bits |= 1 << column
        return bits

    def get(self, bucket: str, slot: str) -> Match:
        """The match of a pair with its reasons; KeyError for a pair that was not compared, which is our own bug."""
        if self.rows[bucket] >> self.columns[slot] & 1:
            return Match(matches=True)
        return Match(matches=False, failed=self.failed(bucket, slot))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EpochRecord:
    """
    One attempt of a payload job, from an EPOCH ad; times are epoch seconds.

    Wall time of the attempt is ``end_s - start_s`` (EpochWriteDate - ShadowBday), as HTCondor bills it.
    """

    ap: str
    global_job_id: str
    run_instance_id: int
    cluster: int
    proc: int
    owner: str
    group: str
    start_s: int
    end_s: int
    execution_s: int | None
    """ActivationDuration, where execution began."""
    cores: int
    """CpusProvisioned: what the attempt occupied."""
    memory_mib: int
    gpus: int
    user_cpu_s: float
    sys_cpu_s: float
    peak_rss_kib: int | None
    exit_code: int | None
    exit_signal: int | None
    vacate_code: int | None
    """VacateReasonCode; None where the job ended by itself."""
    site: str
    """MachineAttrGlideinSite0; empty for a slot that is no pilot's."""
    pilot_id: str
    remote_host: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HistoryRecord:
    """The final ad of a job, used to reconcile; ``wall_s`` is RemoteWallClockTime, the sum over all attempts."""

    ap: str
    global_job_id: str
    cluster: int
    proc: int
    owner: str
    group: str
    status: int
    wall_s: float
    shadow_starts: int
    completed_s: int | None
    exit_code: int | None
    exit_signal: int | None
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RunningRecord:
    """A job that runs now: shown apart from what has ended."""

    ap: str
    global_job_id: str
    owner: str
    group: str
    start_s: int
    cores: int
    site: str
    pilot_id: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Unreadable:
    """A record that could not be read: kept for people, never counted as read."""

    ap: str
    stream: str
    """``epochs`` or ``history``."""
    text: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsSeen:
    """One reading of an AP's epoch history, final history and running jobs."""

    ap: str
    taken_s: float
    epochs: tuple[EpochRecord, ...]
    history: tuple[HistoryRecord, ...]
    running: tuple[RunningRecord, ...]
    unreadable: tuple[Unreadable, ...]
    complete: bool
    """False when a limit was reached: the next reading must start from the oldest record read."""
    gap: bool
    """True when the oldest record returned is newer than the mark asked for: records were rotated away."""
    kind: Literal["seen"] = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsUnseen:
    """The AP's history could not be read; the cursor stays."""

    ap: str
    taken_s: float
    reason: str
    kind: Literal["unseen"] = "unseen"


Records = RecordsSeen | RecordsUnseen
