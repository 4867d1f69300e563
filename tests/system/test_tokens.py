"""Our tokens against HTCondor's own tool and the real collector."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from testbed import model
from tests.system.conftest import Bed
from tests.system.thief import Refused, do, sign
from tokens.mint import describe, mint
from tokens.model import READ_SCOPES, TokenRequest

COLLECTOR = f"{model.host_named('cm').addresses[0][1]}:9618"


@pytest.mark.parametrize(
    ("host", "kid", "identity", "rights"),
    [
        ("cm", "pilot-alpha", "pilot-alpha@pool", ("ADVERTISE_STARTD", "ADVERTISE_MASTER")),
        ("cm", "cm", "factory-read@pool", ("READ",)),
        ("ap1", "ap-ap1", "factory-read@pool", ("READ",)),
    ],
)
def test_real_tool_signs_the_same_bytes(bed: Bed, host: str, kid: str, identity: str, rights: tuple[str, ...]) -> None:
    argv = ["condor_token_create", "-key", kid, "-identity", identity, "-lifetime", "3600"]
    for right in rights:
        argv += ["-authz", right]
    theirs = bed.run(host, argv, user="root").strip()
    said = describe(theirs)
    key = bed.read(host, f"/etc/condor/passwords.d/{kid}")
    assert key is not None
    assert said.issued_at is not None
    assert said.jti is not None
    request = TokenRequest(
        subject=identity,
        issuer="pool",
        scopes=tuple(f"condor:/{right}" for right in rights),
        issued_at=said.issued_at,
        lifetime=timedelta(hours=1),
        jti=said.jti,
    )

    # Compared without showing either: a failing assertion must not print a token of the pool.
    same = mint(key, kid, request) == theirs
    assert same


def look(token: str) -> object:
    return do(token, "look", COLLECTOR, 'MyType == "Collector"', ["Name"])


def test_real_collector_takes_our_token_and_no_damaged_one(bed: Bed) -> None:
    token = sign(bed, host="cm", kid="cm", subject="factory-read@pool", scopes=READ_SCOPES)
    head, body, signature = token.split(".")
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]

    assert isinstance(look(token), list)
    assert isinstance(look(f"{head}.{body}.{flipped}"), Refused)


def test_real_collector_takes_no_token_of_another_pool_or_past_its_end(bed: Bed) -> None:
    proper = {"host": "cm", "kid": "cm", "subject": "factory-read@pool", "scopes": READ_SCOPES}
    elsewhere = sign(bed, **proper, issuer="elsewhere")  # type: ignore[arg-type]
    old = sign(bed, **proper, issued_at=datetime.now(UTC) - timedelta(hours=1))  # type: ignore[arg-type]

    assert isinstance(look(sign(bed, **proper)), list)  # type: ignore[arg-type]
    assert isinstance(look(elsewhere), Refused)
    assert isinstance(look(old), Refused)


def test_no_token_makes_anybody_administrator_of_the_cm(bed: Bed) -> None:
    # HTCondor believes the subject of a token signed with any of its keys, and the factory has the keys of pilots.
    assert isinstance(look(sign(bed, host="cm", kid="cm", subject="factory-read@pool", scopes=READ_SCOPES)), list)

    for kid in ("cm", "pilot-alpha"):
        for subject in ("condor@pool", "condor@family", "root@pool"):
            token = sign(bed, host="cm", kid=kid, subject=subject, scopes=READ_SCOPES)
            assert isinstance(look(token), Refused), (kid, subject)
