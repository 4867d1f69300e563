"""Where log events go: stderr, one line each; stdout is for what was asked."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
