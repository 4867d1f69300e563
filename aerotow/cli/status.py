"""``aerotow status``: the whole federation on one page."""

from __future__ import annotations

from collections.abc import Iterable

import click

from accounting.model import StreamState
from aerotow.cli.app import App, pass_app
from aerotow.cli.freshness import age_line, freshness_json, picture_of, sight_remedy, sight_words, sighting_json
from aerotow.cli.show import ago, clock_time, json_option, plain, print_json, say, table
from factory.model import BreakerState
from factory.picture import Picture
from factory.report import ApStatus, SiteStatus


@click.command()
@json_option
@pass_app
def status(app: App, as_json: bool) -> None:
    """
    All on one page.

    The factory, the sites, the access points and the pool, as the last cycle saw them.
    """
    picture = picture_of(app)
    streams = app.books.stream_states()
    now_s = app.now_s()
    if as_json:
        print_json(_json(app, picture, streams, now_s))
        return
    instance = app.config.instance.name
    say(f"instance {instance}: {age_line(picture.fresh, instance=instance, now_s=now_s)}")
    say(_holder(picture, now_s))
    plan = None if picture.last is None else picture.last.plan
    if plan is not None and plan.frozen:
        say(f"nothing is asked for: {plan.frozen}")
    say()
    _sites(picture.sites, now_s)
    say()
    _aps(picture.aps, now_s)
    say()
    _pool(picture, now_s)
    _usage(streams, app.config.access_points, now_s)


def breaker_words(state: BreakerState | None, now_s: float) -> str:
    """A breaker with its reason and its next step."""
    if state is None:
        return "-"
    match state.mode:
        case "closed":
            return "closed" if not state.failures else f"closed, {state.failures} failed in a row ({state.reason})"
        case "open":
            retry = clock_time(state.retry_at_s, now_s)
            return f"open, {state.failures} failed in a row ({state.reason}); next probe {retry}"
        case "half_open":
            return f"half open, one probe may go; {state.failures} failed in a row ({state.reason})"


def _holder(picture: Picture, now_s: float) -> str:
    """Who acts for the instance."""
    lease = picture.fresh.lease
    if lease is None:
        return "no factory holds the lease"
    until = clock_time(lease.expires_s, now_s)
    if picture.fresh.lease_valid:
        return f"lease held by {lease.holder} until {until}"
    return f"lease of {lease.holder} ran out at {until}, {ago(lease.expires_s, now_s)} ago"


def _sites(sites: Iterable[SiteStatus], now_s: float) -> None:
    """One line per site; what needs a sentence stands below."""
    sites = tuple(sites)
    if not sites:
        say("no sites: add a table [sites.NAME] to the file (see 'aerotow config example')")
        return
    table(
        ("site", "state", "breaker", "asked", "pending", "starting", "idle", "busy", "ending", "unknown", "cores"),
        (
            (
                site.site,
                _state(site, now_s),
                site.breaker.mode.replace("_", " ") if site.breaker else None,
                site.census.intended,
                site.census.pending,
                site.census.starting,
                site.census.idle,
                site.census.busy,
                site.census.ending,
                site.census.unknown,
                _cores(site),
            )
            for site in sites
        ),
        right=("asked", "pending", "starting", "idle", "busy", "ending", "unknown", "cores"),
    )
    for site in sites:
        for line in _notes(site, now_s):
            say(f"{site.site}: {line}")


def _state(site: SiteStatus, now_s: float) -> str:
    """One word or two about a site, the gravest first."""
    parts = [sight_words(site.sighting, now_s)]
    if site.stop is not None:
        parts.append("stopped")
    if not site.configured:
        parts.append("not configured")
    return ", ".join(parts)


def _cores(site: SiteStatus) -> str:
    """Busy of running cores."""
    busy = site.census.busy_cores
    return f"{'?' if busy is None else busy}/{site.census.running_cores}"


def _notes(site: SiteStatus, now_s: float) -> list[str]:
    """What does not fit in the line."""
    notes = []
    if site.sighting.sight == "unseen":
        seen = site.sighting.seen_s
        last = f"last seen {clock_time(seen, now_s)}" if seen is not None else "not seen in any recorded cycle"
        notes.append(f"{sight_words(site.sighting, now_s)}, {last}: {site.sighting.reason}")
        notes += [remedy] if (remedy := sight_remedy(site.sighting, site=site.site, now_s=now_s)) else []
    if site.stop is not None:
        notes.append(
            f"stopped by {site.stop.by} at {clock_time(site.stop.since_s, now_s)}: {site.stop.reason}; "
            f"'aerotow resume {site.site}' ends it"
        )
    if site.breaker is not None and site.breaker.mode != "closed":
        notes.append(f"breaker {breaker_words(site.breaker, now_s)}")
    if not site.configured:
        notes.append("has left the configuration; it is watched until its pilots have ended")
    return notes


