"""Printing: tables and lines for people, JSON for scripts. Times in tables are UTC; in JSON they are epoch seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from config.units import format_span

_PIPED_WIDTH = 1000
"""Columns without a terminal: nothing is cut or wrapped, so that ids can be picked out with awk or grep."""

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="JSON on stdout; times are UTC epoch seconds (keys end in _s)."
)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(plain(value), indent=2, sort_keys=False))


def plain(value: Any) -> Any:
    """
    A frozen value as JSON has it: dataclasses as objects, enums by their word, epoch times as whole seconds.

    A float whose key ends in ``_s`` and holds an instant is cut to whole seconds; fractions of a time serve nobody.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _timed(field.name, plain(getattr(value, field.name))) for field in fields(value)}
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, dict):
        return {str(key): _timed(str(key), plain(inner)) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    return value


def _timed(key: str, value: Any) -> Any:
    """An instant or span in whole seconds; CPU time keeps its fraction because it is a sum of measurements."""
    return int(value) if isinstance(value, float) and key.endswith("_s") and not key.endswith("cpu_s") else value


def table(headings: Iterable[str], rows: Iterable[Iterable[object]], *, right: Iterable[str] = ()) -> None:
    """A table; the headings named in ``right`` hold numbers. Text is shown as it is: no markup is read."""
    numbers = frozenset(right)
    headings = tuple(headings)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(headings))
    for heading in headings:
        grid.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell(one)) for one in row))
    console().print(grid)


def console() -> Console:
    """Stdout as a rich console, as wide as it takes when it is no terminal."""
    if sys.stdout.isatty():
        return Console(highlight=False, soft_wrap=False)
    return Console(file=sys.stdout, width=_PIPED_WIDTH, highlight=False, color_system=None, force_terminal=False)


def say(text: str = "") -> None:
    """One line on stdout."""
    click.echo(printable(text))


def warn(text: str) -> None:
    """One line on stderr."""
    click.echo(printable(text), err=True)


def cell(value: object) -> str:
    """What a table shows for a value: a dash for none."""
    if value is None or value == "":
        return "-"
    return printable(str(value))


def printable(text: str) -> str:
    """
    The text without control characters.

    Words of a site's scheduler and of users' jobs end up on an operator's terminal; escape sequences must not.
    """
    return "".join(one if one.isprintable() else "?" for one in text)


def clock_time(time_s: float | None, now_s: float) -> str:
    """An instant in UTC: the time of day, and the date too when that is not today."""
    if time_s is None:
        return "-"
    at = datetime.fromtimestamp(time_s, tz=UTC)
    same_day = at.date() == datetime.fromtimestamp(now_s, tz=UTC).date()
    return at.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")


def ago(time_s: float | None, now_s: float) -> str:
    """How long ago an instant was, for example ``12 min``."""
    return "-" if time_s is None else span(max(0.0, now_s - time_s))


def span(seconds: float | None) -> str:
    """A length of time for people."""
    return "-" if seconds is None else format_span(timedelta(seconds=seconds))


def memory(mib: int) -> str:
    """An amount of memory for people; exact, because requirements are compared with it."""
    return f"{mib // 1024} GiB" if mib % 1024 == 0 and mib else f"{mib} MiB"


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 core``, ``2 cores``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(share: float | None) -> str:
    """A share as a percentage; a dash where there is none."""
    return "-" if share is None else f"{share * 100:.1f} %"


def core_hours(core_s: float) -> str:
    """Core seconds as core hours."""
    return f"{core_s / 3600:.2f}"
