"""docs/faults.md names tests that exist, and each cell of its table says by which of them, or that there is none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
NAMED = {int(number): name for number, name in re.findall(r"^(\d+)\. `([^`]+)`", TEXT, re.MULTILINE)}
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
EXCUSES = ("not shown", "does not matter")
COLUMNS = 4
"""The last columns, one for each kind of adapter and one for what no adapter does."""


def names_in(path: Path) -> set[str]:
    """Tests of a module, those in a class with its name before them."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        before = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{before}{one.name}" for one in inner if isinstance(one, ast.FunctionDef)}
    return {name for name in found if name.split("::")[-1].startswith("test_")}


def test_every_test_that_the_fault_table_names_exists() -> None:
    # Mutation: rename any of them.
    missing = []
    for name in NAMED.values():
        file, _, test = name.partition("::")
        path = ROOT / file
        if not path.is_file() or test not in names_in(path):
            missing.append(name)
    assert [] == missing


def test_every_cell_of_the_fault_table_names_tests_or_says_that_there_is_none() -> None:
    # Mutation: empty a cell, or take a line out of the list below the table.
    head, _, *rows = ROWS
    assert 9 == len(rows)
    assert {len(head)} == {len(row) for row in rows}
    cells = [cell for row in rows for cell in row[-COLUMNS:]]
    assert [] == [cell for cell in cells if not re.search(r"\[\d+\]", cell) and cell not in EXCUSES]
    used = {int(number) for cell in cells for number in re.findall(r"\[(\d+)\]", cell)}
    assert set(range(1, len(NAMED) + 1)) == set(NAMED) == used
