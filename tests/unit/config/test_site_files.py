"""Site files beside the main file, and what changed between two readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.load import difference, load_config, read_texts, renames

MAIN = """
[instance]
name = "tow"
[pool]
collector = "cm"
trust_domain = "pool"
[bundle]
path = "/b"
sha256 = "{sha256}"
[access_points.ap1]
schedd = "ap1.pool"
[sites.alpha]
account = "a"
partition = "p"
cores = 4
memory = "8 GiB"
walltime = "2:00:00"
""".format(sha256="0" * 64)
BETA = """# as `aerotow site probe` writes it
[sites.beta]
login = "pilot@login.beta"
account = "grid"
partition = "batch"
cores = 8
memory = "16 GiB"
walltime = "4:00:00"
"""


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "sites.d").mkdir()
    path = tmp_path / "aerotow.toml"
    path.write_text(MAIN)
    return path


def put(main: Path, text: str, name: str = "beta.toml") -> Path:
    path = main.parent / "sites.d" / name
    path.write_text(text)
    return path


def refusal(main: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(main)
    return str(caught.value)


def test_a_site_file_is_a_site(main: Path) -> None:
    assert {"alpha"} == set(load_config(main).sites)
    put(main, BETA)
    put(main, "not TOML", ".beta.toml.swp")
    put(main, "not TOML", "beta.toml~")
    config = load_config(main)
    assert {"alpha", "beta"} == set(config.sites)
    assert ("grid", 8) == (config.sites["beta"].account, config.sites["beta"].cores)


def test_no_directory_is_no_site_files(main: Path) -> None:
    (main.parent / "sites.d").rmdir()
    assert {"alpha"} == set(load_config(main).sites)


def test_the_same_site_twice_names_both_files(main: Path) -> None:
    path = put(main, BETA.replace("beta", "alpha"))
    assert f"{path}: sites.alpha: is in {main} too; keep one of the two" == refusal(main)
    path.unlink()
    first, second = put(main, BETA, "a.toml"), put(main, BETA, "b.toml")
    assert f"{second}: sites.beta: is in {first} too; keep one of the two" == refusal(main)


def test_a_mistake_in_a_site_file_names_that_file(main: Path) -> None:
    path = put(main, BETA.replace("cores = 8", "coers = 8"))
    told = refusal(main)
    assert f"{path}: sites.beta.coers: is not a key of this table; did you mean 'cores'?" in told
    assert f"{path}: sites.beta.cores: is missing" in told
    main.write_text(MAIN.replace("cores = 4", "cores = 0"))
    assert f"{main}: sites.alpha.cores" in refusal(main)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cores = 8\n", "cores: does not belong into a site file; write it under [sites.beta]"),
        (BETA + "[limits]\nmax_pilots = 3\n", "limits: does not belong into a site file"),
        (BETA + BETA.replace("beta", "gamma"), "sites: is not one site; write one table [sites.beta]"),
        ("", "sites: is not one site"),
        ("[sites.beta\n", "is not TOML"),
    ],
)
def test_a_site_file_holds_one_site_and_nothing_else(main: Path, text: str, told: str) -> None:
    path = put(main, text)
    assert f"{path}: {told}" in refusal(main)


def test_every_byte_counts_as_a_change(main: Path) -> None:
    put(main, BETA)
    before = read_texts(main)
    assert before == read_texts(main)
    put(main, BETA + "# note\n")
    assert before != read_texts(main)


def test_the_difference_names_sites_and_keys(main: Path) -> None:
    before = load_config(main)
    put(main, BETA)
    main.write_text(
        MAIN.replace("cores = 4", "cores = 6") + 'slot_attributes = { X = "1" }\n[limits]\nmax_pilots = 7\n'
    )
    after = load_config(main)
    assert () == difference(before, before)
    assert (
        "limits.max_pilots: 1000, now 7",
        "sites.alpha.cores: 4, now 6",
        "sites.alpha.slot_attributes.X: nothing, now 1",
        "sites.beta: added",
    ) == difference(before, after)
    assert "sites.beta: removed" in difference(after, before)


def test_a_site_that_only_has_another_name_is_renamed(main: Path) -> None:
    # Mutation: renames() always empty: then it is removed and added, and the changed key is not told.
    put(main, BETA)
    before = load_config(main)
    (main.parent / "sites.d/beta.toml").unlink()
    renamed = BETA.replace("[sites.beta]", "[sites.north]").replace("cores = 8", "cores = 9")
    (main.parent / "sites.d/north.toml").write_text(renamed)
    after = load_config(main)
    assert {"beta": "north"} == renames(before, after)
    told = difference(before, after)
    assert told[0].startswith("sites.beta: renamed to north (same way to it, account and partition)")
    assert ("sites.north.cores: 8, now 9",) == told[1:]


def test_where_two_could_be_meant_none_is_renamed(main: Path) -> None:
    # Mutation: len(same) >= 1 in renames(): a guess.
    put(main, BETA)
    before = load_config(main)
    (main.parent / "sites.d/beta.toml").unlink()
    for name in ("north", "south"):
        (main.parent / f"sites.d/{name}.toml").write_text(BETA.replace("[sites.beta]", f"[sites.{name}]"))
    assert ("sites.beta: removed", "sites.north: added", "sites.south: added") == difference(before, load_config(main))
