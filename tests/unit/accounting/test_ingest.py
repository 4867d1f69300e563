"""Records of payload jobs: each once, none lost, and what is missing is said."""

from __future__ import annotations

import pytest
from record_samples import MIDNIGHT, epoch, final, running, seen
from sqlalchemy import Engine, event

from accounting.attempts import OVERLAP_S, Progress, advance, count_once, next_reading, residual
from accounting.ingest import CHUNK, Usage
from accounting.model import StreamState
from accounting.usage import compare, usage
from overlay.model import Unreadable


@pytest.fixture
def taken(engine: Engine) -> Usage:
    return Usage(engine)


def total(engine: Engine) -> tuple[int, int, int, int]:
    """Attempts, jobs, core seconds and residual core seconds of all."""
    (row,) = usage(engine, by=())
    return row.attempts, row.jobs, row.core_s, row.residual_core_s


# Mutation that turns it red: `run = 0` in _take_attempts (run_instance_id left out of the key).
def test_each_attempt_of_a_job_is_counted(engine: Engine, taken: Usage) -> None:
    done = taken.ingest(seen(epoch(), epoch(run=2, start_s=MIDNIGHT + 1200, end_s=MIDNIGHT + 1210)), MIDNIGHT)

    assert done.new_attempts == 2
    assert total(engine) == (2, 1, 220, 0)


# Mutation that turns it red: insert without looking for the row (it then fails on its key).
def test_reading_again_adds_nothing(engine: Engine, taken: Usage) -> None:
    taken.ingest(seen(epoch(), epoch(2), final()), MIDNIGHT)
    again = taken.ingest(seen(epoch(), epoch(2), final()), MIDNIGHT + 60)

    assert (again.new_attempts, again.new_finals) == (0, 0)
    assert total(engine) == (2, 2, 400, 0)


def test_same_ids_at_two_access_points_are_two_jobs(engine: Engine, taken: Usage) -> None:
    taken.ingest(seen(epoch()), MIDNIGHT)
    taken.ingest(seen(epoch(ap="ap2"), ap="ap2"), MIDNIGHT)

    assert total(engine) == (2, 2, 400, 0)


# Mutation that turns it red: count end - start for each record (count_once without begin_s).
def test_run_told_of_by_two_shadows_is_counted_once(engine: Engine, taken: Usage) -> None:
    old = epoch(run=0, start_s=MIDNIGHT + 1000, end_s=MIDNIGHT + 1090, user_cpu_s=80.0, sys_cpu_s=0.0)
    new = epoch(run=1, start_s=MIDNIGHT + 1000, end_s=MIDNIGHT + 1200, user_cpu_s=300.0, sys_cpu_s=0.0)
    taken.ingest(seen(new), MIDNIGHT)
    taken.ingest(seen(old, final(wall_s=200, shadow_starts=2)), MIDNIGHT)

    (row,) = usage(engine, by=("user",))
    assert (row.attempts, row.wall_s, row.core_s, row.cpu_s, row.residual_core_s) == (1, 200, 400, 300.0, 0)
    (compared,) = compare(engine, "ap1")
    assert (compared.epochs_core_s, compared.twice_core_s, compared.difference_core_s) == (400, 180, 0)


# Mutation that turns it red: `>=` instead of `>=... - SAME_RUN_S`, or SAME_RUN_S = 0.
def test_attempts_that_touch_within_a_second_are_two_attempts() -> None:
    first = epoch(run=0, start_s=1000, end_s=1101)
    second = epoch(run=1, start_s=1100, end_s=1200)

    counted = count_once((second, first))
    assert [(one.attempts, one.wall_s, one.cpu_s) for one in counted] == [(1, 101, 160.0), (1, 99, 160.0)]


def test_record_whose_clock_ran_backwards_counts_nothing() -> None:
    (counted,) = count_once((epoch(start_s=1000, end_s=990),))
    assert counted.wall_s == 0


