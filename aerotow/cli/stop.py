"""``aerotow stop`` and ``aerotow resume``: an operator's word that a site gets no new pilots, and its end."""

from __future__ import annotations

import getpass
import os

import click

from accounting.model import SiteStop
from aerotow.cli.app import App, known, pass_app
from aerotow.cli.failure import USAGE, Failure
from aerotow.cli.freshness import picture_of, warn_when_old
from aerotow.cli.show import clock_time, counted, say


@click.command()
@click.argument("site", required=False)
@click.option("--all", "everywhere", is_flag=True, help="Every site: the one lever that stops everything.")
@click.option("--reason", required=True, help="Why, in a few words: everyone who asks 'why' is told.")
@pass_app
def stop(app: App, site: str | None, everywhere: bool, reason: str) -> None:
    """
    Give SITE no new pilots.

    Those that wait in its queue are cancelled in the next cycle; running ones end by themselves.
    """
    for one in _chosen(site, everywhere, _sites(app)):
        _stop(app, one, reason)


def _stop(app: App, site: str, reason: str) -> None:
    known(site, _sites(app), what="site", where=str(app.config_path))
    if not reason.strip():
        raise Failure("--reason is empty; everyone who asks 'why' is told this text", exit_code=USAGE)
    picture = picture_of(app)
    here = next((one for one in picture.sites if one.site == site), None)
    app.ledger.stop_site(SiteStop(site=site, since_s=int(app.now_s()), by=who(), reason=" ".join(reason.split())))
    say(f"{site}: stopped; no new pilots until 'aerotow resume {site}'")
    if here is not None and here.census.open:
        waiting, running = here.waiting, here.census.open - here.waiting
        say(
            f"{site}: {counted(waiting, 'waiting pilot')} to cancel in the next cycle, {running} that end by themselves"
        )
    warn_when_old(picture.fresh, instance=app.config.instance.name, now_s=app.now_s())


@click.command()
@click.argument("site", required=False)
@click.option("--all", "everywhere", is_flag=True, help="Every site that is stopped.")
@pass_app
def resume(app: App, site: str | None, everywhere: bool) -> None:
    """
    Let SITE have pilots again, look at it now, and believe what is seen.

    Ends a stop; a site that failed and is asked less often is asked in the next cycle; an answer in which most of its
    pilots are missing, which froze it, is taken for true.
    """
    for one in _chosen(site, everywhere, {stop.site for stop in app.ledger.stops()}):
        _resume(app, one)


def _chosen(site: str | None, everywhere: bool, all_sites: set[str]) -> list[str]:
    """The one site that was named, or all."""
    if everywhere == (site is not None):
        raise Failure("name a SITE, or say --all", exit_code=USAGE)
    return sorted(all_sites) if site is None else [site]


def _resume(app: App, site: str) -> None:
    stops = {one.site: one for one in app.ledger.stops()}
    known(site, {*_sites(app), *stops}, what="site", where=str(app.config_path))
    was = stops.get(site)
    app.ledger.say_resume(site, by=who(), now_s=app.now_s())
    if not app.ledger.resume_site(site) or was is None:
        say(f"{site}: was not stopped; it is looked at in the next cycle, and what is seen there is believed")
        return
    say(
        f"{site}: resumed (stopped by {was.by} since {clock_time(was.since_s, app.now_s())}: {was.reason}); "
        "it may get pilots from the next cycle on"
    )
    warn_when_old(picture_of(app).fresh, instance=app.config.instance.name, now_s=app.now_s())


def _sites(app: App) -> set[str]:
    """Configured sites, and those that are still watched."""
    return {*app.config.sites, *(pilot.offer.site for pilot in app.ledger.open_pilots(app.config.instance.name))}


def who() -> str:
    """The person at the keyboard, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        # A container's user may have no name.
        return f"uid {os.getuid()}"
