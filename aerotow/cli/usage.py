"""``aerotow usage``: what jobs used, by whom and where, and how much of the pilots' cost that was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from accounting.model import PilotUsageRow, StreamState, UsageKey, UsageRow
from aerotow.cli.app import App, known
from aerotow.cli.failure import USAGE, Failure
from aerotow.cli.show import core_hours, json_option, percent, plain, print_json, say, table
from aerotow.cli.status import stream_words
from aerotow.cli.times import moment

KEYS: tuple[UsageKey, ...] = ("user", "project", "site", "day", "ap", "vo")


@click.command()
@click.option("--by", default="user,project,site", show_default=True, help=f"Any of {', '.join(KEYS)}, in order.")
@click.option("--since", help="Attempts that ended since: '7 d', 2026-11-01 or 2026-11-01T12:00 (UTC).")
@click.option("--until", help="Attempts that ended before, written the same way.")
@json_option
@click.pass_context
def usage(ctx: click.Context, by: str, since: str | None, until: str | None, as_json: bool) -> None:
    """
    What jobs used, and the pilots' cost.

    Core hours of attempts; one counts where it ended (a day is that end's UTC day).
    What still runs is shown apart and is in no sum.
    """
    app: App = ctx.obj
    keys = _keys(by)
    now_s = app.now_s()
    since_s = None if since is None else moment(since, now_s, option="--since")
    until_s = None if until is None else moment(until, now_s, option="--until")
    if since_s is not None and until_s is not None and since_s >= until_s:
        raise Failure("--since is not before --until; nothing can lie between", exit_code=USAGE)
    rows = app.books.usage(by=keys, since_s=since_s, until_s=until_s, vo_of_project=_vo_of_project(app))
    pilots = app.books.pilot_usage(since_s=since_s, until_s=until_s, now_s=int(now_s))
    streams = _streams(app)
    if as_json:
        print_json(_json(keys, rows, pilots, streams, since_s=since_s, until_s=until_s, now_s=now_s))
    else:
        _print(keys, rows, pilots, streams, now_s=now_s)


def _keys(text: str) -> tuple[UsageKey, ...]:
    """The keys asked for, in their order."""
    asked = [one.strip() for one in text.split(",") if one.strip()]
    for one in asked:
        known(one, KEYS, what="key", where="--by")
    if not asked or len(set(asked)) != len(asked):
        raise Failure(f"--by {text!r}: name each key once, of {', '.join(KEYS)}", exit_code=USAGE)
    return tuple(key for one in asked for key in KEYS if key == one)


def _vo_of_project(app: App) -> dict[str, str]:
    """Whose project is whose, by the operator's file."""
    return {project: name for name, vo in app.config.vos.items() for project in vo.projects}


def _streams(app: App) -> dict[str, StreamState | None]:
    """Every access point's freshness; None where nothing was ever read."""
    by_ap = {state.ap: state for state in app.books.stream_states()}
    return {ap: by_ap.get(ap) for ap in sorted({*by_ap, *app.config.access_points})}


def _print(
    keys: tuple[UsageKey, ...],
    rows: Iterable[UsageRow],
    pilots: Iterable[PilotUsageRow],
    streams: Mapping[str, StreamState | None],
    *,
    now_s: float,
) -> None:
    """Usage for people: first how far it is true, then the sums, then the pilots."""
    for ap, state in streams.items():
        say(f"{ap}: {stream_words(state, now_s)}")
    say()
    rows, pilots = tuple(rows), tuple(pilots)
    if not rows:
        say("no attempt has ended or runs in this period, as far as the histories were read")
    else:
        headings = (
            *keys,
            "jobs",
            "attempts",
            "core hours",
            "of it residual",
            "CPU hours",
            "running",
            "their core hours",
        )
        table(
            headings,
            (
                (
                    *(value or "(none)" for value in row.key),
                    row.jobs,
                    row.attempts,
                    core_hours(row.core_s),
                    core_hours(row.residual_core_s) if row.residual_core_s else None,
                    core_hours(row.cpu_s),
                    row.running or None,
                    core_hours(row.running_core_s) if row.running else None,
                )
                for row in rows
            ),
            right=headings[len(keys) :],
        )
        say(f"sum of what ended: {core_hours(sum(row.core_s for row in rows))} core hours")
        residual = sum(row.residual_core_s for row in rows)
        if residual:
            say(
                f"{core_hours(residual)} of them are residual: the AP's history has them and no record of an attempt "
                "does (an AP died hard)"
            )
    _print_pilots(pilots)


def _print_pilots(pilots: tuple[PilotUsageRow, ...]) -> None:
    """What ended pilots cost, by site."""
    if not pilots:
        return
    say()
    table(
        ("site", "ended pilots", "charged core hours", "payload core hours", "efficiency", "running pilots"),
        (
            (
                row.site,
                row.pilots,
                core_hours(row.pilot_core_s),
                core_hours(row.payload_core_s),
                percent(row.efficiency),
                row.running,
            )
            for row in pilots
        ),
        right=("ended pilots", "charged core hours", "payload core hours", "efficiency", "running pilots"),
    )
    for row in pilots:
        if row.unaccounted:
            say(f"{row.site}: {row.unaccounted} ended pilots are in no sum: sacct has not told their cost yet")


def _json(
    keys: tuple[UsageKey, ...],
    rows: Iterable[UsageRow],
    pilots: Iterable[PilotUsageRow],
    streams: Mapping[str, StreamState | None],
    *,
    since_s: int | None,
    until_s: int | None,
    now_s: float,
) -> dict[str, object]:
    """Usage for scripts: each row has its keys by name."""
    listed = []
    for row in rows:
        tree = plain(row)
        del tree["key"]
        listed.append(dict(zip(keys, row.key, strict=True)) | tree)
    return {
        "now_s": int(now_s),
        "by": list(keys),
        "since_s": since_s,
        "until_s": until_s,
        "payload": listed,
        "pilots": [plain(row) | {"efficiency": row.efficiency} for row in pilots],
        "streams": [_stream_json(ap, state) for ap, state in streams.items()],
    }


def _stream_json(ap: str, state: StreamState | None) -> dict[str, object]:
    """How far one AP's history was read; ``complete`` says whether sums up to ``read_s`` lack nothing."""
    if state is None:
        return {"ap": ap, "complete": False, "read_s": None, "problem": "never read"}
    complete = state.read_s is not None and not (state.problem or state.catching_up) and state.gap_since_s is None
    tree: dict[str, object] = plain(state)
    return tree | {"complete": complete}
