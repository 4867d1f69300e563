"""The short form of chaos: a few faults under load, and everybody's books agree; `make chaos` is the long one."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from tests.chaos import faults
from tests.chaos.report import as_text
from tests.chaos.run import run_chaos
from tests.chaos.schedule import Pace
from tests.system.fleet import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(1500)]

SHORT = ("slurmctld-kill", "squeue-silent", "sbatch-silent", "cut-factory-site", "factory-kill", "schedd-kill")


def test_a_minute_of_chaos_loses_and_doubles_nothing() -> None:
    # What each check complains of is forged in tests/chaos/test_chaos_checks.py; a run by itself proves no check.
    result = run_chaos(
        seed=2,
        seconds=45,
        say=lambda text: print(text, file=sys.stderr),
        kinds=[replace(kind, shortest_s=4, longest_s=8) for kind in faults.kinds() if kind.name in SHORT],
        pace=Pace(shortest_s=3, longest_s=6),
        patience=PATIENCE,
    )
    assert result.good, as_text(result)
    assert set(SHORT) == {planned.kind for planned, _ in result.happened}
