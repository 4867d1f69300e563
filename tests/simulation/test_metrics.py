"""The factory's numbers, scraped over loopback while the real cycle runs against fake sites."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from factory.cycle import World
from factory.errors import MetricsNotServed
from factory.metrics import Metrics, serve
from factory.sites.fake import Faults
from factory.sites.meter import CallMeter
from tests.simulation.world import SimWorld

Numbers = dict[str, float]


class WatchedWorld(SimWorld):
    """The small world, with somebody who watches."""

    metrics: Metrics

    def world(self) -> World:
        return replace(super().world(), watcher=self.metrics)


@pytest.fixture
def meter() -> CallMeter:
    return CallMeter(limit=2)


@pytest.fixture
def world(tmp_path: Path, meter: CallMeter) -> WatchedWorld:
    made = WatchedWorld(directory=tmp_path)
    made.metrics = Metrics(meters=lambda: {"alpha": meter}, started_s=5)
    return made


@pytest.fixture
def address(world: WatchedWorld) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    close = serve(world.metrics, listen)
    yield listen
    close()


def scrape(address: str) -> Numbers:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [re.fullmatch(r"(\S+?(?:\{.*\})?) (\S+)", line) for line in lines if not line.startswith("#")]
    return {one[1]: float(one[2]) for one in found if one is not None}


def test_before_the_first_cycle_nothing_is_claimed(address: str) -> None:
    # Mutation: Metrics.collect gives zeros where no cycle has run.
    numbers = scrape(address)
    assert 5 == numbers["aerotow_started_timestamp_seconds"]
    assert [] == [name for name in numbers if name.startswith(("aerotow_seen", "aerotow_pilots{", "aerotow_last"))]


def test_a_cycle_is_told_in_numbers(world: WatchedWorld, address: str) -> None:
    # Mutation: run_cycle without world.watcher.cycle_done.
    world.submit_jobs(8, runtime_s=600)
    world.run_until("pilots run", lambda: any(job.started_s for job in world.jobs))
    world.cycle()
    numbers = scrape(address)
    assert 2 == sum(n for name, n in numbers.items() if name.startswith("aerotow_pilots{"))
    assert 1 == numbers['aerotow_pilots{phase="busy",site="alpha"}']
    assert 1 == numbers['aerotow_submissions_total{outcome="submitted",site="alpha"}']
    assert 0 == numbers['aerotow_jobs_idle{ap="ap1"}']
    assert 1 == numbers['aerotow_seen{kind="site",name="alpha"}']
    assert 1 == numbers['aerotow_breaker{mode="closed",site="beta"}']
    assert world.now_s == numbers["aerotow_last_cycle_timestamp_seconds"]
    steps = set(re.findall(r'aerotow_cycle_step_seconds_count\{step="(\w+)"\}', "\n".join(numbers)))
    assert {"look", "record", "decide", "prepare", "commit", "submit", "settle", "cancel", "forget", "all"} == steps
    assert numbers['aerotow_cycles_total{result="done"}'] == numbers['aerotow_cycle_step_seconds_count{step="all"}']


def test_what_is_not_seen_has_no_number_but_its_age(world: WatchedWorld, address: str) -> None:
    # Mutation: jobs_idle of an unseen access point as 0 (collect without its condition).
    world.submit_jobs(8, runtime_s=600)
    world.cycle()
    seen_s = world.now_s
    world.ap_unseen, world.slots_unseen = "no answer", "no answer"
    world.sites["alpha"].faults = Faults(unseen="Unable to contact slurm controller")
    world.cycle()
    numbers = scrape(address)
    assert 'aerotow_jobs_idle{ap="ap1"}' not in numbers
    assert 0 == numbers['aerotow_seen{kind="ap",name="ap1"}'] == numbers['aerotow_seen{kind="collector",name=""}']
    assert 1 == numbers['aerotow_site_unseen{cause="unreachable",site="alpha"}']
    assert seen_s == numbers['aerotow_last_seen_timestamp_seconds{kind="site",name="alpha"}']
    assert world.now_s < numbers['aerotow_site_next_look_timestamp_seconds{site="alpha"}']
    assert 1 == numbers["aerotow_frozen"]


def test_calls_of_each_site_are_counted_and_those_not_made(meter: CallMeter, address: str) -> None:
    # Mutation: not_made is never raised (meter.py).
    for _ in range(3):
        meter.admit()
    meter.note(("squeue", "sbatch", "sbatch"))
    numbers = scrape(address)
    assert 2 == numbers['aerotow_site_calls_total{site="alpha"}'] == numbers["aerotow_calls_last_minute"]
    assert 1 == numbers['aerotow_site_calls_not_made_total{site="alpha"}']
    assert 2 == numbers['aerotow_scheduler_commands_total{command="sbatch",site="alpha"}']


def test_a_frozen_site_and_a_failed_cycle_are_told(world: WatchedWorld, address: str) -> None:
    # Mutation: loop._cycle_or_log without cycle_failed is seen by test_loop_watch; here: frozen without "vanished".
    world.submit_jobs(40, runtime_s=3000)
    world.run_until("pilots run", lambda: len(world.live_pilots()) >= 10)
    world.cycle()
    world.cycle()
    world.sites["alpha"].faults = Faults(squeue_text="")
    world.cycle()
    world.metrics.cycle_failed("ledger")
    numbers = scrape(address)
    assert 1 == numbers['aerotow_site_frozen{site="alpha"}'] == numbers['aerotow_freezes_total{site="alpha"}']
    assert 0 == numbers['aerotow_site_frozen{site="beta"}']
    assert 1 == numbers['aerotow_cycles_total{result="ledger"}']


def test_an_address_that_somebody_has_is_a_clear_error(world: WatchedWorld, address: str) -> None:
    with pytest.raises(MetricsNotServed, match=re.escape(f"metrics.listen {address}: Address already in use; choose")):
        serve(world.metrics, address)
