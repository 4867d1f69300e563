"""The tool comes out of the bundle, and only it."""

from __future__ import annotations

import io
import tarfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from factory.draining import drain_client
from factory.errors import DrainUnavailable

GOOD = ("condor/bin/condor_drain", "condor/real/condor_drain", "condor/lib/libx.so", "condor/sbin/condor_master")


def config(directory: Path, *names: str, token: bool = True) -> Any:
    """What drain_client reads of the configuration."""
    with tarfile.open(directory / "bundle.tar.gz", "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    (directory / "admin.d").mkdir()
    if token:
        (directory / "admin.d/cm").write_text("token")
    return SimpleNamespace(
        pool=SimpleNamespace(secrets_dir=directory, collector="cm"),
        bundle=SimpleNamespace(path=directory / "bundle.tar.gz"),
        factory=SimpleNamespace(query_timeout=timedelta(seconds=9)),
    )


def test_the_tool_is_there_for_its_use_and_gone_afterwards(tmp_path: Path) -> None:
    with drain_client(config(tmp_path, *GOOD, "condor/lib/../../../outside")) as client:
        root = client.tool.parent.parent
        assert client.tool.is_file()
        assert {"bin", "real", "lib"} == {path.name for path in root.iterdir()}
        assert (tmp_path / "admin.d", 9) == (client.tokens_dir, client.timeout_s)
    assert not root.exists()
    assert not (tmp_path.parent / "outside").exists()


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    for number, (names, token, words) in enumerate(
        [(GOOD, False, "mint one for factory-admin"), (GOOD[2:], True, "build the bundle anew")]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(DrainUnavailable, match=words), drain_client(config(place, *names, token=token)):
            pass
