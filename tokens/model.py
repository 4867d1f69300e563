"""The nouns of tokens: what is asked for, what one says, and the three sets of rights that this project gives out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

PILOT_SCOPES = ("condor:/ADVERTISE_STARTD", "condor:/ADVERTISE_MASTER")
"""A pilot joins and is given jobs with these two; CCB is open to either of them (25.14.1, tried)."""

READ_SCOPES = ("condor:/READ",)
"""The factory towards the CM and each AP: it looks and changes nothing."""

ADMIN_SCOPES = ("condor:/ADMINISTRATOR", "condor:/READ")
"""The factory towards the collector, to drain pilots and to take them back."""

AP_SCOPES = ("condor:/ADVERTISE_SCHEDD", "condor:/ADVERTISE_MASTER", "condor:/READ")
"""An AP's daemons towards the CM; an AP without any key of the CM negotiates and runs jobs with these (tried)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """An IDTOKEN to be signed. ``issuer`` is the pool's TRUST_DOMAIN; ``jti`` comes from the caller's randomness."""

    subject: str
    issuer: str
    scopes: tuple[str, ...]
    issued_at: datetime
    lifetime: timedelta
    jti: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDescription:
    """What a token says of itself, unverified and without its signature, so that it can be shown."""

    kid: str
    algorithm: str
    subject: str
    issuer: str
    scopes: tuple[str, ...]
    issued_at: datetime | None
    expires_at: datetime | None
    jti: str | None


def pilot_token_lifetime(*, max_queue_wait: timedelta, walltime: timedelta, slack: timedelta) -> timedelta:
    """
    How long a pilot's token must be good for: the longest wait in the queue, the run, and some slack.

    A pilot rides one connection past its token's end, but a collector that restarts asks for a valid token again
    (25.14.1, tried), so the token has to outlive the pilot.
    """
    return max_queue_wait + walltime + slack
