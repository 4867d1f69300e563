"""Decisions in the journal share what they have in common; older ones stay readable."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables of parts, and say of every decision that is there that it is whole."""
    op.create_table(
        "journal_segments",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("size", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal_segments")),
    )
    op.create_index(op.f("ix_journal_segments_instance_id"), "journal_segments", ["instance", "id"], unique=False)
    op.create_table(
        "journal_parts",
        sa.Column("segment", NUMBER, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("children", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("segment", "name", name=op.f("pk_journal_parts")),
    )
    op.add_column("journal", sa.Column("format", NUMBER, nullable=False, server_default="1"))
    op.add_column("journal", sa.Column("segment", NUMBER, nullable=False, server_default="0"))
    op.add_column("journal", sa.Column("children", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Back to whole decisions; those in parts are dropped."""
    op.execute("DELETE FROM journal WHERE format <> 1")
    with op.batch_alter_table("journal") as journal:
        for column in ("children", "segment", "format"):
            journal.drop_column(column)
    op.drop_table("journal_parts")
    op.drop_index(op.f("ix_journal_segments_instance_id"), table_name="journal_segments")
    op.drop_table("journal_segments")
