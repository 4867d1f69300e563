"""A decision is written down in parts and read back to the same values, and so it is through a file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import NOW_S, bucket, demand, observation, policy, record, seen, site_policy, slot, slots, table

from accounting.model import CycleRecord, Packed
from factory.errors import RecordUnreadable
from factory.journal import Recorded, from_file, packed, read_record, to_file
from factory.model import Observation
from factory.parts import pack, unpack
from factory.plan import plan
from glidein.model import PilotPhase

POLICY = policy(site_policy("alpha"), site_policy("beta"))


def world(kinds: int = 3, *, jobs: int = 1, now_s: float = NOW_S) -> Observation:
    """Many kinds of jobs and some pilots."""
    pilots = tuple(record("alpha", n, PilotPhase.IDLE, slot_seen_s=int(now_s)) for n in range(1, 30))
    buckets = (bucket(f"ap1/{n:05}", jobs=jobs, ad_text=f"[ A = {n}; {'B = 1; ' * 60}]") for n in range(kinds))
    base = observation(
        demands=(demand(*buckets),), pilots=pilots, slots=slots(*(slot(one, ad_text="[ ]") for one in pilots))
    )
    return replace(base, now_s=now_s, cycle=f"{int(now_s):x}", sites=(seen("alpha", taken_s=now_s),))


def record_of(kept: Packed, **changes: object) -> CycleRecord:
    fields: dict[str, object] = {
        "cycle": "c",
        "first_s": 1.0,
        "last_s": 2.0,
        "count": 2,
        "format": 2,
        "root": kept.root.data,
        "parts": {name: part.data for name, part in kept.parts.items()},
    }
    return CycleRecord(**(fields | changes))  # type: ignore[arg-type]


def written(observed: Observation) -> Packed:
    return packed(observed, POLICY, plan(observed, table(observed), POLICY))


def fresh_bytes(before: Packed, after: Packed) -> int:
    """What the second costs when the first is there."""
    return len(after.root.data) + sum(len(after.parts[name].data) for name in after.parts.keys() - before.parts.keys())


def test_a_decision_is_read_back_as_it_was() -> None:
    observed = world(200)
    decided = plan(observed, table(observed), POLICY)
    read = read_record(record_of(packed(observed, POLICY, decided)))
    assert Recorded(first_s=1, last_s=2, count=2, observation=observed, policy=POLICY, plan=decided) == read


def test_cycles_that_differ_in_their_clocks_only_are_equal() -> None:
    # Mutation: take slot_seen_s out of CLOCKS.
    first, later = written(world(50)), written(world(50, now_s=NOW_S + 60))
    assert first.digest == later.digest
    assert first.parts == later.parts
    assert first.digest != written(world(50, jobs=2)).digest
    assert first.digest != written(world(51)).digest


def test_a_change_costs_what_changed() -> None:
    # Mutation: cut lists every 32 elements wherever they stand: one bucket more at the front changes all of them.
    # Mutation: take 'jobs' out of COUNTS.
    whole = world(1000)
    first = written(whole)
    size = sum(len(part.data) for part in first.parts.values())
    buckets = whole.demands[0].buckets  # type: ignore[union-attr]
    one_more = replace(whole, demands=(demand(bucket("ap1/!", ad_text="[ New = 1 ]"), *buckets),))
    one_less = replace(whole, demands=(demand(*buckets[1:]),))
    more_jobs = written(world(1000, jobs=7))
    assert fresh_bytes(first, written(one_more)) < size / 20
    assert fresh_bytes(first, written(one_less)) < size / 20
    assert first.parts.keys() == more_jobs.parts.keys()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.text(min_size=200, max_size=230),
    lambda inner: (
        st.lists(inner, max_size=40) | st.dictionaries(st.sampled_from(["jobs", "now_s", "a", "b", "cycle"]), inner)
    ),
    max_leaves=60,
)


@given(values)
def test_every_value_comes_back(value: object) -> None:
    # Mutation: leave null values at keys of columns where they are.
    kept = pack(value)
    assert value == unpack(kept.root.data, {name: part.data for name, part in kept.parts.items()})
    assert set(kept.parts) == _reached(kept)


def _reached(kept: Packed) -> set[str]:
    """Parts that the root and its parts name."""
    found: set[str] = set()
    left = set(kept.root.children)
    while left:
        name = left.pop()
        found.add(name)
        left |= set(kept.parts[name].children) - found
    return found


def test_a_damaged_or_foreign_record_is_refused_by_name() -> None:
    kept = written(world(50))
    for changes, words in (
        ({"parts": {}}, "damaged"),
        ({"root": b"{"}, "damaged"),
        ({"root": b'{"tree": {"observation": {"now_s": null}}, "counts": {}, "clocks": {}}'}, "damaged"),
        ({"root": b'{"tree": {"observation": {}}, "counts": {}, "clocks": {}}'}, "another version of aerotow"),
        ({"format": 3}, "format 3"),
        ({"format": 1, "root": b"\xff", "parts": {"plan": b"{}"}}, "damaged"),
    ):
        with pytest.raises(RecordUnreadable, match=words):
            read_record(record_of(kept, **changes))


def test_a_record_of_the_first_format_can_be_shown_and_not_re_planned() -> None:
    observed = world()
    decided = plan(observed, table(observed), POLICY)
    tree = json.loads(to_file(Recorded(first_s=1, last_s=2, observation=observed, policy=POLICY, plan=decided)))
    old = record_of(
        written(observed),
        format=1,
        root=json.dumps(tree["observation"]).encode(),
        parts={"plan": json.dumps(tree["plan"]).encode()},
    )
    read = read_record(old)
    assert (observed, decided, None) == (read.observation, read.plan, read.policy)
    with pytest.raises(RecordUnreadable, match="holds no policy"):
        to_file(read)


def test_files_that_are_none_are_refused_by_name() -> None:
    good = to_file(
        Recorded(first_s=1, last_s=2, observation=world(), policy=POLICY, plan=plan(world(), table(world()), POLICY))
    )
    for text, words in (
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "'format' is None"),
        ('{"format": 1}', "'format' is 1"),
        ('{"format": 2}', "no numbers"),
        (good.replace('"observation"', '"seen"'), "another version"),
    ):
        with pytest.raises(RecordUnreadable, match=words) as error:
            from_file(text, name="x.json")
        assert str(error.value).startswith("x.json")
