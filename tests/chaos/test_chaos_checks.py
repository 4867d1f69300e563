"""Every check complains of what it is for: each forgery below is one that a broken factory would leave behind."""

from __future__ import annotations

from dataclasses import replace

from tests.chaos.checks import (
    BatchRow,
    BookedPilot,
    Caps,
    EpochRow,
    FinishedJob,
    Recovery,
    Sample,
    WantedJob,
    caps_broken,
    doubled_pilots,
    highest,
    jobs_not_done_once,
    lost_pilots,
    slow_recoveries,
    usage_differences,
    used_core_s,
)

ROW = BatchRow(site="alpha", job_id="7", name="x-alpha-1-1", state="COMPLETED", submit_s=100, start_s=105, end_s=160)
PILOT = BookedPilot(pilot_id="x-alpha-1-1", site="alpha", batch_id="7", phase="ended")
WANTED = WantedJob(ap="ap1", job="5.0", output="abc")
FINISHED = FinishedJob(ap="ap1", job="5.0", status=4, exit_code=0, completed_s=50)
PRINTED = {("ap1", "5.0"): "abc"}
CAPS = {"alpha": Caps(max_pilots=2, max_pending=1)}
EPOCH = EpochRow(ap="ap1", job="ap1#5.0#9", user="alice", start_s=10, end_s=20, cores=2)
RECOVERY = Recovery(fault="f", injected_s=0, healed_s=10, counted_from_s=10, seen_s=15, works_s=30)


def test_a_clean_record_has_no_problem() -> None:
    assert () == doubled_pilots([ROW])
    assert () == lost_pilots([ROW], [PILOT])
    assert () == jobs_not_done_once([WANTED], [FINISHED], PRINTED)
    assert () == caps_broken([ROW], [Sample(site="alpha", at_s=1, pending=1, running=1)], CAPS)
    assert () == usage_differences([EPOCH], {"alice": 20})
    assert () == slow_recoveries([RECOVERY], seen_bound_s=10, works_bound_s=30)


def test_a_name_that_stands_twice_is_a_doubled_pilot() -> None:
    assert doubled_pilots([ROW, replace(ROW, job_id="8")])
    assert doubled_pilots([ROW, replace(ROW, site="beta")])


def test_a_batch_job_that_the_ledger_does_not_know_is_lost() -> None:
    assert lost_pilots([ROW, replace(ROW, name="x-alpha-1-2", job_id="8")], [PILOT])


def test_a_submitted_pilot_that_slurm_does_not_know_is_lost() -> None:
    assert lost_pilots([ROW], [PILOT, replace(PILOT, pilot_id="x-alpha-1-2", batch_id="8")])


def test_a_pilot_that_was_never_taken_needs_no_row() -> None:
    assert () == lost_pilots([ROW], [PILOT, replace(PILOT, pilot_id="x-alpha-1-2", batch_id=None)])


def test_a_pilot_that_is_open_in_either_book_after_the_end_is_a_problem() -> None:
    assert lost_pilots([ROW], [replace(PILOT, phase="running")])
    assert lost_pilots([replace(ROW, state="RUNNING", end_s=None)], [PILOT])


def test_a_job_in_neither_queue_nor_history_is_lost() -> None:
    assert jobs_not_done_once([WANTED], [], PRINTED)


def test_a_job_twice_in_the_history_is_done_twice() -> None:
    assert jobs_not_done_once([WANTED], [FINISHED, FINISHED], PRINTED)


def test_a_second_end_is_excused_only_by_a_crash_of_that_access_point_between_the_two() -> None:
    twice = [FINISHED, replace(FINISHED, completed_s=90)]
    assert () == jobs_not_done_once([WANTED], twice, PRINTED, crashes=[("ap1", 60.0)])
    assert jobs_not_done_once([WANTED], twice, PRINTED, crashes=[("ap2", 60.0)])
    assert jobs_not_done_once([WANTED], twice, PRINTED, crashes=[("ap1", 100.0)])
    thrice = [*twice, replace(FINISHED, completed_s=99)]
    assert jobs_not_done_once([WANTED], thrice, PRINTED, crashes=[("ap1", 60.0)])


def test_a_job_with_a_wrong_output_status_or_exit_code_is_not_done() -> None:
    assert jobs_not_done_once([WANTED], [FINISHED], {("ap1", "5.0"): "abd"})
    assert jobs_not_done_once([WANTED], [FINISHED], {})
    assert jobs_not_done_once([WANTED], [replace(FINISHED, status=3)], PRINTED)
    assert jobs_not_done_once([WANTED], [replace(FINISHED, exit_code=1)], PRINTED)


def test_a_job_that_is_left_in_the_queue_is_told() -> None:
    assert jobs_not_done_once([WANTED], [], PRINTED, [("ap1", "5.0")])


def test_more_pilots_at_one_instant_than_the_cap_are_found_in_intervals() -> None:
    rows = [replace(ROW, job_id=str(n), name=f"x-alpha-1-{n}") for n in range(3)]
    (problem,) = caps_broken([replace(row, start_s=row.submit_s) for row in rows], [], CAPS)
    assert "3 pilots" in problem
    assert any("waiting" in problem for problem in caps_broken(rows[:2], [], CAPS))


def test_more_pilots_than_the_cap_are_found_in_a_look_at_squeue() -> None:
    assert caps_broken([], [Sample(site="alpha", at_s=1, pending=0, running=3)], CAPS)
    assert caps_broken([], [Sample(site="alpha", at_s=1, pending=2, running=0)], CAPS)


def test_what_ends_in_a_second_is_not_beside_what_begins_in_it() -> None:
    assert (1, 0) == highest([(0, 5), (5, 9)])
    assert (2, 4) == highest([(0, 5), (4, None)])


def test_a_pilot_without_an_end_goes_on_counting() -> None:
    rows = [replace(ROW, job_id=str(n), name=f"x-{n}", submit_s=100 * n, start_s=100 * n, end_s=None) for n in range(3)]
    assert caps_broken(rows, [], CAPS)


def test_usage_that_is_one_core_second_off_is_a_difference() -> None:
    assert usage_differences([EPOCH], {"alice": 19})
    assert usage_differences([EPOCH], {})
    assert usage_differences([], {"alice": 20})


def test_a_second_that_two_records_tell_of_counts_once() -> None:
    again = replace(EPOCH, start_s=15, end_s=25)
    assert {"alice": 30} == used_core_s([EPOCH, again])
    assert {"alice": 40} == used_core_s([EPOCH, replace(again, job="ap1#6.0#9")])


def test_a_late_recovery_and_one_that_never_came_are_told() -> None:
    assert slow_recoveries([replace(RECOVERY, seen_s=21)], seen_bound_s=10, works_bound_s=30)
    assert slow_recoveries([replace(RECOVERY, works_s=41)], seen_bound_s=10, works_bound_s=30)
    assert slow_recoveries([replace(RECOVERY, works_s=None)], seen_bound_s=10, works_bound_s=30)
    # Another fault was not over before: from its end counts.
    assert () == slow_recoveries([replace(RECOVERY, works_s=41, counted_from_s=12)], seen_bound_s=10, works_bound_s=30)
