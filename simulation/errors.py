"""
What can be wrong with what a simulation is given.

    SimulationError
    ├── TraceUnreadable      a trace cannot be read, or a line of it has no meaning
    └── WorldUnreadable      the file that describes the world does not fit
"""

from __future__ import annotations

from pathlib import Path


class SimulationError(Exception):
    """Something that whoever runs the simulation can mend; the text names the file, the place and the remedy."""


class TraceUnreadable(SimulationError):
    """A trace, or one line of it."""

    def __init__(self, *, path: Path | str, line: int | None, problem: str, remedy: str) -> None:
        self.path, self.line, self.problem, self.remedy = path, line, problem, remedy
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {problem}; {remedy}")


class WorldUnreadable(SimulationError):
    """The file with the models of the sites."""

    def __init__(self, *, path: Path | str, problem: str, remedy: str) -> None:
        self.path, self.problem, self.remedy = path, problem, remedy
        super().__init__(f"{path}: {problem}; {remedy}")
