"""
Read the operator's TOML: the main file and the site files beside it. Every refusal names file, key and remedy.

A site file lies in ``sites.d`` beside the main file, ends in ``.toml`` and holds one table ``[sites.NAME]``.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.errors import ConfigFileError, ConfigValueError
from config.model import Config, Site

SITES_DIR = "sites.d"
SITE_FILES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigText:
    """What the operator has written, byte by byte, so that a change is seen."""

    path: Path
    main: str
    sites: tuple[tuple[Path, str], ...] = ()
    """Site files, sorted by name."""


def load_config(path: Path) -> Config:
    """
    Read and check the file and the site files beside it.

    :raises ConfigFileError: one cannot be read or is not TOML.
    :raises ConfigValueError: keys that do not fit, all of them at once.
    """
    return parse_texts(read_texts(path))


def read_texts(path: Path) -> ConfigText:
    """
    Read the file and the site files beside it; a hidden file is an editor's and is left out.

    :raises ConfigFileError: one cannot be read.
    """
    main = _read(path, remedy="give the right path with --config")
    directory = path.parent / SITES_DIR
    try:
        names = sorted(entry for entry in directory.iterdir() if entry.suffix == ".toml" and entry.name[0] != ".")
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise ConfigFileError(
            path=directory, problem=f"cannot be listed ({error.strerror})", remedy="let the factory's user read it"
        ) from error
    if len(names) > SITE_FILES_MAX:
        raise ConfigFileError(path=directory, problem=f"more than {SITE_FILES_MAX} files", remedy="remove some")
    sites = tuple((name, _read(name, remedy="let the factory's user read it, or remove it")) for name in names)
    return ConfigText(path=path, main=main, sites=sites)


def parse_config(text: str, *, path: Path) -> Config:
    """Check the text of a main file alone; ``path`` only serves the messages."""
    return parse_texts(ConfigText(path=path, main=text))


def parse_texts(texts: ConfigText) -> Config:
    """Check main file and site files together."""
    tree, origin = tree_of(texts)
    return parse_tree(texts.path, tree, origin=origin)


def tree_of(texts: ConfigText) -> tuple[dict[str, Any], dict[str, Path]]:
    """
    The values of main file and site files as one tree, not yet checked, and the file of each site.

    :raises ConfigFileError: one is not TOML.
    :raises ConfigValueError: a site file is not one site, or a site is in two files.
    """
    tree = _toml(texts.path, texts.main)
    origin: dict[str, Path] = {}
    if texts.sites:
        sites = tree.setdefault("sites", {})
        if not isinstance(sites, dict):
            raise _refusal(texts.path, "sites", "is no table", "write [sites.NAME]")
        origin = dict.fromkeys(sites, texts.path)
        for path, text in texts.sites:
            name, table = _one_site(path, text)
            if name in origin:
                raise _refusal(path, f"sites.{name}", f"is in {origin[name]} too", "keep one of the two")
            sites[name], origin[name] = table, path
    return tree, origin


def parse_tree(path: Path, tree: Mapping[str, Any], *, origin: Mapping[str, Path] | None = None) -> Config:
    """
    Check values that are read already; ``origin`` is the file of each site.

    :raises ConfigValueError: keys that do not fit, all of them at once.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems = tuple(_problem(detail) for detail in error.errors())
        raise ConfigValueError(path=path, problems=problems, sites=dict(origin or {})) from error


def _one_site(path: Path, text: str) -> tuple[str, object]:
    """Name and table of a site file's one site."""
    tree = _toml(path, text)
    foreign = sorted(set(tree) - {"sites"})
    if foreign:
        remedy = f"write it under [sites.{path.stem}], or into the main file"
        raise _refusal(path, foreign[0], "does not belong into a site file", remedy)
    sites = tree.get("sites")
    if not isinstance(sites, dict) or len(sites) != 1:
        raise _refusal(path, "sites", "is not one site", f"write one table [sites.{path.stem}]")
    return next(iter(sites.items()))


