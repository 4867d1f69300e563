"""
What can go wrong with the database.

    LedgerError
    ├── LedgerUnavailable  it cannot be read or written now: full disk, lock, permission, server gone
    ├── SchemaTooNew       a newer aerotow has migrated it; this one must not touch it
    ├── LeaseHeld          another factory acts for this instance
    │   └── LeaseLost      we acted for it, and another took over or the lease was given back
    ├── PilotExists        an intent bears the id of a pilot that the ledger already has
    └── PilotUnknown       an update is for a pilot that the ledger does not have
"""

from __future__ import annotations

from datetime import UTC, datetime


class LedgerError(Exception):
    """The ledger cannot do what was asked; nothing of it was done."""


class LedgerUnavailable(LedgerError):
    """The database cannot be read or written now; the text says what to do. It never holds the URL's password."""

    def __init__(self, *, database: str, problem: str, remedy: str) -> None:
        super().__init__(f"database {database}: {problem}; {remedy}")
        self.database = database
        self.problem = problem
        self.remedy = remedy


class SchemaTooNew(LedgerError):
    """A newer aerotow has migrated the database."""

    def __init__(self, *, database: str, found: str, known: str) -> None:
        super().__init__(
            f"database {database}: its schema is {found}, and this aerotow knows up to {known}; "
            "run the aerotow that migrated it, or a newer one"
        )
        self.database = database
        self.found = found
        self.known = known


class LeaseHeld(LedgerError):
    """Another factory acts for this instance; ``until_s`` is when its lease ends unless it renews it."""

    def __init__(self, *, instance: str, holder: str, until_s: float) -> None:
        until = datetime.fromtimestamp(until_s, tz=UTC).isoformat(timespec="seconds")
        super().__init__(
            f"instance {instance}: {holder} acts for it until {until}; stop that factory, or wait until its lease ends"
        )
        self.instance = instance
        self.holder = holder
        self.until_s = until_s


class LeaseLost(LeaseHeld):
    """The lease is no longer ours; ``holder`` is who has it, or "nobody" when it was given back."""


class PilotExists(LedgerError):
    """An intent bears the id of a pilot that is in the ledger: an intent never replaces a pilot."""

    def __init__(self, *, pilot_ids: tuple[str, ...]) -> None:
        super().__init__(f"pilots already in the ledger: {', '.join(pilot_ids)}; a pilot's id is used once")
        self.pilot_ids = pilot_ids


class PilotUnknown(LedgerError):
    """An update is for a pilot that the ledger does not have; one found at a site has to be adopted first."""

    def __init__(self, *, pilot_ids: tuple[str, ...]) -> None:
        super().__init__(f"pilots not in the ledger: {', '.join(pilot_ids)}; adopt them before they are updated")
        self.pilot_ids = pilot_ids
