"""
A fresh database for each test, on SQLite and on a real PostgreSQL.

The server is the one that AEROTOW_TEST_DATABASE_URL names, else one of our own, started for this session on a socket.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from accounting.engine import open_database
from accounting.ledger import Ledger


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """URL of a PostgreSQL server; a machine without its programs fails in CI and skips elsewhere."""
    given = os.environ.get("AEROTOW_TEST_DATABASE_URL")
    if given:
        yield given
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        why = "PostgreSQL is not installed: run scripts/setup, or set AEROTOW_TEST_DATABASE_URL"
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    directory = Path(tempfile.mkdtemp(prefix="aerotow-pg-"))
    try:
        yield _start(programs[-1], directory)
    finally:
        _as_postgres([str(programs[-1]), "-D", f"{directory}/data", "-m", "immediate", "stop"])
        shutil.rmtree(directory, ignore_errors=True)


def _start(pg_ctl: Path, directory: Path) -> str:
    """A server that listens on a socket only, with its data in a directory of its own."""
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    _as_postgres([str(pg_ctl), "-D", f"{directory}/data", "-o", "--auth=trust -U postgres", "initdb"])
    options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
    _as_postgres([str(pg_ctl), "-D", f"{directory}/data", "-l", f"{directory}/log", "-w", "-o", options, "start"])
    return f"postgresql+psycopg://postgres@/postgres?host={directory}"


def _as_postgres(argv: list[str]) -> None:
    """Run one of its programs, which refuse to run as root."""
    who = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*who, *argv], capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"


@pytest.fixture(params=["sqlite", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'aerotow.db'}"
        return
    base = request.getfixturevalue("server_url")
    schema = f"t{uuid.uuid4().hex}"
    server = create_engine(base)
    with server.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield (
        make_url(base).update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    )
    with server.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    server.dispose()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The empty database, migrated."""
    made = open_database(url)
    yield made
    made.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    """A ledger in it."""
    return Ledger(engine)
