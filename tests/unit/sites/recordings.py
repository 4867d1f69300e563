"""The recorded outputs of the three Slurms (tests/recorded, made anew by `make record`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).parents[2] / "recorded"
NONCE = "0123456789abcdef"
VERSIONS = tuple(sorted({path.name.split("-")[1] for path in RECORDED.glob("slurm-*.txt")}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One command on one version."""

    version: str
    command: str
    status: int
    stdout: str
    stderr: str


def recording(version: str, case: str) -> Recording:
    """Read one file; its first three lines say what it is."""
    text = (RECORDED / f"slurm-{version}-{case}.txt").read_text()
    found = re.fullmatch(
        r"# Slurm (?P<version>\S+)\n# \$ (?P<command>[^\n]*)\n# status (?P<status>\d+)\n"
        r"# stdout\n(?P<stdout>.*?)# stderr\n(?P<stderr>.*)",
        text,
        re.DOTALL,
    )
    assert found is not None, case
    return Recording(
        version=found["version"],
        command=found["command"],
        status=int(found["status"]),
        stdout=found["stdout"],
        stderr=found["stderr"],
    )
