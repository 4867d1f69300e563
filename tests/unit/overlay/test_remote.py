"""A schedd of another pool: token files, and how far a submission got, read without HTCondor."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay import remote_worker
from overlay.classads import ClassAd
from overlay.client import NoAnswer
from overlay.remote import TokenFacts, read_token, read_told
from overlay.remote_worker import EMPTY_HISTORY


def token(path: Path, *, mode: int = 0o600, alg: str = "HS256", **claims: object) -> Path:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": alg}, claims)
    ]
    path.write_text(".".join([*parts, "c2ln"]) + "\n")
    path.chmod(mode)
    return path


def test_a_good_token_tells_whose_it_is(tmp_path: Path) -> None:
    read = read_token(token(tmp_path / "t", sub="pilot@delta", exp=200), now_s=100)
    assert TokenFacts(subject="pilot@delta", expires_s=200.0, idtoken=True) == read
    other = read_token(token(tmp_path / "t", alg="ES256", sub="x"), now_s=100)
    assert isinstance(other, TokenFacts)
    assert not other.idtoken


@pytest.mark.parametrize("case", ["expired", "open", "no token", "missing"])
def test_a_bad_token_is_told_with_its_file_and_remedy(tmp_path: Path, case: str) -> None:
    # Mutation: no look at the mode or the expiry; HTCondor only says that it could not authenticate.
    path = token(tmp_path / "t", mode=0o644 if case == "open" else 0o600, sub="a", exp=90 if case == "expired" else 200)
    if case == "no token":
        path.write_text("hello")
    if case == "missing":
        path.unlink()
    read = read_token(path, now_s=100)
    assert isinstance(read, NoAnswer)
    assert str(path) in read.reason
    assert {"expired": "10 s ago", "open": "chmod 0600", "no token": "is no token", "missing": "mode 0600"}[
        case
    ] in read.reason


def test_what_came_before_the_cut_counts() -> None:
    whole = b'["address", "<1.2.3.4:9618>"]\n["trying", "a"]\n["queued", "a", "7"]\n["spooled", "a"]\n["gone", "a"]\n'
    told = read_told(whole + b'["trying", "b"]\n["que')
    assert (("trying", ""),) == told.words["b"]
    assert ("gone", "") == told.words["a"][-1]
    # Mutation: `ended` not asked for, and a cut answer has no problem.
    assert "the answer is incomplete" == told.problem
    assert "" == read_told(whole + b'["done", 1]\n').problem


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer(output: bytes) -> None:
    assert read_told(output, problem="cut").words == {} or b"[" in output


class Queue:
    """A schedd with an empty queue, and a history that holds so many records of others."""

    def __init__(self, past: int) -> None:
        self.past = past

    def query(self, **_: object) -> list[object]:
        return []

    def history(self, constraint: str, projection: list[str], match: int) -> list[ClassAd]:
        return [ClassAd({"ClusterId": 1})] * min(self.past, match) if constraint == "true" else []


@pytest.mark.parametrize(("past", "names", "problems"), [(3, 2, []), (0, 2, [EMPTY_HISTORY]), (0, 0, [])])
def test_a_history_without_any_record_is_no_witness(past: int, names: int, problems: list[str]) -> None:
    # Mutation: the second question to the history left out in remote_worker._look.
    request = {
        "constraint": "Mine",
        "projection": ["ClusterId"],
        "attribute": "P",
        "names": [f"p{n}" for n in range(names)],
        "limit": 9,
    }
    lines: list[list[object]] = []
    remote_worker._look(Queue(past), request, [], lines.append)
    told = [json.loads(str(line[2]))["problem"] for line in lines if line[:2] == ["ad", 3]]
    assert problems == told
    assert ["done", 5] == lines[-1]
