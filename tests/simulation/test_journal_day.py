"""A day of the real loop: what its journal takes, and that every decision in it is the one that the planner makes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from accounting.model import JournalBounds
from factory.journal import read_record
from factory.plan import plan
from tests.simulation.world import INSTANCE, SimWorld

DAY = 1440
"""Cycles of a day at a minute each."""
KIB = 1024


def live(world: SimWorld, cycles: int) -> None:
    """Half the day with jobs coming and going, half of it quiet."""
    random = Random(world.seed)
    for number in range(cycles):
        if number < cycles // 2 and number % 5 == 0:
            world.submit_jobs(random.randint(0, 6), runtime_s=random.randint(60, 900))
        world.jobs = [job for job in world.jobs if not job.done]
        world.pass_time(30)
        world.cycle()


@pytest.mark.parametrize(
    ("cycles", "size_kib"), [(DAY // 10, 128), pytest.param(DAY, 1024, marks=pytest.mark.long)], ids=["tenth", "day"]
)
def test_a_day_of_cycles_stays_far_under_the_bound_and_replays(tmp_path: Path, cycles: int, size_kib: int) -> None:
    # Mutation: write the records uncompressed.
    # Mutation: decide gives a pilot less than it asks for: the records no longer replay.
    world = SimWorld(directory=tmp_path, journal=JournalBounds(entries=10_000, size_bytes=64 * 1024 * KIB))
    live(world, cycles)
    spans = world.ledger.journal_list(INSTANCE, 10_000)
    assert cycles == sum(span.count for span in spans)
    assert world.ledger.journal_bytes(INSTANCE) < size_kib * KIB
    for span in spans[::20]:
        record = world.ledger.journal_at(INSTANCE, span.first_s)
        assert record is not None
        told = read_record(record)
        assert told.policy == world.policy()
        assert told.plan == plan(told.observation, world.match(told.observation, world.policy()), told.policy)


def test_a_quiet_day_is_one_record(tmp_path: Path) -> None:
    # Mutation: leave the digests apart; every cycle is a record then.
    world = SimWorld(directory=tmp_path, journal=JournalBounds(entries=10_000, size_bytes=64 * 1024 * KIB))
    for _ in range(200):
        world.cycle()
    assert [200] == [span.count for span in world.ledger.journal_list(INSTANCE, 10_000)]
    assert world.ledger.journal_bytes(INSTANCE) < 4 * KIB
