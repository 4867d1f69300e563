"""Idle jobs become buckets, and what could not be seen never reads as nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from overlay.classads import parse_ad
from overlay.client import Answer, NoAnswer
from overlay.demand import PROJECTION, bucket_of, demand_of
from overlay.errors import AdUnreadable
from overlay.model import Demand, DemandAtLeast, DemandSeen, DemandUnseen

GROUP = (
    '[ Id = 1; User = "alice@pool"; Owner = "alice"; JobIds = "23.3 27.3"; JobCount = 2; AcctGroup = "dp001";'
    " JobStatus = 1; JobUniverse = 5; RequestCpus = 8; RequestDisk = 10241; RequestMemory = 500;"
    ' AccountingGroup = "dp001.alice"; AllowedExecuteDuration = 100; Requirements = TARGET.Cpus >= RequestCpus ]'
)
SUMMARY = '[ MyType = "Summary"; Idle = 2; Running = 3 ]'


def answer(*groups: str, summary: str = SUMMARY, clusters: tuple[str, ...] = ()) -> Answer:
    return Answer(steps=(groups, (summary,), clusters), duration_s=0.1)


def read(given: Answer | NoAnswer, *, max_buckets: int = 100) -> Demand:
    return demand_of(given, ap="ap1", max_buckets=max_buckets, now_s=7.0)


def test_recorded_queue_is_read(recorded: Callable[..., Answer]) -> None:
    demand = read(recorded("demand-25.14.1.txt", steps=3))

    assert isinstance(demand, DemandSeen)
    assert demand.running == 4
    assert demand.unmaterialized == 6
    assert sorted((b.first_job, b.jobs, b.cores, b.memory_mib, b.runtime_s, b.group) for b in demand.buckets) == [
        ("31.3", 1, 8, 500, 100, "dp001"),
        ("31.4", 1, 1, 88231, 100, "dp001"),
        ("32.0", 3, 1, 100, None, "dp001"),
        ("33.0", 2, 1, 300, None, "dp001"),
    ]
    assert {b.user for b in demand.buckets} == {"alice@pool"}


def test_no_answer_is_unseen_with_its_reason() -> None:
    assert read(NoAnswer(reason="no answer in 25 s")) == DemandUnseen(ap="ap1", taken_s=7.0, reason="no answer in 25 s")


def test_no_groups_beside_a_count_is_unseen_and_not_nothing() -> None:
    demand = read(answer())

    assert isinstance(demand, DemandUnseen)
    assert "counts 2 idle jobs and shows none" in demand.reason


def test_no_groups_and_no_count_is_an_empty_queue() -> None:
    demand = read(answer(summary="[ Idle = 0; Running = 0 ]"))

    assert demand == DemandSeen(ap="ap1", taken_s=7.0, buckets=(), running=0)


def test_more_kinds_than_asked_for_is_at_least() -> None:
    other = GROUP.replace("RequestCpus = 8", "RequestCpus = 4")
    demand = read(answer(GROUP, other), max_buckets=1)

    assert isinstance(demand, DemandAtLeast)
    assert len(demand.buckets) == 1


@pytest.mark.parametrize(
    "broken",
    [
        answer("[ JobCount = ]"),
        answer(GROUP.replace("JobCount = 2; ", "")),
        answer(GROUP.replace('User = "alice@pool"; ', "")),
        answer(GROUP, summary="[ ]"),
        dataclasses.replace(answer(GROUP), steps=((GROUP,), (), ())),
    ],
)
def test_answer_that_cannot_be_read_is_unseen(broken: Answer) -> None:
    assert isinstance(read(broken), DemandUnseen)


def test_requests_round_up_and_keep_their_units() -> None:
    bucket = bucket_of(parse_ad(GROUP.replace("RequestCpus = 8", "RequestCpus = 1.2")), ap="ap1")

    assert bucket.cores == 2
    assert bucket.disk_mib == 11
    assert bucket.runtime_s == 100


@pytest.mark.parametrize(
    ("request_memory", "memory_mib"),
    [
        ("ifThenElse(isUndefined(MemoryUsage),300,MemoryUsage * 2)", 300),
        ("RequestCpus * 1000", 8000),
        ('"much"', 128),
        ("undefined", 128),
        ("1 / 0", 128),
        ("-5", 0),
        ("1.0E400", 128),
    ],
)
def test_memory_request_is_an_expression(request_memory: str, memory_mib: int) -> None:
    group = GROUP.replace("RequestMemory = 500", f"RequestMemory = {request_memory}")

    assert bucket_of(parse_ad(group), ap="ap1").memory_mib == memory_mib


def test_key_names_the_kind_of_job_and_not_its_count() -> None:
    one = bucket_of(parse_ad(GROUP), ap="ap1")
    later = bucket_of(parse_ad(GROUP.replace("JobCount = 2", "JobCount = 9").replace("Id = 1", "Id = 4")), ap="ap1")
    bigger = bucket_of(parse_ad(GROUP.replace("RequestMemory = 500", "RequestMemory = 501")), ap="ap1")
    elsewhere = bucket_of(parse_ad(GROUP), ap="ap2")

    assert one.key == later.key
    assert later.jobs == 9
    assert len({one.key, bigger.key, elsewhere.key}) == 3


def test_projection_holds_every_attribute_of_the_constraint() -> None:
    # A constraint's attribute that is not projected gives no group and no error (25.14.1).
    assert {"JobStatus", "JobUniverse"} <= set(PROJECTION)


def test_job_without_accounting_group_has_no_group() -> None:
    group = GROUP.replace('AcctGroup = "dp001"; ', "").replace('"dp001.alice"', '"alice"')
    bare = parse_ad(group)

    assert bucket_of(bare, ap="ap1").group == ""


def test_group_without_jobs_is_refused() -> None:
    with pytest.raises(AdUnreadable):
        bucket_of(parse_ad(GROUP.replace("JobCount = 2", "JobCount = 0")), ap="ap1")
