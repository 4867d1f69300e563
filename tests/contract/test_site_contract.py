"""What every site must do: tried in memory, on three real Slurms through ssh and slurmrestd, and on an HTCondor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benches import (
    PYSLURM,
    Bench,
    FakeBench,
    condor_bench,
    eventually,
    local_bench,
    pyslurm_bench,
    request,
    rest_bench,
    slurm_bench,
)

from factory.sites.contract import (
    FinalSeen,
    KnownPilot,
    NotSent,
    Refused,
    SiteSeen,
    SubmitOutcome,
    SubmitRequest,
    Submitted,
)
from factory.sites.fake import FakeSite
from glidein.model import BatchRecord, BatchState, EndReason

SITES = ("alpha", "beta", "gamma")
SLURM_BENCHES = {"local": local_bench, "ssh": slurm_bench, "rest": rest_bench}
"""Ways to a real Slurm of the test-bed: its commands on the spot, its commands through ssh, and its slurmrestd."""
BENCHES = {**SLURM_BENCHES, "condor": condor_bench, "pyslurm": pyslurm_bench}
"""And the one to a real HTCondor, its schedd; and libslurm, where somebody has it."""


def adapters() -> list[object]:
    """Every way to every site; on the spot is one place more for the same commands, so one site of it is enough."""
    marks = {("local", "alpha"): [pytest.mark.long], ("local", "gamma"): [pytest.mark.long]}
    return [
        "fake",
        *(
            pytest.param(f"{way}-{site}", marks=[pytest.mark.system, *marks.get((way, site), [])])
            for way in SLURM_BENCHES
            for site in SITES
        ),
        pytest.param("condor-delta", marks=pytest.mark.system),
        *([f"pyslurm-{'here' if ':' in PYSLURM else PYSLURM}"] if PYSLURM else []),
    ]


@pytest.fixture(scope="module", params=adapters())
def kind(request: pytest.FixtureRequest) -> Iterator[Bench | None]:
    """One connection for all tests of a real site."""
    if request.param == "fake":
        yield None
        return
    way, _, name = request.param.partition("-")
    # Not tmp_path: a socket's name has a limit.
    with tempfile.TemporaryDirectory() as directory, BENCHES[way](name, Path(directory)) as bench:
        yield bench


@pytest.fixture
def bench(kind: Bench | None) -> Bench:
    return kind or FakeBench.make()


def submit(bench: Bench, *requests: SubmitRequest) -> tuple[SubmitOutcome, ...]:
    return bench.site.submit(requests, deadline_s=bench.now_s() + 30)


def known(bench: Bench, *outcomes: SubmitOutcome) -> tuple[KnownPilot, ...]:
    return tuple(
        KnownPilot(
            pilot_id=outcome.pilot_id,
            batch_id=outcome.batch_id if isinstance(outcome, Submitted) else None,
            intended_s=int(bench.now_s()) - 5,
        )
        for outcome in outcomes
    )


def live_of(sight: SiteSeen, pilot_id: str) -> BatchRecord | None:
    found = [record for record in sight.live if record.name == pilot_id]
    assert len(found) <= 1
    return found[0] if found else None


def final_of(sight: SiteSeen, pilot_id: str) -> BatchRecord | None:
    assert isinstance(sight.final, FinalSeen)
    found = [record for record in sight.final.records if record.name == pilot_id]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_submitted_pilot_is_live_under_its_name_and_id(bench: Bench) -> None:
    """Turned red by: the job's name left out of the submission, or its id taken from another line of the answer."""
    wanted = request(bench, "stays")
    (outcome,) = submit(bench, wanted)
    assert isinstance(outcome, Submitted)
    assert outcome.pilot_id == wanted.pilot_id
    sight = eventually(
        bench,
        known(bench, outcome),
        lambda sight: (record := live_of(sight, wanted.pilot_id)) is not None and record.state is BatchState.RUNNING,
    )
    record = live_of(sight, wanted.pilot_id)
    assert record is not None
    assert (outcome.batch_id, 1) == (record.job_id, record.alloc_cpus)
    assert (wanted.offer.account, wanted.offer.partition) == (record.account, record.partition)
    assert record.start_s is not None
    assert record.end_s is None
    assert abs(record.start_s - bench.now_s()) < 60
    assert final_of(sight, wanted.pilot_id) is None
    assert wanted.pilot_id in sight.spools


