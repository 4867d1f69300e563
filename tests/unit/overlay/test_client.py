"""A question gets a complete answer or none, whatever the process behind it does."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from overlay import worker
from overlay.classads import parse_ad
from overlay.client import Answer, Ap, NoAnswer, PoolClient, ask, collector_step, jobs_step, read_answer
from overlay.sparing import DUTY_MAX, Asked

STEPS = [collector_step(ads="startd", constraint="true", projection=("Name",))]
COMPLETE = [["ad", 0, "[ Name = 1 ]"], ["end", 0, 1], ["done", 1]]


def client_of(tmp_path: Path, script: str, **settings: object) -> PoolClient:
    path = tmp_path / "worker.py"
    path.write_text(script)
    return PoolClient(
        collector="cm.example",
        tokens_dir=tmp_path,
        command=(sys.executable, str(path)),
        **settings,  # type: ignore[arg-type]
    )


def printing(*lines: object, then: str = "") -> str:
    return f"import sys, json\nsys.stdin.read()\nfor l in {list(lines)!r}: print(json.dumps(l), flush=True)\n{then}\n"


def test_complete_answer_is_read(tmp_path: Path) -> None:
    answer = ask(client_of(tmp_path, printing(*COMPLETE)), STEPS)

    assert isinstance(answer, Answer)
    assert answer.steps == (("[ Name = 1 ]",),)


def test_empty_answer_that_says_so_is_an_answer(tmp_path: Path) -> None:
    answer = ask(client_of(tmp_path, printing(["end", 0, 0], ["done", 1])), STEPS)

    assert isinstance(answer, Answer)
    assert answer.steps == ((),)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("", "incomplete"),
        ("import sys; sys.exit(3)", "status 3"),
        ("import os; os.kill(os.getpid(), 11)", "status -11"),
        (printing(["end", 0, 0]), "incomplete"),
        (printing(["ad", 0, "[ ]"], ["end", 0, 2], ["done", 1]), "makes no sense"),
        (printing(["end", 0, 0], ["done", 2]), "makes no sense"),
        (printing(["end", 0, 0], ["end", 0, 0], ["done", 1]), "makes no sense"),
        (printing(*COMPLETE, ["ad", 0, "[ ]"]), "makes no sense"),
        (printing(["failed", "HTCondorException", "DENIED by\n the daemon"]), "DENIED by the daemon"),
        (printing("hello"), "makes no sense"),
        ("print('[\"end\", 0')", "damaged"),
        ("raise RuntimeError('broken inside')", "broken inside"),
    ],
)
def test_anything_else_is_no_answer(tmp_path: Path, script: str, reason: str) -> None:
    answer = ask(client_of(tmp_path, script), STEPS)

    assert isinstance(answer, NoAnswer)
    assert reason in answer.reason


def test_worker_that_hangs_is_killed_at_the_deadline_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    began = time.monotonic()
    answer = ask(client_of(tmp_path, script, timeout_s=1.0), STEPS)

    assert answer == NoAnswer(reason="no answer in 1 s")
    assert time.monotonic() - began < 5
    for pid in pids.read_text().split():
        assert not is_alive(int(pid))


def test_answer_that_comes_but_never_ends_is_none(tmp_path: Path) -> None:
    script = printing(*COMPLETE, then="import time; time.sleep(600)")

    assert ask(client_of(tmp_path, script, timeout_s=1.0), STEPS) == NoAnswer(reason="no answer in 1 s")


def test_answer_without_end_in_size_is_cut_off(tmp_path: Path) -> None:
    script = "while True: print('x' * 65536)"
    answer = ask(client_of(tmp_path, script, output_max_bytes=1_000_000), STEPS)

    assert answer == NoAnswer(reason="the answer is longer than 1000000 bytes")


def test_program_that_is_missing_is_no_answer(tmp_path: Path) -> None:
    client = PoolClient(collector="cm", tokens_dir=tmp_path, command=("/no/such/program",))

    assert isinstance(ask(client, STEPS), NoAnswer)


def test_process_knows_paths_and_no_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "of-the-factory")
    seen = tmp_path / "seen"
    script = f"import os, json, sys\njson.dump([dict(os.environ), sys.argv], open({str(seen)!r}, 'w'))\n"
    ask(client_of(tmp_path, script), STEPS)

    environment, argv = json.loads(seen.read_text())
    assert environment["_CONDOR_SEC_TOKEN_DIRECTORY"] == str(tmp_path)
    assert environment["_CONDOR_USE_SHARED_PORT"] == "False"
    assert "A_SECRET" not in environment
    assert len(argv) == 1


def test_schedd_is_asked_at_the_address_where_it_was_last_seen(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = (
        "import sys, json\n"
        f"open({str(seen)!r}, 'a').write(json.dumps(json.load(sys.stdin)['address']) + '\\n')\n"
        'for l in [["address", "<10.0.0.1:9618>"], ["end", 0, 0], ["done", 1]]: print(json.dumps(l))\n'
    )
    client = client_of(tmp_path, script)
    for _ in range(2):
        step = jobs_step(option="plain", constraint="true", projection=("Owner",))
        ask(client, [step], ap=Ap(name="ap1", schedd="ap1.example"))

    assert [json.loads(line) for line in seen.read_text().splitlines()] == [None, "<10.0.0.1:9618>"]


def asking(seen: Path, *lines: object, sleep_s: float = 0) -> str:
    """A worker that notes down whether a busy schedd is to be spared."""
    return (
        "import sys, json, time\n"
        f"open({str(seen)!r}, 'a').write(json.dumps(json.load(sys.stdin).get('spare_above')) + '\\n')\n"
        f"time.sleep({sleep_s})\n"
        f"for l in {list(lines)!r}: print(json.dumps(l))\n"
    )


ONE_JOBS_STEP = [jobs_step(option="plain", constraint="true", projection=("Owner",))]
AP1 = Ap(name="ap1", schedd="ap1.example")


def test_a_schedd_is_asked_first_and_spared_afterwards_if_it_is_busy(tmp_path: Path) -> None:
    # Mutations: spare_above in the first request too; in none; one memory for all questions.
    seen = tmp_path / "seen"
    client = client_of(tmp_path, asking(seen, ["end", 0, 0], ["done", 1]))
    for question in ("demand", "demand", "records", ""):
        ask(client, ONE_JOBS_STEP, ap=AP1, question=question)
    assert [json.loads(line) for line in seen.read_text().splitlines()] == [None, DUTY_MAX, None, None]


def test_a_busy_schedd_is_asked_again_when_its_interval_is_over(tmp_path: Path) -> None:
    # Mutation: note a spared question down as asked (client.ask): a busy schedd is then never asked again.
    seen = tmp_path / "seen"
    busy = client_of(tmp_path, asking(seen, ["failed", "Busy", "the schedd is busy"]), busy_interval_s=2.0)
    busy.contacts.asked["ap1.example", "demand"] = Asked(at_s=time.monotonic() - 1.2, took_s=0.1)
    first = ask(busy, ONE_JOBS_STEP, ap=AP1, question="demand")
    assert isinstance(first, NoAnswer)
    assert first.busy
    time.sleep(1)
    ask(busy, ONE_JOBS_STEP, ap=AP1, question="demand")
    assert [json.loads(line) for line in seen.read_text().splitlines()] == [DUTY_MAX, None]


def test_a_slow_schedd_has_as_long_a_rest_as_it_took(tmp_path: Path) -> None:
    # Mutation: rest_s is always 0 (overlay/sparing.py).
    seen = tmp_path / "seen"
    client = client_of(tmp_path, asking(seen, ["end", 0, 0], ["done", 1]))
    client.contacts.asked["ap1.example", "demand"] = Asked(at_s=time.monotonic() - 1, took_s=30)
    answer = ask(client, ONE_JOBS_STEP, ap=AP1, question="demand")
    assert isinstance(answer, NoAnswer)
    assert answer.reason.startswith("the last question took 30 s; asked again in 2")
    assert not seen.exists()
    client.contacts.asked["ap1.example", "demand"] = Asked(at_s=time.monotonic() - 31, took_s=30)
    assert isinstance(ask(client, ONE_JOBS_STEP, ap=AP1, question="demand"), Answer)


def test_an_answer_that_never_came_gives_a_rest_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Mutation: note down only the questions that were answered.
    monkeypatch.setattr("overlay.sparing.SLOW_S", 0.5)
    client = client_of(tmp_path, "import time; time.sleep(60)", timeout_s=1.0)
    reasons = [ask(client, ONE_JOBS_STEP, ap=AP1, question="demand") for _ in range(2)]
    first, second = (one.reason for one in reasons if isinstance(one, NoAnswer))
    assert first == "no answer in 1 s"
    assert second.startswith("the last question took 1 s; asked again in ")


@pytest.mark.parametrize(
    ("ad", "says"),
    [
        ("[ RecentDaemonCoreDutyCycle = 0.951 ]", "RecentDaemonCoreDutyCycle is 0.95, above 0.95"),
        ("[ RecentDaemonCoreDutyCycle = 0.99; CurbMatchmaking = RecentDaemonCoreDutyCycle > 0.98 ]", "is 0.99"),
        ("[ CurbMatchmaking = true ]", "CurbMatchmaking is true"),
        ("[ RecentDaemonCoreDutyCycle = 0.95; CurbMatchmaking = RecentDaemonCoreDutyCycle > 0.98 ]", ""),
        ("[ CurbMatchmaking = undefined ]", ""),
        ("[ ]", ""),
    ],
)
def test_a_schedd_is_busy_by_its_own_word(ad: str, says: str) -> None:
    try:
        worker.spare(parse_ad(ad, what="schedd"), DUTY_MAX)
        told = ""
    except worker.Busy as busy:
        told = str(busy)
    assert says in told
    assert bool(says) == bool(told)
    worker.spare(parse_ad(ad, what="schedd"), None)


def test_real_worker_reports_a_collector_that_is_not_there(tmp_path: Path) -> None:
    client = PoolClient(collector="127.0.0.1:1", tokens_dir=tmp_path, timeout_s=20.0)
    answer = ask(client, STEPS)

    assert isinstance(answer, NoAnswer)
    assert "ollector" in answer.reason


def test_answer_cut_anywhere_is_no_answer() -> None:
    whole = "".join(json.dumps(line) + "\n" for line in COMPLETE).encode()

    assert read_answer(whole, steps=1) == (None, (("[ Name = 1 ]",),))
    for length in range(len(whole)):
        _, read = read_answer(whole[:length], steps=1)
        assert isinstance(read, NoAnswer), whole[:length]


def is_alive(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return False
        if state == "Z":
            return False
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return True
