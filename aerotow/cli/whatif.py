"""``aerotow what-if``: a recorded observation, decided by other rules or with one more site."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from aerotow.cli.app import App, known
from aerotow.cli.failure import USAGE, Failure
from aerotow.cli.recorded import cycle_json, cycle_words, recorded_at
from aerotow.cli.show import counted, json_option, plain, print_json, say, table, warn
from config.load import ConfigText, parse_tree, read_texts, tree_of
from config.model import Config
from factory.journal import Recorded
from factory.matching import match_observation
from factory.policy import policy_of
from factory.replay import WhatIf, differences, policy_in_force, what_if

_BUCKETS_SHOWN = 20

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("what-if")
@click.option("--at", metavar="TIME", help="The cycle in force then: '2 h' (ago) or 2026-11-22T14:00 (UTC).")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="For example sites.alpha.max_pilots=20.")
@click.option(
    "--config", "other", metavar="FILE", type=_FILE, help="A whole other file, against the rules of that cycle."
)
@click.option(
    "--site-file", "site_files", metavar="FILE", type=_FILE, multiple=True, help="A site more, as in sites.d."
)
@json_option
@click.pass_context
def what_if_command(
    ctx: click.Context,
    at: str | None,
    settings: tuple[str, ...],
    other: Path | None,
    site_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """
    What a recorded cycle would have decided by other rules.

    Nothing is asked of anybody and nothing is changed: the observation is the recorded one, the last unless --at says
    when. A site that it does not know is taken for seen and empty.
    """
    app: App = ctx.obj
    if other is None and not settings and not site_files:
        raise Failure("say what is different: --set KEY=VALUE, --site-file FILE or --config FILE", exit_code=USAGE)
    recorded = recorded_at(app, at)
    in_force = policy_in_force(recorded)
    if other is not None:
        before, after = in_force, policy_of(_changed(read_texts(other), settings, site_files))
    else:
        before = policy_of(app.config)
        after = policy_of(_changed(read_texts(app.config_path), settings, site_files))
        if before != in_force:
            warn("the file has changed since that cycle: both sides are by the file as it is now")
    told = what_if(recorded.observation, before, after, match_observation)
    if as_json:
        print_json(_json(recorded, told))
    else:
        _print(recorded, told, app.now_s(), same_rules=before == after)


def _changed(texts: ConfigText, settings: tuple[str, ...], site_files: tuple[Path, ...]) -> Config:
    """The configuration with the sites and settings that were given."""
    more = tuple((path, load_text(path)) for path in site_files)
    tree, origin = tree_of(replace(texts, sites=(*texts.sites, *more)))
    for setting in settings:
        _set(tree, setting)
    return parse_tree(texts.path, tree, origin=origin)


def load_text(path: Path) -> str:
    """A site file's text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path} cannot be read: {error}", exit_code=USAGE) from error


def _set(tree: dict[str, Any], setting: str) -> None:
    """Give one key another value; it is checked with the whole file."""
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) < 2:
        raise Failure(
            f"--set {setting!r} is no setting; write KEY=VALUE, as sites.alpha.max_pilots=20", exit_code=USAGE
        )
    if parts[0] == "sites":
        known(parts[1], tree.get("sites", {}), what="site", where="the configuration (a new one: --site-file)")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # A bare word or span, as people type it.
        value = text.strip()
    inner = tree
    for part in parts[:-1]:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise Failure(f"--set {setting!r}: {part} is no table", exit_code=USAGE)
    inner[parts[-1]] = value


def _print(recorded: Recorded, told: WhatIf, now_s: float, *, same_rules: bool) -> None:
    """The difference for people."""
    say(f"{cycle_words(recorded, now_s)}, decided otherwise:")
    for site in told.added:
        say(f"{site}: not in the observation; taken for seen and empty")
    if same_rules:
        say("the rules are the same")
    lines = differences(told.before, told.after)
    if told.pilots:
        table(
            ("site", "new pilots", "would be", "difference"),
            ((site, old, new, f"{new - old:+d}" if new != old else "-") for site, old, new in told.pilots),
            right=("new pilots", "would be", "difference"),
        )
    if not lines and not told.buckets:
        say("the plan would be the same")
        return
    for line in lines:
        # The table has the pilots.
        if " new pilots, now " not in line:
            say(line)
    for one in told.buckets[:_BUCKETS_SHOWN]:
        say(
            f"{counted(one.jobs, 'job')} like {one.first_job} of {one.user}: "
            f"{counted(one.pilots_before, 'new pilot')}, would be {one.pilots_after}; "
            f"without a place {one.unplaced_before}, would be {one.unplaced_after}"
        )
    if len(told.buckets) > _BUCKETS_SHOWN:
        say(f"and {len(told.buckets) - _BUCKETS_SHOWN} kinds of jobs more (--json has all)")


def _json(recorded: Recorded, told: WhatIf) -> dict[str, object]:
    """The difference for scripts."""
    return {
        "cycle": cycle_json(recorded),
        "added": list(told.added),
        "sites": [{"site": site, "before": old, "after": new} for site, old, new in told.pilots],
        "differences": list(differences(told.before, told.after)),
        "buckets": plain(told.buckets),
    }
