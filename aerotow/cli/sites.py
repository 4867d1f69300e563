"""``aerotow sites``: one line per site, with what limits it and how its pilots have ended."""

from __future__ import annotations

from collections.abc import Mapping

import click

from accounting.model import PilotRecord, PilotUsageRow
from aerotow.cli.app import App, pass_app
from aerotow.cli.freshness import freshness_json, picture_of, sight_remedy, sight_words, warn_when_old
from aerotow.cli.show import clock_time, json_option, percent, print_json, say, span, table
from aerotow.cli.status import breaker_words, site_json
from factory.model import Brake
from factory.report import SiteStatus, end_reasons, last_refusal, races

_RECENT = 50
"""Pilots of a site whose ends are counted; the breaker looks as far back."""
_PERIOD_S = 24 * 3600
"""Efficiency is of this long."""


@click.command()
@json_option
@pass_app
def sites(app: App, as_json: bool) -> None:
    """
    Caps, pilots and breaker by site.

    One line per site: caps, pilots, cores, efficiency of the last 24 h, breaker, stops, and how the last 50 ended.
    """
    picture = picture_of(app)
    now_s = app.now_s()
    since_s = int(now_s) - _PERIOD_S
    efficiency = {row.site: row for row in app.books.pilot_usage(since_s=since_s, until_s=None, now_s=int(now_s))}
    recent: dict[str, list[PilotRecord]] = {}
    for pilot in app.ledger.outcomes(app.config.instance.name, per_site=_RECENT):
        recent.setdefault(pilot.offer.site, []).append(pilot)
    if as_json:
        print_json(
            {
                "now_s": int(now_s),
                "factory": freshness_json(picture.fresh),
                "efficiency_since_s": since_s,
                "sites": [_json(site, efficiency.get(site.site), recent.get(site.site, [])) for site in picture.sites],
            }
        )
        return
    warn_when_old(picture.fresh, instance=app.config.instance.name, now_s=now_s)
    if not picture.sites:
        say("no sites: add a table [sites.NAME] to the file (see 'aerotow config example')")
        return
    table(
        (
            "site",
            "state",
            "open",
            "max",
            "waiting",
            "max pending",
            "running",
            "cores",
            "calls/min",
            "efficiency 24 h",
            "breaker",
        ),
        (_row(site, efficiency, now_s) for site in picture.sites),
        right=("open", "max", "waiting", "max pending", "running", "cores", "calls/min", "efficiency 24 h"),
    )
    for site in picture.sites:
        for line in _notes(site, recent.get(site.site, []), now_s):
            say(f"{site.site}: {line}")


def _row(site: SiteStatus, efficiency: Mapping[str, PilotUsageRow], now_s: float) -> tuple[object, ...]:
    """One site in a line."""
    used = efficiency.get(site.site)
    busy = site.census.busy_cores
    running = site.census.starting + site.census.idle + site.census.busy + site.census.ending
    return (
        site.site,
        sight_words(site.sighting, now_s) + _closed_words(site),
        site.census.open,
        site.max_pilots,
        site.waiting,
        site.max_pending,
        running,
        f"{'?' if busy is None else busy}/{site.census.running_cores}",
        site.calls_last_minute,
        percent(used.efficiency if used else None),
        site.breaker.mode.replace("_", " ") if site.breaker else None,
    )


def _closed_words(site: SiteStatus) -> str:
    """Whether somebody wants no pilots there."""
    if site.stop:
        return ", stopped"
    if site.rules is not None and site.rules.closed:
        return ", closed by the site"
    return ", outage" if site.outage is not None else ""


def _notes(site: SiteStatus, recent: list[PilotRecord], now_s: float) -> list[str]:
    """What does not fit in the line: who decided what, and how pilots ended."""
    notes = []
    if not site.configured:
        notes.append("has left the configuration; it is watched until its pilots have ended")
    if site.sighting.sight == "unseen":
        notes.append(f"{sight_words(site.sighting, now_s)}: {site.sighting.reason}")
        notes += [remedy] if (remedy := sight_remedy(site.sighting, site=site.site, now_s=now_s)) else []
    if site.stop is not None:
        notes.append(
            f"stopped by {site.stop.by} at {clock_time(site.stop.since_s, now_s)}: {site.stop.reason}; "
            f"'aerotow resume {site.site}' ends it"
        )
    notes += _site_words(site)
    if site.breaker is not None and (site.breaker.mode != "closed" or site.breaker.failures):
        notes.append(f"breaker (owner: factory, from the pilots' ends) {breaker_words(site.breaker, now_s)}")
    notes += [_brake_words(brake, now_s) for brake in site.brakes]
    if site.census.unknown:
        notes.append(
            f"{site.census.unknown} pilots unknown: seen nowhere that was looked at, counted as open; "
            f"'aerotow pilots --site {site.site}' lists them"
        )
    raced = races(recent)
    if raced:
        notes.append(
            f"{raced} of the last pilots had started when our cancel of a waiting pilot reached them; before Slurm "
            "23.11 scancel cannot leave the choice to the controller (--ctld)"
        )
    ends = end_reasons(recent)
    if ends:
        notes.append(f"last ends: {', '.join(f'{count} {reason}' for reason, count in ends.items())}")
    refused = last_refusal(recent)
    if refused is not None and refused.ended_s is not None:
        notes.append(f"last refusal {span(max(0.0, now_s - refused.ended_s))} ago: {refused.detail}")
    return notes


def _brake_words(brake: Brake, now_s: float) -> str:
    """For which jobs the site is held back, and until when."""
    then = "one probe at a time goes"
    if brake.mode == "closed":
        then = f"{brake.allowed} more may be tried now"
    elif brake.mode == "open" and brake.retry_at_s is not None:
        then = f"next probe at {clock_time(brake.retry_at_s, now_s)}"
    pilots = "the last pilot" if brake.failures == 1 else f"the last {brake.failures} pilots"
    return (
        f"matches nothing (owner: factory, from the pilots' ends): {pilots} that were asked for jobs of kind "
        f"{brake.bucket} joined and ran nothing while those waited; {then}; compare the site's "
        f"description with a slot that it gives ('aerotow site check {brake.site}')"
    )


def _site_words(site: SiteStatus) -> list[str]:
    """What the site's own admin has decided, and when it will be down."""
    notes = []
    if site.rules is not None and site.rules.closed:
        notes.append(f"closed (owner: the site): {site.rules.closed}")
    elif site.rules is not None and site.rules.words():
        notes.append(f"rules of the site's admin in {site.rules.file} (owner: the site): {site.rules.words()}")
    if site.outage is not None:
        notes.append(f"no pilots (owner: {site.outage.owner}): {site.outage.text}")
    if site.closures_unseen:
        notes.append(f"its reservations are not known, so a pilot may be asked for across one: {site.closures_unseen}")
    return notes


def _json(site: SiteStatus, used: PilotUsageRow | None, recent: list[PilotRecord]) -> dict[str, object]:
    """One site for scripts."""
    refused = last_refusal(recent)
    return site_json(site) | {
        "efficiency": None if used is None else used.efficiency,
        "pilot_core_s": None if used is None else used.pilot_core_s,
        "payload_core_s": None if used is None else used.payload_core_s,
        "ends": end_reasons(recent),
        "cancel_races": races(recent),
        "last_refusal": None
        if refused is None
        else {"pilot_id": refused.pilot_id, "at_s": refused.ended_s, "detail": refused.detail},
    }
