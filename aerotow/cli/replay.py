"""``aerotow replay``: a recorded decision made again by this program's match and plan."""

from __future__ import annotations

import os
from pathlib import Path

import click

from aerotow.cli.app import App
from aerotow.cli.failure import FAILED, USAGE, Failure
from aerotow.cli.recorded import cycle_json, cycle_words, recorded_at
from aerotow.cli.show import counted, json_option, print_json, say
from factory.journal import Recorded, from_file, to_file
from factory.matching import match_observation
from factory.replay import replay as replayed

_PRIVATE = 0o600


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--at", metavar="TIME", help="The cycle in force then: '2 h' (ago) or 2026-11-22T14:00 (UTC).")
@click.option(
    "--export", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it there instead."
)
@json_option
@click.pass_context
def replay(ctx: click.Context, file: Path | None, at: str | None, export: Path | None, as_json: bool) -> None:
    """
    Make a recorded decision again and compare.

    FILE is one that --export wrote; without it the cycle comes from the journal, the last one unless --at says when.
    A record has the users' names and what their jobs ask for in it, and no secret.

    Ends with 1 when the plan differs: this program is not the one that decided then, or has a fault.
    """
    app: App = ctx.obj
    if file is not None and (at is not None or export is not None):
        raise Failure("FILE goes with neither --at nor --export; leave one of them out", exit_code=USAGE)
    recorded = recorded_at(app, at) if file is None else from_file(_read(file), name=str(file))
    if export is not None:
        _write(export, to_file(recorded))
        say(f"{cycle_words(recorded, app.now_s())}: written to {export}")
        return
    lines = replayed(recorded, match_observation)
    if as_json:
        print_json({"cycle": cycle_json(recorded), "identical": not lines, "differences": list(lines)})
    else:
        _print(recorded, lines, app.now_s())
    if lines:
        ctx.exit(FAILED)


def _print(recorded: Recorded, lines: tuple[str, ...], now_s: float) -> None:
    """The comparison for people."""
    plan = recorded.plan
    said = f"{counted(len(plan.order), 'new pilot')}, {counted(len(plan.cancels), 'cancel')}"
    if lines:
        say(f"{cycle_words(recorded, now_s)}: this program decides otherwise than the recorded plan ({said}):")
        for line in lines:
            say(f"  {line}")
    else:
        say(f"{cycle_words(recorded, now_s)}: the identical plan ({said})")


def _read(file: Path) -> str:
    """The file's text."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Failure(
            f"{file} is no text; give a file that 'aerotow replay --export' wrote", exit_code=USAGE
        ) from error
    except OSError as error:
        raise Failure(f"{file} cannot be read ({error.strerror})", exit_code=USAGE) from error


def _write(file: Path, text: str) -> None:
    """Write for the owner alone: who asks for what is nobody else's business."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE), "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise Failure(f"{file} cannot be written ({error.strerror})") from error
