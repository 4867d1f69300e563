"""The comparison of policies: that it runs, that its tables say what was measured, and that the document has them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import policies
from factory.policy import policy_of
from simulation.scenario import built_in_config

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def measured() -> policies.Measured:
    return policies.measure(range(2), policy=policy_of(built_in_config()), days=0.04)


def test_every_workload_and_policy_is_in_the_tables_and_plots(measured: policies.Measured) -> None:
    text, pictures = policies.tables(measured), policies.plots(measured)
    for workload in ("bursty", "mixed", "trickle"):
        assert f"### {workload}" in text
        assert f"policies-turnaround-{workload}.svg" in pictures
    assert 9 == len(re.findall(r"^\| (?:aerotow|even-split|feedback) \|", text, re.MULTILINE))
    assert 6 == text.count("ours against")
    assert sum(map(len, pictures.values())) < 200_000


def test_a_comparison_counts_the_seeds_in_which_ours_is_better(measured: policies.Measured) -> None:
    # Mutation: exchange own and other in _compared (benchmarks/policies.py).
    (one, *_) = measured.summaries["trickle"]["aerotow"]
    low = replace(one, turnaround_mean_s=100.0, turnaround_p95_s=200.0, waste=0.2)
    high = replace(one, turnaround_mean_s=200.0, turnaround_p95_s=200.0, waste=0.1)
    words = policies._compared([low, low], [high, high], "theirs")
    assert "mean turnaround -50% (better in 2 of 2 seeds)" in words
    assert "95 % turnaround +0% (better in 0 of 2 seeds)" in words
    assert "waste +100% (better in 0 of 2 seeds)" in words


def test_tables_go_between_the_marks() -> None:
    text = f"before\n{policies.BEGIN}\nold\n{policies.END}\nafter\n"
    assert f"before\n{policies.BEGIN}\n\nnew\n{policies.END}\nafter\n" == policies.into_document(text, "new")


def test_the_document_has_its_tables_and_plots() -> None:
    text = (DOCS / "policies.md").read_text(encoding="utf-8")
    assert "20 seeds" in text
    assert 6 == text.count("- ours against ")
    shown = re.findall(r"\]\((policies-[a-z0-9-]+\.svg)\)", text)
    assert sorted(shown) == sorted(path.name for path in DOCS.glob("policies-*.svg"))
    assert sum((DOCS / name).stat().st_size for name in shown) < 200_000
