"""Signing keys and token files on disk: 0600, written under a temporary name, renamed when complete."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from tokens.errors import KeyExists, KeyUnreadable

KEY_BYTES = 64
"""Length of a new key: two of HKDF-SHA256's blocks. HTCondor takes any length; a generated POOL key has 64 too."""

_KEY_BYTES_MIN = 16
_KEY_BYTES_MAX = 64 * 1024


def write_key(path: Path) -> None:
    """
    Make a new random signing key at ``path``.

    A key that is there already is never overwritten, not even by two processes at once: :class:`KeyExists`.
    """
    temporary = _write_beside(path, secrets.token_bytes(KEY_BYTES))
    try:
        # A link, unlike a rename, fails when the target exists.
        os.link(temporary, path)
    except FileExistsError as error:
        raise KeyExists(path=path) from error
    finally:
        temporary.unlink()


def read_key(path: Path) -> bytes:
    """Read a signing key; one that others may read is refused, as HTCondor's own daemons would refuse it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            key = file.read(_KEY_BYTES_MAX + 1)
    except OSError as error:
        raise KeyUnreadable(
            path=path, problem=f"no signing key can be read ({error.strerror})", remedy="make it or mend its owner"
        ) from error
    if mode & 0o077:
        raise KeyUnreadable(path=path, problem=f"mode {mode:04o} lets others read the key", remedy="chmod 600 it")
    if not _KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX:
        raise KeyUnreadable(path=path, problem=f"{len(key)} bytes are no signing key", remedy="make it anew")
    return key


def store(path: Path, text: str) -> None:
    """Write a token to ``path``, 0600, replacing what was there; a reader sees the old one or the new, never half."""
    temporary = _write_beside(path, text.rstrip("\n").encode() + b"\n")
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write_beside(path: Path, content: bytes) -> Path:
    """Write a private temporary file in the same directory. The dot keeps HTCondor from reading it as a token."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
