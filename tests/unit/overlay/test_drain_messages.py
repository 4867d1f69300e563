"""Draining by HTCondor's tool, here a script that plays it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from overlay.drain import DrainClient, Drained, NotDrained, drain, environment, take_back

SLOT = "slot1@tow-alpha-6b49d100abcd-1@n1.alpha"


def client(directory: Path, body: str, *, timeout_s: float = 20) -> DrainClient:
    tool = directory / "condor_drain"
    tool.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n")
    tool.chmod(0o755)
    return DrainClient(tool=tool, collector="cm:9618", tokens_dir=directory, timeout_s=timeout_s)


def test_the_tool_is_told_which_slot_and_why(tmp_path: Path) -> None:
    tool = client(tmp_path, f"open({str(tmp_path / 'argv')!r}, 'w').write(repr(sys.argv[1:]))")
    assert Drained(slot=SLOT) == drain(tool, SLOT, reason="ada:  new\nkernel")
    told = (tmp_path / "argv").read_text()
    assert repr(["-pool", "cm:9618", "-graceful", "-reason", "ada: new kernel", SLOT]) == told
    assert Drained(slot=SLOT) == take_back(tool, SLOT)
    assert repr(["-pool", "cm:9618", "-cancel", SLOT]) == (tmp_path / "argv").read_text()


def test_a_refusal_is_in_its_own_words(tmp_path: Path) -> None:
    # Mutation: _run without the look at the status.
    tool = client(tmp_path, "print('ERROR: Can not find address', file=sys.stderr); sys.exit(1)")
    assert NotDrained(slot=SLOT, reason="ERROR: Can not find address") == drain(tool, SLOT, reason="x")


def test_no_answer_has_a_deadline(tmp_path: Path) -> None:
    answer = drain(client(tmp_path, "time.sleep(60)", timeout_s=0.5), SLOT, reason="x")
    assert NotDrained(slot=SLOT, reason="no answer in 0.5 s") == answer


@pytest.mark.parametrize("slot", ["-exit-on-completion", "slot1@p; rm", "n1.alpha", ""])
def test_what_is_no_slot_never_reaches_the_tool(tmp_path: Path, slot: str) -> None:
    tool = client(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert isinstance(drain(tool, slot, reason="x"), NotDrained)
    assert not (tmp_path / "ran").exists()


def test_nothing_in_its_environment_is_secret(tmp_path: Path) -> None:
    told = environment(client(tmp_path, ""))
    assert "False" == told["_CONDOR_USE_SHARED_PORT"]
    assert str(tmp_path) == told["_CONDOR_SEC_TOKEN_DIRECTORY"]
