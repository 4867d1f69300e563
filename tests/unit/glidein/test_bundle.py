"""The bundle, made of a tree with this machine's own loader and C library, so that its programs really run."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from glidein.bundle import PROGRAMS, build_bundle, verify_bundle
from glidein.errors import BadBundle, MissingLibrary, NoCondorHere

LOADER = Path("/lib64/ld-linux-x86-64.so.2")
pytestmark = pytest.mark.skipif(not LOADER.exists(), reason="the bundle is for x86-64 Linux")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A system whose every HTCondor program is this machine's env(1)."""
    root = tmp_path / "root"
    libraries = root / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    shutil.copy(LOADER.resolve(), libraries / "ld.so")
    (root / "lib64").mkdir()
    # As in real exports: absolute, and right only below the root.
    (root / "lib64" / LOADER.name).symlink_to("/usr/lib/x86_64-linux-gnu/ld.so")
    env = Path("/usr/bin/env")
    for line in subprocess.run(["ldd", str(env)], capture_output=True, text=True, check=True).stdout.splitlines():
        if "=> /" in line:
            source = Path(line.split("=>")[1].split()[0])
            shutil.copy(source, libraries / source.name)
    for _, source_name, needed in PROGRAMS:
        if needed:
            program = root / source_name
            program.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(env, program)
    return root


def repack(bundle: Path, out: Path, change: dict[str, bytes]) -> None:
    with tarfile.open(bundle) as old, tarfile.open(out, "w:gz") as new:
        for member in old:
            data = change.get(member.name, old.extractfile(member).read())
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def sha256(path: Path) -> str:
    return subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]


def test_same_tree_gives_same_bytes_and_verifies(tree: Path, tmp_path: Path) -> None:
    first = build_bundle(tree, tmp_path / "a.tar.gz")
    second = build_bundle(tree, tmp_path / "b.tar.gz")
    assert first.sha256 == second.sha256 == sha256(first.path)
    assert first == verify_bundle(first.path, first.sha256)


def test_program_runs_from_anywhere_with_its_arguments_and_no_variable_added(tree: Path, tmp_path: Path) -> None:
    info = build_bundle(tree, tmp_path / "a.tar.gz")
    place = tmp_path / "some where"
    with tarfile.open(info.path) as tar:
        tar.extractall(place, filter="data")
    program = place / "condor/sbin/condor_master"
    done = subprocess.run([program, "A=b c"], env={"ONLY": "this"}, capture_output=True, text=True, check=True)
    variables = [line for line in done.stdout.splitlines() if not line.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD="))]
    assert ["ONLY=this", "A=b c"] == variables


def test_tree_without_htcondor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCondorHere, match="condor_startd"):
        build_bundle(tmp_path, tmp_path / "out.tar.gz")
    assert [] == list(tmp_path.iterdir())


def test_missing_library_is_named(tree: Path, tmp_path: Path) -> None:
    next((tree / "usr/lib/x86_64-linux-gnu").glob("libc.so*")).unlink()
    with pytest.raises(MissingLibrary, match=r"libc\.so"):
        build_bundle(tree, tmp_path / "out.tar.gz")


def test_other_file_than_the_one_told_is_refused(tree: Path, tmp_path: Path) -> None:
    info = build_bundle(tree, tmp_path / "a.tar.gz")
    with pytest.raises(BadBundle, match="its sha256 is"):
        verify_bundle(info.path, "0" * 64)
    with pytest.raises(BadBundle, match="No such file"):
        verify_bundle(tmp_path / "none", info.sha256)


def test_file_that_differs_from_the_manifest_is_named(tree: Path, tmp_path: Path) -> None:
    info = build_bundle(tree, tmp_path / "a.tar.gz")
    bad = tmp_path / "bad.tar.gz"
    repack(info.path, bad, {"condor/real/condor_startd": b"worse"})
    with pytest.raises(BadBundle, match="condor/real/condor_startd"):
        verify_bundle(bad, sha256(bad))


def test_upstream_tarball_without_manifest_will_do(tmp_path: Path) -> None:
    upstream = tmp_path / "condor-25.tar.gz"
    with tarfile.open(upstream, "w:gz") as tar:
        member = tarfile.TarInfo("condor-25.14.1/sbin/condor_master")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"elf"))
    assert 1 == verify_bundle(upstream, sha256(upstream)).files


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00junk"])
def test_broken_file_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(BadBundle):
        verify_bundle(path, sha256(path))
