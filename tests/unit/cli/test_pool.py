"""``aerotow pool``: the pool's configuration from the operator's file."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from aerotow.cli.main import main
from config.example import example_toml


def run(tmp_path: Path, *argv: str):
    path = tmp_path / "aerotow.toml"
    path.write_text(example_toml())
    return CliRunner().invoke(main, ["--config", str(path), "pool", *argv])


def test_the_central_managers_configuration_knows_the_sites_of_the_file(tmp_path: Path) -> None:
    done = run(tmp_path, "cm")
    assert 0 == done.exit_code, done.output
    assert "COLLECTOR_REQUIREMENTS" in done.stdout
    assert "pilot-" in done.stdout


def test_an_access_points_configuration_knows_the_projects_of_the_file(tmp_path: Path) -> None:
    done = run(tmp_path, "ap", "ap1")
    assert 0 == done.exit_code, done.output
    assert "dp001" in done.stdout


def test_an_unknown_access_point_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    done = run(tmp_path, "ap", "ap11")
    assert 2 == done.exit_code
    assert "did you mean 'ap1'" in done.stderr
