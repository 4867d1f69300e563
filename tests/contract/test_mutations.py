"""Every test of the contract fails when the code does what it forbids: each mutation is made, and its test run."""

from __future__ import annotations

import ast
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from mutations import AT_CONDOR, CONTRACT, IN_MEMORY, MUTATIONS, REAL

from tests.spoil import Mutation, assert_is_red, copy_tree, misplaced, run_spoilt

MODULES = (CONTRACT, "test_site_faults", "test_rest_faults", "test_condor_faults")


def names_in(module: str) -> set[str]:
    """Names of a module's tests, read from its text."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("module", MODULES)
def test_every_test_has_a_mutation(module: str) -> None:
    # Mutation: take one out of mutations.py.
    assert names_in(module) == {one.test for one in MUTATIONS if one.module == module}


def test_every_test_of_the_contract_has_one_for_slurm_one_for_htcondor_and_one_in_memory() -> None:
    for some in (IN_MEMORY, REAL, AT_CONDOR):
        assert names_in(CONTRACT) == {one.test for one in some if one.module == CONTRACT}


def test_every_mutation_still_has_its_place_in_the_code() -> None:
    assert [] == misplaced(MUTATIONS)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree to spoil."""
    return copy_tree(tmp_path_factory.mktemp("mutants"))


def ident(one: Mutation) -> str:
    where = "condor-delta" if one in AT_CONDOR else one.adapter
    return f"{where}: {one.test.removeprefix('test_').replace('_', ' ')}: {one.name}"


@pytest.mark.long
@pytest.mark.parametrize("one", IN_MEMORY, ids=ident)
def test_a_mutation_in_memory_turns_its_test_red(tree: Path, one: Mutation) -> None:
    assert_is_red(run_spoilt(tree, one, folder="tests/contract"))


@pytest.mark.long
@pytest.mark.system
@pytest.mark.parametrize("one", [*REAL, *AT_CONDOR], ids=ident)
def test_a_mutation_of_the_real_code_turns_its_test_red(tree: Path, one: Mutation) -> None:
    from testbed import bed, model

    if not os.environ.get("AEROTOW_TESTBED_AS_IS"):
        htc = [model.htc_site_named("delta")] if one in AT_CONDOR else []
        bed.up(lambda text: print(f"  {text}", file=sys.stderr), htc=htc)
    assert_is_red(run_spoilt(tree, one, folder="tests/contract"))


def test_no_mutation_is_there_twice() -> None:
    assert {} == {name: n for name, n in Counter(map(ident, MUTATIONS)).items() if n > 1}
