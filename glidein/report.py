"""A pilot's last word, ``end.json``, read back. The site could have written anything there: every field is checked."""

from __future__ import annotations

import json
from typing import cast

from glidein.errors import BadEndReport
from glidein.model import EXIT_CODES, EndReason, EndReport

MAX_BYTES = 4096
"""A report is one short line; a longer file is not read."""


def parse_end_report(text: str) -> EndReport:
    """Read the line that ``pilot.sh`` wrote; raise :class:`BadEndReport` for anything else."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise BadEndReport(text=text, problem=f"longer than {MAX_BYTES} bytes")
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadEndReport(text=text, problem="no JSON") from error
    if not isinstance(found, dict):
        raise BadEndReport(text=text, problem="no JSON object")
    fields = cast("dict[str, object]", found)
    if fields.get("version") != 1:
        raise BadEndReport(text=text, problem=f"version {fields.get('version')!r}, not 1")
    try:
        reason = EndReason(_text(fields, "reason"))
    except ValueError as error:
        raise BadEndReport(text=text, problem=f"unknown reason {fields.get('reason')!r}") from error
    if reason not in EXIT_CODES:
        raise BadEndReport(text=text, problem=f"{reason.value} is not for a pilot to say")
    return EndReport(
        pilot_id=_text(fields, "pilot_id"),
        reason=reason,
        exit_code=_count(fields, "exit_code"),
        start_s=_count(fields, "start"),
        joined_s=None if fields.get("joined") is None else _count(fields, "joined"),
        end_s=_count(fields, "end"),
        node=_text(fields, "node"),
        cores=_count(fields, "cores"),
        memory_mib=_count(fields, "memory_mib"),
        jobs=_count(fields, "jobs"),
        detail=_text(fields, "detail"),
    )


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadEndReport(text=repr(fields), problem=f"{name} is no text")
    return value


def _count(fields: dict[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadEndReport(text=repr(fields), problem=f"{name} is no whole number")
    return value
