"""
The site's token for slurmrestd: a file of its own, read at every use, so that a renewed one needs no restart.

What the token says of itself is read without checking the signature: only Slurm can check it, and all that we do with
it is to say "it has expired" before we ask, and to know the name of the user.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from factory.sites.texts import Unreadable

TOKEN_MAX_BYTES = 16_384
RENEW = "renew it, for example with 'scontrol token lifespan=SECONDS' at the site"
_JWT = re.compile(r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestToken:
    """A token, and what it says of itself."""

    text: str = field(repr=False)
    user: str | None
    """Claim ``sun``, which Slurm writes; tokens of an identity provider may name the user in another claim."""
    expires_s: int | None

    def expired(self, now_s: float) -> bool:
        """Whether its time has passed by our clock."""
        return self.expires_s is not None and self.expires_s <= now_s


def read_token(path: Path) -> RestToken | Unreadable:
    """Read the token; a file that others can read is refused like one that is missing."""
    try:
        # Not blocking: a FIFO in the file's place must not hold up the factory.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return Unreadable(reason=f"token_file {path}: {error.strerror}; put the site's token there, mode 0600")
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return Unreadable(reason=f"token_file {path}: no plain file; put the site's token there, mode 0600")
        if stat.S_IMODE(status.st_mode) & 0o077:
            return Unreadable(reason=f"token_file {path}: others can read it; chmod 600 it, and get a new token")
        try:
            content = file.read(TOKEN_MAX_BYTES + 1)
        except OSError as error:
            return Unreadable(reason=f"token_file {path}: {error.strerror}")
    return parse_token(content, path)


def parse_token(content: bytes, path: Path) -> RestToken | Unreadable:
    """Read a token's text: a JWT, alone or as ``SLURM_JWT=...``, the way ``scontrol token`` prints it."""
    text = content.decode(errors="replace").strip().removeprefix("SLURM_JWT=")
    if len(content) > TOKEN_MAX_BYTES or not _JWT.match(text):
        return Unreadable(reason=f"token_file {path}: that is no token; write what 'scontrol token' prints into it")
    claims = _claims(text.split(".")[1])
    expires_s, user = claims.get("exp"), claims.get("sun")
    return RestToken(
        text=text,
        user=user if isinstance(user, str) and re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", user) else None,
        # A comparison with NaN is false.
        expires_s=int(expires_s) if isinstance(expires_s, int | float) and 0 <= expires_s < 10**12 else None,
    )


def _claims(part: str) -> dict[str, object]:
    """The claims, or none where they cannot be read."""
    try:
        read = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
