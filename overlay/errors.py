"""
What can go wrong with the pool.

    OverlayError
    ├── PoolSpecError         the pool that was asked for cannot be rendered
    ├── BindingsUnfit         the installed htcondor2/classad2 do not match jobs as the negotiator does
    └── AdUnreadable          an ad lacks what is needed, or holds something else
"""

from __future__ import annotations


class OverlayError(Exception):
    """Something about the pool that the caller has to handle."""


class PoolSpecError(OverlayError):
    """The pool that was asked for cannot be rendered."""

    def __init__(self, *, what: str, problem: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.what = what
        self.problem = problem


class BindingsUnfit(OverlayError):
    """The bindings do not evaluate as the negotiator does, so every match would be decided wrongly."""

    def __init__(self, *, expression: str, expected: str, got: str) -> None:
        super().__init__(
            f"{expression} gives {got} where the negotiator says {expected}; "
            "install the htcondor wheel of the version in requirements.txt"
        )
        self.expression = expression


class AdUnreadable(OverlayError):
    """An ad lacks what is needed, or holds something else."""

    def __init__(self, *, what: str, problem: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.what = what
        self.problem = problem
