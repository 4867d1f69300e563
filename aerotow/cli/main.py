"""The command ``aerotow``: one group, one file per noun, and the commands that other packages bring."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from aerotow.cli.app import DEFAULT_CONFIG, App
from aerotow.cli.bundle import bundle
from aerotow.cli.config import config
from aerotow.cli.explain import explain
from aerotow.cli.failure import FAILED, Failure, failures_for_people
from aerotow.cli.log import set_up_log
from aerotow.cli.pilots import pilot, pilots
from aerotow.cli.plan import plan
from aerotow.cli.pool import pool
from aerotow.cli.replay import replay
from aerotow.cli.run import run
from aerotow.cli.simulate import group as simulate
from aerotow.cli.site import site
from aerotow.cli.sites import sites
from aerotow.cli.status import status
from aerotow.cli.stop import resume, stop
from aerotow.cli.token import token
from aerotow.cli.usage import usage
from aerotow.cli.whatif import what_if_command
from aerotow.cli.why import why

ENTRY_POINTS = "aerotow.commands"


def _installed() -> tuple[EntryPoint, ...]:
    """Commands that installed packages bring."""
    return tuple(entry_points(group=ENTRY_POINTS))


class Commands(click.Group):
    """A group whose further commands are found by entry points; one that does not load harms none of the others."""

    def __init__(self, *args: Any, brought: Callable[[], tuple[EntryPoint, ...]] = _installed, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._brought = brought

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Own and brought ones; the own one wins where both have a name."""
        return sorted({*super().list_commands(ctx), *(one.name for one in self._brought())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; one that does not load is there and says why."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for one in self._brought():
            if one.name == cmd_name:
                return _loaded(one)
        return None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors of the rooms end it with their text."""
        with failures_for_people():
            return super().invoke(ctx)


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


for _command in (
    bundle,
    config,
    explain,
    pilot,
    pilots,
    plan,
    pool,
    replay,
    resume,
    run,
    simulate,
    site,
    sites,
    status,
    stop,
    token,
    usage,
    what_if_command,
    why,
):
    main.add_command(_command)
