"""
What can go wrong with keys and tokens. No text here ever holds key or token material.

    TokenError
    ├── KeyExists          a signing key is already there; it is never overwritten
    ├── KeyUnreadable      a signing key is missing, empty, or open to others
    ├── TokenRequestError  what was asked for is no token that we would sign
    └── TokenUnreadable    a text is no token
"""

from __future__ import annotations

from pathlib import Path


class TokenError(Exception):
    """A key or a token cannot be made or read."""


class KeyExists(TokenError):
    """A signing key is already there; replacing it would make every token signed with it worthless at once."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"{path}: a signing key is already there; move it away to revoke every token made with it")
        self.path = path


class KeyUnreadable(TokenError):
    """A signing key is missing, too short to be one, or open to others."""

    def __init__(self, *, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy


class TokenRequestError(TokenError):
    """What was asked for is no token that we would sign."""

    def __init__(self, *, subject: str, problem: str) -> None:
        super().__init__(f"token for {subject!r}: {problem}")
        self.subject = subject
        self.problem = problem


class TokenUnreadable(TokenError):
    """A text or file holds no token. The text itself is never repeated: it may be a damaged secret."""

    def __init__(self, *, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}; it should hold one token per line, three parts with dots between")
        self.source = source
        self.problem = problem
