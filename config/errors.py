"""
What can be wrong with what the operator wrote.

    ConfigError
    ├── ConfigFileError      the file cannot be read or is not TOML
    └── ConfigValueError     a key is unknown, missing or has a value that does not fit
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class ConfigError(Exception):
    """Something the operator can mend; the text names the file, the key and the remedy."""


class ConfigFileError(ConfigError):
    """The file cannot be read or is not TOML."""

    def __init__(self, *, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy


class ConfigValueError(ConfigError):
    """One or more keys do not fit; each line names one key and what would fit."""

    def __init__(
        self, *, path: Path, problems: tuple[tuple[str, str, str], ...], sites: Mapping[str, Path] | None = None
    ) -> None:
        # A site may stand in a file of its own.
        lines = [
            f"{(sites or {}).get(_site_of(key), path)}: {key}: {problem}; {remedy}" for key, problem, remedy in problems
        ]
        super().__init__("\n".join(lines))
        self.path = path
        self.problems = problems


def _site_of(key: str) -> str:
    """The site that a key such as ``sites.alpha.cores`` is of, or empty."""
    table, _, rest = key.partition(".")
    return rest.partition(".")[0] if table == "sites" else ""
