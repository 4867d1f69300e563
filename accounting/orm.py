"""
The tables. Nothing outside this package sees these classes; times are UTC epoch seconds.

A change here needs a migration in ``migrations/versions``; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints with names of their own, so that a migration can find them on every database."""


class SafeText(TypeDecorator[str]):
    """Text from outside: PostgreSQL refuses NUL and both refuse lone surrogates, and neither may stop an ingest."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what no database takes."""
        if value is None:
            return None
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


Number = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits on both: SQLite makes a self-counting key only of INTEGER, PostgreSQL's INTEGER ends in 2038."""


class Base(DeclarativeBase):
    """All tables of the database."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {str: SafeText(), int: Number, float: Float(53), bytes: LargeBinary()}  # noqa: RUF012


class LeaseRow(Base):
    """Who acts for an instance."""

    __tablename__ = "leases"

    instance: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    expires_s: Mapped[float]


class PilotRow(Base):
    """One pilot. ``instance`` and ``site`` stand apart for queries; ``batch`` and ``report`` are JSON."""

    __tablename__ = "pilots"
    __table_args__ = (Index(None, "instance", "phase"), Index(None, "site", "ended_s"))

    pilot_id: Mapped[str] = mapped_column(primary_key=True)
    instance: Mapped[str]
    cycle: Mapped[str]
    # The offer as it was when the pilot was asked for.
    site: Mapped[str]
    account: Mapped[str]
    partition: Mapped[str]
    qos: Mapped[str | None]
    cores: Mapped[int]
    memory_mib: Mapped[int]
    disk_mib: Mapped[int]
    gpus: Mapped[int]
    walltime_s: Mapped[int]
    slot_attributes: Mapped[str]
    shape: Mapped[str] = mapped_column(default="", server_default="")
    # Its life.
    sent: Mapped[str]
    phase: Mapped[str]
    intended_s: Mapped[int]
    submit_deadline_s: Mapped[int]
    submitted_s: Mapped[int | None]
    batch_id: Mapped[str | None]
    batch_reason: Mapped[str]
    started_s: Mapped[int | None]
    joined_s: Mapped[int | None]
    slot_seen_s: Mapped[int | None]
    surplus_since_s: Mapped[int | None]
    cancel_intended_s: Mapped[int | None]
    cancel_sent_s: Mapped[int | None]
    ended_s: Mapped[int | None]
    end_reason: Mapped[str | None]
    detail: Mapped[str]
    jobs: Mapped[int | None]
    batch: Mapped[str | None]
    report: Mapped[str | None]
    asked_for: Mapped[str] = mapped_column(default="", server_default="")
    barren_since_s: Mapped[int | None]
    charged_core_s: Mapped[int | None]
    """Elapsed seconds times allocated CPUs of the final batch record; NULL while no such record was read."""


class PilotEventRow(Base):
    """A change of phase; appended, never updated."""

    __tablename__ = "pilot_events"
    __table_args__ = (Index(None, "pilot_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.pilot_id"))
    at_s: Mapped[float]
    phase: Mapped[str]
    detail: Mapped[str]


class StopRow(Base):
    """A site that gets no new pilots."""

    __tablename__ = "site_stops"

    site: Mapped[str] = mapped_column(primary_key=True)
    since_s: Mapped[int]
    stopped_by: Mapped[str]
    reason: Mapped[str]


class SiteWordRow(Base):
    """An operator's word to look at a site now, and to believe what is seen."""

    __tablename__ = "site_words"

    site: Mapped[str] = mapped_column(primary_key=True)
    at_s: Mapped[float]
    said_by: Mapped[str]


class RememberedSiteRow(Base):
    """The last connection settings of a site, so that it can be watched after it left the configuration."""

    __tablename__ = "remembered_sites"

    site: Mapped[str] = mapped_column(primary_key=True)
    settings: Mapped[str]


