"""
What can be wrong with a pilot's parts before it is sent.

    GlideinError
    ├── BundleError
    │   ├── NoCondorHere        the tree holds no HTCondor to make a bundle of
    │   ├── MissingLibrary      a program needs a library that the tree has not
    │   └── BadBundle           the file is not the bundle that was meant
    └── BadPilotInput           a value that cannot stand in a pilot's files
"""

from __future__ import annotations

from pathlib import Path


class GlideinError(Exception):
    """Something about pilots that the operator can mend."""


class BundleError(GlideinError):
    """The portable HTCondor cannot be made or is not what it should be."""


class NoCondorHere(BundleError):
    """The tree holds no HTCondor to make a bundle of."""

    def __init__(self, *, root: Path, missing: tuple[str, ...]) -> None:
        super().__init__(
            f"{root}: no {', '.join(missing)} here; give the root of a system with the condor package installed"
        )
        self.root = root
        self.missing = missing


class MissingLibrary(BundleError):
    """A program needs a library that the tree has not, so it would not start on a node."""

    def __init__(self, *, program: str, library: str) -> None:
        super().__init__(f"{program} needs {library}, which the tree has not; install the package that brings it")
        self.program = program
        self.library = library


class BadBundle(BundleError):
    """The file is not the bundle that was meant."""

    def __init__(self, *, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path
        self.problem = problem


class BadPilotInput(GlideinError):
    """A value that cannot stand in a pilot's files."""

    def __init__(self, *, key: str, value: str, problem: str) -> None:
        super().__init__(f"{key} = {value!r}: {problem}")
        self.key = key
        self.value = value
