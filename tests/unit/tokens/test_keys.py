"""Keys and tokens on disk: private, whole, and never overwritten by accident."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from tokens.errors import KeyExists, KeyUnreadable
from tokens.keys import KEY_BYTES, read_key, store, write_key


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_key_is_private_and_random(tmp_path: Path) -> None:
    write_key(tmp_path / "pilot-alpha")
    write_key(tmp_path / "pilot-beta")

    assert mode_of(tmp_path / "pilot-alpha") == 0o600
    assert len(read_key(tmp_path / "pilot-alpha")) == KEY_BYTES
    assert read_key(tmp_path / "pilot-alpha") != read_key(tmp_path / "pilot-beta")


def test_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pilot-alpha"
    write_key(path)
    before = path.read_bytes()

    with pytest.raises(KeyExists, match="pilot-alpha"):
        write_key(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["pilot-alpha"]


def test_of_several_that_make_one_key_at_once_exactly_one_does(tmp_path: Path) -> None:
    path = tmp_path / "pilot-alpha"
    made: list[bool] = []

    def make() -> None:
        try:
            write_key(path)
            made.append(True)
        except KeyExists:
            made.append(False)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == [False] * 7 + [True]
    assert [entry.name for entry in tmp_path.iterdir()] == ["pilot-alpha"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pilot-alpha"
    write_key(path)
    path.chmod(mode)

    with pytest.raises(KeyUnreadable, match="lets others read"):
        read_key(path)


def test_missing_or_empty_key_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KeyUnreadable, match="pilot-alpha"):
        read_key(tmp_path / "pilot-alpha")

    path = tmp_path / "pilot-beta"
    path.touch(mode=0o600)
    with pytest.raises(KeyUnreadable, match="0 bytes"):
        read_key(path)


def test_stored_token_is_private_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old and longer than the new one")
    path.chmod(0o644)

    store(path, "new\n")

    assert path.read_text() == "new\n"
    assert mode_of(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_store_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()

    with pytest.raises(OSError, match="token"):
        store(tmp_path / "token", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]
