"""HTCondor's job ads and the words of a submission, read without HTCondor."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.sites import condortexts
from factory.sites.condor import bundle_dir, read_reports, read_rules, stale_bundles
from factory.sites.condortexts import BUNDLE, PILOT, POLICY, REPORT
from factory.sites.contract import NotSent, Refused, Submitted, Uncertain
from factory.sites.states import CONDOR_STATES, condor_live_state
from glidein.model import BatchState, Offer, Shape

NAME = "tow-delta-6b033b73e138-0"
OFFER = Offer(
    site="delta",
    shape=Shape(cores=2, memory_mib=2000, disk_mib=1000, walltime_s=3600),
    account="group_vo",
    partition="htc",
)


def removed(**more: object) -> dict[str, object]:
    policy = "The job attribute PeriodicRemove expression 'x' evaluated to TRUE"
    return {PILOT: NAME, "ClusterId": 7, "JobStatus": 3, "RemoveReason": policy, **more}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), NotSent),
        ((("late", ""),), NotSent),
        ((("trying", ""),), Uncertain),
        ((("trying", ""), ("queued", "7")), Uncertain),
        ((("trying", ""), ("queued", "7"), ("unspooled", "x")), Uncertain),
        ((("trying", ""), ("queued", "7"), ("spooled", "")), Uncertain),
        ((("trying", ""), ("queued", "7"), ("spooled", ""), ("stuck", "x")), Uncertain),
        ((("trying", ""), ("queued", "7"), ("spooled", ""), ("gone", "")), Submitted),
        ((("trying", ""), ("problem", "Failed to connect to schedd, errmsg=CEDAR:6001:x")), NotSent),
        ((("trying", ""), ("problem", "Unable to commit transaction, SCHEDD:2:No such queue")), Refused),
        ((("trying", ""), ("problem", "Unable to commit transaction, SOCK:1:closed")), Uncertain),
    ],
)
def test_how_far_a_submission_got_decides_its_outcome(words: tuple[tuple[str, str], ...], expected: type) -> None:
    # Mutation: "queued" alone taken for Submitted (condortexts.outcome), and a held half counts as a pilot for ever.
    assert type(condortexts.outcome(NAME, words, problem="")) is expected


def test_a_refusal_has_the_words_of_the_schedd_alone() -> None:
    told = (("trying", ""), ("problem", "Unable to commit transaction, SCHEDD:2:No such queue"))
    assert Refused(pilot_id=NAME, reason="No such queue") == condortexts.outcome(NAME, told, problem="")


@pytest.mark.parametrize("status", [*range(-1, 12), None])
def test_a_status_that_is_in_no_table_is_unknown(status: int | None) -> None:
    # Mutation: default PENDING in condor_live_state.
    assert (condor_live_state(status) is BatchState.UNKNOWN) == (status not in CONDOR_STATES)


@pytest.mark.parametrize(
    ("ad", "state", "word"),
    [
        (removed(LastJobStatus=5, LastHoldReasonCode=13, LastHoldReason="no such file"), BatchState.FAILED, "no such"),
        (removed(LastJobStatus=5, LastHoldReasonCode=34), BatchState.OUT_OF_MEMORY, "memory"),
        (removed(LastJobStatus=5, LastHoldReasonCode=16), BatchState.CANCELLED, "never arrived"),
        (removed(LastJobStatus=5, LastHoldReasonCode=999), BatchState.FAILED, "999"),
        (removed(LastJobStatus=1, NumShadowStarts=1), BatchState.PREEMPTED, "only once"),
        (removed(LastJobStatus=1), BatchState.CANCELLED, "PeriodicRemove"),
        (removed(LastJobStatus=2), BatchState.TIMEOUT, "walltime"),
        (removed(RemoveReason="by user pilot", LastJobStatus=5), BatchState.CANCELLED, "by user"),
        ({"JobStatus": 4, "ExitCode": 0, "ExitBySignal": False}, BatchState.COMPLETED, ""),
        ({"JobStatus": 4, "ExitCode": 7, "ExitBySignal": False}, BatchState.FAILED, ""),
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, BatchState.FAILED, ""),
        ({"JobStatus": 4}, BatchState.FAILED, ""),
        ({"JobStatus": 2}, BatchState.UNKNOWN, ""),
    ],
)
def test_how_a_job_ended(ad: dict[str, object], state: BatchState, word: str) -> None:
    # Mutation: a job that was held and removed itself taken for cancelled: the breaker would not count it.
    record = condortexts.final_record(ad)
    assert state is record.state
    assert word in record.reason


def test_a_held_pilot_says_why_and_is_not_running() -> None:
    ad = {PILOT: NAME, "ClusterId": 7, "JobStatus": 5, "HoldReasonCode": 13, "HoldReason": "no such file"}
    record = condortexts.live_record(ad)
    assert record.state is BatchState.PENDING
    assert "held: files could not be transferred to the node: no such file" == record.reason


def test_neither_the_description_nor_its_files_by_name_hold_a_secret() -> None:
    common = {"instance": "tow", "site": "delta", "sha256": "ab" * 32}
    description = condortexts.pilot_description(
        NAME, OFFER, directory=Path("/x"), files=("pilot.sh", "token"), deadline_s=100, common=common
    )
    # Mutation: Requirements without NumShadowStarts, and a pilot that lost its slot runs again.
    assert "NumShadowStarts" in description["requirements"]
    assert common["sha256"] in description["requirements"]
    assert "environment" not in description
    assert "JobStatus == 1 && NumShadowStarts >= 1" in description["periodic_remove"]


def test_the_admins_words_in_the_schedds_ad_are_the_lines_of_the_file() -> None:
    rules = read_rules({POLICY: "deny project dp002; cap max_pilots 3"}, schedd="ap")
    assert ("", 3) == (rules.problem, rules.max_pilots)
    assert "dp002" == rules.deny[0].name
    assert read_rules({POLICY: "allow nobody"}, schedd="ap").closed
    # Mutation: what is no string taken for no rule.
    assert read_rules({POLICY: 7}, schedd="ap").closed
    assert not read_rules({}, schedd="ap").closed


def test_the_bundle_is_one_that_has_arrived_and_old_ones_go_when_nobody_waits_for_them() -> None:
    ours = {BUNDLE: "ab", "JobStatus": 1, "Iwd": "/spool/1", "ClusterId": 1}
    arriving = {BUNDLE: "ab", "JobStatus": 5, "Iwd": "/spool/2", "ClusterId": 2}
    old = {BUNDLE: "cd", "JobStatus": 1, "Iwd": "/spool/3", "ClusterId": 3}
    waiting = {PILOT: NAME, "TransferInput": "token,/spool/3/cd.tar.gz"}
    assert "/spool/1" == bundle_dir((arriving, ours), sha256="ab")
    assert bundle_dir((arriving,), sha256="ab") is None
    assert () == stale_bundles((ours, old, waiting), sha256="ab")
    assert ("3",) == stale_bundles((ours, old), sha256="ab")


def test_reports_of_others_are_not_read() -> None:
    bad = {PILOT: NAME, REPORT: "<html>"}
    assert ((), (NAME,)) == read_reports([bad], wanted={NAME})
    assert ((), ()) == read_reports([bad], wanted=set())
