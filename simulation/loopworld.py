"""
The modelled world as the real loop sees it: sites to look at and to submit to, a collector, an access point.

The loop asks the sites side by side, in threads. So that a run can be repeated, what it orders is put down by each site
and carried out by :meth:`LoopWorld.settle` afterwards, site by site, when nobody looks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from factory.sites.contract import (
    CancelOutcome,
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    Refused,
    SiteSeen,
    SiteSight,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from glidein.model import EXIT_CODES, BatchRecord, BatchState, EndReason, EndReport, PilotId
from overlay.model import Demand, DemandSeen, DemandUnseen, Slots, SlotsSeen, SlotsUnseen
from simulation.books import reported
from simulation.kinds import AP
from simulation.pilots import SimPilot
from simulation.world import SimWorld

IN_QUEUE_S = 300.0
"""squeue shows a job this long after its end (MinJobAge)."""

_STATES = {
    EndReason.IDLE: BatchState.COMPLETED,
    EndReason.PREEMPTED: BatchState.PREEMPTED,
    EndReason.NODE_FAIL: BatchState.NODE_FAIL,
    EndReason.CANCELLED_PENDING: BatchState.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What goes wrong at one site in one cycle."""

    unseen: bool = False
    queue_lies: bool = False
    """squeue answers with an empty queue, and says that all is well."""
    accounting_unseen: bool = False
    refuses: bool = False
    not_sent: bool = False
    reply_lost: bool = False
    request_lost: bool = False
    effect_delay_s: float = 0.0
    """With a lost reply: the job appears so much later, never after the deadline."""


WELL = Trouble()


