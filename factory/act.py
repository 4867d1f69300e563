"""Turn committed intents into effects at the sites; every effect may be repeated or resumed after a crash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from accounting.model import CancelIntent, PilotRecord
from factory.crash import Crash
from factory.observe import known_at
from factory.sites.contract import (
    CancelOutcome,
    NotSent,
    Refused,
    Site,
    SubmitOutcome,
    SubmitRequest,
    Submitted,
    Uncertain,
)

log = structlog.get_logger()

K = TypeVar("K")
V = TypeVar("V")

Render = Callable[[PilotRecord], tuple[tuple[str, bytes], ...]]
"""The files of a pilot's spool directory, the freshly minted token among them."""


def prepare_sites(sites: Mapping[str, Site], names: Iterable[str]) -> dict[str, str]:
    """Put the bundle where pilots are about to be asked for; the sites where that failed, with the problem."""
    problems = side_by_side({name: sites[name].prepare for name in names})
    return {name: problem for name, problem in problems.items() if problem}


def submit_intents(
    sites: Mapping[str, Site], intents: tuple[PilotRecord, ...], *, render: Render, crash: Crash
) -> tuple[SubmitOutcome, ...]:
    """Submit each intent at its site, the sites side by side; one outcome for each."""
    calls: dict[str, Callable[[], tuple[SubmitOutcome, ...]]] = {}
    for name, pilots in _by_site(intents).items():
        calls[name] = _submission(sites[name], pilots, render)
    crash("uploading")
    outcomes = side_by_side(calls)
    crash("submitted")
    for outcome in (outcome for of_site in outcomes.values() for outcome in of_site):
        _log_submission(outcome)
    return tuple(outcome for of_site in outcomes.values() for outcome in of_site)


def cancel_waiting(
    sites: Mapping[str, Site], cancels: tuple[CancelIntent, ...], pilots: tuple[PilotRecord, ...]
) -> tuple[CancelOutcome, ...]:
    """Ask each site to cancel those of its pilots that still wait, the sites side by side."""
    wanted = {cancel.pilot_id for cancel in cancels}
    chosen = tuple(pilot for pilot in pilots if pilot.pilot_id in wanted)
    calls: dict[str, Callable[[], CancelOutcome]] = {}
    for name in _by_site(chosen):
        if name in sites:
            calls[name] = _cancellation(sites[name], name, chosen)
    outcomes = tuple(side_by_side(calls).values())
    for outcome in outcomes:
        log.info("pilots.cancelled", site=outcome.site, count=len(outcome.sent), problem=outcome.problem)
    return outcomes


def forget_ended(sites: Mapping[str, Site], left_over: Mapping[str, tuple[str, ...]]) -> None:
    """Remove spool directories of pilots that have ended; one that stays is found again by the next look."""
    calls = {name: _forgetting(sites[name], pilots) for name, pilots in left_over.items() if pilots}
    for name, problem in side_by_side(calls).items():
        if problem:
            log.warning("spool.not_removed", site=name, problem=problem)


def side_by_side(calls: Mapping[str, Callable[[], V]]) -> dict[str, V]:
    """
    Run one call per site in threads of their own and give the answers by site.

    An exception in one of them is a fault of ours and is raised only after all have ended: each call is bounded by its
    own deadline, and half of a cycle's effects must not be left behind unwatched.
    """
    if not calls:
        return {}
    with ThreadPoolExecutor(max_workers=len(calls), thread_name_prefix="act") as threads:
        futures = {name: threads.submit(call) for name, call in calls.items()}
    return {name: future.result() for name, future in futures.items()}


def _submission(site: Site, pilots: tuple[PilotRecord, ...], render: Render) -> Callable[[], tuple[SubmitOutcome, ...]]:
    """The call that submits one site's pilots."""

    def call() -> tuple[SubmitOutcome, ...]:
        requests = tuple(
            SubmitRequest(pilot_id=pilot.pilot_id, offer=pilot.offer, files=render(pilot)) for pilot in pilots
        )
        try:
            return site.submit(requests, deadline_s=min(pilot.submit_deadline_s for pilot in pilots))
        except Exception as error:
            # Our own fault, somewhere between the first byte and the last answer: the jobs may be there.
            log.exception("submit.broke", site=site.name)
            why = f"our own fault: {type(error).__name__}: {error}"
            return tuple(Uncertain(pilot_id=pilot.pilot_id, reason=why) for pilot in pilots)

    return call


def _cancellation(site: Site, name: str, pilots: tuple[PilotRecord, ...]) -> Callable[[], CancelOutcome]:
    """The call that cancels one site's pilots."""
    return lambda: site.cancel(known_at(name, pilots))


def _forgetting(site: Site, pilots: tuple[str, ...]) -> Callable[[], str]:
    """The call that removes one site's left-over spool directories."""
    return lambda: site.forget(pilots)


def _by_site(pilots: tuple[PilotRecord, ...]) -> dict[str, tuple[PilotRecord, ...]]:
    """Pilots by site, in the order of their names."""
    groups: dict[str, list[PilotRecord]] = defaultdict(list)
    for pilot in sorted(pilots, key=lambda pilot: pilot.pilot_id):
        groups[pilot.offer.site].append(pilot)
    return {site: tuple(group) for site, group in sorted(groups.items())}


def _log_submission(outcome: SubmitOutcome) -> None:
    """One event for each pilot asked for."""
    match outcome:
        case Submitted():
            log.info("pilot.submitted", pilot_id=outcome.pilot_id, batch_id=outcome.batch_id)
        case Refused():
            log.warning("pilot.refused", pilot_id=outcome.pilot_id, reason=outcome.reason)
        case Uncertain():
            log.warning("pilot.submission_unanswered", pilot_id=outcome.pilot_id, reason=outcome.reason)
        case NotSent():
            log.warning("pilot.not_sent", pilot_id=outcome.pilot_id, reason=outcome.reason)
