"""
A site whose pilots fail gets none for a while: derived from the outcomes of its pilots, kept nowhere.

What a broken site costs. A closed breaker that has no sign of the scheduler's consent (no accepted pilot is open), or
that has just seen a failure, lets only ``failures`` submissions through, less the failures in a row and less the
submissions still unanswered (:func:`trials`). Each refusal counts by itself, also many in one cycle. So a site that
refuses costs at most ``failures`` sbatch, then one probe per back-off, however many pilots are wanted. A site where
accepted pilots are open may ramp up freely; if just then it begins to refuse, that one cycle's burst is the price.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Literal

from accounting.model import PilotRecord
from factory.model import BreakerPolicy, BreakerState, Outcome, SiteOutcomes
from glidein.model import EndReason, PilotPhase

_NOBODYS_FAULT = frozenset(
    {
        EndReason.IDLE,
        EndReason.STOPPED,
        EndReason.CANCELLED,
        EndReason.CANCELLED_PENDING,
        EndReason.PREEMPTED,
        EndReason.REQUEUED,
        EndReason.NEVER_APPEARED,
    }
)
"""Ends that say nothing against the site: somebody's wish, another user's right, or a submission that never arrived."""

_FAULT = frozenset(
    {
        EndReason.REFUSED,
        EndReason.NOT_JOINED,
        EndReason.BAD_BUNDLE,
        EndReason.BAD_INPUT,
        EndReason.NO_SCRATCH,
        EndReason.CONDOR_FAILED,
        EndReason.FAILED,
    }
)
"""Ends that are failures unless the pilot had run jobs."""


def breaker(outcomes: SiteOutcomes, policy: BreakerPolicy, now_s: float) -> BreakerState:
    """
    Replay a site's outcomes: ``failures`` in a row open the breaker, a success closes it.

    Failures of pilots that were on their way when it opened do not lengthen the back-off; a failure after the back-off
    is a failed probe and doubles it, up to the maximum. After the back-off it is half open: one probe may go.
    """
    row = 0
    since_s: int | None = None
    retry_at_s: int | None = None
    backoff_s = 0
    last: Outcome | None = None
    for outcome in sorted(outcomes.outcomes, key=_in_time):
        match judge(outcome, policy):
            case "success":
                row, since_s, retry_at_s, last = 0, None, None, None
            case "failure":
                row, last = row + 1, outcome
                if retry_at_s is None and row >= policy.failures:
                    backoff_s = min(policy.backoff_s, policy.backoff_max_s)
                    since_s, retry_at_s = outcome.at_s, outcome.at_s + backoff_s
                elif retry_at_s is not None and outcome.at_s >= retry_at_s:
                    backoff_s = min(2 * backoff_s, policy.backoff_max_s)
                    retry_at_s = outcome.at_s + backoff_s
            case "neither":
                pass
    mode: Literal["closed", "open", "half_open"] = "closed"
    if retry_at_s is not None:
        mode = "open" if now_s < retry_at_s else "half_open"
    reason = "" if last is None else _words(last)
    return BreakerState(
        site=outcomes.site, mode=mode, failures=row, since_s=since_s, retry_at_s=retry_at_s, reason=reason
    )


def judge(outcome: Outcome, policy: BreakerPolicy) -> Literal["success", "failure", "neither"]:
    """
    What one outcome says of its site.

    A pilot that ran jobs is a success whatever ended it, and so is one that joined, unless it fizzled or ended by a
    fault of its own without a job. A pilot that ended without joining is a failure, unless it is nobody's fault.
    """
    reason = outcome.reason
    if outcome.jobs:
        return "success"
    if reason is None or reason in _NOBODYS_FAULT:
        return "success" if outcome.joined else "neither"
    if not outcome.joined or reason in _FAULT:
        return "failure"
    fizzled = outcome.jobs == 0 and outcome.ran_s is not None and outcome.ran_s < policy.fizzle_s
    return "failure" if fizzled else "success"


def outcomes_of(pilots: Iterable[PilotRecord]) -> tuple[SiteOutcomes, ...]:
    """The outcomes that the ledger's records tell: pilots that joined or ended; sorted by site, oldest first."""
    told = [(pilot.offer.site, _outcome(pilot)) for pilot in pilots if pilot.joined_s or pilot.end_reason]
    told.sort(key=lambda pair: (pair[0], _in_time(pair[1])))
    return tuple(
        SiteOutcomes(site=site, outcomes=tuple(outcome for _, outcome in pairs))
        for site, pairs in groupby(told, key=lambda pair: pair[0])
    )


def trials(state: BreakerState, policy: BreakerPolicy, pilots: Iterable[PilotRecord]) -> int | None:
    """
    How many pilots the breaker lets through now, given the site's open pilots; None: it sets no limit.

    Half open it is one, and none while a pilot that has not joined is open: that one is the probe.
    """
    unended = [pilot for pilot in pilots if pilot.phase is not PilotPhase.ENDED]
    match state.mode:
        case "open":
            return 0
        case "half_open":
            return 0 if any(_is_unproven(pilot) for pilot in unended) else 1
        case "closed":
            consent = any(pilot.sent == "submitted" for pilot in unended)
            if consent and state.failures == 0:
                return None
            unanswered = sum(pilot.sent != "submitted" for pilot in unended)
            return max(0, policy.failures - state.failures - unanswered)


def _is_unproven(pilot: PilotRecord) -> bool:
    """Whether an open pilot has not joined; one that left the sights before joining still counts."""
    return pilot.joined_s is None and pilot.phase not in (PilotPhase.IDLE, PilotPhase.BUSY, PilotPhase.ENDING)


def _outcome(pilot: PilotRecord) -> Outcome:
    """
    The outcome of one pilot that joined or ended.

    An old pilot's normal end says nothing new of the site, so it is dated by its joining; else it would close a breaker
    that opened meanwhile.
    """
    spoke_at_its_end = pilot.joined_s is None or (
        not pilot.jobs and pilot.end_reason is not None and pilot.end_reason not in _NOBODYS_FAULT
    )
    at_s = pilot.ended_s if spoke_at_its_end else pilot.joined_s
    ran_s = None
    if pilot.started_s is not None and pilot.ended_s is not None:
        ran_s = max(0, pilot.ended_s - pilot.started_s)
    return Outcome(
        at_s=pilot.intended_s if at_s is None else at_s,
        pilot_id=pilot.pilot_id,
        joined=pilot.joined_s is not None,
        reason=pilot.end_reason,
        ran_s=ran_s,
        jobs=pilot.jobs,
        detail=pilot.detail,
        node=_node(pilot),
        asked_for=pilot.asked_for,
        barren_s=0
        if pilot.barren_since_s is None or pilot.ended_s is None
        else max(0, pilot.ended_s - pilot.barren_since_s),
    )


def _node(pilot: PilotRecord) -> str:
    """Where a pilot ran: by its own word, else by the batch system's."""
    if pilot.report is not None and pilot.report.node:
        return pilot.report.node.partition(".")[0]
    return "" if pilot.batch is None else pilot.batch.node


def _words(outcome: Outcome) -> str:
    """The failure for people."""
    name = "unknown" if outcome.reason is None else outcome.reason.value.replace("_", " ")
    return f"{name}: {outcome.detail}" if outcome.detail else name


def _in_time(outcome: Outcome) -> tuple[int, str]:
    """Oldest first; no pilot has two outcomes, so the id settles ties."""
    return outcome.at_s, outcome.pilot_id
