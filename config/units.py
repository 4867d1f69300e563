"""Units as people write them, read into one unit as the code keeps them."""

from __future__ import annotations

import re
from datetime import timedelta

_MEMORY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(MiB|GiB|TiB|M|G|T)?\s*$")
_MEMORY_FACTOR_MIB = {"MiB": 1, "M": 1, "GiB": 1024, "G": 1024, "TiB": 1024**2, "T": 1024**2, None: 1}
_SPAN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*$")
_SPAN_FACTOR_S = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def parse_memory_mib(text: str | int) -> int:
    """Read an amount of memory such as ``"8 GiB"``, ``"16000M"`` or ``4096`` (MiB) as whole MiB."""
    if isinstance(text, int):
        return text
    found = _MEMORY.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no amount of memory; write for example '8 GiB' or '16000 MiB'")
    return int(float(found[1]) * _MEMORY_FACTOR_MIB[found[2]])


_SPAN_MAX = 10**8
"""Larger numbers in a time limit are no time; 10**8 days is also about as much as Python can count."""


def parse_walltime(text: str) -> timedelta:
    """
    Read a Slurm time limit: ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M`` or ``D-H:M:S``.

    A bare number is minutes. Source: sbatch(1), option ``--time``.
    """
    days, dash, rest = text.strip().rpartition("-")
    parts = rest.split(":")
    if not all(re.fullmatch(r"\d+", part) for part in parts) or (dash and not re.fullmatch(r"\d+", days)):
        raise ValueError(f"{text!r} is no Slurm time limit; write for example '2:00:00' or '1-12'")
    numbers = [int(part) for part in parts]
    if max(*numbers, int(days or 0)) > _SPAN_MAX:
        raise ValueError(f"{text!r} is longer than any time limit; write for example '2:00:00' or '1-12'")
    if dash:
        if len(numbers) > 3:
            raise ValueError(f"{text!r} is no Slurm time limit; write for example '1-12:30:00'")
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return timedelta(days=int(days), hours=hours, minutes=minutes, seconds=seconds)
    match numbers:
        case [minutes]:
            return timedelta(minutes=minutes)
        case [minutes, seconds]:
            return timedelta(minutes=minutes, seconds=seconds)
        case [hours, minutes, seconds]:
            return timedelta(hours=hours, minutes=minutes, seconds=seconds)
        case _:
            raise ValueError(f"{text!r} is no Slurm time limit; write for example '2:00:00' or '1-12'")


def parse_span(text: str | int | timedelta) -> timedelta:
    """
    Read a span of time: ``"90 s"``, ``"15 min"``, ``"2 h"``, ``"1 d"`` or a Slurm time limit with a colon.

    A bare number is refused because nobody remembers its unit.
    """
    if isinstance(text, timedelta):
        return text
    if isinstance(text, int):
        raise ValueError(f"{text} has no unit; write for example '{text} s' or '{text} min'")
    found = _SPAN.match(text)
    if found is not None:
        return timedelta(seconds=float(found[1]) * _SPAN_FACTOR_S[found[2]])
    if ":" in text or re.fullmatch(r"\d+-\d+", text.strip()):
        return parse_walltime(text)
    raise ValueError(f"{text!r} is no span of time; write for example '90 s', '15 min', '2 h' or '1:30:00'")


def format_walltime(span: timedelta) -> str:
    """Write a span as Slurm reads it, ``D-HH:MM:SS``, seconds rounded up."""
    whole_s = -int(-span.total_seconds() // 1)
    minutes, seconds = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{seconds:02}"


def format_span(span: timedelta) -> str:
    """Write a span for people: ``45 s``, ``12 min``, ``3.2 h``, ``2.5 d``."""
    seconds = span.total_seconds()
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"
