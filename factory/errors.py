"""
What can be wrong before the factory can do its work. What a site does is never raised: it is an answer.

    FactoryError
    └── SiteSetupError      a site cannot be spoken to as configured
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
