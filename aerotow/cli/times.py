"""Moments as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

from aerotow.cli.failure import USAGE, Failure
from config.units import parse_span


def moment(text: str, now_s: float, *, option: str) -> int:
    """An instant as epoch seconds: a span before now ('2 h') or a date or time in UTC (2026-11-22T14:00)."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return int((at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp())
    try:
        return int(now_s - parse_span(text).total_seconds())
    except ValueError as error:
        raise Failure(
            f"{option} {text!r} is no time; write '2 h', '1 d', 2026-11-22 or 2026-11-22T14:00 (UTC)",
            exit_code=USAGE,
        ) from error
