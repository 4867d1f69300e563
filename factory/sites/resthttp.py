"""
One HTTPS request with a deadline for all of it, an output limit, a checked certificate and no redirects.

The standard library's http.client on a socket of our own, because two things have to be known that no HTTP library
tells: whether a byte of the request can have left (a submission that surely did not is "not sent", any other is
"uncertain"), and that the deadline holds for the whole exchange. The usual read time-out starts anew with every byte,
so an answer that never ends would never time out.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

CHUNK_BYTES = 65536
HTTPS_PORT = 443

Method = Literal["GET", "POST", "DELETE"]


class Failure(Enum):
    """Why there is no reply."""

    NO_AUTHORITY = "no_authority"
    """The file with the certificates that we trust cannot be used."""
    NOT_CONNECTED = "not_connected"
    NOT_TRUSTED = "not_trusted"
    """The certificate does not fit: another authority, another name, or expired."""
    NO_TLS = "no_tls"
    """Something listens there, and TLS is not what it speaks."""
    LOST = "lost"
    """The connection ended before the reply was whole."""
    TIMED_OUT = "timed_out"
    TOO_MUCH = "too_much"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask; ``headers`` hold the token, so they are never printed."""

    method: Method
    path: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole reply, whatever its status."""

    status: int
    content_type: str
    location: str
    """Where a redirect points; it is not followed."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReply:
    """No whole reply; ``sent`` says whether a part of the request may have arrived."""

    failure: Failure
    detail: str
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An HTTPS server; ``authority`` is a PEM file, or None for the authorities that this machine trusts."""

    host: str
    port: int
    prefix: str = ""
    """Path below which a proxy shows the server, without a slash at its end."""
    authority: Path | None = None
    limit_bytes: int = 8 * 1024 * 1024

    @classmethod
    def at(cls, address: str, *, authority: Path | None, limit_bytes: int) -> Server:
        """The server at an ``https://`` address; the configuration has checked its form."""
        parts = urlsplit(address)
        assert parts.scheme == "https", address
        assert parts.hostname, address
        return cls(
            host=parts.hostname,
            port=parts.port or HTTPS_PORT,
            prefix=parts.path.rstrip("/"),
            authority=authority,
            limit_bytes=limit_bytes,
        )


def call(server: Server, request: Request, *, timeout_s: float) -> Reply | NoReply:
    """Send one request over a connection of its own and read the whole reply; never raises for what happens there."""
    until_s = time.monotonic() + timeout_s
    try:
        # Made anew each time: a renewed authority needs no restart.
        context = ssl.create_default_context(cafile=None if server.authority is None else str(server.authority))
    except OSError as error:
        return NoReply(failure=Failure.NO_AUTHORITY, detail=f"{server.authority}: {_words(error)}", sent=False)
    try:
        raw = socket.create_connection((server.host, server.port), timeout=timeout_s)
    except OSError as error:
        return NoReply(failure=Failure.NOT_CONNECTED, detail=_words(error), sent=False)
    with raw, _cut_at(raw, max(until_s - time.monotonic(), 0.001)) as cut:
        try:
            tls = context.wrap_socket(raw, server_hostname=server.host)
        except ssl.SSLCertVerificationError as error:
            return NoReply(failure=Failure.NOT_TRUSTED, detail=error.verify_message, sent=False)
        except ssl.SSLError as error:
            failure = Failure.TIMED_OUT if cut.is_set() else Failure.NO_TLS
            return NoReply(failure=failure, detail=_words(error), sent=False)
        except (OSError, ValueError) as error:
            failure = Failure.TIMED_OUT if cut.is_set() else Failure.NOT_CONNECTED
            return NoReply(failure=failure, detail=_words(error), sent=False)
        with tls:
            answer = _exchange(tls, server, request)
        # Also an answer that seems whole: without a length its end is the end of the connection, which was ours.
        return NoReply(failure=Failure.TIMED_OUT, detail="", sent=True) if cut.is_set() else answer


def _exchange(tls: ssl.SSLSocket, server: Server, request: Request) -> Reply | NoReply:
    """Send the request and read the reply."""
    connection = http.client.HTTPConnection(server.host, server.port)
    connection.sock = tls
    try:
        headers = {**dict(request.headers), "Connection": "close"}
        connection.request(request.method, f"{server.prefix}{request.path}", body=request.body, headers=headers)
        response = connection.getresponse()
        body = bytearray()
        while chunk := response.read(CHUNK_BYTES):
            body += chunk
            if len(body) > server.limit_bytes:
                return NoReply(failure=Failure.TOO_MUCH, detail=f"more than {server.limit_bytes} bytes", sent=True)
        if response.length:
            return NoReply(failure=Failure.LOST, detail=f"{response.length} bytes are missing", sent=True)
        return Reply(
            status=response.status,
            content_type=response.getheader("Content-Type", ""),
            location=response.getheader("Location", ""),
            body=bytes(body),
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        return NoReply(failure=Failure.LOST, detail=_words(error), sent=True)
    finally:
        connection.close()


@contextmanager
def _cut_at(raw: socket.socket, timeout_s: float) -> Iterator[threading.Event]:
    """
    End the connection after so many seconds, wherever the exchange is by then; the event says that it was done.

    Through a second descriptor of the same connection: the first one changes hands when TLS begins.
    """
    twin = raw.dup()
    cut = threading.Event()

    def end() -> None:
        cut.set()
        with contextlib.suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield cut
    finally:
        timer.cancel()
        timer.join()
        twin.close()


def _words(error: Exception) -> str:
    """What an error says, without its number."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
