"""Answers recorded from a real pool; their headers say how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from overlay.client import Answer

RECORDED = Path(__file__).parents[2] / "recorded"


@pytest.fixture
def recorded() -> Callable[..., Answer]:
    def read(name: str, *, steps: int) -> Answer:
        ads: list[list[str]] = [[] for _ in range(steps)]
        for line in (RECORDED / name).read_text().splitlines():
            if not line.startswith("#"):
                step, _, text = line.partition(" ")
                ads[int(step)].append(text)
        return Answer(steps=tuple(tuple(step) for step in ads), duration_s=0.1)

    return read
