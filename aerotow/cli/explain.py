"""``aerotow explain SITE``: the decision of a recorded cycle for one site."""

from __future__ import annotations

import click

from aerotow.cli.app import App, known
from aerotow.cli.recorded import cycle_json, cycle_words, recorded_at
from aerotow.cli.show import clock_time, counted, json_option, plain, print_json, say, table, warn
from factory.journal import Recorded
from factory.matching import match_observation
from factory.replay import policy_in_force
from factory.sites.contract import SiteSeen, SiteUnseen
from factory.siteview import Kinds, SiteView, site_view, sites_of

_WORDS = {
    "granted": "gets new pilots here",
    "absorbed": "taken by pilots that are here",
    "never": "can never run here",
    "elsewhere": "taken elsewhere",
    "placed_elsewhere": "new pilots elsewhere",
}


@click.command()
@click.argument("site")
@click.option("--at", metavar="TIME", help="The cycle in force then: '2 h' (ago) or 2026-11-22T14:00 (UTC).")
@json_option
@click.pass_context
def explain(ctx: click.Context, site: str, at: str | None, as_json: bool) -> None:
    """
    Why a site got the pilots that it got.

    The decision of the last cycle, or of the one in force at a TIME: what was seen of SITE, what limited it and whose
    limit that is, and what became of each kind of idle jobs there.
    """
    app: App = ctx.obj
    recorded = recorded_at(app, at)
    known(site, sites_of(recorded.observation, policy_in_force(recorded)), what="site", where="that cycle")
    view = site_view(recorded, site, match_observation)
    if as_json:
        print_json(_json(recorded, view))
    else:
        _print(recorded, view, app.now_s())


def _print(recorded: Recorded, view: SiteView, now_s: float) -> None:
    """The decision for people."""
    say(f"{view.site} in {cycle_words(recorded, now_s)}")
    for line in (*_sight_lines(view, now_s), *_limit_lines(view), *_breaker_lines(view, now_s), *_decided_lines(view)):
        say(line)
    if view.kinds:
        say()
        table(
            ("jobs", "kinds", "what became of them here", "pilots wanted", "granted", "jobs taken", "for example"),
            (
                (
                    one.jobs,
                    one.kinds,
                    _WORDS.get(one.outcome, one.outcome),
                    one.wanted,
                    one.granted,
                    one.absorbed,
                    f"{one.example.ap}#{one.example.first_job}",
                )
                for one in view.kinds
            ),
            right=("jobs", "kinds", "pilots wanted", "granted", "jobs taken"),
        )
        for one in view.kinds:
            for reason in one.reasons:
                say(f"{one.example.ap}#{one.example.first_job}: {reason.text} [{reason.owner}]")
    elif view.room is not None:
        say("no idle jobs were seen")
    if not view.identical:
        warn("this program would decide otherwise than the cycle did ('aerotow replay' says how)")


def _sight_lines(view: SiteView, now_s: float) -> list[str]:
    match view.sight:
        case SiteSeen(taken_s=taken_s, clock_offset_s=offset_s):
            off = f"; its clock was {offset_s:+.0f} s off" if abs(offset_s) >= 1 else ""
            return [f"seen at {clock_time(taken_s, now_s)}{off}"]
        case SiteUnseen(reason=reason):
            return [f"not seen: {reason}; nothing was asked for, cancelled or closed here"]
        case None:
            return ["the cycle did not look at it"]


def _limit_lines(view: SiteView) -> list[str]:
    """Every limit with its number, what is used of it, and whose it is."""
    one = view.room
    if one is None:
        return ["not configured then: its pilots were watched until they ended"]
    lines = [
        f"pilots: {one.open} of {one.policy.max_pilots} (sites.{view.site}.max_pilots) [factory]",
        f"of them waiting: {one.pending} of {one.policy.max_pending} (sites.{view.site}.max_pending) [factory]",
        f"pilots at all sites: {view.pilots_open} of {view.policy.max_pilots} (limits.max_pilots) [factory]",
        f"new pilots in a cycle: at most {view.policy.max_submits_per_cycle} (limits.max_submits_per_cycle) [factory]",
    ]
    if one.late:
        lines.append(
            f"of those waiting: {one.late} longer than {view.policy.wait_noticed_s} s (factory.wait_noticed), so other "
            "sites are asked first [factory]"
        )
    rules = one.rules
    caps = (("pilots", one.open, rules.max_pilots), ("pilots waiting", one.pending, rules.max_pending))
    lines += [f"{what}: {has} of {cap} ({rules.file}) [site]" for what, has, cap in caps if cap is not None]
    if rules.max_cores is not None:
        lines.append(f"cores: {one.cores} of {rules.max_cores} ({rules.file}) [site]")
    if one.block is not None:
        lines.append(f"nothing new here: {one.block.text} [{one.block.owner}]")
    return lines


def _breaker_lines(view: SiteView, now_s: float) -> list[str]:
    breaker = view.breaker
    if breaker is None:
        return []
    if breaker.mode == "closed":
        return [f"breaker: closed ({counted(breaker.failures, 'failure')} in a row)"]
    retry = f", next probe at {clock_time(breaker.retry_at_s, now_s)}" if breaker.retry_at_s is not None else ""
    mode = breaker.mode.replace("_", " ")
    return [f"breaker: {mode} after {counted(breaker.failures, 'failure')} in a row: {breaker.reason}{retry} [factory]"]


def _decided_lines(view: SiteView) -> list[str]:
    """What the cycle did."""
    there = ", ".join(f"{count} {phase.name.lower()}" for phase, count in view.phases)
    lines = [f"pilots there: {there or 'none'}"]
    if view.frozen:
        lines.append(f"nothing was asked for anywhere: {view.frozen}")
    asked = ", ".join(f"{count}{'' if name == view.site else ' of ' + name}" for name, count in view.submits)
    lines.append(f"asked for: {asked or 'no'} new {'pilot' if asked == '1' else 'pilots'}")
    lines += [f"cancel {pilot}: {reason}" for pilot, reason in view.cancels]
    return lines


def _kinds_json(one: Kinds) -> dict[str, object]:
    """One group of kinds for scripts."""
    return {
        "outcome": one.outcome,
        "kinds": one.kinds,
        "jobs": one.jobs,
        "wanted": one.wanted,
        "granted": one.granted,
        "absorbed": one.absorbed,
        "example": f"{one.example.ap}#{one.example.first_job}",
        "reasons": plain(one.reasons),
    }


def _json(recorded: Recorded, view: SiteView) -> dict[str, object]:
    """The decision for scripts."""
    one = view.room
    return {
        "cycle": cycle_json(recorded),
        "site": view.site,
        "state": "never" if view.sight is None else view.sight.kind,
        "reason": view.sight.reason if isinstance(view.sight, SiteUnseen) else "",
        "configured": one is not None,
        "pilots": {phase.name.lower(): count for phase, count in view.phases},
        "open": None if one is None else one.open,
        "waiting": None if one is None else one.pending,
        "late": None if one is None else one.late,
        "max_pilots": None if one is None else one.policy.max_pilots,
        "max_pending": None if one is None else one.policy.max_pending,
        "block": None if one is None or one.block is None else plain(one.block),
        "breaker": plain(view.breaker),
        "submits": [{"site": name, "count": count} for name, count in view.submits],
        "cancels": [{"pilot_id": pilot, "reason": reason} for pilot, reason in view.cancels],
        "frozen": view.frozen,
        "kinds": [_kinds_json(kinds) for kinds in view.kinds],
        "identical": view.identical,
    }
