"""The workload of the benchmarks: what changes from one cycle to the next, and a warm decision is the cold one."""

from __future__ import annotations

from benchmarks.generate import Size, next_cycle, workload
from factory.matching import ObservationMatcher, match_observation
from factory.model import Observation
from factory.plan import decide
from overlay.model import DemandSeen, Slot, SlotsSeen

SMALL = Size(jobs=900, kinds=300, sites=25, pilots=100)


def _slots(observed: Observation) -> dict[str, Slot]:
    assert isinstance(observed.slots, SlotsSeen)
    return {slot.pilot_id: slot for slot in observed.slots.slots}


def test_a_share_of_kinds_and_pilots_changes_between_cycles() -> None:
    # Mutations: _next_pilots returns what there was; leaves out _busy; next_cycle keeps the buckets.
    before, _ = workload(SMALL)
    after = next_cycle(before, changed=0.1, seed=3)
    old, new = _slots(before), _slots(after)
    stayed = old.keys() & new.keys()
    assert 90 == len(stayed)
    assert 100 == len(new)
    used_otherwise = [name for name in stayed if old[name].busy_cores != new[name].busy_cores]
    assert 0 < len(used_otherwise) <= 10
    assert all(old[name].ad_text == new[name].ad_text and old[name] is not new[name] for name in stayed)
    assert all(name in slot.ad_text for name, slot in new.items())
    assert [pilot.pilot_id for pilot in after.pilots] == list(new)
    (was,), (now,) = before.demands, after.demands
    assert isinstance(was, DemandSeen)
    assert isinstance(now, DemandSeen)
    assert 270 == len({bucket.key for bucket in was.buckets} & {bucket.key for bucket in now.buckets})


def test_a_warm_cycle_decides_what_a_cold_one_does() -> None:
    # Mutations: SlotBlock.update keeps all columns when slots come and go; Leaf.refresh keeps its rows.
    observed, policy = workload(SMALL)
    matcher = ObservationMatcher()
    asked = 0
    for seed in range(1, 5):
        warm = matcher(observed, policy)
        cold = match_observation(observed, policy)
        assert cold == warm
        decision = decide(observed, warm, policy)
        assert decide(observed, cold, policy) == decision
        asked += len(decision.plan.order)
        observed = next_cycle(observed, changed=0.1, seed=seed)
    assert asked > 100
