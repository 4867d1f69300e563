"""One simulated run: the world goes on, and every cycle somebody decides."""

from __future__ import annotations

import math
from dataclasses import dataclass

from accounting.model import PilotRecord
from config.names import cycle_id, pilot_id
from factory.model import Policy
from glidein.model import PilotPhase
from simulation.books import Books
from simulation.kinds import Fits
from simulation.model import JobEnd, PilotSpan, Result, TraceJob, WorldModel
from simulation.pilots import SimPilot
from simulation.policies import Decider, Orders
from simulation.world import BEGIN_S, SimWorld

INSTANCE = "sim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a run starts from; with the same set-up, policy and seed every run is the same."""

    policy: Policy
    world: WorldModel
    trace: tuple[TraceJob, ...]
    cycle_s: float = 60.0
    horizon_s: float
    """The run ends here, from the beginning of the trace, also when jobs are left."""


def simulate(setup: Setup, decider: Decider, *, seed: int, fits: Fits | None = None) -> Result:
    """Run to the horizon, or until all jobs and pilots have ended. ``fits`` may be shared by runs of one set-up."""
    fits = fits or fits_of(setup.policy)
    world = SimWorld(setup.world, setup.trace, seed=seed, lifetimes=setup.policy.lifetimes, fits=fits)
    books = Books()
    until_s = BEGIN_S + setup.horizon_s
    decisions = number = 0
    while True:
        number = _next_cycle(world, decider, number, setup.cycle_s, books)
        at_s = BEGIN_S + number * setup.cycle_s
        if at_s > until_s:
            break
        world.agenda.run_until(at_s)
        if decider.rests and _quiet(world, books):
            continue
        decisions += 1
        cycle = cycle_id(epoch_s=int(at_s), nonce=number % 65536)
        observation = books.observe(world, cycle=cycle)
        orders = decider.decide(observation, setup.policy, world)
        carry_out(orders, world, books, cycle=cycle)
    world.agenda.run_until(until_s)
    return _result(world, decider.name, seed=seed, until_s=setup.horizon_s, cycles=decisions)


def fits_of(policy: Policy) -> Fits:
    """The modelled negotiator's matching for a policy's pilots."""
    return Fits(lifetimes=policy.lifetimes, condor_version=policy.slot_facts.condor_version)


def carry_out(orders: Orders, world: SimWorld, books: Books, *, cycle: str) -> None:
    """Commit and act: the records first, then the world."""
    now_s = world.now_s
    intents = tuple(
        PilotRecord(
            pilot_id=pilot_id(instance=INSTANCE, site=offer.site, cycle=cycle, n=n),
            offer=offer,
            cycle=cycle,
            sent="intended",
            phase=PilotPhase.INTENDED,
            intended_s=int(now_s),
            submit_deadline_s=int(now_s) + 60,
        )
        for n, offer in enumerate(orders.submits, start=1)
    )
    books.mark(orders.surplus, now_s=now_s)
    books.intend(intents)
    books.cancelled(orders.cancels, now_s=now_s)
    for intent in intents:
        world.submit(intent.pilot_id, intent.offer)
    for cancel in orders.cancels:
        world.cancel(cancel.pilot_id)
    for name in orders.drains:
        world.drain(name)


def _next_cycle(world: SimWorld, decider: Decider, number: int, cycle_s: float, books: Books) -> int:
    """The next cycle that can decide anything: without jobs and waiting pilots, the one after the next event."""
    if not (decider.rests and _quiet(world, books)):
        return number + 1
    next_s = world.agenda.next_s()
    if math.isinf(next_s):
        return 2**62
    return max(number + 1, math.ceil((next_s - BEGIN_S) / cycle_s))


def _quiet(world: SimWorld, books: Books) -> bool:
    """No demand and nothing that waits: nothing to submit and nothing to cancel, whoever decides."""
    return not world.idle_jobs and not any(pilot.start_s is None for pilot in world.pilots.values())


def _result(world: SimWorld, policy: str, *, seed: int, until_s: float, cycles: int) -> Result:
    """What became of everything, in the trace's own time."""
    return Result(
        policy=policy,
        seed=seed,
        until_s=until_s,
        jobs=tuple(
            JobEnd(
                job=job.number,
                user=job.asked.user,
                cores=job.asked.cores,
                submit_s=job.asked.submit_s,
                end_s=None if job.end_s is None else job.end_s - BEGIN_S,
                attempts=job.attempt,
                held=job.held and job.end_s is not None,
            )
            for job in world.jobs
        ),
        runs=tuple(world.runs),
        pilots=tuple(
            _span(pilot, world.now_s)
            for pilot in sorted((*world.ended, *world.pilots.values()), key=lambda pilot: pilot.number)
        ),
        cycles=cycles,
    )


def _span(pilot: SimPilot, now_s: float) -> PilotSpan:
    """One pilot's life; jobs that run at the end of the simulation count as far as they got."""
    cores = sum(claim.kind.bucket.cores * (now_s - claim.job_start_s) for claim in pilot.claims.values())
    return PilotSpan(
        pilot_id=pilot.pilot_id,
        site=pilot.site,
        cores=pilot.offer.shape.cores,
        submit_s=pilot.submit_s - BEGIN_S,
        start_s=None if pilot.start_s is None else pilot.start_s - BEGIN_S,
        join_s=None if pilot.join_s is None else pilot.join_s - BEGIN_S,
        end_s=None if pilot.end_s is None else pilot.end_s - BEGIN_S,
        busy_core_s=pilot.busy_core_s + cores,
        reason=pilot.reason,
    )
