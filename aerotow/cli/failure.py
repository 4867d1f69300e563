"""How a command ends: exit codes, and errors on stderr that say what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from accounting.errors import LedgerError
from aerotow.cli.show import printable
from config.errors import ConfigError
from factory.errors import FactoryError
from glidein.errors import GlideinError
from overlay.errors import OverlayError
from simulation.errors import SimulationError
from tokens.errors import TokenError

DONE = 0
FAILED = 1
USAGE = 2
PARTLY = 3


class Failure(click.ClickException):
    """An end with an error text for people and an exit code for scripts."""

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        # click declares a class variable and reads it from the instance.
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        """Print to stderr under the program's name, as Unix commands do."""
        text = "\n".join(map(printable, self.format_message().split("\n")))
        click.echo(f"aerotow: {text}", file=file, err=file is None)


@contextmanager
def failures_for_people() -> Iterator[None]:
    """Turn the rooms' errors, whose texts are written for people, into the end of the command."""
    try:
        yield
    except ConfigError as error:
        raise Failure(str(error), exit_code=USAGE) from error
    except SimulationError as error:
        raise Failure(str(error), exit_code=USAGE) from error
    except (LedgerError, FactoryError, GlideinError, OverlayError, TokenError) as error:
        raise Failure(str(error)) from error
