"""``aerotow config``: check the operator's file, and print an example of it."""

from __future__ import annotations

import re
from pathlib import Path

import click

from aerotow.cli.app import App, pass_app
from aerotow.cli.show import json_option, memory, print_json, say, table
from config.example import example_toml
from config.load import difference, load_config
from config.model import Config
from config.names import CM_KEY, pilot_key
from config.units import format_span, format_walltime


@click.group()
def config() -> None:
    """The operator's file: check it, or print an example."""


@config.command()
def example() -> None:
    """Print a complete, commented example; every key with its unit and default."""
    click.echo(example_toml(), nl=False)


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@pass_app
def check(app: App, file: Path | None, as_json: bool) -> None:
    """
    Read FILE (default: the file in force) and say what was understood.

    Ends with 2 and one line per error (file, key, remedy) when it cannot be used.
    What is right in the file and still missing on this machine is told as a note.
    """
    path = file or app.config_path
    read = load_config(path)
    notes = missing_here(read)
    if as_json:
        print_json({"file": str(path), "config": _json(read), "notes": notes})
        return
    _summary(path, read)
    for note in notes:
        say(f"note: {note}")


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@pass_app
def diff(app: App, file: Path, as_json: bool) -> None:
    """
    What would change if FILE, with its sites.d, took the place of the file in force.

    One line for each key; a site that only has another name is told as renamed.
    """
    lines = difference(app.config, load_config(file))
    if as_json:
        print_json({"before": str(app.config_path), "after": str(file), "changes": list(lines)})
        return
    for line in lines:
        say(line)
    if not lines:
        say(f"{file}: no difference to {app.config_path}")


def missing_here(read: Config) -> list[str]:
    """What the file names and this machine lacks, each with its remedy; not wrong where the factory runs elsewhere."""
    notes = []
    secrets = read.pool.secrets_dir
    if not read.bundle.path.is_file():
        notes.append(f"bundle.path: {read.bundle.path} is not on this machine; make it with 'aerotow bundle build'")
    if not secrets.is_dir():
        notes.append(f"pool.secrets_dir: {secrets} is not on this machine; make it with mode 0700")
        return notes
    if secrets.stat().st_mode & 0o077:
        notes.append(f"pool.secrets_dir: {secrets} is open to others; chmod 0700 it")
    for site in sorted(read.sites):
        key = secrets / "keys.d" / pilot_key(site=site)
        if not key.is_file():
            notes.append(
                f"sites.{site}: no signing key {key}; make it with 'aerotow token key {pilot_key(site=site)}' "
                "and copy it to the central manager"
            )
    for reader in (CM_KEY, *sorted(read.access_points)):
        if not (secrets / "tokens.d" / reader).is_file():
            notes.append(
                f"no READ token {secrets / 'tokens.d' / reader}; without it the factory cannot look at {reader}"
            )
    return notes


def _summary(path: Path, read: Config) -> None:
    """What the file says, for people."""
    say(f"{path}: fine")
    say(f"instance  {read.instance.name}, state in {read.instance.state_dir}, database {_no_password(read)}")
    say(f"pool      collector {read.pool.collector}, trust domain {read.pool.trust_domain}")
    say(f"bundle    {read.bundle.path}")
    aps = ", ".join(f"{name} ({ap.schedd})" for name, ap in sorted(read.access_points.items()))
    say(f"APs       {aps}")
    for name, vo in sorted(read.vos.items()):
        projects = "; ".join(f"{project}: {' '.join(users)}" for project, users in sorted(vo.projects.items()))
        say(f"VO        {name}: {projects or 'no projects'}")
    say(
        f"limits    {read.limits.max_pilots} pilots over all sites, "
        f"{read.limits.max_submits_per_cycle} new ones per cycle of {format_span(read.factory.cycle)}"
    )
    say()
    if not read.sites:
        say("No sites: no pilot will be asked for. Add a table [sites.NAME] (see 'aerotow config example').")
        return
    table(
        ("site", "login", "partition", "account", "cores", "memory", "walltime", "max pilots", "max pending"),
        (
            (
                name,
                site.login or "(this machine)",
                site.partition,
                site.account,
                site.cores,
                memory(site.memory),
                format_walltime(site.walltime),
                site.max_pilots,
                site.max_pending,
            )
            for name, site in sorted(read.sites.items())
        ),
        right=("cores", "memory", "max pilots", "max pending"),
    )


def _json(read: Config) -> dict[str, object]:
    """The file as JSON; a database password is not repeated."""
    tree = read.model_dump(mode="json")
    tree["instance"]["database"] = _no_password(read)
    return tree


def _no_password(read: Config) -> str:
    """The database's URL without a password."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", read.instance.database_url)
