"""
The factory's books in memory: the ledger's own records, written when something happens to a pilot.

``aerotow simulate run`` decides thousands of times; the real ledger, its transactions and journal are for
``aerotow simulate faults``, which runs the whole loop. A test holds both to the same decisions.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import replace

from accounting.model import CancelIntent, PilotRecord
from factory.breaker import outcomes_of
from factory.model import Observation, SiteOutcomes
from factory.sites.contract import FinalSeen, SiteSeen, SiteSight, SiteUnseen
from glidein.model import EndReason, PilotPhase
from overlay.model import DemandSeen, Slot, SlotsSeen
from simulation.kinds import AP
from simulation.pilots import SimPilot
from simulation.world import SimWorld

OUTCOMES_KEPT = 50
"""As many as :meth:`accounting.ledger.Ledger.outcomes` gives for each site."""


class Books:
    """What the factory knows of its pilots; a site that is not seen adds nothing to it."""

    def __init__(self) -> None:
        self.open: dict[str, PilotRecord] = {}
        self._ended: dict[str, deque[PilotRecord]] = defaultdict(lambda: deque(maxlen=OUTCOMES_KEPT))
        self._slots: dict[str, Slot] = {}
        self._news: set[str] = set()
        self._gone: dict[str, SimPilot] = {}
        self._ended_read = 0
        self._outcomes: tuple[SiteOutcomes, ...] | None = None

    def observe(self, world: SimWorld, *, cycle: str) -> Observation:
        """Look at everything, supply before demand."""
        now_s = world.now_s
        sights = tuple(_sight(world, site) for site in world.sites)
        self._take_note(world, frozenset(sight.site for sight in sights if isinstance(sight, SiteSeen)))
        if self._outcomes is None:
            known = [record for ended in self._ended.values() for record in ended]
            self._outcomes = outcomes_of((*known, *self.open.values()))
        buckets = tuple(replace(kind.bucket, jobs=len(kind.idle)) for _, kind in sorted(world.idle_kinds.items()))
        return Observation(
            cycle=cycle,
            now_s=now_s,
            sites=sights,
            slots=SlotsSeen(taken_s=now_s, slots=tuple(self._slots[name] for name in sorted(self._slots))),
            demands=(DemandSeen(ap=AP, taken_s=now_s, buckets=buckets, running=0),),
            pilots=tuple(self.open[name] for name in sorted(self.open)),
            outcomes=self._outcomes,
        )

    def intend(self, intents: Iterable[PilotRecord]) -> None:
        """Pilots that were submitted: the modelled site takes each at once."""
        for intent in intents:
            self.open[intent.pilot_id] = replace(
                intent, sent="submitted", phase=PilotPhase.PENDING, submitted_s=intent.intended_s, batch_id="1"
            )

    def mark(self, surplus: Iterable[str], *, now_s: float) -> None:
        """Since when which pilots are surplus, as :meth:`accounting.ledger.Ledger.commit_plan` writes it."""
        marked = frozenset(surplus)
        for name, record in self.open.items():
            if name in marked and record.surplus_since_s is None:
                self.open[name] = replace(record, surplus_since_s=int(now_s))
            elif name not in marked and record.surplus_since_s is not None:
                self.open[name] = replace(record, surplus_since_s=None)

    def cancelled(self, cancels: Iterable[CancelIntent], *, now_s: float) -> None:
        """Cancels that were sent."""
        for cancel in cancels:
            if cancel.pilot_id in self.open:
                record = self.open[cancel.pilot_id]
                self.open[cancel.pilot_id] = replace(record, cancel_intended_s=int(now_s))

    def _take_note(self, world: SimWorld, seen: frozenset[str]) -> None:
        """Bring records of seen sites, and all slots, up to date with what happened."""
        for pilot in world.ended[self._ended_read :]:
            self._gone[pilot.pilot_id] = pilot
        self._ended_read = len(world.ended)
        self._news |= world.touched
        world.touched.clear()
        kept = set()
        for name in sorted(self._news):
            pilot = self._gone.get(name) or world.pilots[name]
            if pilot.join_s is not None and pilot.end_s is None:
                self._slots[name] = pilot.slot(world.now_s)
            else:
                self._slots.pop(name, None)
            if pilot.site in seen:
                self._record(pilot, world.now_s)
            else:
                kept.add(name)
                self._last_seen(pilot)
        self._news = kept

    def _record(self, pilot: SimPilot, now_s: float) -> None:
        """One pilot's record anew."""
        name = pilot.pilot_id
        before = self.open[name]
        after = updated(before, pilot, now_s)
        if (after.phase, after.joined_s) != (before.phase, before.joined_s):
            self._outcomes = None
        if after.phase is PilotPhase.ENDED:
            del self.open[name]
            self._gone.pop(name, None)
            self._ended[pilot.site].append(after)
        else:
            self.open[name] = after

    def _last_seen(self, pilot: SimPilot) -> None:
        """A pilot at a site that is not seen: only its slot tells."""
        at_s = pilot.end_s
        if at_s is not None and pilot.join_s is not None:
            self.open[pilot.pilot_id] = replace(self.open[pilot.pilot_id], slot_seen_s=int(at_s))


def _sight(world: SimWorld, site: str) -> SiteSight:
    """What a look at the site says; of its pilots the books are told apart."""
    if world.unseen(site):
        return SiteUnseen(site=site, taken_s=world.now_s, reason="an outage of the modelled site")
    return SiteSeen(site=site, taken_s=world.now_s, live=(), final=FinalSeen(records=()), reports=())


def updated(record: PilotRecord, pilot: SimPilot, now_s: float) -> PilotRecord:
    """The record of a pilot that was seen."""
    joined = pilot.join_s is not None
    phase = PilotPhase.PENDING
    if pilot.end_s is not None:
        phase = PilotPhase.ENDED
    elif joined and not pilot.accepts(now_s):
        phase = PilotPhase.ENDING
    elif joined:
        phase = PilotPhase.BUSY if pilot.claims else PilotPhase.IDLE
    elif pilot.start_s is not None:
        phase = PilotPhase.STARTING
    return replace(
        record,
        phase=phase,
        started_s=None if pilot.start_s is None else int(pilot.start_s),
        joined_s=None if pilot.join_s is None else int(pilot.join_s),
        slot_seen_s=int(now_s) if joined and pilot.end_s is None else record.slot_seen_s,
        ended_s=None if pilot.end_s is None else int(pilot.end_s),
        end_reason=pilot.reason,
        jobs=pilot.jobs if pilot.end_s is not None and reported(pilot.reason) else record.jobs,
    )


def reported(reason: EndReason | None) -> bool:
    """Whether a pilot that ended so could write its end report."""
    return reason in (
        EndReason.IDLE,
        EndReason.LIFETIME,
        EndReason.STOPPED,
        EndReason.NOT_JOINED,
        EndReason.CONDOR_FAILED,
        EndReason.PREEMPTED,
    )
