"""Spoil the code in a copy of the tree, and run the test that has to notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 400

Change = tuple[str, str, str]
"""File, the text that stands there exactly once, and what takes its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One change, and the test that must fail with it."""

    name: str
    module: str
    """Name of the test's file, without its ending."""
    test: str
    adapter: str = ""
    """What stands in brackets after the test's name; empty: nothing does."""
    changes: tuple[Change, ...]


def copy_tree(copy: Path) -> Path:
    """All tracked files as they are now."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name)
    return copy


def misplaced(mutations: Iterable[Mutation]) -> list[tuple[str, str, str]]:
    """Changes whose text does not stand exactly once in its file."""
    return [
        (one.name, file, old)
        for one in mutations
        for file, old, _ in one.changes
        if (ROOT / file).read_text().count(old) != 1
    ]


def run_spoilt(tree: Path, one: Mutation, *, folder: str) -> subprocess.CompletedProcess[str]:
    """The test's run with the mutation, which is put back."""
    before = {file: (tree / file).read_text() for file, _, _ in one.changes}
    node = f"{folder}/{one.module}.py::{one.test}" + (f"[{one.adapter}]" if one.adapter else "")
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", node]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "AEROTOW_TESTBED_AS_IS": "1"}
    try:
        for file, old, new in one.changes:
            text = (tree / file).read_text()
            assert 1 == text.count(old), (file, old)
            (tree / file).write_text(text.replace(old, new))
        return subprocess.run(argv, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    finally:
        for file, text in before.items():
            (tree / file).write_text(text)


def assert_is_red(done: subprocess.CompletedProcess[str]) -> None:
    """Failed, and by an assertion of the test or a crash in it; not for want of a test, or at collection."""
    assert 1 == done.returncode, done.stdout[-3000:] + done.stderr[-2000:]
    assert "1 failed" in done.stdout or "1 error" in done.stdout, done.stdout[-3000:]
