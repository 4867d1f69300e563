"""Faults first, then heal and demand convergence, by seed: real cycle, ledger and lease in the modelled world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from factory.sites.contract import NotSent, SubmitOutcome, Uncertain
from simulation import faultruns
from simulation.faultruns import FaultPlan, Loop, check_books, check_caps, run_with_faults
from simulation.loopworld import LoopSite, Trouble
from simulation.model import PilotSpan
from simulation.policies import OurPolicy
from simulation.run import _result, simulate
from simulation.scenario import fault_setup
from tests.unit.simulation.modelled import job, setup, site

SEEDS = (0, 1, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_faults_everything_comes_to_its_end(seed: int) -> None:
    # Mutation: never give up an intent that was not sent (past_deadline in glidein/phase.py).
    told = run_with_faults(fault_setup(seed), FaultPlan(), seed=seed)
    assert () == told.findings
    assert 0 == told.unfinished
    assert told.troubles > 30
    assert told.kills > 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 160))
def test_after_any_faults_of_many_seeds(seed: int) -> None:
    assert () == run_with_faults(fault_setup(seed), FaultPlan(cycles=90), seed=seed).findings


def test_the_same_seed_gives_the_same_faults_and_the_same_end() -> None:
    once, again = (run_with_faults(fault_setup(9), FaultPlan(cycles=12), seed=9) for _ in range(2))
    assert once == again


def test_the_whole_loop_and_the_quick_books_decide_alike() -> None:
    # Mutation: leave mark() out of carry_out (simulation/run.py).
    trace = [job(submit_s=40.0 * n, runtime_s=200 + 13 * (n % 40)) for n in range(150)]
    sites = tuple(site(name, sigma=0.8, preempted_per_h=0.2, fizzle=0.05) for name in ("alpha", "beta", "gamma"))
    one = setup(*trace, sites=sites, horizon_s=160 * 60.0)
    loop = Loop(setup=one, seed=4)
    for _ in range(160):
        loop.cycle()
    loop.close()
    whole = _result(loop.world, "aerotow", seed=4, until_s=one.horizon_s, cycles=0)
    quick = simulate(one, OurPolicy(), seed=4)

    def nameless(pilots: tuple[PilotSpan, ...]) -> list[PilotSpan]:
        return sorted(replace(pilot, pilot_id="") for pilot in pilots)

    assert quick.jobs == whole.jobs
    assert nameless(quick.pilots) == nameless(whole.pilots)


# The checkers must be able to find something.


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop(setup=setup(*[job(runtime_s=3000) for _ in range(40)], sites=(site(),)), seed=0)
    yield made
    made.close()


def test_a_pilot_that_only_the_site_knows_is_found(loop: Loop) -> None:
    loop.cycle()
    (first, *_) = loop.sites["alpha"].live()
    loop.sites["alpha"].jobs["sim-alpha-stranger-1"] = first
    assert ["alpha has sim-alpha-stranger-1, the ledger does not"] == check_books(loop)


def test_too_many_pilots_are_found(loop: Loop) -> None:
    for _ in range(8):
        loop.cycle()
    policy = loop.setup.policy
    tight = replace(policy, sites=tuple(replace(one, max_pilots=2, max_pending=1) for one in policy.sites))
    assert [] == check_caps(loop)
    loop.setup = replace(loop.setup, policy=tight)
    assert any("max_pilots 2" in finding for finding in check_caps(loop))


def test_a_factory_that_takes_a_lost_answer_for_nothing_is_found_out() -> None:
    class Careless(LoopSite):
        """Tells the factory that what was lost on the way was surely not sent."""

        def submit(self, *args, **kwargs) -> tuple[SubmitOutcome, ...]:
            return tuple(
                NotSent(pilot_id=one.pilot_id, reason=one.reason) if isinstance(one, Uncertain) else one
                for one in LoopSite.submit(self, *args, **kwargs)
            )

    quick = replace(setup(*[job(runtime_s=3000) for _ in range(40)], sites=(site(),)), cycle_s=20.0)
    made = Loop(setup=quick, seed=0)
    made.sites["alpha"] = Careless(name="alpha", world=made.world, trouble=Trouble(reply_lost=True, effect_delay_s=50))
    found: list[str] = []
    for _ in range(20):
        made.cycle()
        found += check_caps(made)
    made.close()
    assert found


def test_every_crash_point_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: set[str] = set()
    crash = Loop._crash
    monkeypatch.setattr(Loop, "_crash", lambda self, point: (passed.add(point), crash(self, point))[1])
    run_with_faults(fault_setup(1), FaultPlan(cycles=20, heal_cycles=5), seed=1)
    assert set(faultruns.CRASH_POINTS) == passed
