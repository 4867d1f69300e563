"""Usage records: every attempt once, with its own result, and what cannot be read is kept aside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from overlay.classads import parse_ad
from overlay.client import Answer, Ap, PoolClient
from overlay.errors import AdUnreadable
from overlay.history import (
    LIMITS,
    Limits,
    _Read,
    epoch_record,
    history_record,
    read_records,
    records_of,
    running_record,
)
from overlay.model import RecordsSeen, RecordsUnseen

AP = Ap(name="ap1", schedd="ap1.pool")
EPOCH = (
    '[ ClusterId = 7; ProcId = 0; GlobalJobId = "ap1.pool#7.0#100"; Owner = "alice"; AcctGroup = "dp001";'
    " RunInstanceID = 1; ShadowBday = 1000; EpochWriteDate = 1030; JobCurrentStartExecutingDate = 1001;"
    " ActivationDuration = 29; CpusProvisioned = 2; MemoryProvisioned = 256; GpusProvisioned = 0; RemoteUserCpu = 12.5;"
    " RemoteSysCpu = 0.5; ResidentSetSize = 4000; ExitBySignal = false; ExitCode = 3; ExitSignal = 15;"
    ' MachineAttrGlideinSite0 = "alpha"; MachineAttrGlideinPilotId0 = "demo-alpha-6741234500aa-1";'
    ' RemoteHost = "slot1_1@x" ]'
)
FINAL = (
    '[ ClusterId = 7; ProcId = 0; GlobalJobId = "ap1.pool#7.0#100"; Owner = "alice"; AcctGroup = "dp001";'
    " JobStatus = 4; RemoteWallClockTime = 52.0; NumShadowStarts = 2; CompletionDate = 1030; CpusProvisioned = 2;"
    " ExitBySignal = false; ExitCode = 3 ]"
)


def epoch(*changes: tuple[str, str]) -> str:
    text = EPOCH
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return text


def test_recorded_histories_agree_with_each_other(recorded: Callable[..., Answer]) -> None:
    epochs, finals, running, _ = recorded("records-25.14.1.txt", steps=4).steps
    read = records_of(
        "ap1",
        epochs=_Read(ads=epochs, complete=True),
        finals=_Read(ads=finals, complete=True),
        running=running,
        gap=False,
        now_s=1.0,
        limits=LIMITS,
    )

    assert (len(read.epochs), len(read.history), len(read.running), read.unreadable) == (14, 45, 4, ())
    for final in read.history:
        attempts = [e for e in read.epochs if e.global_job_id == final.global_job_id]
        assert len(attempts) == final.shadow_starts
        # At most a second for each attempt: the shadow writes its end, the schedd its own clock.
        assert abs(sum(e.end_s - e.start_s for e in attempts) - final.wall_s) <= len(attempts)
    assert {e.site for e in read.epochs} == {"alpha", "beta"}
    assert all(e.pilot_id for e in read.epochs)


def test_attempt_is_read_with_its_units() -> None:
    record = epoch_record("ap1", parse_ad(EPOCH))

    assert (record.start_s, record.end_s, record.execution_s, record.cores) == (1000, 1030, 29, 2)
    assert (record.user_cpu_s, record.sys_cpu_s, record.peak_rss_kib) == (12.5, 0.5, 4000)
    assert (record.exit_code, record.exit_signal, record.vacate_code) == (3, None, None)
    assert (record.site, record.pilot_id) == ("alpha", "demo-alpha-6741234500aa-1")


def test_evicted_attempt_has_no_result_of_its_own() -> None:
    text = epoch(
        ("ExitBySignal = false", "ExitBySignal = true"), ("RunInstanceID", "VacateReasonCode = 1022; RunInstanceID")
    )
    record = epoch_record("ap1", parse_ad(text))

    assert (record.exit_code, record.exit_signal, record.vacate_code) == (None, None, 1022)


def test_signal_counts_only_when_the_job_ended_by_it() -> None:
    record = epoch_record("ap1", parse_ad(epoch(("ExitBySignal = false", "ExitBySignal = true"))))

    assert (record.exit_code, record.exit_signal) == (None, 15)


@pytest.mark.parametrize(
    ("change", "execution_s"),
    [
        (("ActivationDuration = 29", "ActivationDuration = 700"), 29),
        (("ActivationDuration = 29; ", ""), 29),
        (("JobCurrentStartExecutingDate = 1001", "JobCurrentStartExecutingDate = 400"), None),
        (("JobCurrentStartExecutingDate = 1001; ", ""), None),
    ],
)
def test_duration_left_over_from_an_earlier_attempt_is_not_taken(
    change: tuple[str, str], execution_s: int | None
) -> None:
    assert epoch_record("ap1", parse_ad(epoch(change))).execution_s == execution_s


@pytest.mark.parametrize(
    "change",
    [
        ('GlobalJobId = "ap1.pool#7.0#100"; ', ""),
        ('Owner = "alice"; ', ""),
        ("RunInstanceID = 1; ", ""),
        ("ShadowBday = 1000", 'ShadowBday = "yesterday"'),
        ("EpochWriteDate = 1030", "EpochWriteDate = 999"),
        ("EpochWriteDate = 1030", "EpochWriteDate = undefined"),
    ],
)
def test_record_without_what_counts_is_kept_aside_and_stops_no_other(change: tuple[str, str]) -> None:
    broken = epoch(change)
    with pytest.raises(AdUnreadable):
        epoch_record("ap1", parse_ad(broken))
    read = records_of(
        "ap1",
        epochs=_Read(ads=(broken, EPOCH, "[ not = an ad"), complete=True),
        finals=_Read(ads=(FINAL,), complete=True),
        running=(),
        gap=False,
        now_s=1.0,
        limits=LIMITS,
    )

    assert len(read.epochs) == 1
    assert {u.text for u in read.unreadable} == {broken, "[ not = an ad"}
    assert {u.stream for u in read.unreadable} == {"epochs"}


def test_removed_job_has_no_exit() -> None:
    final = FINAL.replace("JobStatus = 4", "JobStatus = 3").replace("CompletionDate = 1030", "CompletionDate = 0")
    record = history_record("ap1", parse_ad(final))

    assert (record.status, record.completed_s, record.exit_code) == (3, None, None)
    assert history_record("ap1", parse_ad(FINAL)).exit_code == 3


def test_running_job_needs_a_start() -> None:
    assert running_record("ap1", parse_ad(EPOCH)).start_s == 1000
    with pytest.raises(AdUnreadable):
        running_record("ap1", parse_ad(epoch(("ShadowBday = 1000; ", ""))))


SERVER = """
import json, re, sys
request = json.load(sys.stdin)
ends = {ends}
for n, step in enumerate(request["steps"]):
    found = []
    if step["kind"] == "epochs":
        low = re.search(r"EpochWriteDate >= (\\d+)", step["constraint"])
        high = re.search(r"EpochWriteDate <= (\\d+)", step["constraint"])
        for i, end in sorted(enumerate(ends), key=lambda pair: (-pair[1], -pair[0])):
            if (low is None or end >= int(low[1])) and (high is None or end <= int(high[1])):
                found.append({epoch!r}.replace("RunInstanceID = 1", f"RunInstanceID = {{i}}")
                             .replace("1030", str(end)).replace("ShadowBday = 1000", "ShadowBday = 1"))
        found = found[:step["limit"]]
    for ad in found:
        print(json.dumps(["ad", n, ad]))
    print(json.dumps(["end", n, len(found)]))
