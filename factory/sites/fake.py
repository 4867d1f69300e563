"""
A Slurm site in memory with a clock of its own and faults on order, for the loop's tests and for simulations.

It passes the contract suite of the real sites (tests/contract). Nothing in it is random and nothing sleeps: what
happens, happens because the clock moved, because a test called an event, or because a fault was ordered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from factory.sites import scripts, texts
from factory.sites.contract import (
    CancelOutcome,
    Closure,
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
from factory.sites.texts import Unreadable
from glidein.model import BatchRecord, BatchState, EndReport, PilotId
from glidein.siterules import NO_RULES, SiteRules

RAW_STATE = {
    BatchState.CANCELLED: "CANCELLED by 2001",
    BatchState.NODE_FAIL: "NODE_FAIL",
    BatchState.OUT_OF_MEMORY: "OUT_OF_MEMORY",
}
NONCE = "fake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong now; replace it to change it. An empty text or zero means that this does not."""

    unseen: str = ""
    """No look, submit or cancel gets an answer, and nothing reaches the site; this is why."""
    squeue_text: str | None = None
    """squeue prints this instead, with status 0; empty text is the empty queue that is a lie."""
    sacct_unseen: str = ""
    sacct_lag_s: float = 0.0
    """Accounting learns of everything this much later."""
    refuse: str = ""
    """sbatch refuses with these words."""
    lose_reply: bool = False
    """sbatch takes effect, its answer is lost."""
    lose_request: bool = False
    """The request is lost on the way, and so is the answer."""
    effect_delay_s: float = 0.0
    """With ``lose_reply``: the job appears only this much later, but never after the deadline."""
    fail_after: int | None = None
    """With a lost request or reply: so many submissions of a call go well before."""
    not_sent: str = ""
    """The upload fails, for this reason."""
    bundle_problem: str = ""
    cancel_problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeJob:
    """One job as the fake scheduler has it; times are epoch seconds."""

    job_id: int
    request: SubmitRequest
    submit_s: float
    state: BatchState = BatchState.PENDING
    start_s: float | None = None
    end_s: float | None = None
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    changed_s: float = 0.0
    """Since when it is in this state, for accounting that lags."""
    lost: bool = False
    """The controller has forgotten it, and accounting never heard of its end."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """Calls so far, for tests that count commands."""

    look: int = 0
    submit: int = 0
    sbatch: int = 0
    cancel: int = 0
    forget: int = 0
    prepare: int = 0


@dataclass(slots=True, kw_only=True)
class FakeSite:
    """
    Implements :class:`factory.sites.contract.Site`. ``clock`` gives epoch seconds and is moved by the test.

    ``room`` pilots run at once, the oldest first, each ``start_delay_s`` after its submission; 0 is a blocked queue.
    """

    name: str
    instance: str
    clock: Callable[[], float]
    room: int = 1000
    start_delay_s: float = 0.0
    min_job_age_s: float = 300.0
    faults: Faults = field(default_factory=Faults)
    jobs: dict[int, FakeJob] = field(default_factory=dict)
    spools: dict[PilotId, tuple[tuple[str, bytes], ...]] = field(default_factory=dict)
    reports: dict[PilotId, EndReport] = field(default_factory=dict)
    unreadable: set[PilotId] = field(default_factory=set)
    bundle_there: bool = False
    uploads: int = 0
    """How often the bundle was put."""
    rules: SiteRules = NO_RULES
    """What the site's own admin has written."""
    closures: tuple[Closure, ...] = ()
    """What reservations leave."""
    counts: Counts = field(default_factory=Counts)
    before_answer: Callable[[], None] = lambda: None
    """Called when effects are done and the answer is not given yet: to move the clock, to block, or to crash."""

    # What the factory calls.

    def look(self, known: tuple[KnownPilot, ...], *, now_s: float) -> SiteSight:
        """Live jobs, final records and reports, as the faults let them through."""
        self.counts.look += 1
        self._pass_time()
        self.before_answer()
        if self.faults.unseen:
            return SiteUnseen(site=self.name, taken_s=now_s, reason=self.faults.unseen)
        live = tuple(sorted(self._live_record(job) for job in self.jobs.values() if self._in_queue(job)))
        if self.faults.squeue_text is not None:
            read = texts.parse_squeue(self.faults.squeue_text, "", 0, nonce=NONCE)
            if isinstance(read, Unreadable):
                return SiteUnseen(site=self.name, taken_s=now_s, reason=read.reason)
            live = tuple(sorted(record for record in read if self._is_ours(record.name)))
        names = {pilot.pilot_id for pilot in known}
        return SiteSeen(
            site=self.name,
            taken_s=now_s,
            live=live,
            final=self._final(known, live),
            reports=tuple(sorted(self.reports[name] for name in names & self.reports.keys() - self.unreadable)),
            unreadable_reports=tuple(sorted(names & self.unreadable)),
            spools=tuple(sorted(self.spools)),
            rules=self.rules,
            closures=self.closures,
        )

    def prepare(self) -> str:
        """The bundle is there from then on."""
        self.counts.prepare += 1
        if self.faults.unseen or self.faults.bundle_problem:
            return self.faults.bundle_problem or self.faults.unseen
        if not self.bundle_there:
            self.uploads += 1
        self.bundle_there = True
        return ""

    def submit(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> tuple[SubmitOutcome, ...]:
        """One outcome for each request, in their order."""
        self.counts.submit += 1
        problem = self.faults.not_sent or self.faults.unseen
        if problem:
            return tuple(NotSent(pilot_id=request.pilot_id, reason=problem) for request in requests)
        if self.clock() + scripts.SBATCH_MIN_S > deadline_s:
            return tuple(NotSent(pilot_id=request.pilot_id, reason="the deadline had passed") for request in requests)
        for request in requests:
            self.spools[request.pilot_id] = request.files
        outcomes = tuple(self._sbatch(n, request, deadline_s) for n, request in enumerate(requests))
        self._pass_time()
        self.before_answer()
        return outcomes

    def cancel(self, pilots: tuple[KnownPilot, ...]) -> CancelOutcome:
        """Cancel those that still wait."""
        self.counts.cancel += 1
        self._pass_time()
        problem = self.faults.cancel_problem or self.faults.unseen
        if problem:
            return CancelOutcome(site=self.name, sent=(), problem=problem)
        names = {pilot.pilot_id for pilot in pilots}
        for job in list(self.jobs.values()):
            if job.request.pilot_id in names and job.state is BatchState.PENDING and job.submit_s <= self.clock():
                self._end(job, BatchState.CANCELLED)
        self.before_answer()
        return CancelOutcome(site=self.name, sent=tuple(pilot.pilot_id for pilot in pilots))

    def forget(self, pilots: tuple[PilotId, ...]) -> str:
        """Remove spool directories, reports with them."""
        self.counts.forget += 1
        if self.faults.unseen:
            return self.faults.unseen
        for pilot_id in pilots:
            self.spools.pop(pilot_id, None)
            self.reports.pop(pilot_id, None)
            self.unreadable.discard(pilot_id)
        return ""

    def close(self) -> None:
        """There is nothing to end."""

    # What a test makes happen.

    def finish(
        self, pilot_id: PilotId, *, exit_code: int = 0, signal: int = 0, report: EndReport | None = None
    ) -> None:
        """The pilot ends by itself now, with or without its report."""
        self._pass_time()
        if report is not None:
            self.reports[pilot_id] = report
        good = exit_code == 0 and signal == 0
        state = BatchState.COMPLETED if good else BatchState.FAILED
        self._end(self.job(pilot_id), state, exit_code=exit_code, signal=signal)

    def kill(self, pilot_id: PilotId, state: BatchState) -> None:
        """The scheduler ends the pilot now: PREEMPTED, NODE_FAIL, CANCELLED, TIMEOUT or OUT_OF_MEMORY."""
        assert state.is_final
        self._pass_time()
        self._end(self.job(pilot_id), state)

    def lose_everything(self) -> None:
        """The controller starts anew without its state: no job is in the queue, and accounting has no ends."""
        self._pass_time()
        for job in list(self.jobs.values()):
            if not job.state.is_final:
                self.jobs[job.job_id] = replace(job, lost=True)

    def find_everything(self) -> None:
        """What :meth:`lose_everything` lost is back."""
        for job in list(self.jobs.values()):
            self.jobs[job.job_id] = replace(job, lost=False)

    def job(self, pilot_id: PilotId) -> FakeJob:
        """The one job of a pilot; two are a fault of the factory's."""
        (job,) = self.jobs_named(pilot_id)
        return job

    def jobs_named(self, pilot_id: PilotId) -> tuple[FakeJob, ...]:
        """All jobs that ever had this name."""
        return tuple(job for job in self.jobs.values() if job.request.pilot_id == pilot_id)

    # How it works.

    def _sbatch(self, n: int, request: SubmitRequest, deadline_s: float) -> SubmitOutcome:
        """One submission."""
        faults = self.faults
        pilot_id = request.pilot_id
        lost = (faults.lose_request or faults.lose_reply) and n >= (faults.fail_after or 0)
        if lost and faults.lose_request:
            return Uncertain(pilot_id=pilot_id, reason="connection lost")
        self.counts.sbatch += 1
        if faults.refuse and not lost:
            return Refused(pilot_id=pilot_id, reason=faults.refuse)
        if faults.refuse:
            return Uncertain(pilot_id=pilot_id, reason="connection lost")
        delay_s = faults.effect_delay_s if lost else 0.0
        job_id = len(self.jobs) + 1
        submit_s = min(self.clock() + delay_s, deadline_s)
        self.jobs[job_id] = FakeJob(job_id=job_id, request=request, submit_s=submit_s, changed_s=submit_s)
        if lost:
            return Uncertain(pilot_id=pilot_id, reason="connection lost")
        return Submitted(pilot_id=pilot_id, batch_id=str(job_id))

    def _pass_time(self) -> None:
        """Let happen what happens by itself until now: time limits first, then starts, the oldest first."""
        now_s = self.clock()
        for job in list(self.jobs.values()):
            limit_s = job.request.offer.shape.walltime_s
            if job.state is BatchState.RUNNING and job.start_s is not None and now_s >= job.start_s + limit_s:
                self._end(job, BatchState.TIMEOUT, at_s=job.start_s + limit_s)
        running = sum(job.state is BatchState.RUNNING for job in self.jobs.values())
        for job in sorted(self.jobs.values(), key=lambda job: (job.submit_s, job.job_id)):
            due_s = job.submit_s + self.start_delay_s
            if job.state is BatchState.PENDING and now_s >= due_s and running < self.room and not job.lost:
                self.jobs[job.job_id] = replace(job, state=BatchState.RUNNING, start_s=now_s, changed_s=now_s)
                running += 1

    def _end(
        self, job: FakeJob, state: BatchState, *, at_s: float | None = None, exit_code: int = 0, signal: int = 0
    ) -> None:
        """Put a job into a final state; one that is final stays as it is."""
        if job.state.is_final:
            return
        end_s = self.clock() if at_s is None else at_s
        self.jobs[job.job_id] = replace(
            job, state=state, end_s=end_s, exit_code=exit_code, signal=signal, changed_s=end_s
        )

    def _is_ours(self, name: str) -> bool:
        return texts.ours(name, instance=self.instance, site=self.name)

    def _in_queue(self, job: FakeJob) -> bool:
        """Whether squeue shows it: from its effect until some time after its end."""
        now_s = self.clock()
        fresh = job.end_s is None or now_s < job.end_s + self.min_job_age_s
        return job.submit_s <= now_s and fresh and not job.lost and self._is_ours(job.request.pilot_id)

    def _final(self, known: tuple[KnownPilot, ...], live: tuple[BatchRecord, ...]) -> FinalSeen | FinalUnseen:
        """What accounting says of the known pilots that are not live."""
        if self.faults.sacct_unseen:
            return FinalUnseen(reason=self.faults.sacct_unseen)
        still_live = {record.name for record in live if not record.state.is_final}
        wanted = {pilot.pilot_id: pilot.batch_id for pilot in known if pilot.pilot_id not in still_live}
        records = []
        for job in self.jobs.values():
            name = job.request.pilot_id
            if name in wanted and wanted[name] in (None, str(job.job_id)) and self._accounted(job):
                records.append(self._record(job))
        return FinalSeen(records=tuple(sorted(records)))

    def _accounted(self, job: FakeJob) -> bool:
        """Whether accounting has the job as it is now."""
        return job.submit_s <= self.clock() and self.clock() >= job.changed_s + self.faults.sacct_lag_s

    def _live_record(self, job: FakeJob) -> BatchRecord:
        """As squeue tells it: no exit code, no time spent."""
        return replace(self._record(job), exit_code=None, exit_signal=None, elapsed_s=None)

    def _record(self, job: FakeJob) -> BatchRecord:
        """As accounting tells it."""
        offer = job.request.offer
        start_s = None if job.start_s is None else int(job.start_s)
        end_s = None if job.end_s is None else int(job.end_s)
        until_s = int(self.clock()) if end_s is None else end_s
        started = start_s is not None
        return BatchRecord(
            name=job.request.pilot_id,
            job_id=str(job.job_id),
            state=job.state,
            raw_state=RAW_STATE.get(job.state, job.state.name),
            reason="Resources" if job.state is BatchState.PENDING else job.reason,
            exit_code=job.exit_code if job.state.is_final else None,
            exit_signal=job.signal if job.state.is_final else None,
            submit_s=int(job.submit_s),
            start_s=start_s,
            end_s=end_s,
            elapsed_s=until_s - start_s if start_s is not None else 0,
            alloc_cpus=offer.shape.cores if started else None,
            partition=offer.partition,
            account=offer.account,
            node="n1" if started else "",
        )
