"""Where log events go: stderr, one line each; stdout is for what was asked."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Literal, TextIO, cast

import structlog


class CarefulStream:
    """
    A text stream on which writing never fails: a full disk or a reader that is gone costs log lines, nothing else.

    Without it ENOSPC left whoever logged: it ended the factory and its thread that renews the lease (seen).
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if it can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush; what does not go out now stays in the stream's own buffer while there is room."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def set_up_log(log_format: Literal["console", "json"], *, level: int = logging.INFO) -> None:
    """
    Log to stderr from ``level`` on.

    Tracebacks are plain: structlog's own rendering for consoles shows local variables, among them tokens and keys.
    """
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    tracebacks: list[structlog.types.Processor] = (
        [] if log_format == "console" else [structlog.processors.format_exc_info]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *tracebacks,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, CarefulStream(sys.stderr))),
        cache_logger_on_first_use=False,
    )
