"""``aerotow pool``: HTCondor's configuration of the pool's own hosts, rendered from the operator's file."""

from __future__ import annotations

import click

from aerotow.cli.app import App, known, pass_app
from config.model import Config
from factory.policy import group_shares, vo_map_of
from overlay.poolconfig import PoolSpec, render_ap, render_cm


@click.group()
def pool() -> None:
    """HTCondor's configuration of the central manager and the access points."""


@pool.command()
@click.option("--factory-host", "factory_hosts", multiple=True, help="Where the factory's READ token is good.")
@pass_app
def cm(app: App, factory_hosts: tuple[str, ...]) -> None:
    """Print the central manager's; put it below /etc/condor/config.d there and run condor_reconfig."""
    click.echo(render_cm(pool_spec(app.config, factory_hosts=factory_hosts)), nl=False)


@pool.command()
@click.argument("name")
@click.option("--factory-host", "factory_hosts", multiple=True, help="Where the factory's READ token is good.")
@pass_app
def ap(app: App, name: str, factory_hosts: tuple[str, ...]) -> None:
    """Print that of the access point NAME; put it below /etc/condor/config.d there and run condor_reconfig."""
    known(name, app.config.access_points, what="access point", where="the configuration")
    click.echo(render_ap(pool_spec(app.config, factory_hosts=factory_hosts), name), nl=False)


def pool_spec(config: Config, *, factory_hosts: tuple[str, ...] = ()) -> PoolSpec:
    """The pool as the renderer wants it; a user's first project in the file is the default one."""
    projects: dict[str, list[str]] = {}
    for vo in config.vos.values():
        for project, users in vo.projects.items():
            for user in users:
                projects.setdefault(user, []).append(project)
    return PoolSpec(
        trust_domain=config.pool.trust_domain,
        collector_host=config.pool.collector,
        aps={name: one.schedd for name, one in config.access_points.items()},
        sites=tuple(sorted(config.sites)),
        factory_hosts=factory_hosts,
        projects={user: tuple(names) for user, names in sorted(projects.items())},
        vos={project: names[0] for project, names in vo_map_of(config).items()},
        shares=group_shares(config),
    )
