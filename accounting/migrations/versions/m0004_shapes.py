"""A site may have several shapes: a pilot remembers which one it was asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Pilots from before are of their site's only shape, which has no name."""
    op.add_column("pilots", sa.Column("shape", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget the names."""
    op.drop_column("pilots", "shape")