def _refusal(path: Path, key: str, problem: str, remedy: str) -> ConfigValueError:
    return ConfigValueError(path=path, problems=((key, problem, remedy),))


def _read(path: Path, *, remedy: str) -> str:
    """A file's text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigFileError(path=path, problem=f"cannot be read ({error.strerror})", remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise ConfigFileError(path=path, problem="is not UTF-8 text", remedy="save it as UTF-8") from error


def _toml(path: Path, text: str) -> dict[str, Any]:
    """A text as a tree."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigFileError(path=path, problem=f"is not TOML: {error}", remedy="mend that line") from error


def difference(before: Config, after: Config) -> tuple[str, ...]:
    """
    What changed, one line for each key: ``sites.alpha.cores: 4, now 8``; the database's URL is not shown.

    A site that has another name now is told as renamed, and its changed keys under the new name.
    """
    new_names = renames(before, after)
    tree = before.model_dump(mode="json")
    tree["sites"] = {new_names.get(name, name): site for name, site in tree["sites"].items()}
    old, new = _flat(tree), _flat(after.model_dump(mode="json"))
    for values in (old, new):
        values.pop("instance.database", None)
    gone = set(before.sites) - set(after.sites) - set(new_names)
    come = set(after.sites) - set(before.sites) - set(new_names.values())
    lines = [f"sites.{name}: removed" for name in gone] + [f"sites.{name}: added" for name in come]
    lines += [
        f"sites.{name}: renamed to {now} (same way to it, account and partition); pilots with the old name are watched "
        "until they have ended"
        for name, now in new_names.items()
    ]
    for key in sorted(old.keys() | new.keys()):
        parts = key.split(".")
        if parts[0] == "sites" and len(parts) > 1 and parts[1] in gone | come:
            continue
        if old.get(key) != new.get(key):
            lines.append(f"{key}: {_shown(old.get(key))}, now {_shown(new.get(key))}")
    return tuple(sorted(lines))


def renames(before: Config, after: Config) -> dict[str, str]:
    """
    Old to new name of each site that is reached, charged and queued as before, and only has another name now.

    Where two could be meant, none is: then they are removed and added.
    """
    gone = [name for name in before.sites if name not in after.sites]
    come = [name for name in after.sites if name not in before.sites]
    found: dict[str, str] = {}
    for old in gone:
        same = [new for new in come if _place(after.sites[new]) == _place(before.sites[old])]
        twins = [other for other in gone if _place(before.sites[other]) == _place(before.sites[old])]
        if len(same) == 1 and len(twins) == 1:
            found[old] = same[0]
    return found


def _place(site: Site) -> tuple[object, ...]:
    """What makes a site the same whatever its name: the way to it, and the queue and the account there."""
    return site.login, site.rest, site.rest_user, site.shared_dir, site.account, site.partition, site.qos


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys with dots, down to plain values and lists."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _problem(detail: ErrorDetails) -> tuple[str, str, str]:
    """One refusal as key, problem, remedy."""
    key = ".".join(str(part) for part in detail["loc"] if part != "[key]") or "the file"
    match detail["type"]:
        case "extra_forbidden":
            known = _known_keys(detail["loc"][:-1])
            near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
            return key, "is not a key of this table", remedy
        case "missing":
            return key, "is missing", "add it (see 'aerotow config example')"
        case "string_pattern_mismatch":
            pattern = detail.get("ctx", {}).get("pattern", "")
            return key, f"{detail['input']!r} has characters that are not allowed", f"it must match {pattern}"
        case "value_error":
            problem, _, remedy = str(detail["msg"]).removeprefix("Value error, ").partition("; ")
            if detail["loc"] == () and ": " in problem:
                key, _, problem = problem.partition(": ")
            return key, problem, remedy or "mend the value"
        case _:
            return key, f"{detail['input']!r}: {detail['msg']}", "mend the value"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """Keys of the table at a location, found by walking the models."""
    model: type[BaseModel] = Config
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return list(model.model_fields)
