"""Two test files of one name hide each other when one process collects both."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


def test_every_test_file_has_a_name_of_its_own() -> None:
    # Mutation: copy a test file into a second directory under its name.
    counted = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in counted.items() if count > 1] == []