class JournalSegmentRow(Base):
    """
    A run of decisions in the journal that share their parts, and are dropped together with them.

    So a part that a kept decision names is never dropped, and nobody has to count who names it.
    """

    __tablename__ = "journal_segments"
    __table_args__ = (Index(None, "instance", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    instance: Mapped[str]
    size: Mapped[int]
    """Compressed bytes of its decisions and parts, with what a row costs."""


class JournalPartRow(Base):
    """What decisions of a segment have in common, once; zlib-compressed."""

    __tablename__ = "journal_parts"

    segment: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[bytes]
    children: Mapped[str]
    """Names of the parts that it names, by spaces."""


class JournalRow(Base):
    """One decision, or several equal ones in a row; ``observation`` and ``plan`` are zlib-compressed UTF-8."""

    __tablename__ = "journal"
    __table_args__ = (Index(None, "instance", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    instance: Mapped[str]
    cycle: Mapped[str]
    first_s: Mapped[float]
    last_s: Mapped[float]
    count: Mapped[int]
    digest: Mapped[str]
    observation: Mapped[bytes]
    """The whole observation in format 1, the root of the record in format 2."""
    plan: Mapped[bytes]
    """Empty in format 2."""
    format: Mapped[int]
    segment: Mapped[int]
    """0 in format 1."""
    children: Mapped[str]
    """Names of the parts that the root names, by spaces."""


class AttemptRow(Base):
    """One attempt of a payload job, from its epoch record; the ``counted`` columns leave overlaps out."""

    __tablename__ = "attempts"
    __table_args__ = (Index(None, "end_s"), Index(None, "pilot_id"))

    ap: Mapped[str] = mapped_column(primary_key=True)
    global_job_id: Mapped[str] = mapped_column(primary_key=True)
    run_instance_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cluster: Mapped[int]
    proc: Mapped[int]
    owner: Mapped[str]
    project: Mapped[str]
    start_s: Mapped[int]
    end_s: Mapped[int]
    execution_s: Mapped[int | None]
    cores: Mapped[int]
    memory_mib: Mapped[int]
    gpus: Mapped[int]
    user_cpu_s: Mapped[float]
    sys_cpu_s: Mapped[float]
    peak_rss_kib: Mapped[int | None]
    exit_code: Mapped[int | None]
    exit_signal: Mapped[int | None]
    vacate_code: Mapped[int | None]
    site: Mapped[str]
    pilot_id: Mapped[str]
    remote_host: Mapped[str]
    counted: Mapped[int]
    """1, or 0 for a record of a run that another record tells of too."""
    counted_s: Mapped[int]
    """Wall seconds that no earlier record of the job covers."""
    counted_cpu_s: Mapped[float]


class FinalRow(Base):
    """The final ad of a job in its AP's history; reconciles, is never added to attempts."""

    __tablename__ = "final_jobs"

    ap: Mapped[str] = mapped_column(primary_key=True)
    global_job_id: Mapped[str] = mapped_column(primary_key=True)
    cluster: Mapped[int]
    proc: Mapped[int]
    owner: Mapped[str]
    project: Mapped[str]
    status: Mapped[int]
    wall_s: Mapped[float]
    shadow_starts: Mapped[int]
    completed_s: Mapped[int | None]
    exit_code: Mapped[int | None]
    exit_signal: Mapped[int | None]
    cores: Mapped[int]


class ResidualRow(Base):
    """Wall time that history knows of and no attempt tells of; made anew whenever either changes."""

    __tablename__ = "residuals"
    __table_args__ = (Index(None, "end_s"),)

    ap: Mapped[str] = mapped_column(primary_key=True)
    global_job_id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    project: Mapped[str]
    end_s: Mapped[int]
    wall_s: Mapped[int]
    cores: Mapped[int]


class RunningRow(Base):
    """A job that ran at its AP's last reading; replaced by the next one."""

    __tablename__ = "running_jobs"

    ap: Mapped[str] = mapped_column(primary_key=True)
    global_job_id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    project: Mapped[str]
    start_s: Mapped[int]
    seen_s: Mapped[float]
    cores: Mapped[int]
    site: Mapped[str]
    pilot_id: Mapped[str]


class StreamRow(Base):
    """How far an AP's history has been read."""

    __tablename__ = "streams"

    ap: Mapped[str] = mapped_column(primary_key=True)
    mark_s: Mapped[int]
    read_s: Mapped[float | None]
    problem: Mapped[str]
    gap_since_s: Mapped[int | None]
    hole_before_s: Mapped[int | None]
    """A reading was cut by its limit: records older than this, and newer than the mark, are still to be read."""
    hole_top_s: Mapped[int | None]
    """Where the mark may move once the hole is filled."""


class QuarantineRow(Base):
    """A record that could not be read, kept for people."""

    __tablename__ = "quarantine"

    ap: Mapped[str] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    problem: Mapped[str]
    first_s: Mapped[float]
