"""payload.sh under three shells: a payload ends as it would without it, unless the pilot has been told to stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glidein.script import PAYLOAD_SCRIPT

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}

GUARD = f"""\
#!{sys.executable}
# Does what HTCondor's condor_pid_ns_init does: forwards signals, writes the raw wait status, exits.
import os, signal, sys
child = 0
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda n, _: child and os.kill(child, n))
child = os.fork()
out = os.environ["_CONDOR_PID_NS_INIT_STATUS_FILENAME"]
if child == 0:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(sys.argv[1], sys.argv[1:])
    except OSError as error:
        open(out, "w").write(f"ExecFailed: {{error.errno}}\\n")
        os._exit(0)
_, status = os.waitpid(child, 0)
if not os.path.exists(out):
    open(out, "w").write(f"Exited: {{status}}\\n")
"""


@pytest.fixture(params=SHELLS)
def wrapper(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    place = tmp_path / "pilot"
    for name in ("condor/libexec", "run", "log"):
        (place / name).mkdir(parents=True)
    guard = place / "condor/libexec/condor_pid_ns_init"
    guard.write_text(GUARD)
    guard.chmod(0o755)
    (place / "log/StarterLog.slot1_1").write_text("nothing yet\n")
    shutil.copy(PAYLOAD_SCRIPT, place / "payload.sh")
    return [shutil.which(shell[0]) or "", *shell[1:], str(place / "payload.sh")]


def place_of(wrapper: list[str]) -> Path:
    return Path(wrapper[-1]).parent


def start(wrapper: list[str], script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*wrapper, "/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={"PATH": "/nonexistent"},
        # Whoever runs the suite in the background ignores these, and a shell cannot trap what it was started ignoring.
        preexec_fn=heed_signals,
    )


def heed_signals() -> None:
    """Take signals as a starter's child does."""
    for name in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)


def reap_in_background(process: subprocess.Popen[str]) -> Callable[[float], int | None]:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(process.wait()), daemon=True)
    thread.start()

    def result(timeout_s: float) -> int | None:
        thread.join(timeout_s)
        return done[0] if done else None

    return result


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 143", 143),
        ("kill -TERM $$", -15),
        ("kill -KILL $$", -9),
        ("kill -SEGV $$", -11),
        ("kill -INT $$", -2),
        ("trap 'exit 7' TERM; kill -TERM $$; exit 8", 7),
    ],
)
def test_payload_ends_as_it_ended(wrapper: list[str], script: str, status: int) -> None:
    assert status == start(wrapper, script).wait(timeout=15)
    assert 1 == len((place_of(wrapper) / "payloads").read_text().splitlines())
    assert [] == list((place_of(wrapper) / "run").iterdir())


def test_standard_files_and_arguments_are_the_payloads(wrapper: list[str]) -> None:
    done = subprocess.run(
        [*wrapper, "/bin/sh", "-c", 'read x; echo "$x|$0|$1"; echo e >&2', "a b", "c*"],
        input="in put\n",
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    assert ("in put|a b|c*\n", "e\n") == (done.stdout, done.stderr)


@pytest.mark.parametrize(("what", "status"), [("/no/such/program", 127), ("/etc/passwd", 126)])
def test_what_cannot_be_run_ends_as_in_a_shell(wrapper: list[str], what: str, status: int) -> None:
    done = subprocess.run([*wrapper, what], capture_output=True, text=True, timeout=15, check=False)
    assert status == done.returncode
    assert f"cannot run {what}" in done.stderr


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"])
def test_signal_reaches_the_payload(wrapper: list[str], name: str) -> None:
    process = start(wrapper, f"trap 'echo got; exit 0' {name}; echo ready; while :; do /bin/sleep 0.1; done")
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()
    process.send_signal(signal.Signals[f"SIG{name}"])
    assert "got\n" == process.stdout.readline()
    assert 0 == process.wait(timeout=15)


def test_request_of_the_starter_to_end_is_passed_on_and_answered_soon(wrapper: list[str]) -> None:
    process = start(wrapper, "echo ready; exec /bin/sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert -15 == process.wait(timeout=5)


@pytest.mark.parametrize("wrapper_first", [True, False])
def test_death_by_the_signal_to_all_is_kept_until_the_starter_knows(wrapper: list[str], wrapper_first: bool) -> None:
    process = start(wrapper, "echo $$; exec /bin/sleep 60")
    assert process.stdout is not None
    payload = int(process.stdout.readline())
    result = reap_in_background(process)
    (place_of(wrapper) / "stopping").write_text("")
    for number in (process.pid, payload) if wrapper_first else (payload, process.pid):
        with contextlib.suppress(ProcessLookupError):  # the wrapper was quicker to pass it on
            os.kill(number, signal.SIGTERM)
        time.sleep(0.05)
    assert result(4.0) is None, "the starter would now report the job as completed"
    log = place_of(wrapper) / "log/StarterLog.slot1_1"
    log.write_text(f"11/22/26 15:14:33 (pid:{os.getpid()}) ShutdownGraceful all jobs.\n")
    assert -15 == result(4.0)


def test_payload_that_answers_the_signal_with_an_error_is_kept_too(wrapper: list[str]) -> None:
    process = start(wrapper, "trap 'exit 1' TERM; echo $$; while :; do /bin/sleep 0.1; done")
    assert process.stdout is not None
    payload = int(process.stdout.readline())
    result = reap_in_background(process)
    (place_of(wrapper) / "stopping").write_text("")
    os.kill(payload, signal.SIGTERM)
    assert result(3.0) is None
    process.kill()
