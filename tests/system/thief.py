"""
HTCondor's tools in the hand of somebody who holds a token, and nothing else of the pool's.

Everything runs on the factory's host, which has the bindings and no HTCondor of its own. Tokens travel through stdin
and lie in a private directory for the time of one command.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from testbed import containers, model
from tokens.mint import mint
from tokens.model import TokenRequest

PYTHON = "/opt/aerotow/bin/python3"
KEYS = "/etc/condor/passwords.d"

SCRIPT = r"""
import json, os, sys, tempfile
request = json.load(sys.stdin)
directory = tempfile.mkdtemp()
if request["token"]:
    with open(os.open(directory + "/token", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(request["token"] + "\n")
os.environ.update(
    CONDOR_CONFIG="/dev/null",
    _CONDOR_SEC_TOKEN_DIRECTORY=directory,
    _CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY=directory,
    _CONDOR_SEC_CLIENT_AUTHENTICATION=request["authentication"],
    _CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS="IDTOKENS",
    _CONDOR_SEC_DEFAULT_ENCRYPTION="OPTIONAL",
    _CONDOR_USE_SHARED_PORT="False",
    _CONDOR_QUERY_TIMEOUT="10",
    _CONDOR_Q_QUERY_TIMEOUT="10",
)
import classad2
import htcondor2

def location(daemon):
    return classad2.ClassAd({"MyAddress": daemon, "CondorVersion": "$CondorVersion: 25.14.1 2026-10-16 $"})

try:
    match request["do"]:
        case ["advertise", collector, command, ads]:
            htcondor2.Collector(collector).advertise([classad2.ClassAd(ad) for ad in ads], command)
            result = None
        case ["look", collector, constraint, names]:
            ads = htcondor2.Collector(collector).query(htcondor2.AdType.Any, constraint=constraint, projection=names)
            result = [{name: str(ad.get(name)) for name in names} for ad in ads]
        case ["ping", daemon, level]:
            ad = htcondor2.ping(location(daemon), level)
            result = {name: str(ad[name]) for name in ad}
        case ["queue", daemon]:
            result = len(htcondor2.Schedd(location(daemon)).query(projection=["ClusterId"]))
        case ["epochs", daemon]:
            result = len(htcondor2.Schedd(location(daemon)).jobEpochHistory(projection=["ClusterId"], match=5))
    print(json.dumps({"result": result}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
finally:
    for name in os.listdir(directory):
        os.unlink(directory + "/" + name)
    os.rmdir(directory)
"""


class _Bed(Protocol):
    def read(self, host: str, path: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The daemon's, or the bindings', words of refusal."""

    words: str


def sign(
    bed: _Bed,
    *,
    host: str,
    kid: str,
    subject: str,
    scopes: tuple[str, ...],
    issuer: str = model.TRUST_DOMAIN,
    issued_at: datetime | None = None,
    lifetime: timedelta = timedelta(minutes=30),
) -> str:
    """Sign a token with a key that lies on a host of the pool."""
    key = bed.read(host, f"{KEYS}/{kid}")
    assert key is not None, f"{host} has no key {kid}"
    request = TokenRequest(
        subject=subject,
        issuer=issuer,
        scopes=scopes,
        issued_at=issued_at or datetime.now(UTC),
        lifetime=lifetime,
        jti=secrets.token_hex(16),
    )
    return mint(key, kid, request)


def do(token: str, *what: Any, authentication: str = "REQUIRED") -> Any:
    """Do one thing with a token; what it gave, or :class:`Refused`."""
    request = {"token": token, "do": what, "authentication": authentication}
    done = containers.execute_raw(
        model.factory_host(),
        [PYTHON, "-c", SCRIPT],
        user=model.FACTORY_USER,
        stdin=json.dumps(request).encode(),
        timeout_s=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)
    return Refused(words=answer["error"]) if "error" in answer else answer["result"]
