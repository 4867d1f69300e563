"""The command ``aerotow``: one group, one file per noun, and the commands that other packages bring."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from aerotow.cli.app import DEFAULT_CONFIG, App
from aerotow.cli.failure import FAILED, Failure, failures_for_people
from aerotow.cli.log import set_up_log

ENTRY_POINTS = "aerotow.commands"

OWN = {
    "bundle": "aerotow.cli.bundle:bundle",
    "config": "aerotow.cli.config:config",
    "drain": "aerotow.cli.drain:drain_pilot",
    "explain": "aerotow.cli.explain:explain",
    "pilot": "aerotow.cli.pilots:pilot",
    "pilots": "aerotow.cli.pilots:pilots",
    "plan": "aerotow.cli.plan:plan",
    "pool": "aerotow.cli.pool:pool",
    "replay": "aerotow.cli.replay:replay",
    "resume": "aerotow.cli.stop:resume",
    "run": "aerotow.cli.run:run",
    "simulate": "aerotow.cli.simulate:group",
    "site": "aerotow.cli.site:site",
    "sites": "aerotow.cli.sites:sites",
    "status": "aerotow.cli.status:status",
    "stop": "aerotow.cli.stop:stop",
    "token": "aerotow.cli.token:token",
    "usage": "aerotow.cli.usage:usage",
    "what-if": "aerotow.cli.whatif:what_if_command",
    "why": "aerotow.cli.why:why",
}
"""Our own commands; a file is imported when its command is called, so that none waits for all the others."""


def _installed() -> tuple[EntryPoint, ...]:
    """Commands that installed packages bring."""
    return tuple(entry_points(group=ENTRY_POINTS))


class Commands(click.Group):
    """A group whose further commands are found by entry points; one that does not load harms none of the others."""

    def __init__(
        self,
        *args: Any,
        own: Mapping[str, str] | None = None,
        brought: Callable[[], tuple[EntryPoint, ...]] = _installed,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._own = own or {}
        self._brought = brought

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Own and brought ones; the own one wins where both have a name."""
        return sorted({*super().list_commands(ctx), *self._own, *(one.name for one in self._brought())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; one that does not load is there and says why."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        if cmd_name in self._own:
            return _imported(self._own[cmd_name])
        for one in self._brought():
            if one.name == cmd_name:
                return _loaded(one)
        return None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors of the rooms end it with their text."""
        with failures_for_people():
            return super().invoke(ctx)


def _imported(place: str) -> click.Command:
    """One of our own commands, from ``module:name``."""
    module, _, name = place.partition(":")
    command = getattr(import_module(module), name)
    assert isinstance(command, click.Command), f"{place} is no command"
    return command


def _loaded(point: EntryPoint) -> click.Command:
    """The command behind an entry point, or one in its place that says what is wrong with it."""
    try:
        command = point.load()
    except Exception as error:
        return _broken(point, f"{type(error).__name__}: {error}")
    if not isinstance(command, click.Command):
        return _broken(point, f"{point.value} is no click command")
    return command


def _broken(point: EntryPoint, problem: str) -> click.Command:
    """A command that only says why the real one cannot be had."""

    def say_so() -> None:
        raise Failure(
            f"the command '{point.name}' ({point.value}) cannot be loaded: {problem}; "
            "install the package that brings it (pip install 'aerotow[testbed]'), all other commands work",
            exit_code=FAILED,
        )

    return click.Command(
        point.name,
        callback=say_so,
        short_help=f"(cannot be loaded: {problem})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        add_help_option=False,
    )


@click.group(
    "aerotow",
    cls=Commands,
    own=OWN,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage or configuration error, 3 partly done.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="AEROTOW_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    help="The operator's file.",
)
@click.version_option(package_name="aerotow", prog_name="aerotow")
@click.pass_context
def main(ctx: click.Context, config_path: Path) -> None:
    """Pilots into Slurm sites, driven by the queues of HTCondor access points."""
    # Whatever a read command meets on its way: warnings only, and never on stdout. 'run' sets up its own.
    set_up_log("console", level=logging.WARNING)
    if ctx.obj is None:
        ctx.obj = App(config_path=config_path)
