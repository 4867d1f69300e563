"""``aerotow plan``: what the next cycle would do, and why; nothing is written and nothing is asked of anybody."""

from __future__ import annotations

import click

from aerotow.cli.app import App
from aerotow.cli.failure import PARTLY
from aerotow.cli.show import counted, json_option, plain, print_json, say, table, warn
from factory.preview import Preview, SitePreview, preview


@click.command()
@json_option
@click.pass_context
def plan(ctx: click.Context, as_json: bool) -> None:
    """
    What the next cycle would do.

    Looks at sites, pool and queues now; writes nothing and asks nobody for pilots.
    Ends with 3 when something could not be looked at.
    """
    app: App = ctx.obj
    made = preview(app.config, app.ledger)
    if as_json:
        print_json(_json(made))
    else:
        _print(made)
    if made.unseen:
        ctx.exit(PARTLY)


def _print(made: Preview) -> None:
    """The plan for people."""
    for name, reason in made.unseen:
        warn(f"not seen: {name}: {reason}")
    if made.plan.frozen:
        say(f"nothing is asked for: {made.plan.frozen}")
    if not made.sites:
        say("no sites: add a table [sites.NAME] to the file (see 'aerotow config example')")
        return
    table(
        ("site", "new pilots", "cancels", "jobs for running pilots", "jobs for coming pilots", "jobs that never fit"),
        (
            (site.site, site.submits, len(site.cancels), site.jobs_running, site.jobs_waiting, site.jobs_unfit)
            for site in made.sites
        ),
        right=("new pilots", "cancels", "jobs for running pilots", "jobs for coming pilots", "jobs that never fit"),
    )
    for site in made.sites:
        for line in _notes(site):
            say(f"{site.site}: {line}")
    if not made.kinds and not any(reason for _, reason in made.unseen):
        say("no idle jobs: nothing to ask for")
    for bucket in made.nowhere[:20]:
        say(
            f"{counted(bucket.jobs, 'idle job')} of {bucket.user} can run at no site: "
            f"'aerotow why {bucket.ap}#{bucket.first_job}' says what fails"
        )
    if made.explained < made.kinds:
        say(
            f"the reasons are from the {made.explained} most frequent of {made.kinds} kinds of jobs; the plan is of all"
        )


def _notes(site: SitePreview) -> list[str]:
    """Why a site gets what it gets."""
    notes = [f"{reason.text} [{reason.owner}]" for reason in site.reasons]
    if site.unfit is not None:
        notes.append(
            f"{counted(site.jobs_unfit, 'idle job')} can never run here: "
            f"'aerotow why {site.unfit.ap}#{site.unfit.first_job}' says what fails"
        )
    notes += [f"cancel {cancel.pilot_id}: {cancel.reason}" for cancel in site.cancels]
    return notes


def _site_json(site: SitePreview) -> dict[str, object]:
    """One site for scripts."""
    return {
        "site": site.site,
        "seen": site.seen,
        "submits": site.submits,
        "cancels": plain(site.cancels),
        "jobs_for_running_pilots": site.jobs_running,
        "jobs_for_coming_pilots": site.jobs_waiting,
        "jobs_unfit": site.jobs_unfit,
        "reasons": plain(site.reasons),
    }


def _json(made: Preview) -> dict[str, object]:
    """The plan for scripts."""
    return {
        "now_s": int(made.observation.now_s),
        "frozen": made.plan.frozen,
        "sites": [_site_json(site) for site in made.sites],
        "breakers": plain(made.plan.breakers),
        "surplus": list(made.plan.surplus),
        "unseen": [{"name": name, "reason": reason} for name, reason in made.unseen],
        "nowhere": [
            {"ap": bucket.ap, "first_job": bucket.first_job, "jobs": bucket.jobs, "user": bucket.user}
            for bucket in made.nowhere
        ],
        "kinds": made.kinds,
        "explained": made.explained,
    }
