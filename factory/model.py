"""
The nouns of the decision: what was observed, what may be done, what was decided and why.

Everything is frozen, sortable and made of plain data, so that a cycle can be written down and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from accounting.model import CancelIntent, PilotRecord, SiteStop
from factory.sites.contract import SiteSight
from glidein.model import EndReason, Lifetimes, Offer, PilotId
from glidein.siterules import NO_RULES, SiteRules
from overlay.model import Bucket, Demand, FailedClause, Slots


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Outcome:
    """How one pilot of a site turned out, for the breaker; times are epoch seconds."""

    at_s: int
    """When it turned out so: its joining for a pilot that works, its end for one that failed."""
    pilot_id: PilotId
    joined: bool
    reason: EndReason | None
    """None while it lives; a pilot that has joined is a success already."""
    ran_s: int | None
    """Seconds from start to end; None when it never started or has not ended."""
    jobs: int | None
    detail: str = ""
    node: str = ""
    """Where it ran, as far as is known."""
    asked_for: str = ""
    """The bucket on whose behalf it was asked for, as far as is known."""
    barren_s: int = 0
    """How long before its end it stood empty beside idle jobs of that bucket."""


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
class Outage:
    """A span in which a site is not to be used; times are epoch seconds."""

    start_s: int
    end_s: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ShapePolicy:
    """One kind of pilot that a site may get."""

    offer: Offer
    max_pilots: int | None = None
    """Pilots of this shape not yet ended; None: only the site's own limit holds."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SitePolicy:
    """What one site may get."""

    offer: Offer
    """Its only offer, or the first of several."""
    max_pilots: int
    max_pending: int
    outages: tuple[Outage, ...] = ()
    """The operator's windows, sorted."""
    shapes: tuple[ShapePolicy, ...] = ()
    """All its offers, where it has several; ``offer`` is then among them."""
    weight: int = 1
    """Its part under the placement policy ``weights``."""

    @property
    def name(self) -> str:
        """The site's name."""
        return self.offer.site

    @property
    def entries(self) -> tuple[ShapePolicy, ...]:
        """Every kind of pilot that it may get."""
        return self.shapes or (ShapePolicy(offer=self.offer),)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BreakerPolicy:
    """When a site's breaker opens, in failures and seconds."""

    failures: int
    fizzle_s: int
    backoff_s: int
    backoff_max_s: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VanishPolicy:
    """When an answer without our pilots is not believed at once."""

    share: float = 0.5
    """Of the pilots that lived at the site at the last look."""
    at_least: int = 4
    """Fewer than these may vanish at once and are followed one by one."""
    looks: int = 3
    """So many looks in a row that say the same are believed."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PatiencePolicy:
    """How long a site that fails is left alone, in seconds."""

    backoff_s: float = 30.0
    backoff_max_s: float = 600.0
    overload_factor: float = 4.0
    """So many times as long where the site says that it is asked too much."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SlotFacts:
    """What every slot of a pilot says of itself, wherever it runs."""

    trust_domain: str = "pool"
    condor_version: str = "$CondorVersion: 25.14.1 2026-08-21 $"
    """
    As in the bundle that this release makes. Jobs compare its number only: below 25.12 their Requirements check the
    disk, from there on the slot does.
    """


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VoShare:
    """What one virtual organisation gets where not everybody can be served."""

    vo: str
    weight: float = 1.0
    guaranteed_cores: int = 0
    """With less than this it comes before all others."""
    maximum_cores: int | None = None
    projects: tuple[tuple[str, float], ...] = ()
    """Its projects in small letters with their weights, sorted; one that is not named has 1."""


