"""
The world outside the factory, event by event: queues, pilots, jobs, and HTCondor's matching.

One seed and one row of orders give one run. The negotiator is modelled as far as it decides what a pilot costs: cycles
of NEGOTIATOR_INTERVAL, users with the fewest running cores first, the fullest slot that still has room, and claims that
take the same user's next job of the same size until CLAIM_WORKLIFE.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from glidein.model import EndReason, Lifetimes, Offer
from simulation.kinds import Fits, Job, Kind, KindKey, bucket_of_kind, kind_key
from simulation.model import JobRun, SiteModel, TraceJob, WorldModel
from simulation.pilots import Claim, SimPilot
from simulation.waits import Queue

BEGIN_S = 1_800_000_000.0
"""The world's clock at the beginning of a trace."""
FIZZLE_AFTER_S = 5.0


class Agenda:
    """What happens when; events of one moment in the order in which they were noted down."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._noted = 0

    def at(self, time_s: float, what: Callable[[], None]) -> None:
        """Note an event; one in the past happens at once."""
        if math.isinf(time_s):
            return
        self._noted += 1
        heapq.heappush(self._events, (max(time_s, self.now_s), self._noted, what))

    def next_s(self) -> float:
        """When something happens next; infinite when nothing does."""
        return self._events[0][0] if self._events else math.inf

    def run_until(self, until_s: float) -> None:
        """Let everything happen up to and at that moment."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._events)
            what()
        self.now_s = max(self.now_s, until_s)


@dataclass(slots=True, eq=False)
class SimSite:
    """One site: its queue, and the pilots that found it full."""

    model: SiteModel
    queue: Queue
    running: int = 0
    ready: list[SimPilot] = field(default_factory=list)


