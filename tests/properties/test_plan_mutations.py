"""Every law of the planner fails when the code breaks it: each mutation is made, and its property run."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from plan_mutations import LAWS, MUTATIONS, SLOW, STEADY

from tests.spoil import Mutation, assert_is_red, copy_tree, misplaced, run_spoilt


def names_in(module: str) -> set[str]:
    """Names of a module's tests, read from its text."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("module", [LAWS, STEADY, SLOW])
def test_every_law_has_a_mutation(module: str) -> None:
    # Mutation: take one out of plan_mutations.py.
    assert names_in(module) == {one.test for one in MUTATIONS if one.module == module}


def test_every_mutation_of_the_planner_still_has_its_place_in_the_code() -> None:
    assert [] == misplaced(MUTATIONS)


def ident(one: Mutation) -> str:
    return f"{one.test.removeprefix('test_').replace('_', ' ')}: {one.name}"


def test_no_mutation_of_the_planner_is_there_twice() -> None:
    assert {} == {name: n for name, n in Counter(map(ident, MUTATIONS)).items() if n > 1}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree to spoil."""
    return copy_tree(tmp_path_factory.mktemp("mutants"))


@pytest.mark.long
@pytest.mark.parametrize("one", MUTATIONS, ids=ident)
def test_a_mutation_of_the_planner_turns_its_law_red(tree: Path, one: Mutation) -> None:
    assert_is_red(run_spoilt(tree, one, folder="tests/properties"))
