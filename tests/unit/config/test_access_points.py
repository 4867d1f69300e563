"""Access points in the operator's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.load import parse_texts, read_texts

EXAMPLE = Path(__file__).resolve().parents[3] / "examples"


# Mutation: Config without _schedds_differ; or with names compared as they are written.
def test_one_schedd_under_two_names_is_refused_because_its_jobs_would_count_twice() -> None:
    (path,) = EXAMPLE.glob("aerotow.toml")
    texts = read_texts(path)
    parse_texts(texts)
    name = next(name for name, text in texts.items() if "[access_points." in text)
    schedd = texts[name].split("schedd = ", 1)[1].split('"')[1]
    texts[name] += f'\n[access_points.again]\nschedd = "{schedd.upper()}"\n'

    with pytest.raises(ConfigError, match=r"access_points\.again\.schedd: .* counted twice; remove one"):
        parse_texts(texts)
