"""Whole simulated runs: the real plan in the modelled world, the rivals, and what reports make of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glidein.model import EndReason, PilotPhase
from simulation.books import Books
from simulation.generate import WORKLOADS
from simulation.model import Outage, PilotSpan, Regime, Result
from simulation.pictures import pictures_of
from simulation.policies import EvenSplit, Feedback, Orders, OurPolicy
from simulation.report import pilots_over_time, quantile, summarize
from simulation.run import carry_out, simulate
from simulation.world import BEGIN_S
from tests.unit.simulation.modelled import job, policy, setup, site, world

CHANGING = (Regime(median_s=60, lasts_s=7200), Regime(median_s=7200, lasts_s=7200))
POLICIES = (OurPolicy, EvenSplit, Feedback)


def test_one_job_costs_one_pilot() -> None:
    result = simulate(setup(job()), OurPolicy(), seed=0)
    (pilot,) = result.pilots
    # The first cycle is at 60 s; the pilot waits 100 s, joins after 20 s, is matched at the next whole minute.
    assert (60, 160, 180) == (pilot.submit_s, pilot.start_s, pilot.join_s)
    assert [240 + 600] == [one.end_s for one in result.jobs]
    assert EndReason.IDLE is pilot.reason


def test_ours_asks_for_what_is_needed_however_many_sites_match() -> None:
    sites = tuple(site(name) for name in ("alpha", "beta", "gamma"))
    ours = simulate(setup(job(), sites=sites), OurPolicy(), seed=0)
    rival = simulate(setup(job(), sites=sites), EvenSplit(), seed=0)
    assert 1 == len(ours.pilots)
    # Its description says it: shares are rounded up, and the floor is one.
    assert 3 == len(rival.pilots)


def test_feedback_looks_at_no_queue() -> None:
    result = simulate(setup(job(submit_s=50_000), sites=(site(),)), Feedback(), seed=0)
    assert min(pilot.submit_s for pilot in result.pilots) == 60


@pytest.mark.parametrize("decider", POLICIES)
def test_the_same_seed_gives_the_same_run(decider: type[OurPolicy]) -> None:
    # Mutation: leave the seed out of any Random of simulation/waits.py.
    sites = tuple(site(name, regimes=CHANGING, sigma=0.8, fizzle=0.05) for name in ("alpha", "beta"))
    trace = WORKLOADS["bursty"](5, days=0.25)
    one = setup(*trace, sites=sites)
    assert simulate(one, decider(), seed=5) == simulate(one, decider(), seed=5)
    assert simulate(one, decider(), seed=5) != simulate(one, decider(), seed=6)


@pytest.mark.parametrize("decider", POLICIES)
@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_books_of_jobs_and_pilots_agree(decider: type[OurPolicy], workload: str) -> None:
    sites = (
        site("alpha", regimes=CHANGING, sigma=0.8, outages=(Outage(begin_s=20_000, length_s=5000),)),
        site("beta", regimes=CHANGING, sigma=0.8, preempted_per_h=0.1, fizzle=0.1),
    )
    trace = WORKLOADS[workload](1, days=0.5)[:250]
    result = simulate(setup(*trace, sites=sites, cores=8), decider(), seed=1)
    for pilot in result.pilots:
        if pilot.start_s is not None:
            assert 0 <= pilot.busy_core_s <= pilot.cores * ((pilot.end_s or result.until_s) - pilot.start_s) + 1e-6
    ended = {run.job for run in result.runs if run.good}
    assert ended | {one.job for one in result.jobs if one.held} == {
        one.job for one in result.jobs if one.end_s is not None
    }
    per_pilot: dict[str, float] = {}
    for run in result.runs:
        per_pilot[run.pilot_id] = per_pilot.get(run.pilot_id, 0.0) + run.cores * (run.end_s - run.start_s)
    for pilot in result.pilots:
        if pilot.end_s is not None:
            assert per_pilot.get(pilot.pilot_id, 0.0) == pytest.approx(pilot.busy_core_s)


@pytest.mark.parametrize("decider", POLICIES)
def test_caps_hold_at_every_moment(decider: type[OurPolicy]) -> None:
    trace = [job(runtime_s=4000) for _ in range(400)]
    result = simulate(setup(*trace, sites=(site(sigma=1.0),)), decider(), seed=2)
    assert max(count for _, count in pilots_over_time(result, "alpha", running=True)) <= 10
    assert max(count for _, count in pilots_over_time(result, "alpha", running=False)) <= 5


def test_quiet_cycles_may_be_left_out() -> None:
    # Mutation: count pilots that run as waiting in _quiet (simulation/run.py): slower, and the same result.
    class Restless(OurPolicy):
        rests = False

    trace = WORKLOADS["bursty"](3, days=0.3)
    one = setup(*trace, sites=tuple(site(name, sigma=0.8) for name in ("alpha", "beta")), cores=8)
    resting, restless = simulate(one, OurPolicy(), seed=3), simulate(one, Restless(), seed=3)
    assert resting.cycles < restless.cycles

    def nameless(pilots: tuple[PilotSpan, ...]) -> list[PilotSpan]:
        return [replace(pilot, pilot_id="") for pilot in pilots]

    assert (resting.jobs, nameless(resting.pilots)) == (restless.jobs, nameless(restless.pilots))


def test_a_broken_site_is_found_out_by_the_real_breaker() -> None:
    sites = (site("alpha", fizzle=1.0), site("beta"))
    result = simulate(setup(*[job(runtime_s=3000) for _ in range(200)], sites=sites), OurPolicy(), seed=0)
    broken = [pilot for pilot in result.pilots if pilot.site == "alpha"]
    assert all(one.end_s is not None for one in result.jobs)
    assert len(broken) < 15


def test_a_summary_counts_what_was_charged_and_what_was_used() -> None:
    told = summarize(simulate(setup(job(), job()), OurPolicy(), seed=0))
    assert (2, 0, 1) == (told.jobs, told.unfinished, told.pilots)
    # One pilot of four cores from 160 s to 840 + 300 s; two jobs of 600 s.
    assert 4 * (1140 - 160) == told.pilot_core_s
    assert 1 - 1200 / 3920 == told.waste
    assert (840, 840) == (told.turnaround_mean_s, told.turnaround_p95_s)


def test_jobs_without_an_end_count_up_to_the_horizon() -> None:
    # Mutation: leave them out of turnarounds (simulation/report.py), and starving jobs would look good.
    told = summarize(simulate(setup(job(memory_mib=99_999), horizon_s=5000), OurPolicy(), seed=0))
    assert (1, 5000) == (told.unfinished, told.turnaround_mean_s)


def test_quantiles_are_values_that_were_there() -> None:
    assert (None, 1, 2, 4) == (quantile([], 0.5), quantile([1], 0.95), quantile([1, 2, 3, 4], 0.5), quantile([1, 4], 1))


def test_pictures_are_svg_and_always_the_same() -> None:
    results: list[Result] = [simulate(setup(job(), job(submit_s=4000)), decider(), seed=0) for decider in POLICIES]
    pictures = pictures_of(results)
    assert {"turnaround.svg", "waste.svg", "pilots-alpha-aerotow.svg"} <= set(pictures)
    assert pictures == pictures_of(results)
    for text in pictures.values():
        assert text.startswith("<svg")
        assert text.endswith("</svg>\n")
        assert "nan" not in text


def test_what_happens_at_an_unseen_site_is_not_known_before_it_is_seen() -> None:
    # Mutation: take note of all sites (_take_note in simulation/books.py).
    one, books = world(job(runtime_s=9000), sites=(site(outages=(Outage(begin_s=300, length_s=600),)),)), Books()
    books.observe(one, cycle="6b49d2000001")
    carry_out(Orders(submits=(policy("alpha").sites[0].offer,)), one, books, cycle="6b49d2000001")
    phases = []
    for at_s in (200, 301, 899, 900):
        one.agenda.run_until(BEGIN_S + at_s)
        phases.append([pilot.phase for pilot in books.observe(one, cycle="6b49d2000002").pilots])
    assert [[PilotPhase.BUSY], [PilotPhase.BUSY], [PilotPhase.BUSY], []] == phases