Placement = Literal["spread", "fill", "weights"]
"""
Where new pilots go: to the emptiest site, to the first site until it is full, or in proportion to the sites' weights.
"""


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
    slot_facts: SlotFacts = SlotFacts()
    project_vos: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each project in small letters with its virtual organisations, sorted."""
    vanish: VanishPolicy = VanishPolicy()
    patience: PatiencePolicy = PatiencePolicy()
    drain_target_s: int = 0
    """
    Pilots are asked for so that what waits has begun within this time, as far as run times are declared: a pilot takes
    many short jobs, one after the other. With 0 every waiting job gets a place of its own.
    """
    placement: Placement = "spread"
    ramp_percent: int = 100
    """A site gets at most this part of its ``max_pilots`` in one cycle, and one at least."""
    exclude_nodes: int = 0
    """Of one site, nodes at most that pilots are kept away from because pilots failed there; 0: none."""
    shares: tuple[VoShare, ...] = ()
    """Sorted by organisation; one that is not named has the weight 1 and no limits."""
    wait_noticed_s: int = 600
    """A pilot that has waited longer is not counted on: another site is asked for its jobs."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Drift:
    """Something that a pilot's slot has less of, or otherwise, than the plan assumed of it."""

    pilot_id: PilotId
    attribute: str
    assumed: int
    found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What the looks say of the pilots: the ledger's records brought up to date, sorted by pilot id."""

    pilots: tuple[PilotRecord, ...]
    """Every pilot that was given, open or newly ended."""
    adopted: tuple[PilotRecord, ...]
    """Live jobs under our name that the ledger did not hold open."""
    drift: tuple[Drift, ...]
    alarms: tuple[str, ...]
    """What somebody should look at, one line each."""

    @property
    def open_pilots(self) -> tuple[PilotRecord, ...]:
        """Pilots not ended, adopted ones included: what the plan counts."""
        everyone = self.pilots + self.adopted
        return tuple(sorted((p for p in everyone if p.end_reason is None), key=lambda p: p.pilot_id))


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
class Brake:
    """A site whose pilots join and run none of the jobs that they were asked for: held back for one bucket only."""

    bucket: str
    site: str
    mode: BreakerMode
    failures: int
    """Such pilots in a row."""
    retry_at_s: int | None
    allowed: int
    """Pilots that may still be asked for there on the bucket's behalf in this cycle."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SubmitPilots:
    """Ask a site for a number of pilots of one shape."""

    site: str
    count: int
    shape: str = ""
    """Which of the site's shapes; empty for a site that has one."""


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
        "paused",  # by the site's own admin, or his file cannot be relied on
        "outage",  # a pilot would run into an outage or a reservation of the whole partition
        "denied",  # the file of the site's own admin keeps the job out
        "max_pilots",
        "max_pending",
        "ramp",  # the limit of one site and cycle
        "shape_pilots",  # the limit of one of the site's shapes
        "site_cap",  # a cap in the file of the site's own admin
        "matches_nothing",  # pilots asked for on the jobs' behalf joined there and ran nothing while the jobs waited
        "share",  # the jobs' organisation has all the cores that it may have
        "total_pilots",
        "cycle_limit",
        "absorbed",  # existing pilots will take the jobs
        "placed_elsewhere",  # the need is met by new pilots at other sites
        "late",  # the jobs' pilots have waited too long; says who was asked in their place
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


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Exclusion:
    """Nodes of a site at which pilots failed while others of the site worked."""

    site: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one cycle decided."""

    cycle: str
    submits: tuple[SubmitPilots, ...]
    """One per site and shape that gets any, sorted."""
    cancels: tuple[CancelIntent, ...]
    surplus: tuple[PilotId, ...]
    """Waiting pilots that nothing needs now; those that stay so are cancelled later."""
    breakers: tuple[BreakerState, ...]
    frozen: str = ""
    """Why nothing was asked for at all, for example the collector unseen; empty in a normal cycle."""
    excludes: tuple[Exclusion, ...] = ()
    """Nodes that new pilots are kept away from, by site."""
    order: tuple[str, ...] = ()
    """
    The offer of each new pilot by its label (``SITE`` or ``SITE/SHAPE``), in the order of placing; as many as
    ``submits`` count.

    Pilots are numbered in this order, so that the next cycle packs the same jobs into the same pilots.
    """
    asked_for: tuple[str, ...] = ()
    """The bucket on whose behalf each of them is asked for; empty in records from before it was kept."""
    barren: tuple[PilotId, ...] = ()
    """Pilots in the pool that stand empty beside idle jobs of the bucket that they were asked for."""
    brakes: tuple[Brake, ...] = ()
    """Sites that are held back for one bucket, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Absorbed:
    """Jobs of one bucket that the pilots of one site will take."""

    site: str
    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ShapeRoom:
    """How many pilots of one shape a site has and may get."""

    policy: ShapePolicy
    open: int = 0
    """Pilots of it not ended when the cycle began."""
    block: Reason | None = None
    """Why the site gets none of this shape, though it may get others."""
    new: int = 0
    """Pilots of it asked for in this cycle so far."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SiteRoom:
    """How many pilots a site may still get in this cycle, and what limits it."""

    policy: SitePolicy
    open: int
    """Pilots not ended when the cycle began."""
    pending: int
    """Those of them that have not started, as far as is known."""
    trials: int | None
    """Pilots that the breaker lets through in this cycle; None: as many as the caps allow."""
    block: Reason | None
    """Why the site gets nothing at all; None when it may get pilots."""
    ramp: int | None = None
    """Pilots that it may get in one cycle; None: as many as the other limits allow."""
    cores: int = 0
    """Cores of its pilots that were not ended when the cycle began."""
    wait_s: int = 0
    """How long the oldest of the pilots that wait there has waited."""
    late: int = 0
    """Pilots there that have waited longer than is counted on them."""
    rules: SiteRules = NO_RULES
    """What its own admin lets run there, as far as the site was seen."""
    new: int = 0
    """Pilots asked for in this cycle so far."""
    new_cores: int = 0
    """Cores of those."""
    shapes: tuple[ShapeRoom, ...] = ()
    """One for each of the policy's entries, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What all caps together still allow at one moment of the planning."""

    sites: tuple[SiteRoom, ...]
    """Configured sites, sorted by name."""
    open: int
    """Pilots not ended when the cycle began, at all sites, also those no longer configured."""
    max_pilots: int
    max_submits_per_cycle: int
    new: int = 0
    frozen: str = ""
    project_vos: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Granted:
    """New pilots of one shape asked for on a bucket's behalf."""

    site: str
    shape: str
    count: int
    jobs: int
    """Jobs of the bucket that they take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """What became of the jobs of one bucket whose pilots have waited too long to be counted on."""

    jobs: tuple[tuple[str, int], ...] = ()
    """How many there are, by the late pilots' site, sorted."""
    covered: tuple[tuple[str, int], ...] = ()
    """Those that other pilots on their way have room for too, by their site, sorted."""
    granted: tuple[Granted, ...] = ()
    """New pilots in the place of late ones; sorted by site."""
    left: int = 0
    """Those for which nobody else may be asked."""


NONE_LATE = Late()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What the planner did with one bucket."""

    bucket: Bucket
    absorbed: tuple[Absorbed, ...]
    """By existing pilots, and by what was left of new pilots that larger jobs asked for; sorted by site."""
    rest: int
    """Jobs that nothing absorbs."""
    granted: tuple[Granted, ...]
    """New pilots on this bucket's behalf; sorted by site."""
    unplaced: int
    """Jobs that no new pilot takes either."""
    over: str
    """Why some of them may not be placed at all: their organisation has what it may have; empty when it has not."""
    asked: int
    """Pilots asked for in this cycle, for any bucket, when this one was done with."""
    brakes: tuple[Brake, ...] = ()
    """Sites that are held back for it, sorted."""
    late: Late = NONE_LATE
    """Of the jobs that waiting pilots absorb, those whose pilots are late."""

    @property
    def new(self) -> tuple[Granted, ...]:
        """All new pilots on this bucket's behalf."""
        return self.granted + self.late.granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A plan with the planner's steps; verdicts read them, so there is no second explanation."""

    plan: Plan
    placed: Mapping[str, Placed]
    """By bucket key."""
    room: Room
    """What the caps allowed at the beginning."""
