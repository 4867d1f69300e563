"""
IDTOKENs without HTCondor's tools.

The recipe gives byte for byte what ``condor_token_create`` of 25.14.1 gives; tests/unit/tokens holds vectors of it.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tokens.errors import TokenRequestError, TokenUnreadable
from tokens.model import TokenDescription, TokenRequest

_SCOPE = re.compile(r"^[!-~]+$")
_SUBJECT = re.compile(r"^[A-Za-z0-9_.+-]+@[A-Za-z0-9_.:+-]+$")
_MASK = bytes.fromhex("deadbeef")
_TOKEN_CHARACTERS_MAX = 64 * 1024


def mint(key_bytes: bytes, kid: str, request: TokenRequest) -> str:
    """
    Sign an IDTOKEN with the content of the key file that HTCondor knows as ``kid``.

    A token without ``jti`` or without an end would be taken for valid by one HTCondor and not by another, or for
    ever; neither is made.
    """
    _check(request)
    issued_s = int(request.issued_at.timestamp())
    # Sorted, as HTCondor's JSON library writes it, so that tokens can be compared byte for byte.
    payload: dict[str, Any] = {
        "exp": issued_s + int(request.lifetime.total_seconds()),
        "iat": issued_s,
        "iss": request.issuer,
        "jti": request.jti,
        "scope": " ".join(request.scopes),
        "sub": request.subject,
    }
    return jwt.encode(
        payload,
        _signing_key(key_bytes, kid),
        algorithm="HS256",
        headers={"typ": None, "kid": kid},
        json_encoder=_AsHTCondorWritesIt,
    )


class _AsHTCondorWritesIt(json.JSONEncoder):
    """Escape each slash, as HTCondor's JSON library does; a slash only ever stands inside a string."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("/", "\\/")


def describe(token: str, *, source: str = "token") -> TokenDescription:
    """What a token says of itself. Nothing is verified, and the signature, which is the secret, is left out."""
    if len(token) > _TOKEN_CHARACTERS_MAX:
        raise TokenUnreadable(source=source, problem=f"{len(token)} characters are too long for a token")
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        # PyJWT's own text is kept out: some of its errors quote the token.
        raise TokenUnreadable(source=source, problem=f"no token ({type(error).__name__})") from None
    scope = claims.get("scope", "")
    return TokenDescription(
        kid=str(header.get("kid", "")),
        algorithm=str(header.get("alg", "")),
        subject=str(claims.get("sub", "")),
        issuer=str(claims.get("iss", "")),
        scopes=tuple(scope.split()) if isinstance(scope, str) else (),
        issued_at=_instant(claims.get("iat")),
        expires_at=_instant(claims.get("exp")),
        jti=str(claims["jti"]) if "jti" in claims else None,
    )


def describe_file(path: Path) -> tuple[TokenDescription, ...]:
    """What the tokens of a file say: HTCondor reads one per line and skips lines that begin with ``#``."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenUnreadable(source=str(path), problem=f"cannot be read ({type(error).__name__})") from None
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens:
        raise TokenUnreadable(source=str(path), problem="no token in it")
    return tuple(describe(token, source=str(path)) for token in tokens)


def _check(request: TokenRequest) -> None:
    problem: str | None = None
    if _SUBJECT.match(request.subject) is None:
        problem = "the subject must be user@domain, or HTCondor takes it for a user of no domain"
    elif not request.issuer or any(c in request.issuer for c in " ,\t\n"):
        problem = f"{request.issuer!r} is no TRUST_DOMAIN (HTCondor 25 refuses spaces and commas in it)"
    elif not request.scopes or not all(_SCOPE.match(scope) for scope in request.scopes):
        problem = "it needs scopes, each one word: without any it would carry all rights of its subject"
    elif request.issued_at.tzinfo is None:
        problem = "the time of issue needs a time zone"
    elif request.lifetime < timedelta(seconds=1):
        problem = f"a lifetime of {request.lifetime} is none"
    elif not request.jti:
        problem = "HTCondor 25 refuses a token without jti"
    if problem is not None:
        raise TokenRequestError(subject=request.subject, problem=problem)


def _signing_key(key_bytes: bytes, kid: str) -> bytes:
    """
    Derive the HMAC key from a key file's content.

    Source: condor_auth_passwd.cpp of HTCondor 25.14; compared with its tools for the keys POOL and named ones.
    Only POOL is doubled, a relic of the pool password.
    """
    plain = bytes(byte ^ _MASK[i % len(_MASK)] for i, byte in enumerate(key_bytes))
    material = plain + plain if kid == "POOL" else plain
    return HKDF(algorithm=SHA256(), length=32, salt=b"htcondor", info=b"master jwt").derive(material)


def _instant(claim: object) -> datetime | None:
    """Read a NumericDate; a claim that is none, or beyond any calendar, is shown as absent."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        return datetime.fromtimestamp(claim, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None