def _aps(aps: Iterable[ApStatus], now_s: float) -> None:
    """One line per access point."""
    aps = tuple(aps)
    table(
        ("AP", "state", "idle jobs", "kinds", "running", "held back"),
        ((ap.ap, sight_words(ap.sighting, now_s), _idle(ap), ap.kinds, ap.running, ap.held_back) for ap in aps),
        right=("idle jobs", "kinds", "running", "held back"),
    )
    for ap in aps:
        if ap.sighting.sight in ("at_least", "unseen"):
            say(f"{ap.ap}: {sight_words(ap.sighting, now_s)}: {ap.sighting.reason}")


def _idle(ap: ApStatus) -> str | None:
    """The number of idle jobs, marked where it is only a lower bound; a dash where nobody could look."""
    if ap.idle is None:
        return None
    return f">= {ap.idle}" if ap.sighting.sight == "at_least" else str(ap.idle)


def _pool(picture: Picture, now_s: float) -> None:
    """The collector in one line."""
    pool = picture.pool
    if pool.slots is None:
        why = f": {pool.sighting.reason}" if pool.sighting.sight == "unseen" else ""
        say(f"collector {sight_words(pool.sighting, now_s)}{why}")
        return
    say(f"collector seen: {pool.slots} pilots in the pool, {pool.busy_cores} of {pool.cores} cores busy")


def _usage(streams: Iterable[StreamState], aps: Iterable[str], now_s: float) -> None:
    """How far the usage of each access point has been read."""
    by_ap = {stream.ap: stream for stream in streams}
    for ap in sorted({*by_ap, *aps}):
        say(f"usage {ap}: {stream_words(by_ap.get(ap), now_s)}")


def stream_words(stream: StreamState | None, now_s: float) -> str:
    """How far usage is complete, and what is wrong with it."""
    if stream is None or stream.read_s is None:
        text = "no data yet: the history has never been read"
        return f"{text} ({stream.problem})" if stream is not None and stream.problem else text
    text = f"complete up to {clock_time(stream.read_s, now_s)} ({ago(stream.read_s, now_s)} ago)"
    if stream.catching_up:
        text = f"complete up to {clock_time(stream.mark_s, now_s)}; newer records are being read, in parts"
    if stream.problem:
        text += f"; no data since then: {stream.problem}"
    if stream.gap_since_s is not None:
        text += (
            f"; records after {clock_time(stream.gap_since_s, now_s)} were rotated away unread: "
            "raise MAX_EPOCH_HISTORY_LOG there"
        )
    if stream.quarantined:
        text += f"; {stream.quarantined} unreadable records are kept apart and not counted"
    return text


def _json(app: App, picture: Picture, streams: Iterable[StreamState], now_s: float) -> dict[str, object]:
    """The page for scripts."""
    last, pool = picture.last, picture.pool
    return {
        "now_s": int(now_s),
        "instance": app.config.instance.name,
        "factory": freshness_json(picture.fresh),
        "frozen": "" if last is None else last.plan.frozen,
        "sites": [site_json(site) for site in picture.sites],
        "access_points": [_ap_json(ap) for ap in picture.aps],
        "collector": sighting_json(pool.sighting)
        | {"slots": pool.slots, "cores": pool.cores, "busy_cores": pool.busy_cores},
        "usage_streams": [plain(stream) for stream in streams],
    }


def site_json(site: SiteStatus) -> dict[str, object]:
    """One site for scripts."""
    census = site.census
    return {
        "site": site.site,
        "configured": site.configured,
        **sighting_json(site.sighting),
        "pilots": {
            "open": census.open,
            "intended": census.intended,
            "pending": census.pending,
            "starting": census.starting,
            "idle": census.idle,
            "busy": census.busy,
            "ending": census.ending,
            "unknown": census.unknown,
        },
        "waiting": site.waiting,
        "max_pilots": site.max_pilots,
        "max_pending": site.max_pending,
        "cores": census.running_cores,
        "busy_cores": census.busy_cores,
        "breaker": plain(site.breaker),
        "stop": plain(site.stop),
        "rules": plain(site.rules),
        "calls_last_minute": site.calls_last_minute,
        "outage": plain(site.outage),
        "closures_unseen": site.closures_unseen,
        "brakes": plain(site.brakes),
    }


def _ap_json(ap: ApStatus) -> dict[str, object]:
    """One access point for scripts."""
    return {
        "ap": ap.ap,
        **sighting_json(ap.sighting),
        "jobs_idle": ap.idle,
        "kinds": ap.kinds,
        "jobs_running": ap.running,
        "jobs_held_back": ap.held_back,
    }
