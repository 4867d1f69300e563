"""At the end of a run that tried the contract of the sites: a table of its tests and the adapters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / ".cache/contract-matrix.txt"
_RUN = re.compile(r"tests/contract/test_site_contract\.py::test_(\w+)\[([\w-]+)\]$")
_WORDS = {"passed": "pass", "failed": "FAIL", "skipped": "not here", "error": "ERROR"}

_found: dict[tuple[str, str], str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep how a contract test went, from its set-up to its end; also of another process of xdist's."""
    run = _RUN.search(report.nodeid)
    if run is None:
        return
    word = "error" if report.failed and report.when != "call" else report.outcome
    if report.when == "call" or word != "passed":
        _found[run[1], run[2]] = _WORDS[word]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and leave it in a file."""
    if not _found:
        return
    text = table(_found)
    terminalreporter.section("contract of the sites")
    if not any(adapter.startswith("pyslurm") for _, adapter in _found):
        text += "\n\nnot tried: pyslurm. Set AEROTOW_PYSLURM where it is installed (docs/dependencies.md)."
    terminalreporter.write_line(text)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text + "\n")


def table(found: dict[tuple[str, str], str]) -> str:
    """Tests down, adapters across; a dash where a test was not run."""
    tests = list(dict.fromkeys(test for test, _ in found))
    adapters = sorted({adapter for _, adapter in found}, key=_order)
    width = max(len(test) for test in tests)
    columns = [max(len(adapter), len("not here")) for adapter in adapters]
    lines = ["  ".join([" " * width, *(a.ljust(w) for a, w in zip(adapters, columns, strict=True))])]
    for test in tests:
        cells = (found.get((test, a), "-").ljust(w) for a, w in zip(adapters, columns, strict=True))
        lines.append("  ".join([test.replace("_", " ").ljust(width), *cells]))
    return "\n".join(line.rstrip() for line in lines)


def _order(adapter: str) -> tuple[int, str]:
    """The one in memory, commands and the library on the spot, commands through ssh, slurmrestd, all others."""
    ways = ("fake", "local", "pyslurm", "ssh", "rest")
    way = next((n for n, word in enumerate(ways) if adapter.startswith(word)), len(ways))
    return way, adapter
