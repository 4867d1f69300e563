"""Bringing a database to this version's schema; apart from the engine because alembic takes long to import."""

from __future__ import annotations

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from accounting.engine import MIGRATIONS
from accounting.errors import SchemaTooNew


def upgrade(connection: Connection, *, database: str) -> None:
    """
    Run the migrations that are missing.

    :raises SchemaTooNew: the database's revision is none of ours.
    """
    script = ScriptDirectory.from_config(alembic_config())
    head = script.get_current_head()
    assert head is not None, "the package has no migrations"
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {revision.revision for revision in script.walk_revisions()}:
        raise SchemaTooNew(database=database, found=found, known=head)
    if found != head:
        command.upgrade(alembic_config(connection), "head")


def alembic_config(connection: Connection | None = None) -> AlembicConfig:
    """Where the migrations are, and the connection that they work on."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
