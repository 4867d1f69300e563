"""The history of the schema, for alembic; :func:`accounting.engine.open_database` runs it."""