@dataclass(slots=True, kw_only=True)
class LoopSite:
    """Implements :class:`factory.sites.contract.Site` over the modelled world."""

    name: str
    world: SimWorld
    trouble: Trouble = WELL
    jobs: dict[PilotId, SimPilot] = field(default_factory=dict)
    """Every pilot that ever was a job here."""
    accepted: Counter[PilotId] = field(default_factory=Counter)
    """How often each name was taken by the scheduler: more than once is what must never be."""
    spools: set[PilotId] = field(default_factory=set)
    submits: list[tuple[float, SubmitRequest]] = field(default_factory=list)
    """Taken, with the time of their effect; not in the queue yet."""
    cancels: list[PilotId] = field(default_factory=list)

    def look(self, known: tuple[KnownPilot, ...], *, now_s: float) -> SiteSight:
        """Live jobs, final records and reports."""
        if self._dead():
            return SiteUnseen(site=self.name, taken_s=now_s, reason="simulated: no answer")
        shown = [pilot for pilot in self.jobs.values() if pilot.end_s is None or now_s < pilot.end_s + IN_QUEUE_S]
        live = () if self.trouble.queue_lies else tuple(sorted(_record(pilot, now_s) for pilot in shown))
        asked = [self.jobs[pilot.pilot_id] for pilot in known if pilot.pilot_id in self.jobs]
        live_names = {record.name for record in live if not record.state.is_final}
        final = FinalSeen(
            records=tuple(sorted(_record(pilot, now_s) for pilot in asked if pilot.pilot_id not in live_names))
        )
        return SiteSeen(
            site=self.name,
            taken_s=now_s,
            live=live,
            final=FinalUnseen(reason="simulated: no answer") if self.trouble.accounting_unseen else final,
            reports=tuple(sorted(_report(pilot) for pilot in asked if _reports(pilot))),
            spools=tuple(sorted(self.spools)),
        )

    def prepare(self) -> str:
        """The bundle is there whenever the site is."""
        return "simulated: no answer" if self._dead() else ""

    def submit(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> tuple[SubmitOutcome, ...]:
        """One outcome for each request."""
        return tuple(self._submit(request, deadline_s) for request in requests)

    def cancel(self, pilots: tuple[KnownPilot, ...]) -> CancelOutcome:
        """Put down what is to be cancelled if it still waits then."""
        if self._dead():
            return CancelOutcome(site=self.name, sent=(), problem="simulated: no answer")
        self.cancels += [pilot.pilot_id for pilot in pilots]
        return CancelOutcome(site=self.name, sent=tuple(pilot.pilot_id for pilot in pilots))

    def forget(self, pilots: tuple[PilotId, ...]) -> str:
        """Remove spool directories."""
        if self._dead():
            return "simulated: no answer"
        self.spools -= set(pilots)
        return ""

    def close(self) -> None:
        """There is nothing to end."""

    def settle(self) -> None:
        """Let happen what was ordered."""
        for at_s, request in self.submits:
            self.world.agenda.at(at_s, lambda request=request: self._begin(request))  # type: ignore[misc]
        self.submits.clear()
        for name in self.cancels:
            self.world.cancel(name)
        self.cancels.clear()

    def live(self) -> list[SimPilot]:
        """Pilots that wait or run."""
        return [pilot for pilot in self.jobs.values() if pilot.end_s is None]

    def _dead(self) -> bool:
        return self.trouble.unseen or self.world.unseen(self.name)

    def _submit(self, request: SubmitRequest, deadline_s: float) -> SubmitOutcome:
        trouble, name = self.trouble, request.pilot_id
        if trouble.not_sent or self._dead():
            return NotSent(pilot_id=name, reason="simulated: no connection")
        if trouble.request_lost:
            return Uncertain(pilot_id=name, reason="simulated: the connection was lost")
        self.spools.add(name)
        if trouble.refuses:
            return Refused(pilot_id=name, reason="simulated: the scheduler refuses")
        now_s = self.world.now_s
        self.accepted[name] += 1
        at_s = min(now_s + trouble.effect_delay_s, deadline_s) if trouble.reply_lost else now_s
        self.submits.append((at_s, request))
        if trouble.reply_lost:
            return Uncertain(pilot_id=name, reason="simulated: the connection was lost")
        return Submitted(pilot_id=name, batch_id=_batch_id(name))

    def _begin(self, request: SubmitRequest) -> None:
        self.world.submit(request.pilot_id, request.offer)
        self.jobs[request.pilot_id] = self.world.pilots[request.pilot_id]


@dataclass(slots=True, kw_only=True)
class LoopPool:
    """Implements :class:`factory.observe.Pool` over the modelled world."""

    world: SimWorld
    slots_unseen: bool = False
    ap_unseen: bool = False

    def slots(self, *, now_s: float) -> Slots:
        """All joined pilots."""
        if self.slots_unseen:
            return SlotsUnseen(taken_s=now_s, reason="simulated: no answer")
        joined = [pilot for pilot in self.world.pilots.values() if pilot.join_s is not None]
        return SlotsSeen(
            taken_s=now_s,
            slots=tuple(sorted(pilot.slot(now_s) for pilot in joined)),
        )

    def demand(self, ap: str, *, now_s: float) -> Demand:
        """The idle jobs."""
        if self.ap_unseen:
            return DemandUnseen(ap=ap, taken_s=now_s, reason="simulated: no answer")
        kinds = sorted(self.world.idle_kinds.items())
        buckets = tuple(replace(kind.bucket, jobs=len(kind.idle)) for _, kind in kinds)
        return DemandSeen(ap=AP, taken_s=now_s, buckets=buckets, running=0)


def _record(pilot: SimPilot, now_s: float) -> BatchRecord:
    """As the batch system tells of it."""
    state = BatchState.PENDING if pilot.start_s is None else BatchState.RUNNING
    if pilot.reason is not None:
        state = _STATES.get(pilot.reason, BatchState.FAILED)
    until_s = now_s if pilot.end_s is None else pilot.end_s
    started = pilot.start_s is not None
    return BatchRecord(
        name=pilot.pilot_id,
        job_id=_batch_id(pilot.pilot_id),
        state=state,
        raw_state=state.name,
        reason="Resources" if state is BatchState.PENDING else "",
        exit_code=EXIT_CODES.get(pilot.reason, 1) if pilot.reason is not None else None,
        submit_s=int(pilot.submit_s),
        start_s=None if pilot.start_s is None else int(pilot.start_s),
        end_s=None if pilot.end_s is None else int(pilot.end_s),
        elapsed_s=0 if pilot.start_s is None else int(until_s - pilot.start_s),
        alloc_cpus=pilot.offer.shape.cores if started else None,
        partition=pilot.offer.partition,
        account=pilot.offer.account,
        node=f"{pilot.site}-node" if started else "",
    )


def _reports(pilot: SimPilot) -> bool:
    return pilot.end_s is not None and pilot.start_s is not None and reported(pilot.reason)


def _report(pilot: SimPilot) -> EndReport:
    """What the pilot wrote last."""
    assert pilot.start_s is not None
    assert pilot.end_s is not None
    assert pilot.reason is not None
    # A pilot that the scheduler takes away knows only that it was told to stop.
    reason = EndReason.STOPPED if pilot.reason is EndReason.PREEMPTED else pilot.reason
    return EndReport(
        pilot_id=pilot.pilot_id,
        reason=reason,
        exit_code=EXIT_CODES.get(reason, 1),
        start_s=int(pilot.start_s),
        joined_s=None if pilot.join_s is None else int(pilot.join_s),
        end_s=int(pilot.end_s),
        node=f"{pilot.site}-node",
        cores=pilot.offer.shape.cores,
        memory_mib=pilot.offer.shape.memory_mib,
        jobs=pilot.jobs,
    )


def _batch_id(name: str) -> str:
    """A job id that the name gives, so that the order of the threads does not matter."""
    return str(int.from_bytes(name.encode()[-10:], "big") % 10**9)
