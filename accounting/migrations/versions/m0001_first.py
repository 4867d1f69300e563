"""The first schema: pilots, decisions, attempts, and how far each history has been read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "attempts",
        sa.Column("ap", sa.Text(), nullable=False),
        sa.Column("global_job_id", sa.Text(), nullable=False),
        sa.Column("run_instance_id", NUMBER, autoincrement=False, nullable=False),
        sa.Column("cluster", NUMBER, nullable=False),
        sa.Column("proc", NUMBER, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("start_s", NUMBER, nullable=False),
        sa.Column("end_s", NUMBER, nullable=False),
        sa.Column("execution_s", NUMBER, nullable=True),
        sa.Column("cores", NUMBER, nullable=False),
        sa.Column("memory_mib", NUMBER, nullable=False),
        sa.Column("gpus", NUMBER, nullable=False),
        sa.Column("user_cpu_s", sa.Float(precision=53), nullable=False),
        sa.Column("sys_cpu_s", sa.Float(precision=53), nullable=False),
        sa.Column("peak_rss_kib", NUMBER, nullable=True),
        sa.Column("exit_code", NUMBER, nullable=True),
        sa.Column("exit_signal", NUMBER, nullable=True),
        sa.Column("vacate_code", NUMBER, nullable=True),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("remote_host", sa.Text(), nullable=False),
        sa.Column("counted", NUMBER, nullable=False),
        sa.Column("counted_s", NUMBER, nullable=False),
        sa.Column("counted_cpu_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("ap", "global_job_id", "run_instance_id", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_end_s"), "attempts", ["end_s"], unique=False)
    op.create_index(op.f("ix_attempts_pilot_id"), "attempts", ["pilot_id"], unique=False)
    op.create_table(
        "final_jobs",
        sa.Column("ap", sa.Text(), nullable=False),
        sa.Column("global_job_id", sa.Text(), nullable=False),
        sa.Column("cluster", NUMBER, nullable=False),
        sa.Column("proc", NUMBER, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("status", NUMBER, nullable=False),
        sa.Column("wall_s", sa.Float(precision=53), nullable=False),
        sa.Column("shadow_starts", NUMBER, nullable=False),
        sa.Column("completed_s", NUMBER, nullable=True),
        sa.Column("exit_code", NUMBER, nullable=True),
        sa.Column("exit_signal", NUMBER, nullable=True),
        sa.Column("cores", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("ap", "global_job_id", name=op.f("pk_final_jobs")),
    )
    op.create_table(
        "journal",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("cycle", sa.Text(), nullable=False),
        sa.Column("first_s", sa.Float(precision=53), nullable=False),
        sa.Column("last_s", sa.Float(precision=53), nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("observation", sa.LargeBinary(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
    )
    op.create_index(op.f("ix_journal_instance_id"), "journal", ["instance", "id"], unique=False)
    op.create_table(
        "leases",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_leases")),
    )
    op.create_table(
        "pilots",
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("cycle", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("qos", sa.Text(), nullable=True),
        sa.Column("cores", NUMBER, nullable=False),
        sa.Column("memory_mib", NUMBER, nullable=False),
        sa.Column("disk_mib", NUMBER, nullable=False),
        sa.Column("gpus", NUMBER, nullable=False),
        sa.Column("walltime_s", NUMBER, nullable=False),
        sa.Column("slot_attributes", sa.Text(), nullable=False),
        sa.Column("sent", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("intended_s", NUMBER, nullable=False),
        sa.Column("submit_deadline_s", NUMBER, nullable=False),
        sa.Column("submitted_s", NUMBER, nullable=True),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("batch_reason", sa.Text(), nullable=False),
        sa.Column("started_s", NUMBER, nullable=True),
        sa.Column("joined_s", NUMBER, nullable=True),
        sa.Column("slot_seen_s", NUMBER, nullable=True),
        sa.Column("surplus_since_s", NUMBER, nullable=True),
        sa.Column("cancel_intended_s", NUMBER, nullable=True),
        sa.Column("cancel_sent_s", NUMBER, nullable=True),
        sa.Column("ended_s", NUMBER, nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("jobs", NUMBER, nullable=True),
        sa.Column("batch", sa.Text(), nullable=True),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("charged_core_s", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("pilot_id", name=op.f("pk_pilots")),
    )
    op.create_index(op.f("ix_pilots_instance_phase"), "pilots", ["instance", "phase"], unique=False)
    op.create_index(op.f("ix_pilots_site_ended_s"), "pilots", ["site", "ended_s"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("ap", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("first_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("ap", "stream", "digest", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "remembered_sites",
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_remembered_sites")),
    )
    op.create_table(
        "residuals",
        sa.Column("ap", sa.Text(), nullable=False),
        sa.Column("global_job_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("end_s", NUMBER, nullable=False),
        sa.Column("wall_s", NUMBER, nullable=False),
        sa.Column("cores", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("ap", "global_job_id", name=op.f("pk_residuals")),
    )
    op.create_index(op.f("ix_residuals_end_s"), "residuals", ["end_s"], unique=False)
    op.create_table(
        "running_jobs",
        sa.Column("ap", sa.Text(), nullable=False),
        sa.Column("global_job_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("start_s", NUMBER, nullable=False),
        sa.Column("seen_s", sa.Float(precision=53), nullable=False),
        sa.Column("cores", NUMBER, nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ap", "global_job_id", name=op.f("pk_running_jobs")),
    )
    op.create_table(
        "site_stops",
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("since_s", NUMBER, nullable=False),
        sa.Column("stopped_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_site_stops")),
    )
    op.create_table(
        "streams",
        sa.Column("ap", sa.Text(), nullable=False),
        sa.Column("mark_s", NUMBER, nullable=False),
        sa.Column("read_s", sa.Float(precision=53), nullable=True),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("gap_since_s", NUMBER, nullable=True),
        sa.Column("hole_before_s", NUMBER, nullable=True),
        sa.Column("hole_top_s", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("ap", name=op.f("pk_streams")),
    )
    op.create_table(
        "pilot_events",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("at_s", sa.Float(precision=53), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pilot_id"], ["pilots.pilot_id"], name=op.f("fk_pilot_events_pilot_id_pilots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pilot_events")),
    )
    op.create_index(op.f("ix_pilot_events_pilot_id"), "pilot_events", ["pilot_id"], unique=False)


def downgrade() -> None:
    """Drop every table."""
    op.drop_index(op.f("ix_pilot_events_pilot_id"), table_name="pilot_events")
    op.drop_table("pilot_events")
    op.drop_table("streams")
    op.drop_table("site_stops")
    op.drop_table("running_jobs")
    op.drop_index(op.f("ix_residuals_end_s"), table_name="residuals")
    op.drop_table("residuals")
    op.drop_table("remembered_sites")
    op.drop_table("quarantine")
    op.drop_index(op.f("ix_pilots_site_ended_s"), table_name="pilots")
    op.drop_index(op.f("ix_pilots_instance_phase"), table_name="pilots")
    op.drop_table("pilots")
    op.drop_table("leases")
    op.drop_index(op.f("ix_journal_instance_id"), table_name="journal")
    op.drop_table("journal")
    op.drop_table("final_jobs")
    op.drop_index(op.f("ix_attempts_pilot_id"), table_name="attempts")
    op.drop_index(op.f("ix_attempts_end_s"), table_name="attempts")
    op.drop_table("attempts")
