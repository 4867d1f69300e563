"""
The nouns of the decision: what was observed, what may be done, what was decided and why.

Everything is frozen, sortable and made of plain data, so that a cycle can be written down and replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accounting.model import CancelIntent, PilotRecord, SiteStop
from factory.sites.contract import SiteSight
from glidein.model import EndReason, Lifetimes, Offer, PilotId
from overlay.model import Demand, FailedClause, Slots


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Outcome:
    """How one pilot of a site turned out, for the breaker; times are epoch seconds."""

    at_s: int
    pilot_id: PilotId
    joined: bool
    reason: EndReason | None
    """None while it lives; a pilot that has joined is a success already."""
    ran_s: int | None
    """Seconds from start to end; None when it never started or has not ended."""
    jobs: int | None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SiteOutcomes:
    """Recent outcomes of one site, oldest first."""

    site: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything one decision is made from, with one clock; times are epoch seconds."""

    cycle: str
    now_s: float
    sites: tuple[SiteSight, ...]
    slots: Slots
    demands: tuple[Demand, ...]
    pilots: tuple[PilotRecord, ...]
    """Pilots not ended, with the phase that this observation gives them."""
    outcomes: tuple[SiteOutcomes, ...] = ()
    stops: tuple[SiteStop, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SitePolicy:
    """What one site may get."""

    offer: Offer
    max_pilots: int
    max_pending: int

    @property
    def name(self) -> str:
        """The site's name."""
        return self.offer.site


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BreakerPolicy:
    """When a site's breaker opens, in failures and seconds."""

    failures: int
    fizzle_s: int
    backoff_s: int
    backoff_max_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's rules as the planner uses them."""

    sites: tuple[SitePolicy, ...]
    """Configured sites, sorted by name. A site that is only watched is not among them."""
    max_pilots: int
    max_submits_per_cycle: int
    lifetimes: Lifetimes
    breaker: BreakerPolicy
    surplus_after_s: int
    """A waiting pilot that nothing needs for this long is cancelled."""
    ads_max_age_s: int
    """A joined pilot whose slot vanished is taken for free capacity this long: a lost ad is not a dead pilot."""


BreakerMode = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BreakerState:
    """A site's breaker, derived from its outcomes."""

    site: str
    mode: BreakerMode
    failures: int
    """Failures in a row."""
    since_s: int | None
    retry_at_s: int | None
    reason: str
    """The last failure, for people; empty when closed."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SubmitPilots:
    """Ask a site for a number of pilots."""

    site: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Reason:
    """One thing that kept pilots from being asked for, with its number and the owner of the decision."""

    code: Literal[
        "requirements",  # the job and the site's slot do not accept each other
        "too_large",  # the job asks for more than the site's pilot has
        "too_long",  # the job's declared run time does not fit the pilot's life
        "site_unseen",
        "slots_unseen",
        "breaker",
        "stopped",
        "max_pilots",
        "max_pending",
        "total_pilots",
        "cycle_limit",
        "absorbed",  # existing pilots will take the jobs
        "placed_elsewhere",  # the need is met by new pilots at other sites
    ]
    text: str
    """One line with the numbers, for people."""
    wanted: int | None = None
    allowed: int | None = None
    owner: str = "factory"
    """Whose decision it is: ``factory`` (configuration), ``site``, ``operator``, ``job``."""
    failed: tuple[FailedClause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Verdict:
    """Why pilots were or were not asked for, for one bucket at one site."""

    bucket: str
    site: str
    absorbed_running: int
    """Jobs that pilots in the pool will take."""
    absorbed_waiting: int
    """Jobs that pilots still starting or waiting will take."""
    wanted: int
    """Pilots that the rest of the bucket would need here, alone."""
    granted: int
    """New pilots asked for here on this bucket's behalf."""
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one cycle decided."""

    cycle: str
    submits: tuple[SubmitPilots, ...]
    cancels: tuple[CancelIntent, ...]
    surplus: tuple[PilotId, ...]
    """Waiting pilots that nothing needs now; those that stay so are cancelled later."""
    breakers: tuple[BreakerState, ...]
    frozen: str = ""
    """Why nothing was asked for at all, for example the collector unseen; empty in a normal cycle."""
