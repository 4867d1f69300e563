"""A description of a site against what the site says of itself, recorded from three real Slurms."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Site
from factory.sitecheck import (
    NODE_CHECK,
    Finding,
    collector_address,
    judge_canary,
    judge_node,
    judge_site,
)
from factory.sites.probe import NoProbe, Probe, parse_probe, site_file
from factory.sites.scripts import parse_answer
from factory.sites.texts import parse_report
from glidein.model import EndReason, EndReport

RECORDED = Path(__file__).parents[2] / "recorded"
NOW_S = 1_795_365_000.0
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
PILOT = "check1234-beta-6b03062e0000-1"


def recorded(series: str = "24.11", *, offset_s: float = 0.0) -> Probe:
    stdout, _, stderr = (RECORDED / f"probe-{series}.txt").read_text().partition("# stderr\n")
    probe = parse_probe(parse_answer(stdout, stderr, "feedbeef"), clock_offset_s=offset_s)
    assert isinstance(probe, Probe), probe
    return probe


def described(**changes: object) -> Site:
    facts = {"account": "grid", "partition": "batch", "cores": 8, "memory": "16000 MiB", "walltime": "1:00:00"}
    return Site.model_validate({**facts, **changes})


def faults(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(one.what, one.text, one.remedy) for one in findings if one.verdict == "bad"]


@pytest.mark.parametrize(
    ("series", "partition", "cores", "memory_mib", "account"),
    [
        ("22.05", "main", 8, 16000, "aerotow"),
        ("24.11", "batch", 16, 32000, "grid"),
        ("26.05", "compute", 4, 64000, "ext-aerotow"),
    ],
)
def test_three_versions_say_the_same_things(
    series: str, partition: str, cores: int, memory_mib: int, account: str
) -> None:
    probe = recorded(series)
    assert (series, "pilot", True, "") == (probe.version[:5], probe.user, probe.enforces_accounts, probe.test_problem)
    default = next(one for one in probe.partitions if one.is_default)
    assert (partition, "UP", cores, memory_mib) == (
        default.name,
        default.state,
        default.node_cores,
        default.node_memory_mib,
    )
    assert probe.associations is not None
    assert [(account, ("normal",), None)] == [(one.account, one.qos, one.max_submit) for one in probe.associations]
    text = site_file(probe, name="x", login="pilot@login.x", now_s=NOW_S)
    made = Site.model_validate(tomllib.loads(text)["sites"]["x"])
    assert [] == faults(judge_site(made, probe))
    # About eight lines, comments apart.
    assert 9 == len([line for line in text.splitlines() if not line.startswith("#")])


def test_a_description_that_fits_has_no_fault() -> None:
    assert [] == faults(judge_site(described(), recorded()))


def test_each_mistake_has_its_remedy() -> None:
    # Mutation: drop any of the comparisons in factory/sitecheck.py.
    def one(**changes: object) -> tuple[str, str, str]:
        (found,) = faults(judge_site(described(**changes), recorded()))
        return found

    assert ("account", "pilot may not charge account 'grit'") == one(account="grit")[:2]
    assert "grid" in one(account="grit")[2]
    assert ("partition", "there is no partition 'bach'", "set partition to one of: batch, urgent") == one(
        partition="bach"
    )
    assert ("walltime", "05:00:00 is longer than batch allows (04:00:00)", 'set walltime = "04:00:00" or less') == one(
        walltime="5:00:00"
    )
    assert "memory" == one(memory="32001 MiB")[0]
    assert "set memory to 32000 MiB or less" in one(memory="32001 MiB")[2]
    assert "cores" == one(cores=17)[0]
    assert ("qos", "account grid has no QOS 'long'", "set qos to one of: normal") == one(qos="long")


def test_a_clock_ten_minutes_off_is_found_and_one_a_minute_off_is_not() -> None:
    for offset_s in (600.0, -600.0):
        (found,) = faults(judge_site(described(), recorded(offset_s=offset_s)))
        assert ("clock", f"the clock of the login host is {offset_s:+.0f} s off ours") == found[:2]
        assert "NTP" in found[2]
    assert [] == faults(judge_site(described(), recorded(offset_s=-60.0)))


def test_more_pilots_than_the_accounting_lets_wait() -> None:
    probe = recorded()
    assert probe.associations is not None
    limited = replace(probe, associations=(replace(probe.associations[0], max_submit=4),))
    assert [("caps", "set max_pilots = 4 or less")] == [
        (what, remedy) for what, _, remedy in faults(judge_site(described(max_pilots=5), limited))
    ]
    assert [] == faults(judge_site(described(max_pilots=4), limited))


def test_what_the_site_does_not_say_is_not_called_good() -> None:
    silent = replace(recorded(), associations=None, test_problem=None)
    told = {one.what: one.verdict for one in judge_site(described(), silent)}
    assert ("not_tried", "not_tried") == (told["account"], told["sbatch"])


def test_what_sbatch_says_is_passed_on() -> None:
    refused = replace(recorded(), test_problem="allocation failure: Invalid qos specification")
    assert "Invalid qos specification" in faults(judge_site(described(), refused))[0][1]


def test_a_partition_that_is_down_is_said() -> None:
    probe = recorded()
    down = replace(probe, partitions=tuple(replace(one, state="DOWN") for one in probe.partitions))
    assert ("partition", "batch is DOWN") == faults(judge_site(described(), down))[0][:2]


@given(st.text(), st.text())
def test_no_answer_of_a_site_is_too_odd(shown: str, listed: str) -> None:
    stdout = (
        f"@n begin 5\n@n open partitions\nPartitionName=a MaxTime={shown}\n{shown}\n@n close partitions 0\n"
        f"@n open nodes\n{listed}\n@n close nodes 0\n@n open associations\n{listed}\n@n close associations 0\n@n end\n"
    )
    probe = parse_probe(parse_answer(stdout, "", "n"), clock_offset_s=0)
    assert isinstance(probe, Probe | NoProbe)
    if isinstance(probe, Probe):
        tomllib.loads(site_file(probe, name="x", login=None, now_s=NOW_S))


def report(
    detail: str, *, start_s: int = 100, reason: EndReason = EndReason.IDLE, joined_s: int | None = None
) -> EndReport:
    return EndReport(
        pilot_id=PILOT,
        reason=reason,
        exit_code=0,
        start_s=start_s,
        joined_s=joined_s,
        end_s=start_s + 3,
        node="n1",
        cores=1,
        memory_mib=1,
        jobs=0,
        detail=detail,
    )


def on_node(detail: str, *, start_s: int = 100) -> list[tuple[str, str, str]]:
    site = described(disk="1 GiB", scratch="/scratch")
    found = judge_node(report(detail, start_s=start_s), site=site, collector="cm:9618", window=(90.0, 110.0))
    return faults(found)


def test_what_a_compute_node_lacks_has_its_remedy() -> None:
    assert [] == on_node("net=open free_mib=1088 missing= words=")
    for net, what in (
        ("refused", "port"),
        ("silent", "network"),
        ("unreachable", "network"),
        ("unresolved", "network"),
    ):
        assert [what] == [one[0] for one in on_node(f"net={net} free_mib=1088 missing= words=no route")]
    assert "set disk to less" in on_node("net=open free_mib=1087 missing= words=")[0][2]
    assert "no directory can be made in /scratch" in on_node("net=open free_mib=none missing= words=")[0][1]
    assert ("tools", "n1 has no tar,timeout") == on_node("net=open free_mib=9999 missing=tar,timeout words=")[0][:2]
    assert ["node clock"] == [one[0] for one in on_node("net=open free_mib=9999 missing= words=", start_s=711)]
    assert "+601 s off" in on_node("net=open free_mib=9999 missing= words=", start_s=711)[0][1]
    assert ["node clock"] == [one[0] for one in on_node("net=open free_mib=9999 missing= words=", start_s=10)][:1]


def test_how_a_canary_ends_has_its_remedy() -> None:
    assert "good" == judge_canary(report("", joined_s=105), name="beta").verdict
    for reason, word in (
        (EndReason.NOT_JOINED, "keys.d/pilot-beta"),
        (EndReason.BAD_BUNDLE, "bundle.sha256"),
        (EndReason.NO_SCRATCH, "scratch"),
    ):
        assert word in judge_canary(report("", reason=reason), name="beta").remedy


def test_the_collectors_port_is_htcondors_unless_it_is_named() -> None:
    assert ("cm", 9618) == collector_address("cm")
    assert ("cm", 9619) == collector_address("cm:9619")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_the_job_on_the_node_tells_open_from_refused(shell: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "net=open" in node_detail(shell, tmp_path, port, str(tmp_path))
    assert "net=refused" in node_detail(shell, tmp_path, port, str(tmp_path))
    assert "free_mib=none" in node_detail(shell, tmp_path, port, "/nonexistent")
    assert "net=unresolved" in node_detail(shell, tmp_path, port, str(tmp_path), host="no-such-host.invalid")


def node_detail(shell: list[str], spool: Path, port: int, scratch: str, *, host: str = "127.0.0.1") -> str:
    (spool / "check.env").write_text(f"{PILOT}\n{host}\n{port}\n{scratch}\n64\n")
    subprocess.run([*shell, str(NODE_CHECK), str(spool)], check=True, timeout=60)
    text = (spool / "end.json").read_text()
    found = parse_report(PILOT, text)
    assert isinstance(found, EndReport), text
    assert "missing= " in found.detail
    return str(json.loads(text)["detail"])


def test_span_of_a_day_is_still_a_walltime() -> None:
    long = replace(recorded(), partitions=tuple(replace(one, max_walltime=None) for one in recorded().partitions))
    made = tomllib.loads(site_file(long, name="x", login=None, now_s=NOW_S))["sites"]["x"]
    assert timedelta(hours=12) == Site.model_validate(made).walltime
