"""Faults of the site in memory: each does what its name says, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from factory.sites.contract import (
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    Refused,
    SiteSeen,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from factory.sites.fake import FakeSite, Faults
from glidein.model import BatchState, Offer, Shape

OFFER = Offer(
    site="alpha",
    shape=Shape(cores=4, memory_mib=8000, disk_mib=100, walltime_s=3600),
    account="grid",
    partition="main",
)
PILOTS = tuple(
    SubmitRequest(pilot_id=f"aero-alpha-6b03062e0000-{n}", offer=OFFER, files=(("pilot.sh", b""),)) for n in range(8)
)
KNOWN = tuple(KnownPilot(pilot_id=pilot.pilot_id, batch_id=None, intended_s=0) for pilot in PILOTS)


@dataclass
class World:
    now_s: float = 1000.0
    site: FakeSite = field(init=False)

    def __post_init__(self) -> None:
        self.site = FakeSite(name="alpha", instance="aero", clock=lambda: self.now_s)

    def submit(self, *pilots: SubmitRequest) -> tuple[SubmitOutcome, ...]:
        return self.site.submit(pilots, deadline_s=self.now_s + 60)

    def seen(self) -> SiteSeen:
        sight = self.site.look(KNOWN, now_s=self.now_s)
        assert isinstance(sight, SiteSeen)
        return sight

    def states(self) -> list[BatchState]:
        return [record.state for record in self.seen().live]

    def finals(self) -> list[BatchState]:
        final = self.seen().final
        assert isinstance(final, FinalSeen)
        return [record.state for record in final.records]


@pytest.fixture
def world() -> World:
    return World()


def test_pilots_run_as_room_allows_and_end_at_their_time_limit(world: World) -> None:
    world.site.room = 2
    world.site.start_delay_s = 10
    world.submit(*PILOTS[:3])
    assert [BatchState.PENDING] * 3 == world.states()
    world.now_s += 10
    assert [BatchState.RUNNING, BatchState.RUNNING, BatchState.PENDING] == world.states()
    world.now_s += 3600
    assert [BatchState.TIMEOUT, BatchState.TIMEOUT, BatchState.RUNNING] == world.states()
    assert [BatchState.TIMEOUT, BatchState.TIMEOUT] == world.finals()
    world.now_s += 300
    assert [BatchState.RUNNING] == world.states()


@pytest.mark.parametrize(
    ("faults", "outcome", "jobs"),
    [
        (Faults(refuse="No"), Refused, 0),
        (Faults(not_sent="disk full"), NotSent, 0),
        (Faults(unseen="no connection"), NotSent, 0),
        (Faults(lose_reply=True), Uncertain, 1),
        (Faults(lose_request=True), Uncertain, 0),
        (Faults(lose_reply=True, refuse="No"), Uncertain, 0),
        (Faults(), Submitted, 1),
    ],
)
def test_what_becomes_of_a_submission(world: World, faults: Faults, outcome: type, jobs: int) -> None:
    world.site.faults = faults
    assert [outcome] == [type(one) for one in world.submit(PILOTS[0])]
    assert jobs == len(world.site.jobs_named(PILOTS[0].pilot_id))


def test_a_lost_reply_may_be_of_the_later_ones_only(world: World) -> None:
    world.site.faults = Faults(lose_reply=True, fail_after=1)
    assert [Submitted, Uncertain, Uncertain] == [type(one) for one in world.submit(*PILOTS[:3])]


def test_a_late_effect_is_seen_late_but_never_after_the_deadline(world: World) -> None:
    world.site.faults = Faults(lose_reply=True, effect_delay_s=1000)
    world.submit(PILOTS[0])
    world.now_s += 59
    assert world.states() == []
    world.now_s += 1
    assert [BatchState.RUNNING] == world.states()


def test_sights_that_fail(world: World) -> None:
    world.submit(*PILOTS)
    world.site.faults = Faults(unseen="no connection")
    assert isinstance(world.site.look((), now_s=0), SiteUnseen)
    world.site.faults = Faults(squeue_text="<html>")
    assert isinstance(world.site.look((), now_s=0), SiteUnseen)
    world.site.faults = Faults(squeue_text="")
    assert world.states() == []
    assert [BatchState.RUNNING] * 8 == world.finals()
    world.site.faults = Faults(sacct_unseen="Connection refused")
    assert isinstance(world.seen().final, FinalUnseen)
    world.site.faults = Faults()
    assert len(world.states()) == 8


def test_accounting_that_lags_knows_of_the_end_later(world: World) -> None:
    world.site.min_job_age_s = 0
    world.submit(PILOTS[0])
    world.now_s += 100
    world.site.faults = Faults(sacct_lag_s=5)
    world.site.finish(PILOTS[0].pilot_id)
    assert (world.states(), world.finals()) == ([], [])
    world.now_s += 5
    assert [BatchState.COMPLETED] == world.finals()


def test_a_mass_loss_decides_nothing(world: World) -> None:
    world.submit(*PILOTS)
    world.site.lose_everything()
    assert world.states() == []
    assert not any(state.is_final for state in world.finals())
    world.site.find_everything()
    assert [BatchState.RUNNING] * 8 == world.states()


def test_a_preempted_pilot_is_final(world: World) -> None:
    world.submit(*PILOTS[:2])
    world.site.kill(PILOTS[0].pilot_id, BatchState.PREEMPTED)
    assert [BatchState.PREEMPTED] == world.finals()


def test_a_cancel_that_fails_cancels_nothing(world: World) -> None:
    world.site.room = 0
    world.submit(PILOTS[0])
    world.site.faults = replace(world.site.faults, cancel_problem="no")
    assert world.site.cancel(KNOWN[:1]).problem == "no"
    assert [BatchState.PENDING] == world.states()
