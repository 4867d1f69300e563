"""
A small world for the real loop: fake sites, a pool in memory that runs jobs in their pilots, and one clock.

The cycle, the ledger (a real SQLite file), reconcile and plan are the product's own; only the far ends are fakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from accounting.engine import open_database
from accounting.ledger import Ledger
from accounting.model import JournalBounds, Lease
from factory.crash import CRASH_POINTS
from factory.cycle import CycleSummary, World, run_cycle
from factory.model import BreakerPolicy, Observation, Policy, SitePolicy
from factory.observe import Looker
from factory.sites.fake import FakeSite
from glidein.model import BatchState, EndReason, EndReport, Lifetimes, Offer, Shape
from overlay.model import (
    Bucket,
    Demand,
    DemandSeen,
    DemandUnseen,
    Match,
    MatchTable,
    Slot,
    Slots,
    SlotsSeen,
    SlotsUnseen,
)
from tests.tables import table_of

INSTANCE = "sim"
CYCLE_S = 30
IDLE_TIMEOUT_S = 300
JOIN_S = 5
BREAKER = BreakerPolicy(failures=3, fizzle_s=20, backoff_s=300, backoff_max_s=3600)


class Killed(BaseException):
    """The factory was killed here; a BaseException, so that no handler of the product swallows it."""


@dataclass(slots=True)
class Job:
    """One single-core payload job."""

    number: int
    runtime_s: int
    started_s: float | None = None
    pilot_id: str | None = None
    done: bool = False
    starts: int = 0
    submit_patience_s: int = 20


@dataclass(slots=True, kw_only=True)
class SimWorld:
    """Everything outside the factory, and a factory that can be killed and started again."""

    directory: Path
    site_names: tuple[str, ...] = ("alpha", "beta")
    cores: int = 4
    max_pilots: int = 10
    max_pending: int = 5
    seed: int = 0
    now_s: float = 1_800_000_000.0
    jobs: list[Job] = field(default_factory=list)
    sites: dict[str, FakeSite] = field(default_factory=dict)
    ap_unseen: str = ""
    slots_unseen: str = ""
    joins: bool = True
    unlike: Literal["", "slot", "negotiator"] = ""
    """Pilots run no job: their slots are not what was offered, or only the negotiator knows why."""
    idle_since: dict[str, float] = field(default_factory=dict)
    crash_at: str = ""
    crash_after: int = 1
    breaker: BreakerPolicy = BREAKER
    ledger: Ledger = field(init=False)
    looker: Looker = field(init=False)
    random: Random = field(init=False)
    removed: set[str] = field(default_factory=set)
    starts: int = 0
    submit_patience_s: int = 20
    journal: JournalBounds = field(default_factory=lambda: JournalBounds(entries=5, size_bytes=2**30))
    lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        for name in self.site_names:
            self.sites[name] = FakeSite(name=name, instance=INSTANCE, clock=self.clock, start_delay_s=10)
        self.start_factory()

    # The factory.

    def start_factory(self) -> None:
        """A new process: nothing of the old one is left but the database."""
        self.ledger = Ledger(open_database(f"sqlite:///{self.directory / 'ledger.db'}"))
        self.looker = Looker(patience_s=5)
        self.starts += 1
        self.lease = self.ledger.acquire_lease(
            INSTANCE, f"sim-{self.starts}", self.now_s, 10**9, replacing=f"sim-{self.starts - 1}"
        )

    def cycle(self) -> CycleSummary | None:
        """Let the world go on for a cycle's time and run one; None when the factory was killed in it."""
        self.pass_time(CYCLE_S)
        try:
            return run_cycle(self.world(), self.ledger, self.looker, lease=lambda: self.lease)
        except Killed:
            self.crash_at = ""
            self.start_factory()
            return None

    def world(self) -> World:
        """What the cycle works with."""
        return World(
            instance=INSTANCE,
            policy=self.policy(),
            sites=self.sites,
            aps=("ap1",),
            pool=self,
            match=self.match,
            render=lambda pilot: (("token", b"secret"), ("pilot.sh", b"#!/bin/sh\n")),
            clock=self.clock,
            nonce=lambda: self.random.getrandbits(16),
            crash=self._crash,
            submit_patience_s=self.submit_patience_s,
            journal=self.journal,
        )

    def policy(self) -> Policy:
        """All sites alike; a removed one is only watched."""
        shape = Shape(cores=self.cores, memory_mib=8000, disk_mib=10_000, walltime_s=7200)
        return Policy(
            sites=tuple(
                SitePolicy(
                    offer=Offer(site=name, shape=shape, account="a", partition="p"),
                    max_pilots=self.max_pilots,
                    max_pending=self.max_pending,
                )
                for name in sorted(set(self.sites) - self.removed)
            ),
            max_pilots=100,
            max_submits_per_cycle=20,
            lifetimes=Lifetimes(join_timeout_s=120, idle_timeout_s=IDLE_TIMEOUT_S, default_job_runtime_s=600),
            breaker=self.breaker,
            surplus_after_s=60,
            ads_max_age_s=300,
        )

    def _crash(self, point: str) -> None:
        assert point in CRASH_POINTS
        if point == self.crash_at:
            self.crash_after -= 1
            if self.crash_after <= 0:
                raise Killed(point)

    # The pool.

    def slots(self, *, now_s: float) -> Slots:
        """One slot for each pilot that runs and has had time to join."""
        if self.slots_unseen:
            return SlotsUnseen(taken_s=now_s, reason=self.slots_unseen)
        return SlotsSeen(taken_s=now_s, slots=tuple(sorted(self._slot(name, site) for name, site in self._joined())))

    def demand(self, ap: str, *, now_s: float) -> Demand:
        """The idle jobs, one bucket."""
        if self.ap_unseen:
            return DemandUnseen(ap=ap, taken_s=now_s, reason=self.ap_unseen)
        idle = [job for job in self.jobs if not job.done and job.started_s is None]
        running = sum(not job.done and job.started_s is not None for job in self.jobs)
        buckets = (self._bucket(len(idle)),) if idle else ()
        return DemandSeen(ap=ap, taken_s=now_s, buckets=buckets, running=running)

    def match(self, observation: Observation, policy: Policy) -> MatchTable:
        """Everything matches, unless the slots that come are not what was offered."""
        keys = [f"offer:{site.name}" for site in policy.sites]
        if isinstance(observation.slots, SlotsSeen):
            keys += [f"pilot:{slot.pilot_id}" for slot in observation.slots.slots]
        drifted = "pilot:" if self.unlike == "slot" else "-"
        return table_of({("ap1/one", key): Match(matches=not key.startswith(drifted)) for key in keys})

    # The world.

    def clock(self) -> float:
        """Now."""
        return self.now_s

    def submit_jobs(self, count: int, *, runtime_s: int = 60) -> None:
        """A user submits."""
        self.jobs += [Job(number=len(self.jobs) + n, runtime_s=runtime_s) for n in range(count)]

    def pass_time(self, seconds: int) -> None:
        """Let time pass in small steps: pilots start, jobs start and end, idle pilots leave."""
        for _ in range(seconds // 5):
            self.now_s += 5
            for site in self.sites.values():
                site._pass_time()
            self._run_jobs()

    def _run_jobs(self) -> None:
        alive = dict(self._joined())
        for job in self.jobs:
            if job.started_s is None or job.done:
                continue
            if job.pilot_id not in alive:
                job.started_s = job.pilot_id = None  # its pilot died: back to the queue
            elif self.now_s >= job.started_s + job.runtime_s:
                job.done = True
        load = Counter(job.pilot_id for job in self.jobs if job.started_s is not None and not job.done)
        for pilot_id, site in sorted(alive.items()):
            for job in self.jobs:
                if load[pilot_id] >= self.cores or self.unlike:
                    break
                if job.started_s is None and not job.done:
                    job.started_s, job.pilot_id, job.starts = self.now_s, pilot_id, job.starts + 1
                    load[pilot_id] += 1
            if load[pilot_id]:
                self.idle_since[pilot_id] = self.now_s
            elif self.now_s - self.idle_since.setdefault(pilot_id, self.now_s) >= IDLE_TIMEOUT_S:
                site.finish(pilot_id, report=self._report(pilot_id, site, EndReason.IDLE))

    def _joined(self) -> list[tuple[str, FakeSite]]:
        if not self.joins:
            return []
        return [
            (job.request.pilot_id, site)
            for site in self.sites.values()
            for job in site.jobs.values()
            if job.state is BatchState.RUNNING and job.start_s is not None and self.now_s >= job.start_s + JOIN_S
        ]

    def _slot(self, pilot_id: str, site: FakeSite) -> Slot:
        job = site.job(pilot_id)
        assert job.start_s is not None
        busy = sum(one.pilot_id == pilot_id and not one.done and one.started_s is not None for one in self.jobs)
        return Slot(
            pilot_id=pilot_id,
            site=site.name,
            name=f"slot1@{pilot_id}",
            cores=self.cores,
            memory_mib=7800,
            disk_mib=10_000,
            busy_cores=busy,
            busy_memory_mib=busy * 100,
            busy_disk_mib=busy * 10,
            running_jobs=busy,
            to_die_s=int(job.start_s) + 7170,
            started_s=int(job.start_s),
            accepting=True,
            ad_text="[ ]",
        )

    def _bucket(self, jobs: int) -> Bucket:
        return Bucket(
            key="ap1/one",
            ap="ap1",
            user="alice@pool",
            group="dp001",
            jobs=jobs,
            first_job="1.0",
            cores=1,
            memory_mib=100,
            disk_mib=10,
            runtime_s=120,
            ad_text="[ ]",
        )

    def _report(self, pilot_id: str, site: FakeSite, reason: EndReason) -> EndReport:
        job = site.job(pilot_id)
        assert job.start_s is not None
        return EndReport(
            pilot_id=pilot_id,
            reason=reason,
            exit_code=0,
            start_s=int(job.start_s),
            joined_s=int(job.start_s) + JOIN_S,
            end_s=int(self.now_s),
            node="n1",
            cores=self.cores,
            memory_mib=8000,
            jobs=sum(one.pilot_id == pilot_id for one in self.jobs),
        )

    # The checkers: they read the sites' books only.

    def pilots(self) -> list[str]:
        """The name of every job that any site ever had, as often as it had it."""
        return [job.request.pilot_id for site in self.sites.values() for job in site.jobs.values()]

    def live_pilots(self) -> list[str]:
        """Names of the jobs that wait or run."""
        return [
            job.request.pilot_id
            for site in self.sites.values()
            for job in site.jobs.values()
            if not job.state.is_final and not job.lost
        ]

    def run_until(self, what: str, check: Callable[[], bool], *, cycles: int = 60) -> None:
        """Run cycles until the check is true."""
        for _ in range(cycles):
            if check():
                return
            self.cycle()
        raise AssertionError(f"after {cycles} cycles still not: {what}")

    def assert_books_agree(self) -> None:
        """No pilot doubled, none lost: every job of a site is in the ledger, and what is over there is over here."""
        names = self.pilots()
        assert {} == {name: count for name, count in Counter(names).items() if count > 1}
        known = {pilot.pilot_id: pilot for pilot in self.ledger.pilots(INSTANCE, limit=10_000)}
        assert set() == set(names) - set(known)
        open_here = {pilot.pilot_id for pilot in self.ledger.open_pilots(INSTANCE)}
        assert set(self.live_pilots()) == open_here
