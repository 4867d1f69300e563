"""
One site's slurmrestd: asks it with the site's token, in the newest version of the API that it and we speak.

Nothing is asked with a token whose time has passed by our clock: on 22.05 the answer would look like an outage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from factory.sites import resttexts
from factory.sites.meter import CallMeter
from factory.sites.resthttp import Method, NoReply, Reply, Request, Server, call
from factory.sites.resttexts import Said
from factory.sites.resttoken import RENEW, RestToken, read_token
from factory.sites.restversions import DIALECTS, Dialect, ping_path
from factory.sites.texts import Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSettings:
    """What is needed of the configuration; ``timeout_s`` is for all requests of one call of the factory's."""

    server: Server
    token_file: Path
    user: str | None
    """Whose jobs they are, where the token does not say it in the claim ``sun``."""
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No reply at all; ``sent`` says whether a part of the request may have arrived."""

    reason: str
    sent: bool


class RestApi:
    """The connection to one slurmrestd. ``clock`` gives epoch seconds."""

    def __init__(self, settings: RestSettings, *, clock: Callable[[], float], meter: CallMeter | None = None) -> None:
        self._settings = settings
        self._meter = CallMeter() if meter is None else meter
        self._clock = clock
        self._dialect: Dialect | None = None
        self._until_s = 0.0
        """Deadline of the present call, on the monotonic clock; see :meth:`begin`."""
        self.calls = 0
        """Requests so far, for the tests that count them."""

    def begin(self, timeout_s: float | None = None) -> None:
        """Give all requests from now on so many seconds together, default the configured ones."""
        self._until_s = time.monotonic() + (self._settings.timeout_s if timeout_s is None else timeout_s)

    @property
    def left_s(self) -> float:
        """Seconds left of them."""
        return max(self._until_s - time.monotonic(), 0.0)

    def token(self) -> RestToken | Unreadable:
        """The token as it is in the file now, if its time has not passed."""
        path = self._settings.token_file
        token = read_token(path)
        if isinstance(token, Unreadable):
            return token
        if token.expires_s is not None and token.expired(self._clock()):
            ago_s = self._clock() - token.expires_s
            return Unreadable(reason=f"token_file {path}: token expired {_span(ago_s)} ago by our clock; {RENEW}")
        if (self._settings.user or token.user) is None:
            return Unreadable(reason=f"token_file {path}: it names no user; set rest_user to the account's name")
        return token

    def user(self, token: RestToken) -> str:
        """Whose jobs they are."""
        user = self._settings.user or token.user
        assert user is not None, "token() has seen to it"
        return user

    def dialect(self) -> Dialect | Unreadable:
        """The version to speak, found by asking for each, newest first, and remembered until an answer is amiss."""
        if self._dialect is not None:
            return self._dialect
        for dialect in DIALECTS:
            reply = self.send("GET", ping_path(dialect))
            if isinstance(reply, Silence):
                return Unreadable(reason=reply.reason)
            if reply.status == 404:
                continue
            said = resttexts.read_reply(reply)
            if isinstance(said, Unreadable):
                return said
            # The ping of v0.0.38 loads the controller's configuration, so it fails when the controller is down.
            problem = self.explain(resttexts.trouble(said))
            if problem:
                return Unreadable(reason=problem)
            self._dialect = dialect
            return dialect
        spoken = f"{DIALECTS[0].version} to {DIALECTS[-1].version}"
        return Unreadable(
            reason=f"slurmrestd: it has no API version that we speak ({spoken}: HTTP 404 for each); check the path "
            "in 'rest', and which version the site's slurmrestd offers"
        )

    def send(self, method: Method, path: str, *, body: bytes | None = None) -> Reply | Silence:
        """Send one request with the token of this moment."""
        timeout_s = self.left_s
        if timeout_s <= 0:
            return Silence(reason="slurmrestd: its answers before this one took all the time", sent=False)
        token = self.token()
        if isinstance(token, Unreadable):
            return Silence(reason=token.reason, sent=False)
        headers = [("X-SLURM-USER-TOKEN", token.text), ("X-SLURM-USER-NAME", self.user(token))]
        headers += [("Accept", "application/json")]
        headers += [("Content-Type", "application/json")] if body is not None else []
        too_much = self._meter.admit()
        if too_much:
            return Silence(reason=too_much, sent=False)
        self.calls += 1
        request = Request(method=method, path=path, headers=tuple(headers), body=body)
        reply = call(self._settings.server, request, timeout_s=timeout_s)
        if isinstance(reply, NoReply):
            return Silence(reason=resttexts.no_reply(reply, timeout_s=timeout_s), sent=reply.sent)
        if reply.status == 404:
            # Slurm was upgraded, perhaps: find the version anew next time.
            self._dialect = None
        return reply

    def ask(self, method: Method, path: str, *, body: bytes | None = None) -> Said | Unreadable:
        """Send one request whose loss changes nothing, and read its answer; errors in it are the reader's."""
        reply = self.send(method, path, body=body)
        if isinstance(reply, Silence):
            return Unreadable(reason=reply.reason)
        return resttexts.read_reply(reply)

    def explain(self, problem: str) -> str:
        """Add what the token says of its own life, where the server's words leave open whether it is the token."""
        if "token" not in problem:
            return problem
        token = read_token(self._settings.token_file)
        if isinstance(token, Unreadable) or token.expires_s is None:
            return problem
        left_s = token.expires_s - self._clock()
        if left_s <= 0:
            return f"{problem}; token expired {_span(-left_s)} ago by our clock: {RENEW}"
        return f"{problem}; by our clock it is valid for {_span(left_s)}: {RENEW} if this lasts"


def _span(seconds: float) -> str:
    """A span for people."""
    minutes = int(seconds // 60)
    if minutes < 2:
        return f"{int(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
