"""Running scripts: limits, deadlines, and what is sent."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import SiteSetupError
from factory.sites.exchange import exchange
from factory.sites.shell import LocalShell, Outcome, Script, SshShell, remote_argv


def run(text: str, data: bytes = b"", *, timeout_s: float = 20, limit_bytes: int = 100_000) -> tuple[Outcome, bytes]:
    result = LocalShell().run(Script(text=text, data=data, timeout_s=timeout_s, limit_bytes=limit_bytes))
    return result.outcome, result.stdout


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=2000), st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=50))
def test_script_and_data_arrive_byte_for_byte_through_a_shell(data: bytes, word: str) -> None:
    # The remote side of ssh hands one string to the login shell: here it is sh.
    script = Script(text=f"main() {{\nprintf %s {shlex.quote(word)}; cat\n}}\nmain\n", data=data, timeout_s=10)
    done = subprocess.run(
        ["sh", "-c", shlex.join(remote_argv(script))], input=script.text.encode() + data, capture_output=True
    )
    assert word.encode() + data == done.stdout


def test_nothing_of_script_or_data_is_in_an_argument() -> None:
    script = Script(text="main() { echo secret; }\nmain\n", data=b"token", timeout_s=10)
    shell = SshShell(site="alpha", login="u@h", control_dir=Path("/run/x"))
    for argv in (remote_argv(script), shell.client_argv(script)):
        assert not any("secret" in word or "token" in word for word in argv)
    assert "token" not in repr(script)


def test_no_cut_of_a_script_runs_any_of_it(tmp_path: Path) -> None:
    # Measured with sbatch fed from ssh: a stream that is cut is run as far as it came. Dies without main().
    text = f"main() {{\ntouch {tmp_path}/ran\n}}\nmain\n"
    for length in range(len(text) - len("main\n") + 4):
        argv = remote_argv(Script(text=text, timeout_s=10))
        exchange(argv, data=text[:length].encode(), timeout_s=10, limit_bytes=1000)
        assert not (tmp_path / "ran").exists() or text[:length].endswith("main"), length


def test_a_script_that_hangs_is_ended_on_the_other_side_too() -> None:
    began_s = time.monotonic()
    outcome, _ = run("main() {\nsleep 1234.5\n}\nmain\n", timeout_s=1)
    assert outcome is Outcome.TIMED_OUT
    assert time.monotonic() - began_s < 6
    found = subprocess.run(["pgrep", "-f", "sleep 1234.5"], capture_output=True, text=True).stdout
    assert found == ""


def test_a_script_that_ignores_term_is_killed() -> None:
    outcome, _ = run("main() {\ntrap '' TERM; while :; do sleep 0.1; done\n}\nmain\n", timeout_s=1)
    assert outcome is Outcome.TIMED_OUT


def test_too_much_output_is_not_read() -> None:
    outcome, stdout = run("main() {\nyes\n}\nmain\n", limit_bytes=10_000)
    assert outcome is Outcome.TOO_MUCH
    assert len(stdout) < 200_000


def test_a_script_that_does_not_read_its_data_is_no_failure() -> None:
    assert run("main() {\necho done\n}\nmain\n", data=b"x" * 1_000_000) == (Outcome.ANSWERED, b"done\n")


def test_a_killed_carrier_is_a_lost_connection() -> None:
    answer = exchange(["sh", "-c", "kill -9 $$"], data=b"", timeout_s=5, limit_bytes=100)
    assert ("exited", -9) == (answer.ending, answer.status)


def test_a_command_that_is_not_there_was_not_started() -> None:
    assert exchange(["/nonexistent/ssh"], data=b"", timeout_s=5, limit_bytes=100).ending == "not_started"


def test_a_host_that_refuses_is_no_connection(tmp_path: Path) -> None:
    shell = SshShell(site="a", login="nobody@127.0.0.1", control_dir=tmp_path / "c", options=("-p1", "-Fnone"))
    result = shell.run(Script(text="main() {\necho\n}\nmain\n", timeout_s=5))
    assert result.outcome is Outcome.NOT_CONNECTED
    assert b"refused" in result.stderr
    shell.close()


def test_a_socket_name_that_is_too_long_names_the_remedy() -> None:
    with pytest.raises(SiteSetupError, match=r"alpha: .* too long .*; choose a shorter instance\.state_dir"):
        SshShell(site="alpha", login="u@h", control_dir=Path("/" + "x" * 90))


def test_a_login_that_reads_as_an_option_is_refused() -> None:
    with pytest.raises(SiteSetupError):
        SshShell(site="alpha", login="-oProxyCommand=x", control_dir=Path("/run"))
