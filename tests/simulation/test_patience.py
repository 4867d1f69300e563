"""A site that fails is asked less and less often, and comes back by itself."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from factory.model import PatiencePolicy
from factory.observe import Looker
from factory.patience import Pause, pause_after
from factory.sites.contract import SiteUnseen
from factory.sites.fake import Faults
from tests.simulation.world import CYCLE_S, SimWorld

POLICY = PatiencePolicy(backoff_s=30, backoff_max_s=600)


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    made = SimWorld(directory=tmp_path, site_names=("alpha",))
    made.looker = Looker(patience_s=5, random=Random(1))
    return made


def looks_while(world: SimWorld, faults: Faults, *, cycles: int) -> int:
    """How often the site was asked in so many cycles."""
    site = world.sites["alpha"]
    site.faults, before = faults, site.counts.look
    for _ in range(cycles):
        told = world.cycle()
        assert told is not None
        assert ("alpha",) == told.sites_unseen
    return site.counts.look - before


def test_a_dead_site_is_asked_ever_less_often_and_recovers_by_itself(world: SimWorld) -> None:
    # Mutation: Patience.paused always None: forty looks. TARDIS: 48 condor_status in 50 s for 8 drones.
    asked = looks_while(world, Faults(unseen="ssh: connect to host: No route to host"), cycles=40)
    assert 4 <= asked <= 8
    world.sites["alpha"].faults = Faults()
    world.submit_jobs(4)
    world.run_until("it is seen again, and used", lambda: bool(world.live_pilots()), cycles=30)


def test_an_overloaded_site_is_left_alone_for_longer(world: SimWorld) -> None:
    # Mutation: no overload_factor in pause_after.
    asked = looks_while(world, Faults(unseen="Socket timed out on send/recv operation"), cycles=10)
    world.start_factory()
    world.looker = Looker(patience_s=5, random=Random(1))
    assert asked < looks_while(world, Faults(unseen="Unable to contact slurm controller"), cycles=10)


def test_an_operators_word_asks_at_once(world: SimWorld) -> None:
    # Mutation: take words out of Patience.paused.
    looks_while(world, Faults(unseen="No route to host"), cycles=20)
    site = world.sites["alpha"]
    site.faults, before = Faults(), site.counts.look
    world.ledger.say_resume("alpha", by="op", now_s=world.now_s)
    told = world.cycle()
    assert told is not None
    assert () == told.sites_unseen
    assert before + 1 == site.counts.look


def test_too_much_at_a_submission_leaves_the_site_alone_too(world: SimWorld) -> None:
    # Mutation: cycle.hold_off_where_too_much does nothing.
    world.submit_jobs(4)
    site = world.sites["alpha"]
    site.faults = Faults(not_sent="sbatch: Resource temporarily unavailable")
    world.cycle()
    looked, asked = site.counts.look, site.counts.submit
    told = world.cycle()
    assert told is not None
    assert ("alpha",) == told.sites_unseen
    assert (looked, asked) == (site.counts.look, site.counts.submit)


def failed(cause: str, at_s: float) -> SiteUnseen:
    return SiteUnseen(site="alpha", taken_s=at_s, reason="", cause=cause)  # type: ignore[arg-type]


def test_pauses_double_up_to_the_longest_and_differ_a_little() -> None:
    # Mutation: no backoff_max_s, or no jitter, in pause_after.
    random, pause, now_s, pauses = Random(0), None, 0.0, []
    for _ in range(12):
        pause = pause_after(failed("unreachable", now_s), pause, POLICY, random)
        assert pause is not None
        pauses.append(pause.until_s - now_s)
        now_s = pause.until_s
    assert all(0.75 * plain <= one <= 1.25 * plain for one, plain in zip(pauses, (30, 60, 120, 240, 480), strict=False))
    assert all(450 <= one <= 750 for one in pauses[5:])
    assert len(set(pauses[5:])) == len(pauses[5:])


@pytest.mark.parametrize("cause", ["limit", "late", "vanished"])
def test_what_is_no_failure_of_the_site_lengthens_nothing(cause: str) -> None:
    # Mutation: _NO_FAILURE empty.
    prior = Pause(failures=1, failed_s=0, until_s=CYCLE_S, reason="", cause="unreachable")
    assert prior is pause_after(failed(cause, 5), prior, POLICY, Random(0))
    assert None is pause_after(failed(cause, 5), None, POLICY, Random(0))
