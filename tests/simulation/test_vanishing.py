"""Most pilots of a site missing at once: the site is left alone until that is confirmed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from factory.journal import read_record
from factory.model import VanishPolicy
from factory.sites.contract import SiteSeen, SiteUnseen
from factory.sites.fake import Faults
from factory.vanishing import Doubts
from glidein.model import BatchState, EndReason, PilotPhase
from tests.simulation.world import INSTANCE, SimWorld


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    """One site with six running pilots."""
    made = SimWorld(directory=tmp_path, site_names=("alpha",), max_pending=10)
    made.submit_jobs(24, runtime_s=3000)
    made.run_until("six pilots run", lambda: len(made.live_pilots()) == 6)
    made.cycle()
    made.cycle()
    assert {PilotPhase.BUSY} == {pilot.phase for pilot in made.ledger.open_pilots(INSTANCE)}
    return made


def sight(world: SimWorld) -> SiteSeen | SiteUnseen:
    """What the last cycle made of the site."""
    record = world.ledger.journal_latest(INSTANCE)
    assert record is not None
    (one,) = read_record(record).observation.sites
    return one


def test_an_empty_queue_that_is_a_lie_freezes_the_site_and_nothing_is_asked_for(world: SimWorld) -> None:
    # Mutation: vanishing.examine returns the sight at once; then the phases change in the first cycle.
    world.submit_jobs(40)
    world.sites["alpha"].faults = Faults(squeue_text="", sacct_unseen="Connection refused")
    before = world.ledger.open_pilots(INSTANCE)
    for _ in range(6):
        told = world.cycle()
        assert told is not None
        assert ("alpha",) == told.sites_unseen
        assert 0 == told.submitted + told.cancelled
        frozen = sight(world)
        assert isinstance(frozen, SiteUnseen)
        assert "vanished" == frozen.cause
        assert "frozen: of 6 living pilots 6 have vanished" in frozen.reason
    assert [pilot.phase for pilot in before] == [pilot.phase for pilot in world.ledger.open_pilots(INSTANCE)]
    world.sites["alpha"].faults = Faults()
    world.cycle()
    assert isinstance(sight(world), SiteSeen)
    assert {pilot.pilot_id for pilot in before} <= {pilot.pilot_id for pilot in world.ledger.open_pilots(INSTANCE)}


def test_whole_looks_in_a_row_confirm_it_and_the_pilots_still_count(world: SimWorld) -> None:
    # Mutation: believe at the first look (looks >= 1 in examine).
    site = world.sites["alpha"]
    for job in list(site.jobs.values()):
        site.jobs[job.job_id] = replace(job, lost=True)
    unseen = []
    for _ in range(4):
        world.cycle()
        unseen.append(isinstance(sight(world), SiteUnseen))
    assert [True, True, False, False] == unseen
    # Lost, not dead: nothing says that they ended, so they count and nothing takes their place.
    assert 6 == len(world.ledger.open_pilots(INSTANCE))


def test_an_operator_confirms_it_at_once(world: SimWorld) -> None:
    # Mutation: take word_s out of examine.
    site = world.sites["alpha"]
    site.faults = Faults(squeue_text="", sacct_unseen="down")
    world.cycle()
    assert isinstance(sight(world), SiteUnseen)
    world.ledger.say_resume("alpha", by="op", now_s=world.now_s)
    world.cycle()
    assert isinstance(sight(world), SiteSeen)


def test_a_word_from_before_does_not_confirm_what_vanished_later(world: SimWorld) -> None:
    # Mutation: word_s is not None in place of word_s >= since_s.
    world.ledger.say_resume("alpha", by="op", now_s=world.now_s - 3600)
    world.sites["alpha"].faults = Faults(squeue_text="", sacct_unseen="down")
    for _ in range(2):
        world.cycle()
        assert isinstance(sight(world), SiteUnseen)


def test_pilots_that_somebody_at_the_site_cancels_are_not_replaced_at_once(world: SimWorld) -> None:
    # Mutation: cancelled = frozenset() in vanishing._missing.
    site = world.sites["alpha"]
    for name in world.live_pilots():
        site.kill(name, BatchState.CANCELLED)
    asked = []
    for _ in range(4):
        told = world.cycle()
        assert told is not None
        asked.append(told.submitted)
    assert [0, 0] == asked[:2]
    assert sum(asked) > 0
    ended = [pilot for pilot in world.ledger.pilots(INSTANCE) if pilot.end_reason is EndReason.CANCELLED]
    assert 6 == len(ended)


def test_pilots_that_end_together_by_themselves_freeze_nothing(world: SimWorld) -> None:
    # Mutation: ended = {} in vanishing._missing.
    for job in world.jobs:
        job.done = True
    for _ in range(15):
        told = world.cycle()
        assert told is not None
        assert () == told.sites_unseen
    assert () == world.ledger.open_pilots(INSTANCE)


def test_a_few_of_many_are_followed_one_by_one(world: SimWorld) -> None:
    # Mutation: no at_least in examine. Three of six are half of them, and still fewer than four.
    site = world.sites["alpha"]
    for job in list(site.jobs.values())[:3]:
        site.jobs[job.job_id] = replace(job, lost=True)
    told = world.cycle()
    assert told is not None
    assert () == told.sites_unseen


def test_an_unseen_site_forgets_no_doubt(world: SimWorld) -> None:
    # Mutation: pop before the test for SiteUnseen in Doubts.examine: an outage in between would begin the count anew.
    pilots = world.ledger.open_pilots(INSTANCE)
    doubts, policy = Doubts(), VanishPolicy(looks=2)
    site = world.sites["alpha"]
    site.jobs.clear()
    empty = site.look((), now_s=world.now_s)
    gone = SiteUnseen(site="alpha", taken_s=world.now_s, reason="ssh timed out")
    told = [doubts.examine((one,), pilots, policy, words={})[0] for one in (empty, gone, empty)]
    assert [SiteUnseen, SiteUnseen, SiteSeen] == [type(one) for one in told]