# Mutation that turns it red: leave the row when nothing is lost any more in _write_residual.
def test_lost_epoch_is_a_residual_that_shrinks_to_nothing_when_it_comes(engine: Engine, taken: Usage) -> None:
    taken.ingest(seen(epoch(), final(wall_s=350, shadow_starts=2)), MIDNIGHT)
    assert total(engine) == (1, 1, 700, 500)

    taken.ingest(seen(epoch(run=1, start_s=MIDNIGHT + 1100, end_s=MIDNIGHT + 1200)), MIDNIGHT)
    assert total(engine) == (2, 1, 700, 300)

    taken.ingest(seen(epoch(run=2, start_s=MIDNIGHT + 1200, end_s=MIDNIGHT + 1350)), MIDNIGHT)
    assert total(engine) == (3, 1, 700, 0)


# Mutation that turns it red: compare with 0 instead of 1 s for each start.
@pytest.mark.parametrize(("wall_s", "starts", "missing"), [(101, 1, False), (102, 1, True), (102, 2, False)])
def test_residual_begins_above_one_second_for_each_start(wall_s: int, starts: int, missing: bool) -> None:
    found = residual(final(wall_s=wall_s, shadow_starts=starts), (epoch(),))
    assert (found is not None) is missing


def test_residual_of_a_removed_job_has_a_day() -> None:
    lost = residual(final(wall_s=50, completed_s=None), ())
    assert lost is not None
    assert lost.end_s == MIDNIGHT - 500

    lost = residual(final(wall_s=500, completed_s=None), (epoch(),))
    assert lost is not None
    assert lost.end_s == MIDNIGHT + 1100


# Mutation that turns it red: drop the condition on hole_top_s in _ended_table.
def test_nothing_is_missing_where_the_history_was_not_read_yet(engine: Engine, taken: Usage) -> None:
    cut = seen(epoch(start_s=MIDNIGHT + 1500, end_s=MIDNIGHT + 1600), final(2, wall_s=80), complete=False)
    taken.ingest(cut, MIDNIGHT)
    assert total(engine) == (1, 1, 200, 0)

    rest = epoch(2, start_s=MIDNIGHT + 1000, end_s=MIDNIGHT + 1080)
    taken.ingest(seen(rest), MIDNIGHT, before_s=taken.next_reading("ap1").before_s)
    assert total(engine) == (2, 2, 360, 0)


def test_what_cannot_be_read_is_kept_once_and_shown(taken: Usage) -> None:
    bad = Unreadable(ap="ap1", stream="epochs", text="OwneR = \x00\udcff", problem="no GlobalJobId")
    for now_s in (MIDNIGHT, MIDNIGHT + 60):
        taken.ingest(seen(unreadable=(bad, bad)), now_s)

    (kept,) = taken.quarantine("ap1")
    assert kept.problem == "no GlobalJobId"
    assert [state.quarantined for state in taken.stream_states()] == [1]


# Mutation that turns it red: keep the rows of the last reading in _replace_running.
def test_running_jobs_are_those_of_the_last_reading(engine: Engine, taken: Usage) -> None:
    taken.ingest(seen(running(8), running(9), taken_s=MIDNIGHT + 2000), MIDNIGHT + 2000)
    taken.ingest(seen(running(9), epoch(), taken_s=MIDNIGHT + 3000), MIDNIGHT + 3000)
    taken.ingest(seen(running(8), taken_s=MIDNIGHT + 2500), MIDNIGHT + 3100)

    (row,) = usage(engine, by=("user",))
    assert (row.attempts, row.core_s, row.running, row.running_core_s) == (1, 200, 1, 2000 * 4)


def test_state_of_a_stream_says_since_when_and_why(taken: Usage) -> None:
    assert taken.mark("ap1") == 0
    taken.note_unseen("ap2", "connection refused", MIDNIGHT)
    taken.ingest(seen(epoch()), MIDNIGHT)
    taken.note_unseen("ap1", "no answer in 25 s", MIDNIGHT + 60)

    ap1, ap2 = taken.stream_states()
    assert ap1 == StreamState(
        ap="ap1",
        mark_s=MIDNIGHT + 1100,
        read_s=MIDNIGHT + 5000,
        problem="no answer in 25 s",
        gap_since_s=None,
        quarantined=0,
    )
    assert (ap2.read_s, ap2.problem) == (None, "connection refused")
    assert taken.mark("ap1") == MIDNIGHT + 1100 - OVERLAP_S

    taken.ingest(seen(), MIDNIGHT)
    assert taken.stream_states()[0].problem == ""


