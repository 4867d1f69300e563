"""The key of a site whose Slurm is asked by pyslurm: it is one way among others, and of this machine only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config.errors import ConfigValueError
from config.example import example_toml
from config.load import parse_config
from config.model import Config
from factory.sites.pyslurmsite import PyslurmSite
from factory.wiring import make_site


def parse(state_dir: Path, *lines: str) -> Config:
    text = re.sub(r"^login = .*\n", "", example_toml(), flags=re.MULTILINE)
    text = text.replace('#state_dir = "/var/lib/aerotow"', f'state_dir = "{state_dir}"')
    return parse_config(text + "\n".join(lines) + "\n", path=Path("file"))


def test_the_key_gives_the_adapter(tmp_path: Path) -> None:
    # Mutation: make_site() looks at `rest` only.
    config = parse(tmp_path, "pyslurm = true")
    assert isinstance(make_site("alpha", config.sites["alpha"], config), PyslurmSite)


def test_another_way_beside_it_is_a_mistake(tmp_path: Path) -> None:
    # Mutation: _pyslurm_is_on_the_spot() does not ask for login.
    with pytest.raises(ConfigValueError, match="login beside pyslurm"):
        parse(tmp_path, "pyslurm = true", 'login = "me@login"')
