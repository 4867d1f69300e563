"""A fresh database for each test: SQLite always, PostgreSQL too when AEROTOW_TEST_DATABASE_URL names a server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from accounting.engine import open_database
from accounting.ledger import Ledger

SERVER = os.environ.get("AEROTOW_TEST_DATABASE_URL")


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.skipif(SERVER is None, reason="no server"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'aerotow.db'}"
        return
    assert SERVER is not None
    schema = f"t{uuid.uuid4().hex}"
    server = create_engine(SERVER)
    with server.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield (
        make_url(SERVER).update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
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
