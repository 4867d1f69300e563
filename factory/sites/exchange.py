"""One exchange with a subprocess: bytes in, bytes out, with a deadline and an output limit."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import IO, Literal

CHUNK_BYTES = 65536

Ending = Literal["exited", "timed_out", "too_much", "not_started"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a subprocess gave back; ``status`` is its exit status when it exited, negative for a signal."""

    ending: Ending
    stdout: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)
    status: int | None = None
    elapsed_s: float = 0.0


def exchange(argv: list[str], *, data: bytes, timeout_s: float, limit_bytes: int) -> Exchange:
    """
    Run a command, feed it ``data``, and read both its outputs until it ends, within limits.

    The command gets a session of its own and is killed with all its children at the deadline or the output limit.
    """
    began_s = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Exchange(ending="not_started", stderr=f"{argv[0]}: {error.strerror}".encode())
    traffic = _Traffic(process, data=data, limit_bytes=limit_bytes)
    try:
        ending = traffic.pump(until_s=began_s + timeout_s)
    finally:
        traffic.close()
        _kill(process)
    stdout, stderr = bytes(traffic.stdout), bytes(traffic.stderr)
    return Exchange(
        ending=ending,
        stdout=stdout,
        stderr=stderr,
        status=process.returncode,
        elapsed_s=time.monotonic() - began_s,
    )


class _Traffic:
    """The three pipes of one subprocess."""

    def __init__(self, process: subprocess.Popen[bytes], *, data: bytes, limit_bytes: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stdin = process.stdin
        self._data = memoryview(data)
        self._limit_bytes = limit_bytes
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._sinks: dict[int, bytearray] = {process.stdout.fileno(): self.stdout, process.stderr.fileno(): self.stderr}
        self._selector = selectors.DefaultSelector()
        os.set_blocking(self._stdin.fileno(), False)
        self._selector.register(self._stdin, selectors.EVENT_WRITE)
        self._selector.register(process.stdout, selectors.EVENT_READ)
        self._selector.register(process.stderr, selectors.EVENT_READ)

    def pump(self, *, until_s: float) -> Ending:
        """Carry bytes until both outputs are closed and the process is gone, the deadline, or the limit."""
        while any(fd in self._selector.get_map() for fd in self._sinks):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return "timed_out"
            for key, _ in self._selector.select(left_s):
                if key.fd in self._sinks:
                    self._read(key.fd)
                else:
                    self._write()
            if len(self.stdout) > self._limit_bytes or len(self.stderr) > self._limit_bytes:
                return "too_much"
        try:
            self._process.wait(max(until_s - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return "timed_out"
        return "exited"

    def close(self) -> None:
        """Close what is still open."""
        self._selector.close()
        pipes: tuple[IO[bytes] | None, ...] = (self._stdin, self._process.stdout, self._process.stderr)
        for pipe in pipes:
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self, fd: int) -> None:
        chunk = os.read(fd, CHUNK_BYTES)
        if chunk:
            self._sinks[fd] += chunk
        else:
            self._selector.unregister(fd)

    def _write(self) -> None:
        try:
            written = os.write(self._stdin.fileno(), self._data[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except OSError:
            # The command does not read on; its output and status say why.
            self._data = self._data[:0]
            written = 0
        self._data = self._data[written:]
        if not self._data:
            self._selector.unregister(self._stdin)
            with contextlib.suppress(OSError):
                self._stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process with everything in its session's group, and reap it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.wait()