# Mutation that turns it red: take records.gap as it is.
def test_gap_is_flagged_only_when_unread_records_are_gone(taken: Usage) -> None:
    taken.ingest(seen(epoch(), gap=True), MIDNIGHT)
    assert taken.stream_states()[0].gap_since_s is None  # Never read before: nothing of ours was lost.
    taken.ingest(seen(epoch(), gap=True), MIDNIGHT)
    assert taken.stream_states()[0].gap_since_s is None  # Rotated, and the oldest left was read before.
    taken.ingest(seen(epoch(2, start_s=MIDNIGHT + 1900, end_s=MIDNIGHT + 2000), gap=True), MIDNIGHT)
    assert taken.stream_states()[0].gap_since_s == MIDNIGHT + 1100
    taken.ingest(seen(), MIDNIGHT)
    assert taken.stream_states()[0].gap_since_s == MIDNIGHT + 1100
    taken.acknowledge_gap("ap1")
    assert taken.stream_states()[0].gap_since_s is None


# Mutation that turns it red: let completions of history move the mark too.
def test_jobs_that_never_ran_say_nothing_of_the_epoch_history(taken: Usage) -> None:
    taken.ingest(seen(final(wall_s=0, shadow_starts=0)), MIDNIGHT)
    assert taken.mark("ap1") == 0
    taken.ingest(seen(epoch(2), gap=True), MIDNIGHT)
    assert taken.stream_states()[0].gap_since_s is None


class Stop(Exception):
    """A crash between two transactions."""


# Mutation that turns it red: move the mark in the first transaction.
def test_long_reading_that_is_cut_off_between_its_transactions_is_read_again(engine: Engine, taken: Usage) -> None:
    many = seen(*(epoch(n) for n in range(CHUNK + 10)))
    parts = 0

    def stop_at_the_second(*_: object) -> None:
        nonlocal parts
        parts += 1
        if parts == 2:
            raise Stop

    event.listen(engine, "commit", stop_at_the_second)
    with pytest.raises(Stop):
        taken.ingest(many, MIDNIGHT)
    event.remove(engine, "commit", stop_at_the_second)
    assert taken.mark("ap1") == 0
    assert taken.stream_states() == ()

    assert taken.ingest(many, MIDNIGHT).new_attempts == 10
    assert total(engine) == (CHUNK + 10, CHUNK + 10, 200 * (CHUNK + 10), 0)
    assert taken.mark("ap1") == MIDNIGHT + 1100 - OVERLAP_S


# Mutation that turns it red: drop the min with taken_s in advance.
def test_record_from_the_future_does_not_hide_those_after_it() -> None:
    wrong = epoch(end_s=MIDNIGHT + 10**8)
    assert advance(Progress(), seen(wrong)).mark_s == MIDNIGHT + 5000


# Mutation that turns it red: move the mark in a cut reading.
def test_cut_reading_leaves_a_hole_that_is_filled_before_the_mark_moves() -> None:
    progress = Progress(mark_s=1000)
    ends = {n: epoch(n, end_s=1000 + n) for n in range(1, 10)}
    progress = advance(progress, seen(ends[9], ends[8], ends[7], complete=False))
    assert (progress.mark_s, next_reading(progress).before_s) == (1000, 1008)

    progress = advance(progress, seen(ends[7], ends[6], ends[5], complete=False), before_s=1008)
    assert (progress.mark_s, next_reading(progress).before_s) == (1000, 1006)

    progress = advance(progress, seen(ends[5], ends[4]), before_s=1006)
    assert (progress.mark_s, next_reading(progress).before_s) == (1009, None)


def test_cut_readings_go_on_also_when_only_one_of_the_streams_is_cut() -> None:
    done = final(completed_s=1008)
    progress = advance(Progress(), seen(epoch(end_s=1009), epoch(2, end_s=1005), done, complete=False))
    assert progress.hole_before_s == 1009
    progress = advance(progress, seen(epoch(2, end_s=1005), epoch(3, end_s=1003), done, complete=False), before_s=1009)
    assert progress.hole_before_s == 1004
