"""What alembic runs: our connection and transaction, never one of its own."""

from __future__ import annotations

from alembic import context

from accounting.orm import Base

connection = context.config.attributes["connection"]
# The whole migration is the caller's one transaction; SQLite's DDL takes part in it since the driver's own
# transactions are off.
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True, render_as_batch=True)
context.run_migrations()
