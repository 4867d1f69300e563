"""Commands that do something, and what they say when they cannot."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import stat
import tarfile
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner

from accounting.books import Books
from aerotow.cli.log import set_up_log
from aerotow.cli.main import Commands, main
from config.example import example_toml
from config.load import parse_config
from tests.simulation.world import INSTANCE
from tests.unit.accounting.record_samples import MIDNIGHT, epoch, final, running, seen
from tests.unit.cli.desk import Desk


def test_stop_and_resume(desk: Desk) -> None:
    for site in desk.world.sites.values():
        site.room = 0
    desk.world.submit_jobs(20)
    desk.world.cycle()
    text = desk.run("stop", "alpha", "--reason", "cooling  fails").stdout
    assert "alpha: stopped; no new pilots until 'aerotow resume alpha'" in text
    assert "3 waiting pilots to cancel in the next cycle" in text
    (stop,) = desk.world.ledger.stops()
    assert ("alpha", "cooling fails") == (stop.site, stop.reason)
    assert "cooling fails" in desk.run("status").stdout
    desk.world.cycle()
    desk.world.cycle()
    assert set() == {pilot.offer.site for pilot in desk.world.ledger.open_pilots(INSTANCE)} - {"beta"}
    assert "alpha: resumed" in desk.run("resume", "alpha").stdout
    assert () == desk.world.ledger.stops()
    assert "was not stopped; it is looked at in the next cycle" in desk.run("resume", "alpha").stdout


def test_one_lever_stops_everything(desk: Desk) -> None:
    desk.run("stop", "--all", "--reason", "fire")
    assert ["alpha", "beta"] == sorted(stop.site for stop in desk.world.ledger.stops())
    assert "name a SITE, or say --all" in desk.run("stop", "alpha", "--all", "--reason", "x", code=2).stderr
    assert "name a SITE, or say --all" in desk.run("resume", code=2).stderr
    desk.run("resume", "--all")
    assert () == desk.world.ledger.stops()


def test_stop_wants_a_known_site_and_a_reason(desk: Desk) -> None:
    assert "did you mean 'beta'?" in desk.run("stop", "betta", "--reason", "x", code=2).stderr
    assert "--reason" in desk.run("stop", "beta", code=2).stderr
    assert "--reason is empty" in desk.run("stop", "beta", "--reason", " ", code=2).stderr
    assert () == desk.world.ledger.stops()


def test_the_example_is_a_file_that_the_program_takes() -> None:
    text = CliRunner().invoke(main, ["config", "example"]).stdout
    assert example_toml() == text
    parse_config(text, path=Path("example"))


def test_every_default_in_the_example_is_the_default_in_force() -> None:
    # Mutation: write timedeltas in minutes (config/example.py), and lease or cycle differ.
    text = example_toml()
    plain = parse_config(text, path=Path("example"))
    # shared_dir stands for login, which the example has, and schedd for all of Slurm's.
    spelled = parse_config(
        re.sub(r"^#(?!shared_dir|schedd|collector)(?=[a-z_]+ = )", "", text, flags=re.MULTILINE), path=Path("example")
    )
    for table in ("pool", "limits", "factory", "breaker"):
        assert getattr(plain, table) == getattr(spelled, table)


def test_config_check_sums_up_what_it_read(desk: Desk) -> None:
    result = desk.run("config", "check")
    assert "fine" in result.stdout.splitlines()[0]
    for expected in ("ap1 (ap1.pool)", "dp001: alice", "pilot@login.alpha", "0-02:00:00", "8000 MiB"):
        assert expected in result.stdout
    assert "note: bundle.path" in result.stdout
    assert ["alpha", "beta"] == sorted(desk.json("config", "check")["config"]["sites"])


def test_config_check_tells_every_error_with_file_key_and_remedy(desk: Desk, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    text = desk.app.config_path.read_text()
    bad.write_text(text.replace("partition", "partitoin", 1).replace('walltime = "2:00:00"', "walltime = 7200", 1))
    result = desk.run("config", "check", str(bad), code=2)
    assert f"{bad}: sites.alpha.partitoin: is not a key of this table; did you mean 'partition'?" in result.stderr
    assert "sites.alpha.walltime" in result.stderr
    assert "7200 has no unit" in result.stderr
    assert "" == result.stdout


def test_a_missing_file_says_which_option_to_give() -> None:
    result = CliRunner().invoke(main, ["--config", "/nowhere/aerotow.toml", "status"])
    assert (2, "") == (result.exit_code, result.stdout)
    assert "/nowhere/aerotow.toml: cannot be read" in result.stderr
    assert "--config" in result.stderr


def test_a_database_that_cannot_be_opened_is_told_with_the_remedy(desk: Desk) -> None:
    path = desk.app.config_path
    path.write_text(path.read_text().replace("/ledger.db", "/no/such/ledger.db"))
    assert "cannot be opened" in desk.run("status", code=1).stderr


def test_a_database_password_is_not_shown(desk: Desk) -> None:
    path = desk.app.config_path
    path.write_text(re.sub(r'database = ".*"', 'database = "postgresql+psycopg://me:hunter2@db/x"', path.read_text()))
    assert "hunter2" not in desk.run("config", "check").output
    assert "hunter2" not in desk.run("config", "check", "--json").output


def test_tokens_are_made_and_shown_without_a_secret(desk: Desk) -> None:
    secrets = desk.world.directory / "secrets"
    for name in ("cm", "ap-ap1", "pilot-alpha"):
        desk.run("token", "key", name)
        assert 0o600 == stat.S_IMODE((secrets / "keys.d" / name).stat().st_mode)
    assert "already there" in desk.run("token", "key", "cm", code=1).stderr
    out = desk.world.directory / "pilot.token"
    results = [
        desk.run("token", "mint", "read", "ap1"),
        desk.run("token", "mint", "read", "cm"),
        desk.run("token", "mint", "pilot", "alpha", "--out", str(out)),
        desk.run("token", "mint", "ap", "ap1", "--out", f"{out}.ap", "--lifetime", "30 d"),
        desk.run("token", "show", str(out)),
        desk.run("token", "show", str(out), "--json"),
    ]
    assert 0o600 == stat.S_IMODE(out.stat().st_mode)
    for file in (secrets / "tokens.d" / "ap1", secrets / "tokens.d" / "cm", out):
        token = file.read_text().strip()
        # Mutation: print the token in 'token mint' or 'token show'.
        assert [] == [result for result in results if token.rpartition(".")[2] in result.output]
    (shown,) = desk.json("token", "show", str(out))
    assert ("pilot-alpha@pool", "pilot-alpha") == (shown["subject"], shown["kid"])
    assert ["condor:/ADVERTISE_STARTD", "condor:/ADVERTISE_MASTER"] == shown["scopes"]
    # The longest wait in the queue, the walltime and some slack.
    assert shown["expires_s"] - shown["issued_s"] > 2 * 86400 + 7200


def test_token_mint_says_what_is_wrong(desk: Desk) -> None:
    assert "did you mean 'alpha'?" in desk.run("token", "mint", "pilot", "alfa", "--out", "/tmp/x", code=2).stderr
    assert "--out FILE" in desk.run("token", "mint", "pilot", "alpha", code=2).stderr
    assert "no signing key can be read" in desk.run("token", "mint", "read", "cm", code=1).stderr
    assert "'5' is no span" in desk.run("token", "mint", "read", "cm", "--lifetime", "5", code=2).stderr
    assert "is no name of a key" in desk.run("token", "key", "../x", code=2).stderr


def test_bundle_verify_tells_a_wrong_sha256(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "upstream.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        member = tarfile.TarInfo("condor-25.14/sbin/condor_master")
        tar.addfile(member, io.BytesIO())
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert sha256 == desk.json("bundle", "verify", str(file), "--sha256", sha256)["sha256"]
    assert "its sha256 is" in desk.run("bundle", "verify", str(file), "--sha256", "0" * 64, code=1).stderr


def test_usage_is_by_the_keys_asked_for_and_says_how_far_it_is_complete(desk: Desk) -> None:
    books = Books(f"sqlite:///{desk.world.directory}/ledger.db")
    books.payload.ingest(seen(epoch(1), final(1), epoch(2, owner="bob"), running(9)), MIDNIGHT + 5000)
    told = desk.json("usage", "--by", "user,vo")
    rows = {row["user"]: row for row in told["payload"]}
    assert ("astro", 200, 1) == (rows["alice"]["vo"], rows["alice"]["core_s"], rows["alice"]["running"])
    assert {"ap1": True, "ap2": False} == {stream["ap"]: stream["complete"] for stream in told["streams"]}
    text = desk.run("usage", "--by", "user,day").stdout
    assert "ap1: complete up to 2024-10-04 01:23:20" in text
    assert "ap2: no data yet: the history has never been read" in text
    assert "sum of what ended: 0.11 core hours" in text
    assert [] == desk.json("usage", "--since", "2024-09-01", "--until", "2024-09-02")["payload"]


def test_usage_of_a_history_that_is_read_in_parts_is_complete_up_to_the_mark_only(desk: Desk) -> None:
    # Mutation: take the time of the reading for the time up to which all is read (aerotow/cli/status.py).
    books = Books(f"sqlite:///{desk.world.directory}/ledger.db")
    books.payload.ingest(seen(epoch(1)), MIDNIGHT + 5000)
    cut = seen(epoch(3, start_s=MIDNIGHT + 7000, end_s=MIDNIGHT + 8000), taken_s=MIDNIGHT + 9000, complete=False)
    books.payload.ingest(cut, MIDNIGHT + 9000)
    assert "ap1: complete up to 2024-10-04 00:18:20; newer records are being read" in desk.run("usage").stdout
    assert not desk.json("usage")["streams"][0]["complete"]


def test_usage_flags_what_no_record_tells_of(desk: Desk) -> None:
    books = Books(f"sqlite:///{desk.world.directory}/ledger.db")
    books.payload.ingest(
        seen(epoch(1), final(1, wall_s=3700), epoch(5, start_s=MIDNIGHT + 3000, end_s=MIDNIGHT + 4000)), MIDNIGHT + 5000
    )
    assert "residual" in desk.run("usage").stdout
    assert 7200 == sum(row["residual_core_s"] for row in desk.json("usage")["payload"])


def test_usage_refuses_nonsense(desk: Desk) -> None:
    assert "did you mean 'user'?" in desk.run("usage", "--by", "usr", code=2).stderr
    assert "is no time" in desk.run("usage", "--since", "yesterday", code=2).stderr
    assert "not before" in desk.run("usage", "--since", "1 h", "--until", "2 h", code=2).stderr


def test_a_second_factory_is_refused_and_the_first_is_named(desk: Desk) -> None:
    result = desk.run("run", "--once", code=1)
    assert "sim-1 acts for it until" in result.stderr


def test_run_refuses_an_unknown_crash_point(desk: Desk) -> None:
    assert "points are observed" in desk.run("run", "--once", "--crash-at", "nowhere", code=2).stderr
    assert "--crash-at" not in desk.run("run", "--help").stdout


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variables(log_format: str, capsys: pytest.CaptureFixture[str], desk: Desk) -> None:
    # Mutation: leave structlog's own exception formatter in place; with rich installed it prints locals.
    set_up_log(log_format, level=logging.INFO)  # type: ignore[arg-type]

    def mint() -> None:
        token = "eyJhbGciOi" + "JIUzI1NiJ9"
        raise ValueError(f"broken at {len(token)}")

    try:
        mint()
    except ValueError:
        structlog.get_logger().exception("mint.broke")
    told = capsys.readouterr()
    assert "mint.broke" in told.err
    assert "broken" in told.err
    assert "eyJhbGciOiJIUzI1NiJ9" not in told.err + told.out


def test_a_brought_command_that_does_not_load_harms_no_other() -> None:
    brought = (
        EntryPoint(name="gone", value="no_such_package.commands:gone", group="aerotow.commands"),
        EntryPoint(name="odd", value="math:pi", group="aerotow.commands"),
        EntryPoint(name="good", value="aerotow.cli.config:example", group="aerotow.commands"),
    )
    group = Commands("aerotow", brought=lambda: brought)
    group.add_command(click.Command("own", callback=lambda: click.echo("own works")))
    runner = CliRunner()
    listing = runner.invoke(group, ["--help"])
    assert 0 == listing.exit_code
    assert "cannot be loaded" in listing.stdout
    assert "own works\n" == runner.invoke(group, ["own"]).stdout
    assert "[instance]" in runner.invoke(group, ["good"]).stdout
    gone = runner.invoke(group, ["gone", "up", "--fast"])
    assert 1 == gone.exit_code
    assert "No module named 'no_such_package'" in gone.stderr
    assert "is no click command" in runner.invoke(group, ["odd"]).stderr


def test_version_and_help() -> None:
    runner = CliRunner()
    assert "aerotow, version" in runner.invoke(main, ["--version"]).stdout
    text = runner.invoke(main, ["--help"]).stdout
    own = ("bundle", "config", "pilot", "pilots", "plan", "resume", "run", "sites", "status", "stop", "token", "usage")
    for command in (*own, "why"):
        assert f"\n  {command} " in text
    assert 2 == runner.invoke(main, ["no-such-command"]).exit_code


def test_config_diff_says_what_a_file_would_change(desk: Desk, tmp_path: Path) -> None:
    # Mutation: difference(load_config(file), app.config): the values are the wrong way round.
    now = Path(desk.run("config", "check").stdout.split(": fine")[0])
    other = tmp_path / "other.toml"
    text = now.read_text()
    other.write_text(text + "\n[politeness]\nbackoff = '45 s'\n")
    assert "politeness.backoff: 30.000 s, now 45.000 s" in desk.run("config", "diff", str(other)).stdout
    same = tmp_path / "same.toml"
    same.write_text(text)
    assert "no difference" in desk.run("config", "diff", str(same)).stdout
