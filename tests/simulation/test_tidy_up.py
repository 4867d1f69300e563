"""What the loop does in the pause between two cycles."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

from factory.cycle import World
from factory.loop import Clocks, run_loop
from tests.simulation.world import SimWorld


class _Circle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


class _Pauses(threading.Event):
    """Ends the loop in the third pause, and looks at each pause."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, bool]] = []
        self.circle: weakref.ref[_Circle] | None = None

    def wait(self, timeout: float | None = None) -> bool:
        if timeout != PAUSE_S:
            return super().wait(timeout)
        assert self.circle is not None
        self.seen.append((self.circle() is None, gc.get_freeze_count() > 0))
        if len(self.seen) == 3:
            self.set()
        return self.is_set()


PAUSE_S = 0.0078125


def test_garbage_of_a_cycle_is_gone_before_the_pause_and_what_stays_is_left_alone(tmp_path: Path) -> None:
    # Mutations: run_loop without tidy_up, or without leave_tidy; tidy_up without gc.unfreeze, without gc.collect,
    # without gc.freeze.
    made = SimWorld(directory=tmp_path)
    made.ledger.release_lease(made.lease)
    pauses = _Pauses()

    def world() -> World:
        # Kept until it is frozen, then let go of: as what a cycle knew of a kind of jobs that is gone.
        kept.append(_Circle())
        if len(kept) > 1:
            pauses.circle = weakref.ref(kept.pop(0))
        else:
            pauses.circle = weakref.ref(_Circle())
        made.pass_time(30)
        return made.world()

    kept: list[_Circle] = []
    clocks = Clocks(cycle_s=PAUSE_S, usage_s=60, lease_s=600, patience_s=20)
    gc.disable()
    try:
        assert 0 == run_loop(world, made.ledger, holder="h:0:0", clocks=clocks, read_usage=lambda: None, stop=pauses)
    finally:
        gc.enable()
    assert [(True, True)] * 3 == pauses.seen
    assert 0 == gc.get_freeze_count()
