"""The keys of a site behind slurmrestd: what must stand together, and what each mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config.errors import ConfigValueError
from config.example import example_toml
from config.load import parse_config
from config.model import Config
from factory.sites.slurm import SlurmSite
from factory.sites.slurmrestd import SlurmrestdSite
from factory.wiring import make_site

GOOD = {"rest": '"https://slurm.example.org:6821"', "token_file": '"/etc/t"', "login": '"me@login"'}


def parse(keys: dict[str, str], *, state_dir: Path = Path("/nonexistent")) -> Config:
    """The example with other keys in its last table."""
    text = re.sub(r"^login = .*\n", "", example_toml(), flags=re.MULTILINE)
    text = text.replace('#state_dir = "/var/lib/aerotow"', f'state_dir = "{state_dir}"')
    return parse_config(text + "".join(f"{key} = {value}\n" for key, value in keys.items()), path=Path("file"))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (GOOD | {"rest": '"http://slurm.example.org"'}, "sites.alpha.rest: 'http://slurm.example.org' has characters"),
        (GOOD | {"rest": '"https://me:secret@slurm"'}, "sites.alpha.rest"),
        (GOOD | {"token_file": '"token"'}, "'token' is relative; write the whole path"),
        (GOOD | {"shared_dir": '"/shared"'}, "login and shared_dir are two ways for the files; keep one of them"),
        ({"rest": GOOD["rest"], "login": GOOD["login"]}, "rest without token_file; put the site's token"),
        ({"rest": GOOD["rest"], "token_file": GOOD["token_file"]}, "rest carries no files; add login"),
        ({"ca_file": '"/etc/ca.pem"', "rest_user": '"me"'}, "ca_file, rest_user without rest; add rest"),
        (GOOD | {"rest_limit": '"2 GiB"'}, "sites.alpha.rest_limit"),
    ],
)
def test_a_wrong_combination_is_told_with_its_remedy(keys: dict[str, str], told: str) -> None:
    """Turned red by: leaving out a condition of Site._rest_is_whole."""
    with pytest.raises(ConfigValueError) as caught:
        parse(keys)
    assert told in str(caught.value)
    assert "sites.alpha" in str(caught.value)


def test_a_site_with_rest_gets_the_adapter_of_slurmrestd(tmp_path: Path) -> None:
    """Turned red by: make_site without a look at ``rest``."""
    for keys in (GOOD, {**GOOD, "ca_file": '"/etc/ca.pem"'}):
        config = parse(keys, state_dir=tmp_path)
        assert isinstance(make_site("alpha", config.sites["alpha"], config), SlurmrestdSite)
    shared = {"rest": GOOD["rest"], "token_file": GOOD["token_file"], "shared_dir": f'"{tmp_path}"'}
    config = parse(shared, state_dir=tmp_path)
    assert isinstance(make_site("alpha", config.sites["alpha"], config), SlurmrestdSite)
    config = parse({"login": GOOD["login"]}, state_dir=tmp_path)
    site = make_site("alpha", config.sites["alpha"], config)
    assert isinstance(site, SlurmSite)
    assert not isinstance(site, SlurmrestdSite)
