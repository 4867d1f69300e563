"""``aerotow simulate`` needs neither a configuration nor a database."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from accounting.books import Books
from aerotow.cli.main import main
from tests.unit.accounting.record_samples import MIDNIGHT, epoch, final, seen
from tests.unit.cli.desk import Desk


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["--config", "/nowhere/aerotow.toml", "simulate", *words])


def test_policies_are_compared_without_any_file() -> None:
    done = run("run", "--days", "0.2", "--drain-days", "0.3", "--policy", "aerotow", "--policy", "feedback", "--json")
    assert 0 == done.exit_code, done.output
    ours, other = json.loads(done.stdout)
    assert ("aerotow", "feedback") == (ours["policy"], other["policy"])
    assert ours["jobs"] == other["jobs"] > 0
    assert ["alpha", "beta", "gamma"] == [site["site"] for site in ours["sites"]]


def test_a_generated_trace_is_read_again_and_the_report_is_written(tmp_path: Path) -> None:
    made = run("generate", "trickle", "--days", "0.1")
    trace = tmp_path / "trace.jsonl"
    trace.write_text(made.stdout)
    done = run("run", "--trace", str(trace), "--out", str(tmp_path / "report"))
    assert 0 == done.exit_code, done.output
    assert "aerotow" in done.stdout
    assert "turnaround.svg" in {path.name for path in (tmp_path / "report").iterdir()}
    (told,) = json.loads((tmp_path / "report" / "report.json").read_text())
    assert len(made.stdout.splitlines()) == told["jobs"]


def test_a_trace_that_cannot_be_read_ends_with_its_line(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"submit_s": 0}\n')
    done = run("run", "--trace", str(trace))
    assert 2 == done.exit_code
    assert "line 1: no 'runtime_s'" in done.stderr


def test_the_operators_own_sites_can_be_tried(desk: Desk) -> None:
    told = desk.json("simulate", "run", "--my-sites", "--days", "0.1")
    assert {site["site"] for site in told[0]["sites"]} <= {"alpha", "beta"}


def test_faults_are_simulated_by_seed() -> None:
    done = run("faults", "--seeds", "1", "--seed", "3", "--cycles", "5", "--json")
    assert 0 == done.exit_code, done.output
    (told,) = json.loads(done.stdout)
    assert (3, []) == (told["seed"], told["findings"])


def test_a_database_gives_a_trace_of_its_ended_jobs(desk: Desk) -> None:
    # Mutation: leave the vacated attempt in (accounting/finished.py), and half a job is exported.
    books = Books(f"sqlite:///{desk.world.directory}/ledger.db")
    books.payload.ingest(
        seen(
            epoch(1, 0, start_s=MIDNIGHT, end_s=MIDNIGHT + 50, vacate_code=1001),
            epoch(1, 1),
            epoch(2, 0, global_job_id=f"ap1#2.0#{MIDNIGHT}", owner="bob", cores=4),
            epoch(3, 0),
            epoch(4, 0, vacate_code=1001),
            final(1),
            final(4),
            final(2, global_job_id=f"ap1#2.0#{MIDNIGHT}"),
        ),
        MIDNIGHT + 5000,
    )
    lines = [json.loads(line) for line in desk.run("simulate", "export").stdout.splitlines()]
    assert [
        {"submit_s": 0.0, "runtime_s": 100.0, "cores": 2, "memory_mib": 2000, "user": "alice", "project": "dp001"},
        {"submit_s": 500.0, "runtime_s": 100.0, "cores": 4, "memory_mib": 2000, "user": "bob", "project": "dp001"},
    ] == lines


def test_a_workload_log_becomes_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "log.swf"
    path.write_text("; Version: 2.2\n1 7 0 60 1 -1 -1 1 -1 -1 1 1 1 -1 -1 -1 -1 -1\n2 9 0 -1 1" + " -1" * 13 + "\n")
    done = run("import-swf", str(path))
    assert 0 == done.exit_code, done.output
    assert [{"submit_s": 0.0, "runtime_s": 60.0, "user": "user1", "project": "group1"}] == [
        json.loads(line) for line in done.stdout.splitlines()
    ]
    assert "left out: 1 line: no run time" in done.stderr