print(json.dumps(["done", len(request["steps"])]))
"""


def client_of(tmp_path: Path, ends: list[int]) -> PoolClient:
    path = tmp_path / "worker.py"
    path.write_text(SERVER.format(ends=json.dumps(ends), epoch=EPOCH))
    return PoolClient(collector="cm", tokens_dir=tmp_path, command=(sys.executable, str(path)))


@pytest.mark.parametrize("page", [1, 2, 3, 5, 100])
def test_pages_give_every_attempt_once(tmp_path: Path, page: int) -> None:
    ends = [5000, 5001, 5001, 5001, 5002, 5003, 5003]
    read = read_records(client_of(tmp_path, ends), AP, since_s=0, now_s=9.0, limits=Limits(page=page, pages=30))

    assert isinstance(read, RecordsSeen)
    assert read.complete
    assert sorted(e.run_instance_id for e in read.epochs) == list(range(7))


def test_reading_that_reaches_its_limit_says_so(tmp_path: Path) -> None:
    read = read_records(
        client_of(tmp_path, list(range(5000, 5040))), AP, since_s=0, now_s=9.0, limits=Limits(page=5, pages=3)
    )

    assert isinstance(read, RecordsSeen)
    assert not read.complete


def test_mark_whose_record_is_gone_is_a_gap(tmp_path: Path) -> None:
    client = client_of(tmp_path, [5000, 6000])

    assert [read_records(client, AP, since_s=s, now_s=9.0).gap for s in (0, 4999, 5000, 6000)] == [  # type: ignore[union-attr]
        False,
        True,
        False,
        False,
    ]


def test_records_below_the_mark_are_read_again(tmp_path: Path) -> None:
    read = read_records(client_of(tmp_path, [1000, 5500, 6000]), AP, since_s=6000, now_s=9.0)

    assert isinstance(read, RecordsSeen)
    assert [e.end_s for e in read.epochs] == [5500, 6000]


def test_history_that_cannot_be_asked_is_unseen(tmp_path: Path) -> None:
    client = PoolClient(collector="cm", tokens_dir=tmp_path, command=(sys.executable, "-c", "raise SystemExit(1)"))

    assert isinstance(read_records(client, AP, since_s=0, now_s=9.0), RecordsUnseen)
