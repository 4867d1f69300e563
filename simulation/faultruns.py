"""
The whole loop in a world that fails: the real cycle, ledger and lease; faults first, then heal and demand convergence.

Each cycle of the first part draws its troubles from the seed: sights that fail, answers and requests that are lost,
refusals, an empty queue that is a lie, and a factory that is killed at one of its crash points and started again.
Then everything works again, and the checkers, which read the sites' books and the ledger only, demand that all jobs
end, that no pilot was doubled or lost, and that none is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from accounting.engine import open_database
from accounting.ledger import Ledger
from accounting.model import JournalBounds, Lease
from factory.crash import CRASH_POINTS
from factory.cycle import World, run_cycle
from factory.matching import ObservationMatcher
from factory.observe import Looker
from glidein.model import PilotPhase
from simulation.kinds import AP
from simulation.loopworld import WELL, LoopPool, LoopSite, Trouble
from simulation.run import INSTANCE, Setup, fits_of
from simulation.world import BEGIN_S, SimWorld

LEASE_S = 10**9
PATIENCE_S = 60.0
"""A submission takes effect this long after its intent at the latest."""


class Killed(BaseException):
    """The factory was killed here; a BaseException, so that no handler of the product swallows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How bad it gets, and for how long."""

    cycles: int = 60
    """Cycles with troubles."""
    heal_cycles: int = 2000
    """After so many more cycles everything must have ended."""
    site_trouble: float = 0.35
    """Chance of a trouble at each site in each cycle."""
    pool_trouble: float = 0.1
    kill: float = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultReport:
    """What a run with faults showed."""

    seed: int
    jobs: int
    unfinished: int
    pilots: int
    kills: int
    troubles: int
    healed_after_cycles: int | None
    """Cycles from the healing until all jobs and pilots had ended; None: they had not."""
    findings: tuple[str, ...]
    """What must not be; empty when all is well."""


@dataclass(slots=True, kw_only=True)
class Loop:
    """The real loop over a modelled world; the ledger outlives every factory."""

    setup: Setup
    seed: int
    world: SimWorld = field(init=False)
    sites: dict[str, LoopSite] = field(init=False)
    pool: LoopPool = field(init=False)
    ledger: Ledger = field(init=False)
    looker: Looker = field(init=False)
    match: ObservationMatcher = field(init=False)
    lease: Lease = field(init=False)
    kill_at: str = ""
    starts: int = 0
    cycles: int = 0
    nonces: Random = field(init=False)

    def __post_init__(self) -> None:
        setup = self.setup
        fits = fits_of(setup.policy)
        self.world = SimWorld(setup.world, setup.trace, seed=self.seed, lifetimes=setup.policy.lifetimes, fits=fits)
        self.sites = {name: LoopSite(name=name, world=self.world) for name in sorted(self.world.sites)}
        self.pool = LoopPool(world=self.world)
        self.ledger = Ledger(open_database("sqlite://"))
        self.nonces = Random(f"{self.seed}/cycles")
        self.start()

    def start(self) -> None:
        """A new factory: nothing of the old one is left but the ledger."""
        self.starts += 1
        self.match = ObservationMatcher()
        self.looker = Looker(patience_s=30, random=Random(f"{self.seed}/{self.starts}/looks"))
        self.lease = self.ledger.acquire_lease(
            INSTANCE, f"sim-{self.starts}", self.world.now_s, LEASE_S, replacing=f"sim-{self.starts - 1}"
        )

    def cycle(self) -> bool:
        """Let the world go on to the next cycle and run it; False when the factory was killed in it."""
        self.cycles += 1
        self.world.agenda.run_until(BEGIN_S + self.cycles * self.setup.cycle_s)
        try:
            run_cycle(self._world(), self.ledger, self.looker, lease=lambda: self.lease)
        except Killed:
            self.looker.close()
            self.start()
            return False
        finally:
            self.kill_at = ""
            for site in self.sites.values():
                site.settle()
            # Orders of this moment are events of this moment.
            self.world.agenda.run_until(self.world.now_s)
        return True

    def close(self) -> None:
        """End the threads."""
        self.looker.close()

    def _world(self) -> World:
        return World(
            instance=INSTANCE,
            policy=self.setup.policy,
            sites=self.sites,
            aps=(AP,),
            pool=self.pool,
            match=self.match,
            render=lambda pilot: (("pilot.sh", b"#!/bin/sh\n"),),
            clock=lambda: self.world.now_s,
            nonce=lambda: self.nonces.getrandbits(16),
            crash=self._crash,
            submit_patience_s=int(PATIENCE_S),
            journal=JournalBounds(entries=2, size_bytes=2**20),
        )

    def _crash(self, point: str) -> None:
        if point == self.kill_at:
            raise Killed(point)


def run_with_faults(setup: Setup, faults: FaultPlan, *, seed: int) -> FaultReport:
    """One run: troubles, healing, and what the checkers say."""
    loop = Loop(setup=setup, seed=seed)
    random = Random(f"{seed}/troubles")
    findings: list[str] = []
    kills = troubles = 0
    try:
        for _ in range(faults.cycles):
            troubles += _trouble(loop, faults, random)
            kills += not loop.cycle()
            findings += check_caps(loop)
        _heal(loop)
        healed = None
        for number in range(1, faults.heal_cycles + 1):
            loop.cycle()
            findings += check_caps(loop)
            if not loop.world.left and not loop.world.pilots and not loop.ledger.open_pilots(INSTANCE):
                healed = number
                break
        findings += check_books(loop)
        if healed is None:
            findings.append(
                f"{faults.heal_cycles} cycles after the healing {loop.world.left} jobs and "
                f"{len(loop.world.pilots)} pilots are left"
            )
    finally:
        loop.close()
    return FaultReport(
        seed=seed,
        jobs=len(loop.world.jobs),
        unfinished=loop.world.left,
        pilots=sum(len(site.jobs) for site in loop.sites.values()),
        kills=kills,
        troubles=troubles,
        healed_after_cycles=healed,
        findings=tuple(dict.fromkeys(findings)),
    )


def check_caps(loop: Loop) -> list[str]:
    """No site has more pilots, or more that wait, than the policy lets it have."""
    found = []
    for policy in loop.setup.policy.sites:
        live = loop.sites[policy.name].live()
        waiting = sum(pilot.start_s is None for pilot in live)
        if len(live) > policy.max_pilots:
            found.append(f"cycle {loop.cycles}: {len(live)} pilots at {policy.name}, max_pilots {policy.max_pilots}")
        if waiting > policy.max_pending:
            found.append(f"cycle {loop.cycles}: {waiting} wait at {policy.name}, max_pending {policy.max_pending}")
    return found


def check_books(loop: Loop) -> list[str]:
    """No name twice at a site; the ledger knows every job that a site ever had, and holds open what lives."""
    known = {pilot.pilot_id: pilot for pilot in loop.ledger.pilots(INSTANCE, limit=1_000_000)}
    found = []
    for site in loop.sites.values():
        found += [f"{site.name} took {name} {count} times" for name, count in site.accepted.items() if count > 1]
        found += [f"{site.name} has {name}, the ledger does not" for name in sorted(set(site.jobs) - set(known))]
    live = {pilot.pilot_id for site in loop.sites.values() for pilot in site.live()}
    held = {name for name, pilot in known.items() if pilot.phase is not PilotPhase.ENDED}
    found += [f"{name} lives, and the ledger says that it ended" for name in sorted(live - held)]
    found += [f"{name} is over, and the ledger holds it open" for name in sorted(held - live)]
    return found


def _trouble(loop: Loop, faults: FaultPlan, random: Random) -> int:
    """Draw what goes wrong in the next cycle; the number of troubles."""
    count = 0
    for site in loop.sites.values():
        site.trouble = _draw(random) if random.random() < faults.site_trouble else WELL
        count += site.trouble != WELL
    loop.pool.slots_unseen = random.random() < faults.pool_trouble
    loop.pool.ap_unseen = random.random() < faults.pool_trouble
    loop.kill_at = random.choice(CRASH_POINTS) if random.random() < faults.kill else ""
    return count + loop.pool.slots_unseen + loop.pool.ap_unseen


def _draw(random: Random) -> Trouble:
    """One trouble of a site."""
    troubles: Iterable[Trouble] = (
        Trouble(unseen=True),
        Trouble(queue_lies=True),
        Trouble(queue_lies=True, accounting_unseen=True),
        Trouble(accounting_unseen=True),
        Trouble(refuses=True),
        Trouble(not_sent=True),
        Trouble(request_lost=True),
        Trouble(reply_lost=True),
        Trouble(reply_lost=True, effect_delay_s=PATIENCE_S * random.random()),
    )
    return random.choice(tuple(troubles))


def _heal(loop: Loop) -> None:
    """Everything works from now on."""
    for site in loop.sites.values():
        site.trouble = WELL
    loop.pool.slots_unseen = loop.pool.ap_unseen = False
    loop.kill_at = ""
