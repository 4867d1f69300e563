"""Whatever the order, repetition and splitting of readings: the same attempts, the same sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from accounting.attempts import Progress, advance, count_once, next_reading, residual
from accounting.engine import open_database, reading, writing
from accounting.ingest import Usage
from accounting.model import UsageKey
from accounting.orm import AttemptRow, Base, FinalRow, ResidualRow
from accounting.usage import usage
from overlay.model import EpochRecord, HistoryRecord, RecordsSeen

BEGIN = 1_700_000_000
SPAN = 3 * 86_400


@st.composite
def epochs(draw: st.DrawFn) -> EpochRecord:
    start_s = BEGIN + draw(st.integers(0, SPAN))
    job = draw(st.integers(1, 4))
    return EpochRecord(
        ap="ap1",
        global_job_id=f"ap1#{job}.0#{BEGIN - 60}",
        run_instance_id=draw(st.integers(0, 3)),
        cluster=job,
        proc=0,
        owner=("alice", "bob")[job % 2],
        group=("dp001", "bio01")[job % 2],
        start_s=start_s,
        end_s=start_s + draw(st.integers(0, 40_000)),
        execution_s=draw(st.none() | st.integers(0, 100)),
        cores=draw(st.integers(1, 8)),
        memory_mib=1000,
        gpus=0,
        user_cpu_s=draw(st.integers(0, 1000)),
        sys_cpu_s=0.0,
        peak_rss_kib=None,
        exit_code=draw(st.none() | st.just(0)),
        exit_signal=None,
        vacate_code=None,
        site=draw(st.sampled_from(("", "alpha", "beta"))),
        pilot_id="",
        remote_host="",
    )


@st.composite
def histories(draw: st.DrawFn) -> HistoryRecord:
    job = draw(st.integers(1, 4))
    return HistoryRecord(
        ap="ap1",
        global_job_id=f"ap1#{job}.0#{BEGIN - 60}",
        cluster=job,
        proc=0,
        owner=("alice", "bob")[job % 2],
        group=("dp001", "bio01")[job % 2],
        status=4,
        wall_s=draw(st.integers(0, 100_000)),
        shadow_starts=draw(st.integers(0, 4)),
        completed_s=draw(st.none() | st.integers(BEGIN, BEGIN + SPAN)),
        exit_code=0,
        exit_signal=None,
        cores=draw(st.integers(1, 8)),
    )


def reading_of(records: list[EpochRecord | HistoryRecord]) -> RecordsSeen:
    return RecordsSeen(
        ap="ap1",
        taken_s=BEGIN + 10 * SPAN,
        epochs=tuple(one for one in records if isinstance(one, EpochRecord)),
        history=tuple(one for one in records if isinstance(one, HistoryRecord)),
        running=(),
        unreadable=(),
        complete=True,
        gap=False,
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database for all examples; each begins by emptying it."""
    made = open_database(f"sqlite:///{tmp_path_factory.mktemp('usage') / 'aerotow.db'}")
    yield made
    made.dispose()


def empty(engine: Engine) -> None:
    """Drop every row."""
    with writing(engine) as session:
        for table in Base.metadata.sorted_tables:
            session.execute(delete(table))


def rows_of(engine: Engine) -> list[tuple[object, ...]]:
    """Every row that usage is made from."""
    with reading(engine) as session:
        return [
            tuple(row)
            for made in (AttemptRow, FinalRow, ResidualRow)
            for row in session.execute(select(made.__table__).order_by(*made.__table__.primary_key))
        ]


# Mutations that turn it red: the last record wins instead of final_say, or instead of final_say_of_history.
@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(epochs() | histories(), max_size=8),
    random=st.randoms(use_true_random=False),
    repeat=st.integers(1, 2),
    size=st.integers(1, 8),
)
def test_order_repetition_and_splitting_do_not_matter(engine: Engine, records, random, repeat, size) -> None:
    empty(engine)
    Usage(engine).ingest(reading_of(records), BEGIN)
    expected = rows_of(engine)
    empty(engine)
    again = records * repeat
    random.shuffle(again)
    for first in range(0, len(again), size):
        Usage(engine).ingest(reading_of(again[first : first + size]), BEGIN)
    assert rows_of(engine) == expected


def covered_s(intervals: list[tuple[int, int]]) -> int:
    """Length of a union of intervals, second by second of its edges: written apart from the code."""
    edges = sorted({edge for interval in intervals for edge in interval})
    return sum(
        right - left
        for left, right in pairwise(edges)
        if any(begin <= left and right <= end for begin, end in intervals)
    )


