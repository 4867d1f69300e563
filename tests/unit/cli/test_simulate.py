"""``aerotow simulate`` needs neither a configuration nor a database."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from aerotow.cli.main import main
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
