"""Tokens are what HTCondor's own tool makes, and nothing else is signed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tokens.errors import TokenRequestError, TokenUnreadable
from tokens.mint import describe, describe_file, mint
from tokens.model import PILOT_SCOPES, READ_SCOPES, TokenRequest, pilot_token_lifetime

RECORDED = Path(__file__).parents[2] / "recorded" / "condor_token_create-25.14.1.txt"

PROPER = TokenRequest(
    subject="pilot-alpha@pool",
    issuer="pool",
    scopes=PILOT_SCOPES,
    issued_at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
    lifetime=timedelta(hours=50),
    jti="0123456789abcdef0123456789abcdef",
)


def vectors() -> list[tuple[str, str, str]]:
    lines = [line for line in RECORDED.read_text().splitlines() if not line.startswith("#")]
    return [tuple(line.split()) for line in lines]  # type: ignore[misc]


@pytest.mark.parametrize(("kid", "key_hex", "recorded"), vectors(), ids=lambda value: value[:11])
def test_our_tokens_are_byte_for_byte_those_of_condor_token_create(kid: str, key_hex: str, recorded: str) -> None:
    said = describe(recorded)
    assert said.issued_at is not None
    assert said.expires_at is not None
    request = TokenRequest(
        subject=said.subject,
        issuer=said.issuer,
        scopes=said.scopes,
        issued_at=said.issued_at,
        lifetime=said.expires_at - said.issued_at,
        jti=said.jti or "",
    )

    assert mint(bytes.fromhex(key_hex), kid, request) == recorded


def test_recorded_vectors_cover_the_pool_key_and_named_keys() -> None:
    assert [kid for kid, _, _ in vectors()] == ["pilot-alpha", "POOL", "ap-ap1", "cm"]


def test_another_key_gives_another_signature() -> None:
    one = mint(bytes(64), "pilot-alpha", PROPER)
    other = mint(bytes(63) + b"\1", "pilot-alpha", PROPER)

    assert one.rpartition(".")[0] == other.rpartition(".")[0]
    assert one.rpartition(".")[2] != other.rpartition(".")[2]


def test_description_says_what_was_asked_for_and_has_no_signature() -> None:
    token = mint(bytes(64), "pilot-alpha", PROPER)
    said = describe(token)

    assert said.kid == "pilot-alpha"
    assert said.algorithm == "HS256"
    assert said.subject == "pilot-alpha@pool"
    assert said.scopes == PILOT_SCOPES
    assert said.expires_at == PROPER.issued_at + timedelta(hours=50)
    assert token.rpartition(".")[2] not in repr(said)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"subject": "pilot-alpha"}, "user@domain"),
        ({"subject": "a@b c"}, "user@domain"),
        ({"issuer": "two words"}, "TRUST_DOMAIN"),
        ({"scopes": ()}, "scopes"),
        ({"scopes": ("condor:/READ condor:/WRITE",)}, "one word"),
        ({"issued_at": datetime(2026, 11, 22)}, "time zone"),
        ({"lifetime": timedelta(0)}, "lifetime"),
        ({"jti": ""}, "jti"),
    ],
)
def test_a_token_that_would_be_more_or_other_than_meant_is_not_signed(change: dict[str, object], problem: str) -> None:
    with pytest.raises(TokenRequestError, match=problem):
        mint(bytes(64), "pilot-alpha", dataclasses.replace(PROPER, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "secret-but-no-token", "a.b.c", "x" * 70_000])
def test_text_that_is_no_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(TokenUnreadable) as refused:
        describe(text)
    assert not text or text not in str(refused.value)
    assert refused.value.__cause__ is None


def test_token_file_may_hold_comments_and_several_tokens(tmp_path: Path) -> None:
    path = tmp_path / "cm"
    read = dataclasses.replace(PROPER, subject="factory-read@pool", scopes=READ_SCOPES)
    path.write_text(f"# two\n{mint(bytes(64), 'cm', read)}\n\n{mint(bytes(64), 'ap-ap1', read)}\n")

    assert [said.kid for said in describe_file(path)] == ["cm", "ap-ap1"]


def test_token_file_without_a_token_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cm"
    path.write_text("# nothing\n")

    with pytest.raises(TokenUnreadable, match=str(path)):
        describe_file(path)
    with pytest.raises(TokenUnreadable, match="missing"):
        describe_file(tmp_path / "missing")


def test_pilot_token_outlives_the_longest_wait_and_the_run() -> None:
    lifetime = pilot_token_lifetime(
        max_queue_wait=timedelta(days=2), walltime=timedelta(hours=4), slack=timedelta(hours=1)
    )
    assert lifetime == timedelta(hours=53)
