"""Sums of usage: every key, every period, and payload beside pilots."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ledger_samples import NOW, OFFER, batch, commit, ended, intent
from record_samples import DAY, MIDNIGHT, epoch, final, running, seen
from sqlalchemy import Engine

from accounting.ingest import Usage
from accounting.ledger import Ledger
from accounting.model import PilotUsageRow, UsageKey
from accounting.usage import compare, pilot_usage, usage
from glidein.model import EndReason, PilotPhase

RECORDS = (
    epoch(1),
    epoch(2, end_s=MIDNIGHT + DAY, start_s=MIDNIGHT + DAY - 10, site="beta"),
    epoch(3, owner="bob", group="bio01", end_s=MIDNIGHT - 1, start_s=MIDNIGHT - 11, cores=8),
)


@pytest.fixture
def filled(engine: Engine) -> Engine:
    Usage(engine).ingest(seen(*RECORDS, running(9), taken_s=MIDNIGHT + 2 * DAY), MIDNIGHT)
    return engine


# Mutation that turns it red for "day": round end_s / 86400, or use local time.
@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (("user",), {("alice",): 220, ("bob",): 80}),
        (("project",), {("dp001",): 220, ("bio01",): 80}),
        (("vo",), {("astro",): 220, ("",): 80}),
        (("site",), {("alpha",): 280, ("beta",): 20}),
        (("ap",), {("ap1",): 300}),
        (("day",), {("2024-10-03",): 80, ("2024-10-04",): 200, ("2024-10-05",): 20, ("running",): 0}),
        (("site", "user"), {("alpha", "alice"): 200, ("alpha", "bob"): 80, ("beta", "alice"): 20}),
        ((), {(): 300}),
    ],
)
def test_usage_by_each_key(filled: Engine, by: tuple[UsageKey, ...], expected: dict[tuple[str, ...], int]) -> None:
    rows = usage(filled, by=by, vo_of_project={"dp001": "astro"})

    assert {row.key: row.core_s for row in rows} == expected
    assert [row.key for row in rows] == sorted(expected)
    assert sum(row.running for row in rows) == 1
    assert sum(row.running_core_s for row in rows) == (2 * DAY - 1000) * 4


# Mutation that turns it red: <= instead of < at the end of the period.
def test_period_holds_its_first_second_and_not_its_last(filled: Engine) -> None:
    def core_s(since_s: float | None, until_s: float | None) -> int:
        return sum(row.core_s for row in usage(filled, since_s=since_s, until_s=until_s))

    assert core_s(MIDNIGHT - 1, MIDNIGHT) == 80
    assert core_s(MIDNIGHT, MIDNIGHT + DAY) == 200
    assert core_s(MIDNIGHT + DAY, None) == 20
    assert core_s(None, MIDNIGHT - 1) == 0


# Mutation that turns it red: count attempts, or jobs of each AP together, as jobs.
def test_jobs_are_counted_once_however_often_they_ran(engine: Engine) -> None:
    Usage(engine).ingest(
        seen(epoch(1), epoch(1, run=1, start_s=MIDNIGHT + 1200, end_s=MIDNIGHT + 1300, site="beta")), MIDNIGHT
    )

    (row,) = usage(engine)
    assert (row.attempts, row.jobs) == (2, 1)
    assert [row.jobs for row in usage(engine, by=("site",))] == [1, 1]


def test_empty_database_has_no_usage(engine: Engine) -> None:
    assert usage(engine) == ()
    assert usage(engine, by=()) == ()
    assert pilot_usage(engine, now_s=NOW) == ()
    assert compare(engine, "ap1") == ()


def pilot_payload(engine: Engine, pilot_id: str, wall_s: int) -> None:
    record = epoch(hash(pilot_id) % 1000, pilot_id=pilot_id, start_s=NOW + 20, end_s=NOW + 20 + wall_s)
    Usage(engine).ingest(seen(record, taken_s=NOW + 5000), NOW)


# Mutation that turns it red: sum the payload of pilots whose cost is unknown too.
def test_efficiency_is_over_pilots_whose_cost_is_known(engine: Engine, ledger: Ledger) -> None:
    done, silent, live = intent(1), intent(2), intent(3)
    refused, dropped = intent(4), intent(5)
    commit(ledger, done, silent, live, refused, dropped)
    ledger.settle_submits(((refused.pilot_id, "refused", "no"),), NOW + 5)
    ledger.record_observed(
        (
            ended(done),
            ended(silent, batch=None),
            replace(live, sent="submitted", phase=PilotPhase.BUSY, started_s=NOW + 10),
            ended(dropped, batch=None, report=None, started_s=None, end_reason=EndReason.CANCELLED_PENDING),
        ),
        NOW + 120,
    )
    for pilot, wall_s in ((done, 90), (silent, 90), (live, 70)):
        pilot_payload(engine, pilot.pilot_id, wall_s)

    (row,) = pilot_usage(engine, now_s=NOW + 500)
    assert row == PilotUsageRow(site="alpha", pilots=4, running=1, pilot_core_s=400, payload_core_s=180, unaccounted=1)
    assert row.efficiency == 0.45

    ledger.record_observed((ended(silent, batch=batch(silent)),), NOW + 600)
    (row,) = pilot_usage(engine, now_s=NOW + 700)
    assert (row.pilot_core_s, row.payload_core_s, row.unaccounted) == (800, 360, 0)


def test_pilots_are_in_the_period_that_they_ended_in(engine: Engine, ledger: Ledger) -> None:
    commit(ledger, intent(1), intent(2, site="beta"))
    ledger.record_observed((ended(intent(1)), ended(intent(2, site="beta"), ended_s=NOW + 500)), NOW + 501)

    assert [row.site for row in pilot_usage(engine, until_s=NOW + 500, now_s=NOW + 999)] == ["alpha"]
    assert [row.site for row in pilot_usage(engine, since_s=NOW + 500, now_s=NOW + 500)] == ["beta"]
    assert OFFER.site == "alpha"


def test_comparison_tells_finished_from_unfinished_jobs(engine: Engine) -> None:
    Usage(engine).ingest(
        seen(
            epoch(1),
            final(1, wall_s=100.4),
            epoch(2),  # Was evicted, and waits again.
            epoch(3, owner="bob"),
            final(3, wall_s=400, owner="bob", shadow_starts=2),
            final(4, wall_s=0, owner="carol", shadow_starts=0),
        ),
        MIDNIGHT,
    )
    alice, bob, carol = compare(engine, "ap1")

    assert (alice.user, alice.jobs, alice.attempts) == ("alice", 1, 1)
    assert (alice.epochs_core_s, alice.residual_core_s, alice.history_core_s) == (200, 0, 201)
    assert alice.unfinished_core_s == 200
    assert (bob.epochs_core_s, bob.residual_core_s, bob.history_core_s, bob.difference_core_s) == (200, 600, 800, 0)
    assert (carol.jobs, carol.attempts, carol.history_core_s) == (1, 0, 0)
    assert compare(engine, "ap2") == ()
