"""What Slurm's commands print, read from recordings of the three versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import NONCE, VERSIONS, Recording, recording

from factory.sites.contract import NotSent, Refused, Submitted, Uncertain
from factory.sites.texts import (
    Unreadable,
    essence,
    parse_report,
    parse_sacct,
    parse_sbatch,
    parse_squeue,
    says_gone,
    sbatch_options,
)
from glidein.model import BatchRecord, BatchState, EndReason, EndReport, Offer, Shape

PILOT = "aero-alpha-6b03062e0000-1"
REPORT = (
    '{"version": 1, "pilot_id": "aero-alpha-6b03062e0000-1", "reason": "idle", "exit_code": 0, "start": 10, '
    '"joined": null, "end": 20, "node": "n1", "cores": 4, "memory_mib": 8000, "jobs": 2, "detail": "no claim"}'
)


def squeue(of: Recording) -> tuple[BatchRecord, ...] | Unreadable:
    return parse_squeue(of.stdout, of.stderr, of.status, nonce=NONCE)


def sacct(of: Recording) -> tuple[BatchRecord, ...] | Unreadable:
    return parse_sacct(of.stdout, of.stderr, of.status)


def by_number(records: tuple[BatchRecord, ...] | Unreadable) -> dict[int, BatchRecord]:
    assert isinstance(records, tuple), records
    return {int(record.name.rsplit("-")[-1]): record for record in records if record.name.startswith("rec-")}


def test_there_are_recordings_of_three_versions() -> None:
    assert ["22.05", "24.11", "26.05"] == [version[:5] for version in VERSIONS]


@pytest.mark.parametrize("version", VERSIONS)
class TestRecorded:
    def test_an_empty_queue_is_a_valid_zero(self, version: str) -> None:
        assert squeue(recording(version, "squeue-empty")) == ()

    def test_the_queue_is_read(self, version: str) -> None:
        records = squeue(recording(version, "squeue-jobs"))
        assert isinstance(records, tuple)
        states = {number: record.state for number, record in by_number(records).items()}
        assert {
            0: BatchState.RUNNING,
            1: BatchState.FAILED,
            2: BatchState.FAILED,
            3: BatchState.PENDING,
            4: BatchState.COMPLETED,
            5: BatchState.PENDING,
        } == {number: states[number] for number in range(6)}
        assert states[6] in (BatchState.CANCELLED, BatchState.COMPLETING)
        assert {"a|b", "two\nlines"} <= {record.name for record in records}

    def test_a_job_that_waits_has_no_start_and_no_cores(self, version: str) -> None:
        record = by_number(squeue(recording(version, "squeue-jobs")))[3]
        assert (None, None, None) == (record.start_s, record.end_s, record.alloc_cpus)
        assert record.reason == "PartitionTimeLimit"

    def test_a_job_that_runs_has_a_start_and_no_end(self, version: str) -> None:
        record = by_number(squeue(recording(version, "squeue-jobs")))[0]
        assert record.start_s is not None
        assert record.submit_s is not None
        assert (None, 1) == (record.end_s, record.alloc_cpus)

    def test_a_job_that_was_cancelled_while_it_waited_never_started(self, version: str) -> None:
        queue = by_number(squeue(recording(version, "squeue-jobs-later")))
        account = by_number(sacct(recording(version, "sacct-jobs")))
        for records in (queue, account):
            for number in (3, 5):
                assert records[number].state is BatchState.CANCELLED
                assert (None, None) == (records[number].start_s, records[number].alloc_cpus)

    def test_accounting_is_read(self, version: str) -> None:
        records = by_number(sacct(recording(version, "sacct-jobs")))
        ends = {number: (record.state, record.exit_code, record.exit_signal) for number, record in records.items()}
        assert ends == {
            0: (BatchState.RUNNING, None, None),
            1: (BatchState.FAILED, 7, 0),
            2: (BatchState.FAILED, 0, 9),
            3: (BatchState.CANCELLED, 0, 0),
            4: (BatchState.COMPLETED, 0, 0),
            5: (BatchState.CANCELLED, 0, 0),
            6: (BatchState.CANCELLED, 0, 0),
        }
        assert records[0].end_s is None
        start_s, end_s = records[6].start_s, records[6].end_s
        assert start_s is not None
        assert end_s is not None
        assert end_s - start_s == records[6].elapsed_s
        assert records[6].alloc_cpus == 1

    def test_accounting_is_read_by_name(self, version: str) -> None:
        assert {0, 1} == set(by_number(sacct(recording(version, "sacct-names"))))

    def test_an_id_unknown_to_accounting_is_no_record(self, version: str) -> None:
        assert sacct(recording(version, "sacct-unknown-id")) == ()

    @pytest.mark.parametrize("case", ["controller-stuck", "controller-dead", "munge-dead"])
    def test_a_queue_that_cannot_be_asked_is_not_an_empty_one(self, version: str, case: str) -> None:
        read = squeue(recording(version, f"squeue-{case}"))
        assert isinstance(read, Unreadable)
        assert read.reason.startswith("squeue: ")

    def test_an_unknown_user_is_not_an_empty_queue(self, version: str) -> None:
        # 24.11 and 26.05 exit 0 here.
        assert isinstance(squeue(recording(version, "squeue-nosuch-user")), Unreadable)

    @pytest.mark.parametrize("case", ["dbd-dead", "munge-dead"])
    def test_accounting_that_cannot_be_asked_is_not_empty(self, version: str, case: str) -> None:
        assert isinstance(sacct(recording(version, f"sacct-{case}")), Unreadable)

    @pytest.mark.parametrize(
        ("case", "expected"),
        [
            ("accepted", Submitted),
            ("bad-partition", Refused),
            ("bad-account", Refused),
            ("bad-qos", Refused),
            ("bad-option", Refused),
            ("too-much-memory", Refused),
            ("controller-stuck", Uncertain),
            ("controller-dead", NotSent),
            ("munge-dead", NotSent),
        ],
    )
    def test_what_became_of_a_submission(self, version: str, case: str, expected: type) -> None:
        # Dies when _LOST is taken for a refusal: a job that runs would be forgotten and submitted again.
        of = recording(version, f"sbatch-{case}")
        assert isinstance(parse_sbatch(PILOT, of.stdout, of.stderr, of.status), expected)

    def test_a_cancel_that_came_too_late_says_that_the_job_is_gone(self, version: str) -> None:
        of = recording(version, "scancel-ended")
        assert of.status == 0 or says_gone(of.stderr)
        dead = recording(version, "scancel-controller-dead")
        assert dead.status != 0
        assert not says_gone(dead.stderr)


def squeue_line(name: str = PILOT, state: str = "RUNNING", job_id: str = "7") -> str:
    return f"{NONCE}|{job_id}|{state}|100|110|N/A|4|main|grid|n1|None|{name}|{NONCE}\n"


SACCT_LINE = "7|COMPLETED|0:0|100|110|200|90|10|4|main|grid|n1|None|" + PILOT


@pytest.mark.parametrize(
    "stdout",
    [
        "<html><body>Service Unavailable</body></html>\n",
        squeue_line() + squeue_line()[:-20],
        squeue_line()[:40],
        squeue_line() + f"{NONCE}|8|RUNNING|100\n" + squeue_line(),
        squeue_line(job_id="x"),
        squeue_line() + "squeue: something of its own\n",
    ],
)
def test_a_queue_that_does_not_parse_is_unseen(stdout: str) -> None:
    assert isinstance(parse_squeue(stdout, "", 0, nonce=NONCE), Unreadable)


def test_every_cut_of_a_queue_is_unseen_or_whole_lines() -> None:
    text = squeue_line() + squeue_line(job_id="8")
    for length in range(len(text)):
        read = parse_squeue(text[:length], "", 0, nonce=NONCE)
        whole = length == 0 or text[:length].rstrip("\n").endswith(f"{PILOT}|{NONCE}")
        assert isinstance(read, tuple) == whole, length


def test_a_missing_status_is_unseen() -> None:
    assert isinstance(parse_squeue("", "", None, nonce=NONCE), Unreadable)
    assert isinstance(parse_sacct("", "", None), Unreadable)


def test_half_records_of_accounting_are_left_out() -> None:
    early = "81|PENDING|0:0|100|Unknown|Unknown|0||0||grid|None assigned|None|" + PILOT
    no_end = "82|COMPLETED|0:0|100|110|Unknown|0|10|4|main|grid|n1|None|" + PILOT
    read = parse_sacct(f"{early}\n{no_end}\n{SACCT_LINE}\n", "", 0)
    assert isinstance(read, tuple)
    assert ["7"] == [record.job_id for record in read]


def _read(text: str) -> tuple[BatchRecord, ...]:
    read = parse_sacct(text, "", 0)
    assert isinstance(read, tuple)
    return read


def test_a_requeued_job_is_one_and_what_its_first_run_took_is_counted() -> None:
    # As measured on 22.05.8 and 26.05.5 for `scontrol requeue` of a running job, then scancel while it waited.
    # Mutation: whole_jobs gives the last record as it is.
    rows = (
        "7|REQUEUED|0:0|100|110|140|30|10|4|main|grid|n1|None|" + PILOT,
        "7|RUNNING|0:0|140|260|Unknown|6|10|4|main|grid|n2|BeginTime|" + PILOT,
        "7|CANCELLED by 0|0:0|140|Unknown|150|0|10|0|main|grid|None assigned|BeginTime|" + PILOT,
    )
    again, waited = (one for text in (rows[:2], (rows[0], rows[2])) for one in _read("\n".join(text)))
    assert (BatchState.RUNNING, 110, 36, "n2") == (again.state, again.start_s, again.elapsed_s, again.node)
    assert (BatchState.CANCELLED, 110, 30, 4) == (waited.state, waited.start_s, waited.elapsed_s, waited.alloc_cpus)


def test_of_several_records_of_one_job_the_latest_counts() -> None:
    again = SACCT_LINE.replace("COMPLETED", "RUNNING").replace("|200|", "|Unknown|").replace("|100|110", "|150|160")
    for text in (f"{SACCT_LINE}\n{again}\n", f"{again}\n{SACCT_LINE}\n"):
        read = parse_sacct(text, "", 0)
        assert isinstance(read, tuple)
        assert [BatchState.RUNNING] == [record.state for record in read]


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [("8812\n", "8812"), ("8812;alps\n", "8812"), ("Welcome to ALPS\n8812\n", "8812"), ("", None), ("81 12", None)],
)
def test_a_job_id_is_read_from_the_last_line_or_it_is_uncertain(stdout: str, expected: str | None) -> None:
    outcome = parse_sbatch(PILOT, stdout, "", 0)
    if expected is None:
        assert isinstance(outcome, Uncertain)
    else:
        assert Submitted(pilot_id=PILOT, batch_id=expected) == outcome


@pytest.mark.parametrize("status", [None, 124, 137, 143])
def test_a_submission_that_did_not_end_is_uncertain(status: int | None) -> None:
    assert isinstance(parse_sbatch(PILOT, "", "", status), Uncertain)


def test_a_missing_sbatch_sent_nothing() -> None:
    assert isinstance(parse_sbatch(PILOT, "", "env: 'sbatch': No such file or directory", 127), NotSent)


def test_an_end_report_is_read() -> None:
    assert parse_report(PILOT, REPORT) == EndReport(
        pilot_id=PILOT,
        reason=EndReason.IDLE,
        exit_code=0,
        start_s=10,
        joined_s=None,
        end_s=20,
        node="n1",
        cores=4,
        memory_mib=8000,
        jobs=2,
        detail="no claim",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        REPORT[:-5],
        REPORT.replace("aero-", "other-"),
        REPORT.replace('"jobs": 2', '"jobs": -2'),
        REPORT.replace('"jobs": 2', '"jobs": true'),
        REPORT.replace('"jobs": 2', '"jobs": 1e9'),
        REPORT.replace('"idle"', '"bored"'),
        REPORT.replace('"idle"', '["idle"]'),
        "[" * 100000,
    ],
)
def test_a_report_that_is_none_is_unreadable(text: str) -> None:
    assert isinstance(parse_report(PILOT, text), Unreadable)


def test_the_options_of_sbatch_are_these() -> None:
    shape = Shape(cores=4, memory_mib=8000, disk_mib=1, gpus=1, walltime_s=5400)
    offer = Offer(site="alpha", shape=shape, account="grid", partition="main", qos="long")
    assert sbatch_options(PILOT, offer) == [
        "--parsable",
        "--no-requeue",
        f"--job-name={PILOT}",
        "--account=grid",
        "--partition=main",
        "--qos=long",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--mem=8000M",
        "--gpus=1",
        "--time=0-01:30:00",
        "--signal=B:TERM@20",
        "--export=ALL",
    ]


lines = st.lists(st.text(alphabet=st.sampled_from("0123456789|:ABN/_\n% "), max_size=60), max_size=5).map("\n".join)
statuses = st.none() | st.integers(0, 255)


@given(st.text() | lines | st.text().map(lambda text: f"{NONCE}|{text}|{NONCE}\n"), st.text(), statuses)
def test_readers_never_raise(stdout: str, stderr: str, status: int | None) -> None:
    assert isinstance(parse_squeue(stdout, stderr, status, nonce=NONCE), tuple | Unreadable)
    assert isinstance(parse_sacct(stdout, stderr, status), tuple | Unreadable)
    assert isinstance(parse_sbatch(PILOT, stdout, stderr, status), Submitted | Refused | Uncertain | NotSent)
    assert isinstance(parse_report(PILOT, stdout), EndReport | Unreadable)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(["reason", "exit_code", "start", "joined", "end", "node", "jobs", "detail"]), json_values)
def test_a_report_of_any_values_is_read_or_unreadable(key: str, value: object) -> None:
    import json

    text = json.dumps({**json.loads(REPORT), key: value})
    assert isinstance(parse_report(PILOT, text), EndReport | Unreadable)


@given(st.text())
def test_an_essence_is_one_short_printable_line(text: str) -> None:
    said = essence(text)
    assert said.isprintable()
    assert 0 < len(said) <= 300
