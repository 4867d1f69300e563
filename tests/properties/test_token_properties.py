"""Properties of tokens: what was asked for is what is said, and no text does more than be refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokens.errors import TokenUnreadable
from tokens.mint import describe, mint
from tokens.model import TokenRequest

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


@given(
    key=st.binary(min_size=16, max_size=128),
    kid=NAMES,
    subject=NAMES,
    issuer=NAMES,
    scopes=st.lists(st.sampled_from(["condor:/READ", "condor:/WRITE", "condor:/ADVERTISE_STARTD"]), min_size=1),
    issued_s=st.integers(0, 2**32),
    lifetime_s=st.integers(1, 10**8),
)
def test_token_says_what_was_asked_for(
    key: bytes, kid: str, subject: str, issuer: str, scopes: list[str], issued_s: int, lifetime_s: int
) -> None:
    issued_at = datetime.fromtimestamp(issued_s, tz=UTC)
    token = mint(
        key,
        kid,
        TokenRequest(
            subject=f"{subject}@{issuer}",
            issuer=issuer,
            scopes=tuple(scopes),
            issued_at=issued_at,
            lifetime=timedelta(seconds=lifetime_s),
            jti="0" * 32,
        ),
    )
    said = describe(token)

    assert (said.kid, said.subject, said.issuer, said.scopes) == (kid, f"{subject}@{issuer}", issuer, tuple(scopes))
    assert (said.issued_at, said.expires_at) == (issued_at, issued_at + timedelta(seconds=lifetime_s))
    assert "\n" not in token


@given(st.text(max_size=200))
def test_any_text_is_refused_with_our_own_error(text: str) -> None:
    with pytest.raises(TokenUnreadable):
        describe(text)
