"""Slots that are not what their offer says: the real cycle must not ask for one useless pilot after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.simulation.world import BREAKER, CYCLE_S, SimWorld

HOUR = 3600 // CYCLE_S
PROBES = 4
"""Within an hour, after the back-offs of 300, 600, 1200 and 2400 s."""


# Mutations: plan.decide with no brakes ("held = ()"); cycle.intents_of without asked_for: 11 pilots and no end.
@pytest.mark.parametrize("unlike", ["slot", "negotiator"])
def test_pilots_that_run_nothing_are_not_asked_for_again_and_again(
    tmp_path: Path, unlike: Literal["slot", "negotiator"]
) -> None:
    world = SimWorld(directory=tmp_path, site_names=("alpha",), unlike=unlike)
    world.submit_jobs(4)
    for _ in range(HOUR):
        world.cycle()
    assert BREAKER.failures < len(world.pilots()) <= BREAKER.failures + PROBES

    # The slots are as they should be again: the next probe finds it out, and everybody gets pilots.
    world.unlike = ""
    world.submit_jobs(20)
    world.run_until("all jobs are done", lambda: all(job.done for job in world.jobs), cycles=HOUR)
    world.assert_books_agree()


# Mutation: barren.barren does not ask whether the bucket's jobs are still there.
def test_pilots_that_came_too_late_are_nobodys_failure(tmp_path: Path) -> None:
    world = SimWorld(directory=tmp_path, site_names=("alpha",))
    for _ in range(3):
        world.unlike = "negotiator"
        world.submit_jobs(20)
        world.run_until("pilots are there", lambda: len(world.live_pilots()) == 5, cycles=4)
        for job in world.jobs:
            job.done = True  # removed by the user
        world.run_until("no pilot is left", lambda: not world.live_pilots())
    world.unlike = ""
    world.submit_jobs(20, runtime_s=900)
    world.run_until("five pilots run", lambda: len(world.live_pilots()) == 5, cycles=4)
