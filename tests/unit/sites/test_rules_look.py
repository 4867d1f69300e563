"""The file of the site's admin as a look brings it: by the real script under a real sh."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from stubs import Stubs, make_site

from factory.sites.contract import SiteSeen
from factory.sites.texts import parse_rules
from glidein.siterules import NO_RULES, RULES_MAX_BYTES, SiteRules, parse_site_rules

LABEL = "~/.aerotow/site-policy.conf"


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    made = Stubs.make(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(made.home))
    (made.home / ".aerotow").mkdir()
    return made


def looked(stubs: Stubs) -> SiteRules:
    site, shell = make_site(stubs)
    sight = site.look((), now_s=time.time())
    assert isinstance(sight, SiteSeen), sight
    # One remote command, however much is looked at.
    assert 1 == len(shell.scripts)
    return sight.rules


def test_the_look_brings_every_byte_of_the_file(stubs: Stubs) -> None:
    file = stubs.home / ".aerotow/site-policy.conf"
    for raw in (
        b"",
        b"deny project dp001\n\ncap max_pilots 3\n",
        b"deny user x",
        b"\x00\xff\n",
        b"@NONCE end\n",
        b"\n\n",
    ):
        file.write_bytes(raw)
        assert parse_site_rules(raw, file=LABEL) == looked(stubs)


def test_no_file_is_no_restriction(stubs: Stubs) -> None:
    assert SiteRules(file=LABEL) == looked(stubs)
    assert NO_RULES.words() == looked(stubs).words()


def test_a_file_that_cannot_be_read_closes_the_site(stubs: Stubs) -> None:
    # Mutation: parse_rules takes every failure for "no file".
    file = stubs.home / ".aerotow/site-policy.conf"
    file.mkdir()
    assert "it is no plain file" in looked(stubs).closed
    file.rmdir()
    file.symlink_to(file)
    assert "Too many levels of symbolic links" in looked(stubs).closed
    file.unlink()
    file.write_text("# long\n" * RULES_MAX_BYTES)
    assert f"longer than {RULES_MAX_BYTES} bytes" in looked(stubs).closed


@pytest.mark.parametrize(
    ("stdout", "stderr", "status"),
    [
        ("", "od: f: Permission denied", 1),
        ("", "od: f: Stale file handle", 1),
        ("", "sh: od: not found", 127),
        ("", "od: f: No such file or directory", None),
        ("not hex", "", 0),
    ],
)
def test_only_a_file_that_surely_is_not_there_is_no_restriction(stdout: str, stderr: str, status: int | None) -> None:
    assert parse_rules(LABEL, stdout, stderr, status).closed
    assert not parse_rules(LABEL, "", "od: f: No such file or directory\n", 1).closed