def test_outcomes_come_in_the_order_of_the_requests(bench: Bench) -> None:
    """Turned red by: outcomes sorted by name."""
    wanted = tuple(request(bench, "fails") for _ in range(3))
    outcomes = submit(bench, *reversed(wanted))
    assert [one.pilot_id for one in reversed(wanted)] == [outcome.pilot_id for outcome in outcomes]
    assert all(isinstance(outcome, Submitted) for outcome in outcomes)


def test_a_refusal_carries_the_words_of_the_scheduler_and_leaves_no_job(bench: Bench) -> None:
    """Turned red by: Uncertain in the place of Refused."""
    wanted = request(bench, "stays", offer=bench.refused_offer())
    (outcome,) = submit(bench, wanted)
    assert isinstance(outcome, Refused)
    assert "Invalid partition name specified" in outcome.reason
    sight = bench.site.look(known(bench, outcome), now_s=bench.now_s())
    assert isinstance(sight, SiteSeen)
    assert live_of(sight, wanted.pilot_id) is None
    assert final_of(sight, wanted.pilot_id) is None


def test_a_pilot_that_failed_has_a_final_record_with_its_exit_code(bench: Bench) -> None:
    """Turned red by: the exit code of v0.0.38's accounting believed, or wait(2)'s number not taken apart."""
    (outcome,) = submit(bench, request(bench, "fails"))
    bench.settle()
    sight = eventually(bench, known(bench, outcome), lambda sight: final_of(sight, outcome.pilot_id) is not None)
    record = final_of(sight, outcome.pilot_id)
    assert record is not None
    assert (BatchState.FAILED, 7, 0) == (record.state, record.exit_code, record.exit_signal)
    assert record.start_s is not None
    assert record.end_s is not None
    assert record.elapsed_s == record.end_s - record.start_s


def test_an_ended_pilot_is_found_by_its_name_when_its_id_was_never_learnt(bench: Bench) -> None:
    """Turned red by: accounting asked for ids only."""
    (outcome,) = submit(bench, request(bench, "fails"))
    assert isinstance(outcome, Submitted)
    bench.settle()
    nameless = tuple(replace(pilot, batch_id=None) for pilot in known(bench, outcome))
    sight = eventually(bench, nameless, lambda sight: final_of(sight, outcome.pilot_id) is not None)
    record = final_of(sight, outcome.pilot_id)
    assert record is not None
    assert outcome.batch_id == record.job_id


def test_a_cancel_takes_a_waiting_pilot_and_leaves_a_running_one(bench: Bench) -> None:
    """Turned red by: a cancel without the state PENDING, or without the name where there is no id."""
    running = request(bench, "stays")
    (runs,) = submit(bench, running)
    eventually(
        bench,
        known(bench, runs),
        lambda sight: (record := live_of(sight, running.pilot_id)) is not None and record.state is BatchState.RUNNING,
    )
    waiting = [request(bench, "stays", offer=bench.waiting_offer()) for _ in range(2)]
    outcomes = submit(bench, *waiting)
    by_id, by_name = known(bench, *outcomes)
    by_name = replace(by_name, batch_id=None)
    sight = eventually(
        bench,
        (by_id, by_name),
        lambda sight: all((record := live_of(sight, one.pilot_id)) is not None and record.reason for one in waiting),
    )
    for one in waiting:
        record = live_of(sight, one.pilot_id)
        assert record is not None
        assert record.state is BatchState.PENDING
        assert (None, None) == (record.start_s, record.end_s)

    asked = (*known(bench, runs), by_id, by_name)
    cancelled = bench.site.cancel(asked)
    assert ("", tuple(pilot.pilot_id for pilot in asked)) == (cancelled.problem, cancelled.sent)
    sight = eventually(bench, asked, lambda sight: all(final_of(sight, one.pilot_id) is not None for one in waiting))
    for one in waiting:
        record = final_of(sight, one.pilot_id)
        assert record is not None
        assert (BatchState.CANCELLED, None) == (record.state, record.start_s)
    record = live_of(sight, running.pilot_id)
    assert record is not None
    assert record.state is BatchState.RUNNING


