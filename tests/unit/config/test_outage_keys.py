"""Outages in a site's table."""

from __future__ import annotations

import tomllib
from datetime import timedelta

import pytest
from pydantic import ValidationError

from config.model import Site
from factory.model import Outage
from factory.policy import site_policy

SITE = """
account = "grid"
partition = "main"
cores = 4
memory = "8 GiB"
walltime = "1:00:00"
login = "pilot@login"
outages = [{ start = %s, end = %s, why = "cooling" }]
"""


def site(start: str, end: str) -> Site:
    return Site.model_validate(tomllib.loads(SITE % (start, end)))


def test_a_window_is_read_in_its_own_zone_and_again_from_json() -> None:
    made = site("2026-12-01T08:00:00+01:00", "2026-12-01T18:00:00Z")
    wanted = (Outage(start_s=1796108400, end_s=1796148000, why="cooling"),)
    assert wanted == site_policy("alpha", made).outages
    # Removed sites are watched from what the ledger remembers of them. Mutation: Span without its serializer.
    made = made.model_copy(update={"walltime": timedelta(days=30)})
    assert made == Site.model_validate_json(made.model_dump_json())


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2026-12-01T08:00:00", "2026-12-01T18:00:00Z", "start has no zone; write for example"),
        ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z", "is not after start"),
    ],
)
def test_a_bad_window_is_refused_with_a_remedy(start: str, end: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        site(start, end)
