"""Access points in the operator's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.load import load_config
from tests.unit.config.test_site_files import MAIN


# Mutation: Config without _schedds_differ; or with names compared as they are written.
def test_one_schedd_under_two_names_is_refused_because_its_jobs_would_count_twice(tmp_path: Path) -> None:
    path = tmp_path / "aerotow.toml"
    path.write_text(MAIN)
    (known,) = load_config(path).access_points.values()
    path.write_text(MAIN + f'\n[access_points.again]\nschedd = "{known.schedd.upper()}"\n')

    with pytest.raises(ConfigError, match=r"access_points\.again\.schedd: .* counted twice; remove one"):
        load_config(path)
