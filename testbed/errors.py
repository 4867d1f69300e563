"""
What can go wrong while the test-bed is set up or used.

    TestbedError
    ├── EngineMissing       Docker is not there and could not be installed or started
    ├── ImageFailed         a base image or one of ours could not be made
    ├── NetworkTaken        something that is not ours has the name or the addresses of a network
    ├── HostNotReady        a container did not become what it should be in time
    ├── CommandFailed       a command in a container, or of Docker, failed
    └── LoadFailed          a user's submission was refused
"""

from __future__ import annotations


class TestbedError(Exception):
    """The test-bed cannot do what was asked; the text says what to do."""

    __test__ = False


class EngineMissing(TestbedError):
    """Docker is not there and could not be installed or started."""


class ImageFailed(TestbedError):
    """A base image or one of ours could not be made."""

    def __init__(self, *, image: str, problem: str) -> None:
        super().__init__(f"image {image}: {problem}")
        self.image = image


class NetworkTaken(TestbedError):
    """Something that is not ours has the name or the addresses of a network."""

    def __init__(self, *, network: str, problem: str) -> None:
        super().__init__(
            f"network {network}: {problem}; remove what has it, or set AEROTOW_TESTBED_SUBNET to other first two "
            f"bytes, for example 10.99"
        )
        self.network = network


class HostNotReady(TestbedError):
    """A container did not become what it should be in time."""

    def __init__(self, *, host: str, waited_s: float, log: str) -> None:
        super().__init__(f"host {host} is not ready after {waited_s:.0f} s; the end of its log:\n{log}")
        self.host = host


class CommandFailed(TestbedError):
    """A command in a container, or of Docker, failed."""

    def __init__(self, *, where: str, argv: tuple[str, ...], exit_status: int, output: str) -> None:
        super().__init__(f"{where}: {' '.join(argv)!r} gave exit status {exit_status}: {output.strip()[-2000:]}")
        self.where = where
        self.argv = argv
        self.exit_status = exit_status
        self.output = output


class LoadFailed(TestbedError):
    """A user's submission was refused."""

    def __init__(self, *, batch: str, problem: str) -> None:
        super().__init__(f"{batch}: {problem}")
        self.batch = batch