class SimWorld:
    """Sites, pool and jobs under one clock."""

    def __init__(
        self, model: WorldModel, trace: Sequence[TraceJob], *, seed: int, lifetimes: Lifetimes, fits: Fits
    ) -> None:
        self.model = model
        self.lifetimes = lifetimes
        self.fits = fits
        self.agenda = Agenda(BEGIN_S)
        self.sites = {site.name: SimSite(model=site, queue=Queue(site, seed=seed)) for site in sorted(model.sites)}
        self.jobs = [
            Job(number=number, asked=job, submit_s=BEGIN_S + job.submit_s)
            for number, job in enumerate(sorted(trace, key=lambda job: job.submit_s))
        ]
        self.kinds: dict[KindKey, Kind] = {}
        self.idle_kinds: dict[str, Kind] = {}
        """Kinds with idle jobs, by bucket key."""
        self.idle_jobs = 0
        self.left = len(self.jobs)
        """Jobs that have not ended, submitted or not."""
        self.pilots: dict[str, SimPilot] = {}
        """Those that have not ended."""
        self.ended: list[SimPilot] = []
        self.touched: set[str] = set()
        """Pilots with news since somebody took note."""
        self.runs: list[JobRun] = []
        self._numbers = 0
        self._running: Counter[str] = Counter()
        """Cores by user."""
        self._negotiation_due = False
        self._arrived = 0
        self._note_arrival()
        for site in self.sites.values():
            for out in site.model.outages:
                if out.kills:
                    self.agenda.at(BEGIN_S + out.begin_s, partial(self._kill_all, site))

    @property
    def now_s(self) -> float:
        """The world's clock."""
        return self.agenda.now_s

    # What the factory does to it.

    def submit(self, pilot_id: str, offer: Offer) -> None:
        """A site takes a pilot into its queue."""
        site = self.sites[offer.site]
        self._numbers += 1
        pilot = SimPilot(pilot_id=pilot_id, number=self._numbers, offer=offer, submit_s=self.now_s)
        pilot.work = site.queue.draw()
        self.pilots[pilot_id] = pilot
        self.touched.add(pilot_id)
        start_s = BEGIN_S + site.queue.start_s(self.now_s - BEGIN_S, pilot.work)
        self.agenda.at(start_s, partial(self._start, pilot))

    def cancel(self, pilot_id: str) -> bool:
        """Cancel a pilot if it still waits."""
        pilot = self.pilots.get(pilot_id)
        if pilot is None or pilot.start_s is not None:
            return False
        self._end(pilot, EndReason.CANCELLED_PENDING)
        return True

    def drain(self, pilot_id: str) -> bool:
        """Tell a running pilot to take no further job; it leaves when the last one ends."""
        pilot = self.pilots.get(pilot_id)
        if pilot is None or pilot.start_s is None:
            return False
        pilot.draining = True
        self.touched.add(pilot_id)
        if not pilot.claims:
            self._end(pilot, EndReason.STOPPED)
        return True

    def unseen(self, site: str) -> bool:
        """Whether the site answers nobody now."""
        return self.sites[site].queue.closed(self.now_s - BEGIN_S)

    # Pilots.

    def _start(self, pilot: SimPilot) -> None:
        if pilot.end_s is not None or pilot.start_s is not None:
            return
        site = self.sites[pilot.site]
        if site.running >= site.model.room:
            site.ready.append(pilot)
            return
        site.running += 1
        pilot.begin(self.now_s, self.lifetimes)
        self.touched.add(pilot.pilot_id)
        fate = site.queue.chance()
        kill_s = self.now_s + site.queue.lasting(site.model.preempted_per_h)
        if fate < site.model.fizzle:
            self.agenda.at(self.now_s + FIZZLE_AFTER_S, partial(self._end, pilot, EndReason.CONDOR_FAILED))
        elif fate < site.model.fizzle + site.model.never_join:
            out_s = self.now_s + self.lifetimes.join_timeout_s
            self.agenda.at(out_s, partial(self._end, pilot, EndReason.NOT_JOINED))
        else:
            self.agenda.at(self.now_s + site.model.join_s, partial(self._join, pilot))
        self.agenda.at(pilot.retire_s, partial(self._retire, pilot))
        self.agenda.at(pilot.die_s, partial(self._end, pilot, EndReason.LIFETIME))
        if kill_s < pilot.die_s:
            self.agenda.at(kill_s, partial(self._end, pilot, EndReason.PREEMPTED))

    def _join(self, pilot: SimPilot) -> None:
        if pilot.end_s is not None:
            return
        pilot.join_s = self.now_s
        assert pilot.start_s is not None, "a pilot joins after its start"
        pilot.ad_text = self.fits.slot_ad(pilot.offer, start_s=int(pilot.start_s))
        self.touched.add(pilot.pilot_id)
        self._is_idle(pilot)
        self._negotiate_soon()

    def _retire(self, pilot: SimPilot) -> None:
        if pilot.end_s is None:
            self.touched.add(pilot.pilot_id)

    def _is_idle(self, pilot: SimPilot) -> None:
        pilot.idle_since_s = self.now_s
        until_s = self.now_s + self.lifetimes.idle_timeout_s
        self.agenda.at(until_s, partial(self._leave_if_idle, pilot, self.now_s))

    def _leave_if_idle(self, pilot: SimPilot, since_s: float) -> None:
        if pilot.end_s is None and not pilot.claims and pilot.idle_since_s == since_s:
            self._end(pilot, EndReason.IDLE)

    def _kill_all(self, site: SimSite) -> None:
        for pilot in list(self.pilots.values()):
            if pilot.site == site.model.name and pilot.start_s is not None:
                self._end(pilot, EndReason.NODE_FAIL)

    def _end(self, pilot: SimPilot, reason: EndReason) -> None:
        """The pilot is gone, and its jobs are idle again."""
        if pilot.end_s is not None:
            return
        for claim in list(pilot.claims.values()):
            self._stop(pilot, claim, good=False)
            self._put_back(claim)
        pilot.end_s, pilot.reason = self.now_s, reason
        self.touched.add(pilot.pilot_id)
        del self.pilots[pilot.pilot_id]
        self.ended.append(pilot)
        site = self.sites[pilot.site]
        if pilot.start_s is None:
            return
        site.running -= 1
        while site.ready and site.running < site.model.room:
            self._start(site.ready.pop(0))

    # Jobs.

    def _note_arrival(self) -> None:
        if self._arrived < len(self.jobs):
            self.agenda.at(self.jobs[self._arrived].submit_s, self._arrive)

    def _arrive(self) -> None:
        while self._arrived < len(self.jobs) and self.jobs[self._arrived].submit_s <= self.now_s:
            job = self.jobs[self._arrived]
            self._arrived += 1
            key = kind_key(job.asked)
            kind = self.kinds.get(key)
            if kind is None:
                kind = self.kinds[key] = Kind(bucket=bucket_of_kind(job.asked, number=len(self.kinds)))
            kind.idle.append(job)
            self._now_idle(kind)
        self._note_arrival()
        self._negotiate_soon()

    def _now_idle(self, kind: Kind) -> None:
        self.idle_kinds[kind.bucket.key] = kind
        self.idle_jobs += 1

    def _next_job(self, kind: Kind) -> Job:
        job = kind.idle.popleft()
        self.idle_jobs -= 1
        if not kind.idle:
            del self.idle_kinds[kind.bucket.key]
        return job

    def _put_back(self, claim: Claim) -> None:
        claim.kind.idle.appendleft(claim.job)
        self._now_idle(claim.kind)
        self._negotiate_soon()

    def _run(self, pilot: SimPilot, kind: Kind, *, since_s: float) -> None:
        """The kind's oldest job starts in the pilot."""
        job = self._next_job(kind)
        job.attempt += 1
        pilot.carve(kind, 1)
        pilot.jobs += 1
        pilot.claims[job.number] = Claim(kind=kind, job=job, since_s=since_s, job_start_s=self.now_s)
        self._running[kind.user] += kind.bucket.cores
        self.touched.add(pilot.pilot_id)
        takes_s = job.asked.runtime_s / self.sites[pilot.site].model.speed
        declared_s = job.asked.declared_s
        if declared_s is not None and takes_s > declared_s:
            takes_s, job.held = float(declared_s), True
        self.agenda.at(self.now_s + takes_s, partial(self._job_ends, pilot, job, job.attempt))

    def _stop(self, pilot: SimPilot, claim: Claim, *, good: bool) -> None:
        """The job is out of the pilot, and what it had is free."""
        del pilot.claims[claim.job.number]
        pilot.carve(claim.kind, -1)
        cores = claim.kind.bucket.cores
        pilot.busy_core_s += cores * (self.now_s - claim.job_start_s)
        self._running[claim.kind.user] -= cores
        self.touched.add(pilot.pilot_id)
        self.runs.append(
            JobRun(
                job=claim.job.number,
                site=pilot.site,
                pilot_id=pilot.pilot_id,
                cores=cores,
                start_s=claim.job_start_s - BEGIN_S,
                end_s=self.now_s - BEGIN_S,
                good=good,
            )
        )

    def _job_ends(self, pilot: SimPilot, job: Job, attempt: int) -> None:
        claim = pilot.claims.get(job.number)
        if claim is None or job.attempt != attempt:
            return
        self._stop(pilot, claim, good=not job.held)
        job.end_s = self.now_s
        self.left -= 1
        following = self._follower(pilot, claim)
        if following is not None:
            self._run(pilot, following, since_s=claim.since_s)
        elif pilot.draining and not pilot.claims:
            self._end(pilot, EndReason.STOPPED)
        else:
            if not pilot.claims:
                self._is_idle(pilot)
            self._negotiate_soon()

    def _follower(self, pilot: SimPilot, claim: Claim) -> Kind | None:
        """The kind whose next job the schedd puts into the claim: the same user's, the same cores, oldest first."""
        young = self.now_s - claim.since_s < self.model.claim_worklife_s
        if not young or not pilot.accepts(self.now_s):
            return None
        freed = claim.kind.bucket
        fitting = (
            kind
            for kind in self.idle_kinds.values()
            if kind.user == claim.kind.user
            and kind.bucket.cores == freed.cores
            and kind.bucket.memory_mib <= freed.memory_mib
            and kind.bucket.disk_mib <= freed.disk_mib
            and kind.bucket.gpus == freed.gpus
            and pilot.has_time(kind, self.now_s, self.lifetimes)
            and self.fits(kind, pilot.offer)
        )
        return min(fitting, key=_oldest, default=None)

    # The negotiator.

    def _negotiate_soon(self) -> None:
        """A cycle that would change nothing is left out: nothing came free and nothing was submitted since the last."""
        if self._negotiation_due or not self.idle_jobs:
            return
        self._negotiation_due = True
        period_s = self.model.negotiator_s
        self.agenda.at((math.floor(self.now_s / period_s) + 1) * period_s, self._negotiate)

    def _negotiate(self) -> None:
        self._negotiation_due = False
        free = [pilot for pilot in self.pilots.values() if pilot.cores > 0 and pilot.accepts(self.now_s)]
        if not free:
            return
        queues: dict[str, list[Kind]] = {}
        for kind in self.idle_kinds.values():
            queues.setdefault(kind.user, []).append(kind)
        turns = [(self._running[user], user) for user in sorted(queues)]
        heapq.heapify(turns)
        while turns:
            _, user = heapq.heappop(turns)
            if self._serve(queues[user], free):
                heapq.heappush(turns, (self._running[user], user))

    def _serve(self, kinds: list[Kind], free: Iterable[SimPilot]) -> bool:
        """One job of a user gets a slot; False when none of its jobs does."""
        while kinds:
            kind = min((kind for kind in kinds if kind.idle), key=_oldest, default=None)
            pilot = None if kind is None else self._slot_for(kind, free)
            if kind is None:
                return False
            if pilot is not None:
                self._run(pilot, kind, since_s=self.now_s)
                return True
            kinds.remove(kind)
        return False

    def _slot_for(self, kind: Kind, free: Iterable[SimPilot]) -> SimPilot | None:
        """The fullest slot that takes the job: NEGOTIATOR_PRE_JOB_RANK prefers few cores, then little memory."""
        able = (
            pilot
            for pilot in free
            if pilot.has_room(kind)
            and pilot.has_time(kind, self.now_s, self.lifetimes)
            and self.fits(kind, pilot.offer)
        )
        return min(able, key=lambda pilot: (pilot.cores, pilot.memory_mib, pilot.number), default=None)


def _oldest(kind: Kind) -> tuple[float, int]:
    """Order of kinds by their oldest idle job."""
    job = kind.idle[0]
    return job.submit_s, job.number
