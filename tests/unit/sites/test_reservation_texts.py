"""What reservations leave to pilots; the lines are those of the three Slurms of the test-bed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from stubs import STUB, Stubs, make_site

from factory.sites.contract import Closure, SiteSeen
from factory.sites.reservations import (
    PartitionNodes,
    Reservation,
    closures,
    expand_hosts,
    parse_partitions,
    parse_reservations,
)

# 22.05.8, 26.05.5; 24.11 has the former's fields without Watts.
MAINT = (
    "ReservationName=maint1 StartTime=1000 EndTime=2000 Duration=01:00:00 Nodes=n[1-2] NodeCnt=2 CoreCnt=16 "
    "Features=(null) PartitionName=(null) Flags=MAINT,IGNORE_JOBS,SPEC_NODES,ALL_NODES TRES=cpu=16 Users=root "
    "Groups=(null) Accounts=(null) Licenses=(null) State=INACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)"
)
ONE = (
    "ReservationName=grp StartTime=500 EndTime=9000 Duration=01:00:00 Nodes=n1 NodeCnt=1 CoreCnt=4 Features=(null) "
    "PartitionName=(null) Flags=SPEC_NODES TRES=cpu=8 AllowedPartitions=(null) QOS=(null) Users=local Groups=(null) "
    "Accounts=(null) Licenses=(null) State=INACTIVE BurstBuffer=(null) MaxStartDelay=(null)"
)
NODES = "main|8|n[1-2]\nurgent|8|n[1-2]\nsmall|8|n1\n"


def closed(text: str, *, now_s: float = 0, user: str = "pilot", account: str = "grid") -> dict[str, Closure]:
    found, nodes = parse_reservations(text), parse_partitions(NODES)
    assert not isinstance(found, str)
    assert not isinstance(nodes, str)
    return {one.partition: one for one in closures(found, nodes, user=user, account=account, now_s=now_s)}


def test_a_maintenance_of_all_nodes_closes_every_partition() -> None:
    found = closed(MAINT)
    assert {"main", "urgent", "small"} == set(found)
    assert Closure(partition="main", start_s=1000, end_s=2000, why="reservation maint1 (MAINT)") == found["main"]


def test_a_partition_with_a_free_node_is_open() -> None:
    # Mutation: `all(node in first` as `any(`.
    assert {"small"} == set(closed(ONE))
    assert (500, 9000) == (closed(ONE)["small"].start_s, closed(ONE)["small"].end_s)


def test_the_node_that_is_free_longest_counts() -> None:
    # Mutation: min for max in closures().
    assert 1000 == closed(f"{ONE}\n{MAINT}")["main"].start_s
    assert 500 == closed(f"{ONE}\n{MAINT}")["small"].start_s


def test_what_is_over_or_takes_a_part_of_its_nodes_or_draws_us_in_is_none() -> None:
    assert {} == closed(MAINT, now_s=2000)
    assert {} == closed(MAINT.replace("cpu=16", "cpu=15"))
    ours = MAINT.replace("Flags=MAINT", "Flags=MAGNETIC").replace("Users=root", "Users=pilot")
    assert {} == closed(ours)
    assert {} != closed(ours, user="other")
    assert {} != closed(ours.replace("Users=pilot", "Users=-pilot"))
    assert {} == closed(ours.replace("Users=pilot", "Users=-root"))
    # One that allows us is used only by jobs that name it.
    assert {} != closed(MAINT.replace("Users=root", "Users=pilot"))


def test_licenses_alone_close_nothing() -> None:
    assert {} == closed(MAINT.replace("n[1-2]", "(null)"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", {"n1"}),
        ("n[1-2,5],gpu[09-11]", {"n1", "n2", "n5", "gpu09", "gpu10", "gpu11"}),
        ("r[1-2]n[1-2]", {"r1n1", "r1n2", "r2n1", "r2n2"}),
        ("(null)", set()),
        ("n[1-2", None),
        ("n[x]", None),
        ("n[1-999999999]", None),
    ],
)
def test_host_lists(text: str, names: set[str] | None) -> None:
    found = expand_hosts(text)
    assert names == (None if found is None else set(found))


@pytest.mark.parametrize("text", ["<html>", "ReservationName=x StartTime=Unknown EndTime=1", MAINT.replace("-2", "-")])
def test_what_is_no_answer_is_said(text: str) -> None:
    assert isinstance(parse_reservations(text), str)


def test_no_reservations_is_an_answer() -> None:
    assert () == parse_reservations("No reservations in the system\n")


def test_a_later_closure_of_the_same_node_does_not_hide_the_first() -> None:
    both = [
        Reservation(
            name=name,
            start_s=start_s,
            end_s=start_s + 10,
            nodes=frozenset({"n1"}),
            cpus=None,
            flags=frozenset(),
            users=(),
            accounts=(),
        )
        for name, start_s in (("late", 900), ("soon", 100))
    ]
    here = [PartitionNodes(partition="p", nodes=frozenset({"n1"}), cpus_per_node=1)]
    (one,) = closures(both, here, user="pilot", account="grid", now_s=0)
    assert (100, "reservation soon") == (one.start_s, one.why)


def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, scontrol: str, sinfo: str, status: int = 0) -> SiteSeen:
    stubs = Stubs.make(tmp_path)
    for name in ("scontrol", "sinfo"):
        (tmp_path / "bin" / name).write_text(STUB.format(base=tmp_path, name=name))
        (tmp_path / "bin" / name).chmod(0o755)
    stubs.says("scontrol", scontrol, "slurm_load_reservations error: it is down\n" if status else "", status)
    stubs.says("sinfo", sinfo)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(stubs.home))
    site, shell = make_site(stubs)
    sight = site.look((), now_s=time.time())
    assert isinstance(sight, SiteSeen), sight
    assert 1 == len(shell.scripts)
    assert bool(sinfo) == bool(stubs.calls("sinfo"))
    return sight


def test_the_one_look_brings_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = MAINT.replace("1000", "4000000000").replace("2000", "4000009000")
    sight = look(tmp_path, monkeypatch, scontrol=late + "\n", sinfo=NODES)
    assert ["main", "small", "urgent"] == [one.partition for one in sight.closures]
    assert "" == sight.closures_unseen


def test_none_needs_no_further_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sight = look(tmp_path, monkeypatch, scontrol="No reservations in the system\n", sinfo="")
    assert ((), "") == (sight.closures, sight.closures_unseen)


def test_an_answer_that_failed_is_not_none_and_the_site_is_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Mutation: closed_times gives () for a section whose status is not 0.
    sight = look(tmp_path, monkeypatch, scontrol="", sinfo="", status=1)
    assert () == sight.closures
    assert "it is down" in sight.closures_unseen
