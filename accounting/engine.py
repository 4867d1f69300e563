"""Opening the database: one transaction discipline, one schema, one clear error."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from accounting.errors import LedgerUnavailable

BUSY_TIMEOUT_MS = 15_000
"""How long a writer waits for another; our transactions take milliseconds, a backup or a person's shell longer."""
WAL_TRIES = 50
MIGRATION_LOCK = 0x6165726F
"""Key of PostgreSQL's advisory lock while the schema is migrated."""

MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = max(path.name for path in (MIGRATIONS / "versions").glob("m[0-9]*.py"))[1:5]
"""The schema of this version: migrations are called m0001_WORDS.py."""

_SQLITE_REMEDIES = (
    ("SQLITE_FULL", "the disk is full", "make room, then it goes on by itself"),
    ("SQLITE_BUSY", "another process holds its lock", "end whatever keeps a transaction open (fuser FILE)"),
    ("SQLITE_LOCKED", "another connection holds its lock", "end whatever keeps a transaction open (fuser FILE)"),
    ("SQLITE_READONLY", "it is read-only", "let the user that runs aerotow write the file and its directory"),
    (
        "SQLITE_CANTOPEN",
        "it cannot be opened",
        "make its directory, and let the user that runs aerotow write there (instance.state_dir)",
    ),
    ("SQLITE_PERM", "access is denied", "let the user that runs aerotow write the file and its directory"),
    ("SQLITE_NOTADB", "it is no SQLite database", "look at instance.database: is this the right file?"),
    ("SQLITE_CORRUPT", "it is damaged", "put back a backup; pilots that live are found again by their names"),
    ("SQLITE_IOERR", "the disk gives errors", "look at the disk, and whether it is full"),
)


def open_database(url: str) -> Engine:
    """
    Open the database, made or migrated to this version's schema when needed, under a lock.

    :raises LedgerUnavailable: it cannot be opened.
    :raises SchemaTooNew: a newer aerotow has migrated it.
    """
    engine = _make_engine(url)
    try:
        with translated(engine):
            if engine.dialect.name == "sqlite":
                _use_wal(engine)
            _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """
    One transaction that writes: all of it, or nothing.

    On SQLite it takes the write lock at its start: a lock that is asked for later, after reading, can only fail.
    """
    with translated(engine), Session(engine) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One consistent view; writes nothing and waits for no writer."""
    options = {"aerotow_reads": True}
    if engine.dialect.name == "postgresql":
        options |= {"postgresql_readonly": True}
    with translated(engine), Session(engine.execution_options(**options)) as session, session.begin():
        yield session


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn what a driver says into the one error that callers know; what is our own fault stays as it is."""
    try:
        yield
    except (IntegrityError, DataError):
        raise
    except (DBAPIError, PoolTimeout, sqlite3.Error) as error:
        raise unavailable(engine, error) from error


def unavailable(engine: Engine, error: SQLAlchemyError | sqlite3.Error) -> LedgerUnavailable:
    """The error with its meaning and remedy, without the statement and its values."""
    database = engine.url.render_as_string(hide_password=True)
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", "") if isinstance(cause, sqlite3.Error) else ""
    for prefix, problem, remedy in _SQLITE_REMEDIES:
        if name.startswith(prefix):
            return LedgerUnavailable(database=database, problem=f"{problem} ({cause})", remedy=remedy)
    first_line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    return LedgerUnavailable(
        database=database,
        problem=first_line,
        remedy="see that the database server answers, has room, and knows the user (instance.database)",
    )


def _make_engine(url: str) -> Engine:
    """An engine with our transaction discipline."""
    try:
        engine = create_engine(make_url(url), pool_pre_ping=True)
    except (SQLAlchemyError, ImportError) as error:
        # The text of a URL that cannot be read may hold a password: do not repeat it.
        raise LedgerUnavailable(
            database="(instance.database)",
            problem=f"the URL cannot be used: {type(error).__name__}"
            + (f" {error}" if isinstance(error, ImportError) else ""),
            remedy="write it like sqlite:////var/lib/aerotow/aerotow.db or postgresql+psycopg://user@host/name, "
            "and install the driver (aerotow[postgresql])",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """Settings that SQLite keeps per connection."""
    # The driver's own transactions begin at the first write and commit around DDL; ours begin where we say.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    # WAL with NORMAL may lose the last commits at a power cut; an intent that was committed must stay (law 2).
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    """Begin a transaction: a reader's takes no lock, a writer's takes the write lock at once."""
    reads = connection.get_execution_options().get("aerotow_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _use_wal(engine: Engine) -> None:
    """
    Switch the file to write-ahead logging, which it remembers: readers and the writer do not wait for each other.

    SQLite does not wait for the lock of this switch, whatever busy_timeout says, so two that start at once collide.
    """
    for attempt in range(WAL_TRIES):
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
                cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == WAL_TRIES - 1:
                raise
        finally:
            raw.close()
        time.sleep(0.1)


def _migrate(engine: Engine) -> None:
    """Bring the schema to head; whoever comes second waits and finds it done."""
    with engine.execution_options(aerotow_reads=True).begin() as connection:
        if _revision(connection) == NEWEST:
            return
    # A third of a second of imports, which every command but the first does without.
    from accounting.schema import upgrade

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        upgrade(connection, database=engine.url.render_as_string(hide_password=True))


def _revision(connection: Connection) -> str | None:
    """What the database says of its schema, in alembic's own table; None without one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return found[0] if len(found) == 1 else None
