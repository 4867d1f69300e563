"""Matching in bulk and from cycle to cycle gives what HTCondor's own match of each pair gives."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.matching import Matcher, match_table
from overlay.model import MatchTable
from tests.properties.expressions import Expressions, ad_text, buckets, expressions, moving
from tests.tables import slow_rows

RANDOMS = st.integers(0, 2**40).map(Random)


def answers(table: MatchTable) -> dict[tuple[str, str], bool | None]:
    return {(bucket, slot): table.matches_key(bucket, slot) for bucket in table.rows for slot in table.columns}


Shared = tuple[Expressions, Expressions]
"""What the ads of jobs, and those of slots, are made of."""


def world(rng: Random, shared: Shared) -> tuple[dict[str, str], dict[str, str]]:
    of_jobs, of_slots = shared
    jobs = {f"ap1:{n}": ad_text(rng, of_jobs) for n in range(rng.randint(1, 8))}
    slots = {f"offer:{n}": ad_text(rng, of_slots, more=moving(rng)) for n in range(rng.randint(0, 8))}
    slots |= {f"pilot:{n}": ad_text(rng, of_slots) for n in range(rng.randint(0, 3))}
    return jobs, slots


# Mutation: bulk.reach_of does not follow expressions ("todo +=" gone); valueindex: "<=" by bisect_right; Clause.row
# without "& ~error"; forms: "eval" among PURE.
@settings(max_examples=600)
@given(RANDOMS)
def test_bulk_matching_is_htcondors_own(rng: Random) -> None:
    jobs, slots = world(rng, (expressions(rng), expressions(rng)))

    assert slow_rows(jobs, slots, now_s=3.5) == answers(match_table(buckets(jobs), slots, now_s=3.5))


# Mutation: any of those above; here the same worlds are met each time, and enough pairs match.
def test_thousands_of_hard_pairs_and_not_one_difference() -> None:
    pairs = matching = differences = 0
    for seed in range(400):
        rng = Random(seed)
        jobs, slots = world(rng, (expressions(rng), expressions(rng)))
        expected = slow_rows(jobs, slots, now_s=3.5)
        found = answers(match_table(buckets(jobs), slots, now_s=3.5))
        pairs += len(expected)
        matching += sum(expected.values())
        differences += sum(expected[pair] != found[pair] for pair in expected)

    assert differences == 0
    assert pairs >= 8000
    assert matching >= 400


def changed(rng: Random, texts: dict[str, str], prefix: str, of: Expressions) -> dict[str, str]:
    """The ads of a later cycle: some gone, some new, some with a changed value, some under another's key."""
    kept = {key: text for key, text in texts.items() if rng.random() < 0.85}
    for key in list(kept):
        roll = rng.random()
        if roll < 0.15:
            kept[key] = ad_text(rng, of, more=moving(rng))
        elif roll < 0.3:
            kept[key] = kept[key].replace(" = 2", " = 3")
        elif roll < 0.4:
            kept[key] = rng.choice(list(texts.values()))
        elif roll < 0.6:
            kept[key] = kept[key].replace("GlideinToDie = ", "GlideinToDie = 1")
    for _ in range(rng.randint(0, 2)):
        kept[f"{prefix}{rng.randint(0, 9)}"] = ad_text(rng, of, more=moving(rng))
    return kept


# Mutation: Leaf.refresh does not look at the clock; SlotBlock.update keeps all groups; Matcher._row ignores versions.
@settings(max_examples=500)
@given(RANDOMS)
def test_table_of_a_matcher_that_was_used_before_is_that_of_a_new_one(rng: Random) -> None:
    matcher = Matcher()
    shared = expressions(rng), expressions(rng)
    jobs, slots = world(rng, shared)
    now_s = 3.0
    for _ in range(rng.randint(2, 6)):
        assert answers(match_table(buckets(jobs), slots, now_s=now_s)) == answers(
            matcher.table(buckets(jobs), slots, now_s=now_s)
        )
        now_s += rng.choice((0, 0.4, 1, 60))
        if rng.random() < 0.8:
            jobs = changed(rng, jobs, "ap1:", shared[0])
        if rng.random() < 0.7:
            offers = {key: text for key, text in slots.items() if key.startswith("offer:")}
            pilots = {key: text for key, text in slots.items() if key.startswith("pilot:")}
            slots = changed(rng, offers, "offer:", shared[1]) | changed(rng, pilots, "pilot:", shared[1])
