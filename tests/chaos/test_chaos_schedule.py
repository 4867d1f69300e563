"""The schedule of faults is a pure function of its seed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos import faults
from tests.chaos.schedule import schedule
from tests.system.fleet import Fleet

KINDS = faults.kinds()
LANES = {kind.name: kind.lane for kind in KINDS}


@given(st.integers(min_value=0, max_value=2**31), st.floats(min_value=30, max_value=3600))
def test_one_seed_is_one_schedule_and_all_is_over_in_time(seed: int, seconds: float) -> None:
    plan = schedule(KINDS, seed=seed, seconds=seconds)
    assert schedule(reversed(KINDS), seed=seed, seconds=seconds) == plan
    assert all(0 <= one.at_s and one.at_s + one.duration_s <= seconds + 0.1 for one in plan)


@given(st.integers(min_value=0, max_value=2**31))
def test_faults_of_one_lane_never_overlap_and_every_kind_comes_within_half_an_hour(seed: int) -> None:
    plan = schedule(KINDS, seed=seed, seconds=1800)
    assert {kind.name for kind in KINDS} == {one.kind for one in plan}
    for lane in set(LANES.values()):
        ours = [one for one in plan if LANES[one.kind] == lane]
        assert all(one.at_s + one.duration_s < after.at_s for one, after in pairwise(ours))


def test_another_seed_is_another_schedule() -> None:
    assert schedule(KINDS, seed=1, seconds=600) != schedule(KINDS, seed=2, seconds=600)


def test_every_kind_of_fault_at_every_target_can_be_done_and_undone() -> None:
    fleet = Fleet(instance="x", directory="/x")
    for kind in KINDS:
        for target in kind.targets:
            (planned, *_) = schedule(
                [kind.__class__(name=kind.name, targets=(target,), lane=kind.lane)], seed=1, seconds=100
            )
            made = faults.fault(planned, fleet)
            assert callable(made.inject)
            assert callable(made.heal)
