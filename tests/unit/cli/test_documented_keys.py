"""docs/commands.md names every JSON key that the reading commands print, and no table of it is out of date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accounting.books import Books
from tests.unit.accounting.record_samples import MIDNIGHT, epoch, running, seen
from tests.unit.cli.desk import Desk, bucket, found

DOCS = Path(__file__).parents[3] / "docs" / "commands.md"

FREE = frozenset({"batch", "report", "attempts", "job", "ends", "cancels"})
"""Objects that are only named: records of other rooms, told in full by their own models."""


def keys(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield key
                if key not in FREE:
                    yield from keys(inner)
        case list():
            for inner in value:
                yield from keys(inner)


def test_every_key_is_documented(desk: Desk) -> None:
    # Mutation: rename any key in aerotow/cli.
    desk.world.submit_jobs(100)
    desk.world.cycle()
    desk.run("stop", "alpha", "--reason", "test")
    desk.jobs["ap1", 12, 0] = found(bucket())
    Books(f"sqlite:///{desk.world.directory}/ledger.db").payload.ingest(seen(epoch(1), running(9)), MIDNIGHT + 5000)
    pilot_id = desk.json("pilots")[0]["pilot_id"]
    answers = [
        desk.json("status"),
        desk.json("sites"),
        desk.json("pilots"),
        desk.json("pilot", pilot_id),
        desk.json("why", "ap1#12.0"),
        desk.json("explain", "beta"),
        desk.json("replay"),
        desk.json("what-if", "--set", "sites.beta.max_pending=1"),
        desk.json("usage", "--by", "user,day"),
    ]
    documented = set(re.findall(r"`([a-z_][a-z_0-9]*)`", DOCS.read_text())) | {"user", "day"}
    assert set() == {key for answer in answers for key in keys(answer)} - documented