# Mutation that turns it red: reach_s = epoch.end_s instead of the max.
@given(st.lists(epochs(), max_size=6, unique_by=lambda epoch: epoch.run_instance_id))
def test_every_second_of_a_job_is_counted_once(records: list[EpochRecord]) -> None:
    counted = count_once(records)

    assert sum(one.wall_s for one in counted) == covered_s([(one.start_s, one.end_s) for one in records])
    assert len(counted) == len(records)
    assert (sum(one.attempts for one in counted) > 0) is bool(records)
    assert sum(one.cpu_s for one in counted) <= sum(one.user_cpu_s + one.sys_cpu_s for one in records)


# Mutation that turns it red: add the tolerance to the residual.
@given(histories(), st.lists(epochs(), max_size=4, unique_by=lambda epoch: epoch.run_instance_id))
def test_attempts_and_residual_make_up_the_history(history: HistoryRecord, records: list[EpochRecord]) -> None:
    told_s = sum(one.end_s - one.start_s for one in records)
    found = residual(history, tuple(records))

    missing_s = history.wall_s - told_s - (0 if found is None else found.wall_s)
    assert found is None or (missing_s == 0 and found.wall_s > 1)
    assert missing_s <= max(1, history.shadow_starts, len(records))


# Mutation that turns it red: <= instead of < at the end of the period.
@settings(max_examples=40, deadline=None)
@given(
    records=st.lists(epochs() | histories(), max_size=8),
    by=st.lists(st.sampled_from(("user", "project", "site", "day", "ap", "vo")), unique=True, max_size=4),
    cut_at=st.integers(0, 7),
)
def test_groups_and_periods_add_up_to_the_whole(engine: Engine, records, by: list[UsageKey], cut_at: int) -> None:
    empty(engine)
    Usage(engine).ingest(reading_of(records), BEGIN)
    # At an end: anywhere else the borders of a period hardly matter.
    ends = [one.end_s for one in records if isinstance(one, EpochRecord)] or [BEGIN]
    cut = ends[cut_at % len(ends)]

    def sums(*rows) -> tuple[float, ...]:
        return (
            sum(row.attempts for row in rows),
            sum(row.wall_s for row in rows),
            sum(row.core_s for row in rows),
            sum(row.cpu_s for row in rows),
            sum(row.residual_core_s for row in rows),
        )

    whole = sums(*usage(engine, by=()))
    groups = usage(engine, by=tuple(by), vo_of_project={"dp001": "astro"})
    assert sums(*groups) == whole
    assert len({row.key for row in groups}) == len(groups)
    before, after = usage(engine, by=tuple(by), until_s=cut), usage(engine, by=tuple(by), since_s=cut)
    assert sums(*before, *after) == whole


@st.composite
def histories_over_time(draw: st.DrawFn) -> list[list[int]]:
    """For each reading, the end times of records that were written since the one before; ends only grow."""
    steps = draw(st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=5))
    now_s, in_this_second, written = BEGIN, 0, []
    for step in steps:
        batch = []
        for pause in step:
            # At most 5 in one second: a second that holds more than one reading's limit cannot be passed.
            now_s, in_this_second = (now_s + pause, 0) if pause else (now_s, in_this_second + 1)
            if in_this_second < 5:
                batch.append(now_s)
        written.append(batch)
    return written


# Mutations that turn it red: advance moves the mark in a cut reading; hole_before_s without the + 1.
@settings(max_examples=200, deadline=None)
@given(histories_over_time(), st.integers(6, 12))
def test_cut_readings_lose_nothing(written: list[list[int]], limit: int) -> None:
    template = EpochRecord(
        ap="ap1", global_job_id="", run_instance_id=0, cluster=0, proc=0, owner="", group="", start_s=0, end_s=0,
        execution_s=None, cores=1, memory_mib=0, gpus=0, user_cpu_s=0, sys_cpu_s=0, peak_rss_kib=None,
        exit_code=None, exit_signal=None, vacate_code=None, site="", pilot_id="", remote_host="",
    )  # fmt: skip
    there: list[EpochRecord] = []
    got: set[str] = set()
    progress = Progress(mark_s=BEGIN - 1)

    def read() -> None:
        nonlocal progress
        asked = next_reading(progress)
        # A short overlap, or the law would hold whatever the mark is.
        since_s = max(asked.since_s, progress.mark_s)
        fitting = [
            one for one in there if one.end_s >= since_s and (asked.before_s is None or one.end_s < asked.before_s)
        ]
        newest = sorted(fitting, key=lambda one: one.end_s, reverse=True)
        part = newest[:limit]
        got.update(one.global_job_id for one in part)
        seen = replace(reading_of(list(part)), complete=len(newest) <= limit)
        progress = advance(progress, seen, before_s=asked.before_s)
        # The mark promises that all up to it are in.
        assert {one.global_job_id for one in there if one.end_s < progress.mark_s} <= got

    for batch in written:
        there += [replace(template, global_job_id=f"{len(there) + n}", end_s=end_s) for n, end_s in enumerate(batch)]
        read()
    for _ in range(len(there) + 2):
        read()
    assert got == {one.global_job_id for one in there}
