"""``aerotow testbed``: the federation on this machine. Also ``python -m testbed``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from config.units import format_span
from testbed import bed, containers, images, model
from testbed import site as sites
from testbed.engine import docker_command, ensure_engine
from testbed.errors import TestbedError


def _say(text: str) -> None:
    click.echo(f"  {text}", err=True)


class _Group(click.Group):
    """Turns our errors into one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except TestbedError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
def testbed() -> None:
    """A whole federation in containers on this machine: a pool, three Slurm sites, an HTCondor site if asked for."""


@testbed.command()
@click.option(
    "--with",
    "wanted",
    multiple=True,
    type=click.Choice([row.name for row in model.HTC_SITES]),
    help="Also bring up this HTCondor site, which is left out otherwise.",
)
def up(wanted: tuple[str, ...]) -> None:
    """Bring it up; what is up already is kept."""
    bed.up(_say, htc=[model.htc_site_named(name) for name in wanted])


@testbed.command()
@click.option("--images", "with_images", is_flag=True, help="Remove the images too; the next `up` takes minutes.")
def down(with_images: bool) -> None:
    """Remove the containers, networks, volumes and firewall rules that `up` made."""
    bed.down(_say, with_images=with_images)


@testbed.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(as_json: bool) -> None:
    """Show each host: state, version, daemons, since when. Exit status 3 unless all is up."""
    found = bed.status()
    whole = all(_is_well(host) for host in found)
    if as_json:
        rows = [dataclasses.asdict(host) for host in found]
        click.echo(json.dumps({"whole": whole, "hosts": rows}, default=datetime.isoformat, indent=1))
    else:
        Console(highlight=False).print(_table(found))
    sys.exit(0 if whole else 3)


def _is_well(host: bed.HostStatus) -> bool:
    # The factory is started by whoever tests it, so its absence is no fault of the test-bed.
    return host.state == "running" and all(d.state == "running" for d in host.daemons if d.name != "aerotow")


def _table(found: tuple[bed.HostStatus, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("HOST", "STATE", "VERSION", "UP FOR", "DAEMONS"):
        table.add_column(title)
    now = datetime.now(UTC)
    for host in found:
        daemons = " ".join(d.name if d.state == "running" else f"{d.name}({d.state})" for d in host.daemons)
        age = format_span(now - host.since) if host.since is not None else "-"
        table.add_row(host.host, host.state, host.version or "-", age, daemons or "-")
    return table


@testbed.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.option("--user", "-u", help="Run as this user of the host; default is the host's own, root nearly everywhere.")
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def execute(user: str | None, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on HOST (cm, ap1, factory, login.alpha, n1.beta ...); a shell without COMMAND."""
    try:
        container = model.host_named(host).container
    except KeyError:
        known = ", ".join(each.name for each in (*model.hosts(), *model.optional_hosts()))
        raise click.BadParameter(f"there is no host {host!r}; there are {known}", param_hint="HOST") from None
    terminal = ["-it"] if sys.stdin.isatty() and sys.stdout.isatty() else ["-i"]
    who = ["-u", user] if user else []
    argv = [docker_command(), "exec", *terminal, *who, container, *(command or ("bash",))]
    os.execv(argv[0], argv)


@testbed.command()
def image() -> None:
    """Build the image of aerotow itself and print its tag."""
    ensure_engine(_say)
    click.echo(images.aerotow_image(_say))


@testbed.command()
@click.argument("site", type=click.Choice([row.name for row in model.SITES]))
@click.argument("action", type=click.Choice(["stop", "start", "kill", "freeze", "continue"]))
@click.argument("daemon", type=click.Choice(["slurmd", *sites.LOGIN_DAEMONS]))
@click.option("--node", help="Compute host, for slurmd; default is the site's first.")
def fault(site: str, action: str, daemon: str, node: str | None) -> None:
    """Do something to a daemon of SITE, to see what the factory makes of it; `up` mends it."""
    match action:
        case "start":
            sites.start_daemon(site, daemon, node=node)
        case "stop" | "kill":
            sites.stop_daemon(site, daemon, node=node, kill=action == "kill")
        case _:
            sites.signal_daemon(site, daemon, "STOP" if action == "freeze" else "CONT", node=node)
    host = sites.daemon_host(site, daemon, node)
    state = next(d.state for d in containers.daemons(host) if d.name == daemon)
    click.echo(f"{daemon} on {host.name}: {state}")


@click.command()
def demo() -> None:
    """From nothing to a verified result: a federation, a real mixed load, and the answers."""
    from testbed import demo as show

    try:
        sys.exit(show.run(click.echo))
    except TestbedError as error:
        raise click.ClickException(str(error)) from error
