"""How long jobs usually run, from what was recorded of them."""

from __future__ import annotations

import pytest
from record_samples import MIDNIGHT, epoch, seen
from sqlalchemy import Engine

from accounting import runtimes
from accounting.ingest import Usage
from accounting.ledger import Ledger
from overlay.model import EpochRecord


def attempts(count: int, took_s: int, *, first: int = 1, **changes: object) -> list[EpochRecord]:
    return [
        epoch(first + n, start_s=MIDNIGHT + n, end_s=MIDNIGHT + n + took_s, cores=1, **changes) for n in range(count)
    ]


def usual(engine: Engine, *records: EpochRecord, since_s: float = MIDNIGHT) -> dict[runtimes.Sort, int]:
    Usage(engine).ingest(seen(*records), MIDNIGHT)
    return Ledger(engine).usual_run_times(since_s)


def test_nine_of_ten_jobs_were_quicker(engine: Engine) -> None:
    # Mutation: the median.
    records = attempts(18, 60) + attempts(2, 4000, first=100)
    assert usual(engine, *records) == {("ap1", "alice", "dp001", 1): 60}
    assert usual(engine, *attempts(1, 5000, first=200)) == {("ap1", "alice", "dp001", 1): 4000}


def test_few_attempts_say_nothing(engine: Engine) -> None:
    # Mutation: leave SAMPLE_MIN out.
    assert usual(engine, *attempts(runtimes.SAMPLE_MIN - 1, 60)) == {}


def test_an_attempt_that_was_cut_off_does_not_count(engine: Engine) -> None:
    # Mutation: without the condition on exit_code.
    cut_off = attempts(30, 3000, first=100, exit_code=None, exit_signal=None, vacate_code=1004)
    assert usual(engine, *attempts(20, 60), *cut_off) == {("ap1", "alice", "dp001", 1): 60}


def test_old_attempts_do_not_count_and_sorts_are_apart(engine: Engine) -> None:
    # Mutations: without end_s >= since; without the owner, project or cores in the sort.
    bob = attempts(20, 300, first=300, owner="bob", group="bio01")
    assert usual(engine, *attempts(20, 60), *bob, since_s=MIDNIGHT + 300) == {("ap1", "bob", "bio01", 1): 300}
    assert set(Ledger(engine).usual_run_times(MIDNIGHT)) == {("ap1", "alice", "dp001", 1), ("ap1", "bob", "bio01", 1)}


def test_only_so_many_rows_are_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    # Mutation: oldest first.
    monkeypatch.setattr(runtimes, "ROWS_MAX", 20)
    later = [epoch(n, start_s=MIDNIGHT + 9000, end_s=MIDNIGHT + 9030, cores=1) for n in range(500, 520)]
    assert usual(engine, *attempts(20, 60), *later) == {("ap1", "alice", "dp001", 1): 30}
