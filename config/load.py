"""Read the operator's TOML file; every refusal names the file, the key and the remedy."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.errors import ConfigFileError, ConfigValueError
from config.model import Config


def load_config(path: Path) -> Config:
    """
    Read and check the file.

    :raises ConfigFileError: it cannot be read or is not TOML.
    :raises ConfigValueError: keys that do not fit, all of them at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigFileError(
            path=path,
            problem=f"cannot be read ({error.strerror})",
            remedy="give the right path with --config",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigFileError(path=path, problem="is not UTF-8 text", remedy="save it as UTF-8") from error
    return parse_config(text, path=path)


def parse_config(text: str, *, path: Path) -> Config:
    """Check the text of a file; ``path`` only serves the messages."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigFileError(path=path, problem=f"is not TOML: {error}", remedy="mend that line") from error
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigValueError(path=path, problems=tuple(_problem(detail) for detail in error.errors())) from error


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
