"""
What the factory asks of a site, whatever transport and scheduler it has.

Every call has a deadline on both ends and an output limit. No call raises for what the other side does: a failure is
an answer of its own type. The number of remote commands of :meth:`Site.look` does not depend on the number of pilots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from glidein.model import BatchRecord, EndReport, Offer, PilotId
from glidein.siterules import NO_RULES, SiteRules


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KnownPilot:
    """A pilot that the ledger holds open at a site, as far as the site needs it to answer."""

    pilot_id: PilotId
    batch_id: str | None
    intended_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalUnseen:
    """The scheduler's accounting (sacct) could not be asked: what is no longer live stays open."""

    reason: str
    kind: Literal["unseen"] = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalSeen:
    """What the scheduler's accounting says of the known pilots that are no longer live."""

    records: tuple[BatchRecord, ...]
    kind: Literal["seen"] = "seen"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Closure:
    """A span in which reservations leave no node of a partition to pilots; times are epoch seconds, by the site."""

    partition: str
    start_s: int
    end_s: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSeen:
    """A whole, believable answer of a site."""

    site: str
    taken_s: float
    live: tuple[BatchRecord, ...]
    """Every job of our user whose name is a pilot id of our instance, known to the ledger or not."""
    final: FinalSeen | FinalUnseen
    reports: tuple[EndReport, ...]
    unreadable_reports: tuple[PilotId, ...] = ()
    spools: tuple[PilotId, ...] = ()
    """Pilots of our instance whose spool directory is at the site; those of ended pilots are forgotten by the loop."""
    clock_offset_s: float = 0.0
    """The site's clock minus ours, as far as one call can tell."""
    rules: SiteRules = NO_RULES
    """What the site's own admin lets run there."""
    calls_last_minute: int | None = None
    """Remote commands and requests that we made there in the 60 s before; None: nobody counts them."""
    closures: tuple[Closure, ...] = ()
    """Of each partition that is reserved as a whole the next closure, sorted; a site may have no such notion."""
    closures_unseen: str = ""
    """Why the site's reservations are not known; they are then not "none", and the plan goes on without them."""
    kind: Literal["seen"] = "seen"


Cause = Literal[
    "unreachable",  # no way to the host, or to its scheduler
    "overloaded",  # the scheduler itself says that it is asked too much, or answers too slowly
    "quota",  # no room in the account's directory
    "garbled",  # an answer that is none of what we asked for
    "refused",  # somebody is there and does not let us in
    "limit",  # not asked: the site's calls per minute are used up
    "late",  # our last call has not come back
    "vanished",  # an answer, but too many pilots are missing in it to be believed at once
    "unknown",
]
"""Why a site is not seen, by meaning: what the remedy and the patience depend on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteUnseen:
    """The site gave no believable answer; nothing may be submitted, cancelled or closed there."""

    site: str
    taken_s: float
    reason: str
    cause: Cause = "unknown"
    next_look_s: int | None = None
    """It is not asked before then; None: in the next cycle."""
    kind: Literal["unseen"] = "unseen"


SiteSight = SiteSeen | SiteUnseen


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """A pilot to submit: its spool directory's files (name to content; mode 0600, ``pilot.sh`` 0700) and its offer."""

    pilot_id: PilotId
    offer: Offer
    files: tuple[tuple[str, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Submitted:
    """The scheduler took it."""

    pilot_id: PilotId
    batch_id: str
    kind: Literal["submitted"] = "submitted"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Refused:
    """The scheduler said no, in its own words; there is no job."""

    pilot_id: PilotId
    reason: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Uncertain:
    """Sent, or perhaps sent, and no answer: resolved later by looking for the name."""

    pilot_id: PilotId
    reason: str
    kind: Literal["uncertain"] = "uncertain"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NotSent:
    """It surely was not sent (no connection, upload failed): there is no job, and the site did not refuse it."""

    pilot_id: PilotId
    reason: str
    kind: Literal["not_sent"] = "not_sent"


SubmitOutcome = Submitted | Refused | Uncertain | NotSent


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOutcome:
    """Whether the cancel requests were taken; what became of the pilots is seen by looking."""

    site: str
    sent: tuple[PilotId, ...]
    problem: str = ""


class Site(Protocol):
    """A site that can be asked. One caller at a time."""

    @property
    def name(self) -> str:
        """The site's name in the configuration."""
        ...

    def look(self, known: tuple[KnownPilot, ...], *, now_s: float) -> SiteSight:
        """Live jobs, final records of the known pilots that are not live, and end reports: one remote call."""
        ...

    def prepare(self) -> str:
        """Put the bundle at the site if it is not there with the right sha256; the problem, or empty."""
        ...

    def submit(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> tuple[SubmitOutcome, ...]:
        """
        Upload the spool directories, then submit each; one outcome for each request, in their order.

        No submission takes effect at the site after ``deadline_s`` (epoch seconds).
        """
        ...

    def cancel(self, pilots: tuple[KnownPilot, ...]) -> CancelOutcome:
        """Cancel those that still wait; one that has started meanwhile is left alone where the version can tell."""
        ...

    def forget(self, pilots: tuple[PilotId, ...]) -> str:
        """Remove the spool directories of ended pilots; the problem, or empty."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...
