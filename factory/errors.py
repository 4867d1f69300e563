"""
What can be wrong before the factory can do its work. What a site does is never raised: it is an answer.

    FactoryError
    ├── SiteSetupError      a site cannot be spoken to as configured
    ├── DrainUnavailable    pilots cannot be drained from this machine
    ├── MetricsNotServed    the address for the metrics cannot be listened at
    └── RecordUnreadable    a recorded decision cannot be read by this version
"""

from __future__ import annotations


class FactoryError(Exception):
    """The factory cannot work as set up; the text says what to do."""


class SiteSetupError(FactoryError):
    """A site cannot be spoken to as configured; the operator has to change something on this machine."""

    def __init__(self, *, site: str, problem: str, remedy: str) -> None:
        super().__init__(f"{site}: {problem}; {remedy}")
        self.site = site
        self.problem = problem
        self.remedy = remedy


class DrainUnavailable(FactoryError):
    """Pilots cannot be drained from this machine."""

    def __init__(self, *, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class MetricsNotServed(FactoryError):
    """The metrics cannot be served where the operator wants them."""

    def __init__(self, *, listen: str, problem: str) -> None:
        super().__init__(
            f"metrics.listen {listen}: {problem}; choose an address of this machine and a port that nobody else has"
        )
        self.listen = listen
        self.problem = problem


class RecordUnreadable(FactoryError):
    """A recorded decision cannot be read: another version wrote it, or it is damaged."""

    def __init__(self, *, what: str, problem: str) -> None:
        super().__init__(
            f"{what} cannot be read: {problem}; read it with the version that wrote it, or take a newer record"
        )
        self.what = what
        self.problem = problem
