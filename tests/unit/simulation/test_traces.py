"""Trace files: what is written is read, and what has no meaning is refused with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.errors import TraceUnreadable, WorldUnreadable
from simulation.model import Outage, Regime, TraceJob
from simulation.swf import parse_swf, read_swf
from simulation.trace import parse_trace, read_trace, trace_lines
from simulation.worldfile import read_world

JOBS = st.builds(
    TraceJob,
    submit_s=st.floats(0, 1e9),
    cores=st.integers(1, 512),
    memory_mib=st.integers(0, 10**7),
    disk_mib=st.integers(0, 10**7),
    gpus=st.integers(0, 8),
    runtime_s=st.floats(0, 1e7),
    declared_s=st.none() | st.integers(1, 10**7),
    user=st.text(min_size=1, max_size=8),
    project=st.text(max_size=8),
    requirements=st.sampled_from(("", 'GlideinSite == "alpha"', "Memory > 2 * RequestMemory")),
)


@given(st.lists(JOBS, max_size=8))
def test_what_is_written_is_read(jobs: list[TraceJob]) -> None:
    in_order = tuple(sorted(jobs, key=lambda job: job.submit_s))
    assert in_order == parse_trace(trace_lines(in_order), path="t")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"submit_s": 1}', "no 'runtime_s'"),
        ('{"submit_s": 1, "runtime_s": 2, "core": 3}', "unknown key 'core'"),
        ('{"submit_s": -1, "runtime_s": 2}', "'submit_s' is less than 0"),
        ('{"submit_s": 1, "runtime_s": true}', "'runtime_s' is no number"),
        ('{"submit_s": 1, "runtime_s": NaN}', "'runtime_s' is no number"),
        ('{"submit_s": 1, "runtime_s": 2, "cores": 1.5}', "'cores' is no whole number"),
        ('{"submit_s": 1, "runtime_s": 2, "cores": 0}', "'cores' is less than 1"),
        ('{"submit_s": 1, "runtime_s": 2, "user": 7}', "'user' is no text"),
        ('{"submit_s": 1, "runtime_s": 2, "requirements": "a &&"}', "no ClassAd expression"),
    ],
)
def test_a_line_without_meaning_is_refused_with_its_number(line: str, words: str) -> None:
    with pytest.raises(TraceUnreadable) as caught:
        parse_trace(["# a comment", "", line], path="jobs.jsonl")
    assert "jobs.jsonl, line 3: " in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceUnreadable, match="cannot be read"):
        read_trace(tmp_path / "none.jsonl")


WORLD = """
negotiator = "30 s"

[sites.alpha]
regimes = [{ median = "2 min", lasts = "6 h" }]
fizzle = 0.1
outages = [{ begin = "1 d", length = "2 h", kills = false }]
"""


def test_a_world_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "world.toml"
    path.write_text(WORLD)
    model = read_world(path, sites=frozenset({"alpha", "beta"}))
    (alpha,) = model.sites
    assert (30, 0.1) == (model.negotiator_s, alpha.fizzle)
    assert (Regime(median_s=120, lasts_s=21_600),) == alpha.regimes
    assert (Outage(begin_s=86_400, length_s=7200, kills=False),) == alpha.outages


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x =", "is no TOML"),
        ("[sites.alpha]\nregimes = []", "sites.alpha.regimes"),
        (WORLD.replace("fizzle", "fizle"), "fizle"),
        (WORLD.replace("0.1", "1.1"), "sites.alpha.fizzle"),
        (WORLD.replace("alpha", "delta"), "sites.delta is no configured site; the sites are alpha, beta"),
    ],
)
def test_a_world_file_that_does_not_fit_is_refused_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "world.toml"
    path.write_text(text)
    with pytest.raises(WorldUnreadable) as caught:
        read_world(path, sites=frozenset({"alpha", "beta"}))
    assert words in str(caught.value)


# Job, submit, wait, run, allocated, cpu, used KiB, asked, asked s, asked KiB, status, user, group, five more.
SWF = """
; Version: 2.2
; Computer: An example
; Note: a comment: with a colon
;
1 100 10 3600 4 -1 -1 8 7200 524288 1 3 7 1 1 1 -1 -1
2 160 -1 -1 -1 -1 -1 1 600 -1 5 4 7 1 1 1 -1 -1
3 170 5 30.5 2 20 2048 -1 -1 -1 0 -1 -1 -1 -1 -1 -1 -1
4 180 5 700 1 -1 -1 1 600 -1 1 4 7 1 1 1 -1 -1
5 190 5 700 1 -1 -1 1 600 -1 2 4 7 1 1 1 -1 -1
6 195 5 -1 1 -1 -1 1 600 -1 1 4 7 1 1 1 -1 -1
7 199 5 10 64 -1 -1 64 600 -1 1 4 7 1 1 1 -1 -1
"""


def test_a_standard_workload_file_is_read(tmp_path: Path) -> None:
    # Mutation: read any field from the place beside it (_job in simulation/swf.py).
    path = tmp_path / "log.swf.gz"
    path.write_bytes(gzip.compress(SWF.encode()))
    read = read_swf(path, max_cores=32)
    assert (
        TraceJob(submit_s=0, cores=8, memory_mib=4096, runtime_s=3600, declared_s=7200, user="user3", project="group7"),
        # Nothing was asked for: what it was given and used; nobody is known.
        TraceJob(submit_s=70, cores=2, memory_mib=4, runtime_s=30.5),
        # It ran longer than it asked for, which HTCondor would not have allowed.
        TraceJob(submit_s=80, cores=1, runtime_s=700, declared_s=700, user="user4", project="group7"),
    ) == read.jobs
    assert (("Version", "2.2"), ("Computer", "An example"), ("Note", "a comment: with a colon")) == read.header
    assert {
        "cancelled before it ran": 1,
        "part of a checkpointed job": 1,
        "no run time": 1,
        "more than 32 cores": 1,
    } == dict(read.left_out)


@pytest.mark.parametrize("line", ["1 2 3", "a " * 18, "nan " * 18])
def test_another_format_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(TraceUnreadable, match="log, line 2: is not 18 numbers"):
        parse_swf(["; Version: 2", line], path="log")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.swf.gz"
    path.write_bytes(gzip.compress(SWF.encode())[:40])
    with pytest.raises(TraceUnreadable, match="cannot be read"):
        read_swf(path)
