"""A log that cannot be written stops nobody."""

from __future__ import annotations

import errno
import io
import sys

import pytest
import structlog

from aerotow.cli.log import set_up_log


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_below_the_log_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    # Mutation: hand sys.stderr itself to PrintLoggerFactory; OSError 28 then ends whoever logs.
    monkeypatch.setattr(sys, "stderr", Full())
    set_up_log("json")
    try:
        structlog.get_logger().error("cycle.failed", reason="the disk is full")
    finally:
        structlog.reset_defaults()
