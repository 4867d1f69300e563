"""Every test of the contract fails when the code does what it forbids: each mutation is made, and its test run."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mutations import AT_CONDOR, CONTRACT, IN_MEMORY, MUTATIONS, REAL, Mutation

ROOT = Path(__file__).parents[2]
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
    for one in MUTATIONS:
        for file, old, _ in one.changes:
            assert 1 == (ROOT / file).read_text().count(old), (one.name, file, old)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree to spoil."""
    copy = tmp_path_factory.mktemp("mutants")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name)
    return copy


def run(tree: Path, one: Mutation) -> subprocess.CompletedProcess[str]:
    """The one test, in the spoilt tree."""
    node = f"tests/contract/{one.module}.py::{one.test}" + (f"[{one.adapter}]" if one.adapter else "")
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", node]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "AEROTOW_TESTBED_AS_IS": "1"}
    return subprocess.run(argv, cwd=tree, env=environment, capture_output=True, text=True, timeout=400)


def spoilt(tree: Path, one: Mutation) -> subprocess.CompletedProcess[str]:
    """The test's run with the mutation, which is put back."""
    before = {file: (tree / file).read_text() for file, _, _ in one.changes}
    try:
        for file, old, new in one.changes:
            text = (tree / file).read_text()
            assert 1 == text.count(old), (file, old)
            (tree / file).write_text(text.replace(old, new))
        return run(tree, one)
    finally:
        for file, text in before.items():
            (tree / file).write_text(text)


def ident(one: Mutation) -> str:
    where = "condor-delta" if one in AT_CONDOR else one.adapter
    return f"{where}: {one.test.removeprefix('test_').replace('_', ' ')}: {one.name}"


@pytest.mark.long
@pytest.mark.parametrize("one", IN_MEMORY, ids=ident)
def test_a_mutation_in_memory_turns_its_test_red(tree: Path, one: Mutation) -> None:
    _is_red(spoilt(tree, one))


@pytest.mark.long
@pytest.mark.system
@pytest.mark.parametrize("one", [*REAL, *AT_CONDOR], ids=ident)
def test_a_mutation_of_the_real_code_turns_its_test_red(tree: Path, one: Mutation) -> None:
    from testbed import bed, model

    if not os.environ.get("AEROTOW_TESTBED_AS_IS"):
        htc = [model.htc_site_named("delta")] if one in AT_CONDOR else []
        bed.up(lambda text: print(f"  {text}", file=sys.stderr), htc=htc)
    _is_red(spoilt(tree, one))


def _is_red(done: subprocess.CompletedProcess[str]) -> None:
    """Failed, and by an assertion of the test or a crash in it; not for want of a test, or at collection."""
    assert 1 == done.returncode, done.stdout[-3000:] + done.stderr[-2000:]
    assert "1 failed" in done.stdout or "1 error" in done.stdout, done.stdout[-3000:]


def test_no_mutation_is_there_twice() -> None:
    assert {} == {name: n for name, n in Counter(map(ident, MUTATIONS)).items() if n > 1}
