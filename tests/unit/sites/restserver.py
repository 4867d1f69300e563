"""A slurmrestd of our own on the loopback, behind real TLS, that behaves as badly as a test wants."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VERSION = "v0.0.42"
GOOD_PING = {"pings": [{"hostname": "login", "responding": True}], "errors": [], "warnings": []}


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Asked], Iterator[bytes]]
"""The bytes to send, piece by piece; the connection is closed after the last."""


def http(data: object, *, status: int = 200, kind: str = "application/json", more: str = "") -> Iterator[bytes]:
    """A whole, correct reply; bytes go as they are, anything else as JSON."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    yield f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def good(asked: Asked) -> Iterator[bytes]:
    """What a slurmrestd of 24.11 with an empty queue says."""
    path = asked.path.partition("?")[0].rstrip("/")
    if VERSION not in path:
        return http(b"Unable find requested URL.", status=404, kind="text/plain")
    if path.endswith("/ping"):
        return http(GOOD_PING)
    if path.endswith("/job/submit"):
        return http({"job_id": 17, "step_id": "batch", "errors": [], "warnings": []})
    if asked.method == "DELETE":
        return http({"status": [], "errors": [], "warnings": []})
    return http({"jobs": [], "errors": [], "warnings": []})


@dataclass
class RestServer:
    """Listens until the test ends; ``answer`` may be replaced at any time."""

    certificate: Path
    key: Path
    answer: Answer = good
    asked: list[Asked] = field(default_factory=list)
    tls: bool = True
    problems: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = True
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def asked_to_change(self) -> list[Asked]:
        """Requests that would have made or ended a job."""
        return [one for one in self.asked if one.method != "GET"]

    def close(self) -> None:
        self._open = False
        self._listener.close()

    def _serve(self) -> None:
        while self._open:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._speak, args=(raw,), daemon=True).start()

    def _speak(self, raw: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        with contextlib.suppress(OSError), raw:
            if not self.tls:
                raw.recv(65536)
                raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            connection = context.wrap_socket(raw, server_side=True)
            with connection:
                asked = _read(connection)
                if asked is None:
                    return
                self.asked.append(asked)
                for piece in self.answer(asked):
                    connection.sendall(piece)


def _read(connection: socket.socket) -> Asked | None:
    """One request, with its body."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        raw += chunk
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ")
    return Asked(method=method, path=path, headers=headers, body=body)


def drip(piece: bytes, *, every_s: float = 0.05) -> Iterator[bytes]:
    """The same bytes for ever."""
    while True:
        yield piece
        time.sleep(every_s)


def make_authority(directory: Path, name: str, *, host: str = "127.0.0.1") -> tuple[Path, Path, Path]:
    """An authority, and a certificate of its for one host: files of authority, certificate and key."""
    now = datetime.datetime.now(tz=datetime.UTC)

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey):
        named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (subject, issuer)]
        builder = x509.CertificateBuilder(subject_name=named[0], issuer_name=named[1], public_key=key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        if signer is key:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        else:
            try:
                alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
            except ValueError:
                alternative = x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    files = (directory / f"{name}-ca.pem", directory / f"{name}.pem", directory / f"{name}.key")
    files[0].write_bytes(certificate(f"{name} authority", ca_key, f"{name} authority", ca_key))
    files[1].write_bytes(certificate(host, key, f"{name} authority", ca_key))
    files[2].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def make_token(*, user: str | None = "pilot", life_s: float = 3600, secret: str = "sig") -> str:
    """A JWT that nobody signed, with the claims that Slurm writes."""
    claims = {"exp": int(time.time() + life_s), "iat": int(time.time())} | ({"sun": user} if user else {})
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    words = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*words, secret])
