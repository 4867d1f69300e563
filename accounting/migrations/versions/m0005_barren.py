"""Pilots that join and run nothing: for which jobs each was asked for, and since when it stands empty beside them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Of pilots from before it is not known, so none of them counts."""
    op.add_column("pilots", sa.Column("asked_for", sa.Text(), nullable=False, server_default=""))
    op.add_column("pilots", sa.Column("barren_since_s", NUMBER, nullable=True))


def downgrade() -> None:
    """Forget both."""
    op.drop_column("pilots", "barren_since_s")
    op.drop_column("pilots", "asked_for")