def test_cancelling_what_has_ended_is_no_problem(bench: Bench) -> None:
    """Turned red by: an ended job taken for a failure of the cancel."""
    (outcome,) = submit(bench, request(bench, "fails"))
    bench.settle()
    eventually(bench, known(bench, outcome), lambda sight: final_of(sight, outcome.pilot_id) is not None)
    assert bench.site.cancel(known(bench, outcome)).problem == ""


def test_nothing_is_submitted_after_the_deadline(bench: Bench) -> None:
    """Turned red by: no look at the clock before a submission."""
    wanted = request(bench, "stays")
    (outcome,) = bench.site.submit((wanted,), deadline_s=bench.now_s() + 1)
    assert isinstance(outcome, NotSent)
    bench.settle()
    sight = bench.site.look(known(bench, outcome), now_s=bench.now_s())
    assert isinstance(sight, SiteSeen)
    assert live_of(sight, wanted.pilot_id) is None


def test_a_pilot_of_another_instance_is_none_of_ours(bench: Bench) -> None:
    """Turned red by: every job of the account taken for ours."""
    wanted = request(bench, "stays")
    (outcome,) = submit(bench, wanted)
    other = bench.sibling("contractb")
    sight = other.site.look((), now_s=bench.now_s())
    assert isinstance(sight, SiteSeen)
    assert () == sight.live
    assert () == tuple(name for name in sight.spools if name == outcome.pilot_id and not isinstance(bench, FakeBench))


def test_an_end_report_is_read_and_a_spoilt_one_is_named(bench: Bench) -> None:
    """Turned red by: a report that does not parse left out."""
    good, bad = request(bench, "reports"), request(bench, "babbles")
    outcomes = submit(bench, good, bad)
    bench.settle()
    sight = eventually(bench, known(bench, *outcomes), lambda sight: bool(sight.reports and sight.unreadable_reports))
    assert (bad.pilot_id,) == sight.unreadable_reports
    (report,) = sight.reports
    assert (good.pilot_id, EndReason.IDLE, 3) == (report.pilot_id, report.reason, report.jobs)
    assert (100, 101, 200) == (report.start_s, report.joined_s, report.end_s)


def test_a_forgotten_pilot_leaves_no_spool_directory(bench: Bench) -> None:
    """Turned red by: forget without effect, or on all directories."""
    first, second = request(bench, "fails"), request(bench, "fails")
    outcomes = submit(bench, first, second)
    bench.settle()
    assert bench.site.forget((first.pilot_id,)) == ""
    sight = bench.site.look(known(bench, *outcomes), now_s=bench.now_s())
    assert isinstance(sight, SiteSeen)
    assert first.pilot_id not in sight.spools
    assert second.pilot_id in sight.spools


def test_the_bundle_is_put_once(bench: Bench) -> None:
    """Turned red by: a bundle that is looked for, or put, at every call."""
    assert bench.site.prepare() == ""
    before = calls(bench)
    assert bench.site.prepare() == ""
    assert before == calls(bench)


def test_a_look_takes_as_many_calls_for_many_pilots_as_for_few(bench: Bench) -> None:
    """Turned red by: a call for each pilot."""
    taken = []
    for count in (3, 300):
        unborn = [request(bench, "stays").pilot_id for _ in range(count)]
        asked = tuple(
            KnownPilot(pilot_id=name, batch_id=str(900_000 + n) if n % 2 else None, intended_s=int(bench.now_s()) - 5)
            for n, name in enumerate(unborn)
        )
        before = calls(bench)
        sight = bench.site.look(asked, now_s=bench.now_s())
        assert isinstance(sight, SiteSeen), sight
        assert isinstance(sight.final, FinalSeen), sight.final
        taken.append(calls(bench) - before)
    assert taken[0] == taken[1] > 0


def calls(bench: Bench) -> int:
    """What the site was asked so far: remote commands, requests, or calls of the one in memory."""
    if isinstance(bench.site, FakeSite):
        return bench.site.counts.look + bench.site.uploads
    return bench.site._meter.calls().calls
