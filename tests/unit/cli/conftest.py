"""A desk for each test, and no log on the test's output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.cli.desk import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A ledger in which no cycle has run yet."""
    before = structlog.get_config()
    made = make_desk(tmp_path)
    yield made
    made.world.looker.close()
    structlog.configure(**before)
