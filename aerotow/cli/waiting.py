"""The one line that says why a job waits, and how long its pilots may still wait, for ``aerotow why``."""

from __future__ import annotations

from dataclasses import dataclass

from aerotow.cli.app import App
from aerotow.cli.show import ago, clock_time, counted, span
from config.model import Config
from factory.cause import Cause, cause_of
from factory.explain import Explanation
from factory.picture import Picture
from factory.waits import MEDIAN_MIN, PILOTS_MAX, Forecast, forecast, waits_of
from glidein.model import PilotPhase
from overlay.job import JobFound, JobStatus

_OWNERS = {
    "job": "whoever submitted it",
    "factory": "aerotow's configuration",
    "operator": "the operators of this pool",
    "site": "the site",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteWait:
    """Pilots that wait at one site for jobs like this."""

    site: str
    pilots: int
    since_s: int
    """When the oldest was submitted, epoch seconds."""
    expected: Forecast
    """How much longer that one waits."""


def cause(app: App, job: JobFound, told: Explanation | None, picture: Picture, now_s: float) -> Cause | None:
    """Why a job that is there does not run; None for one that runs, leaves, or of which nothing is known."""
    if job.status is JobStatus.HELD:
        return _held(job)
    if told is None:
        return None
    fresh = picture.fresh
    last = f"the last cycle of instance {app.config.instance.name} ended {ago(fresh.last_cycle_s, now_s)} ago"
    # With a lease that holds, a cycle is slow and not absent: a site that does not answer takes its whole deadline.
    idle_factory = f"no factory works: {last}" if fresh.stale and not fresh.lease_valid else ""
    return cause_of(told, projects=projects_of(app.config, job.user), idle_factory=idle_factory)


def _held(job: JobFound) -> Cause:
    """Why a job is held, in its AP's words."""
    reason = job.hold_reason or "its AP gives no reason"
    if "is no project of" in reason:
        remedy = "submit it anew with a valid accounting_group, or have the operators add you to the project"
        return Cause(code="project", text=reason, remedy=remedy, owner="job")
    remedy = f"mend that, then 'condor_release {job.cluster}.{job.proc}' on {job.ap}"
    return Cause(code="held", text=reason, remedy=remedy, owner="job")


def projects_of(config: Config, user: str) -> tuple[str, ...] | None:
    """The projects that a user may charge; None where the configuration names no projects at all."""
    if not config.vos:
        return None
    owner = user.partition("@")[0]
    return tuple(
        sorted({project for vo in config.vos.values() for project, users in vo.projects.items() if owner in users})
    )


def headline(name: str, job: JobFound, told: Cause) -> str:
    """The whole answer in a line."""
    verb = "is held" if job.status is JobStatus.HELD else "waits"
    return f"{name} {verb} because {told.text}; what to do: {told.remedy}; owner: {_OWNERS[told.owner]}"


def site_waits(app: App, told: Explanation, now_s: float) -> tuple[SiteWait, ...]:
    """The sites at which pilots for such jobs wait, with what is known of how long that takes there."""
    found = []
    for site in sorted({pilot.offer.site for pilot in told.takers if pilot.phase is PilotPhase.PENDING}):
        since = [
            pilot.submitted_s
            for pilot in told.takers
            if pilot.offer.site == site and pilot.phase is PilotPhase.PENDING and pilot.submitted_s is not None
        ]
        if not since:
            continue
        past = app.ledger.pilots(app.config.instance.name, site=site, limit=PILOTS_MAX)
        expected = forecast(waits_of(past, now_s=now_s), waited_s=max(0, int(now_s - min(since))))
        found.append(SiteWait(site=site, pilots=len(since), since_s=min(since), expected=expected))
    return tuple(found)


def wait_words(wait: SiteWait, now_s: float) -> str:
    """One site's wait for people."""
    since = f"since {clock_time(wait.since_s, now_s)} ({ago(wait.since_s, now_s)})"
    expected, starts = wait.expected, counted(wait.expected.starts, "start")
    if expected.q50_s is None:
        said = f"insufficient data ({starts} after as long a wait, {MEDIAN_MIN} needed)"
    else:
        late = "" if expected.q95_s is None else f", 95 % within {span(expected.q95_s)}"
        said = f"half of such pilots within {span(expected.q50_s)} more{late} (from {starts})"
    return f"{wait.site}: {counted(wait.pilots, 'pilot')} waiting {since}; expected start: {said}"
