"""Slots of pilots: what is there, what is busy, and what takes jobs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from overlay.classads import parse_ad
from overlay.client import Answer, NoAnswer
from overlay.model import Slot, Slots, SlotsSeen, SlotsUnseen
from overlay.slots import slots_of

PILOT = "demo-alpha-6741234500aa-1"
OWN = '[ Name = "My Pool" ]'
WHOLE = (
    f'[ Name = "slot1@{PILOT}@n1"; SlotType = "Partitionable"; GlideinPilotId = "{PILOT}"; GlideinSite = "alpha";'
    ' State = "Unclaimed"; Activity = "Idle"; LastHeardFrom = 1000; DaemonStartTime = 900; GlideinToDie = 5000;'
    ' GlideinToRetire = 4000; MyAddress = "<10.0.0.1:1?CCBID=10.0.0.2:9618#1&noUDP>"; Cpus = 1; Memory = 100;'
    " Disk = 1024; TotalSlotCpus = 4; TotalSlotMemory = 8000; TotalSlotDisk = 2049.0; Start = true;"
    " Requirements = Start ]"
)


def part(number: int, *, state: str = "Claimed", activity: str = "Busy", more: str = "") -> str:
    return (
        f'[ Name = "slot1_{number}@{PILOT}@n1"; SlotType = "Dynamic"; GlideinPilotId = "{PILOT}";'
        f' GlideinSite = "alpha"; State = "{state}"; Activity = "{activity}"; LastHeardFrom = 1000; Cpus = 2;'
        f" Memory = 256; Disk = 10240; {more} ]"
    )


def read(*ads: str, own: tuple[str, ...] = (OWN,), now_s: float = 1010.0) -> Slots:
    return slots_of(Answer(steps=(ads, own), duration_s=0.1), max_age_s=300, now_s=now_s)


def only(slots: Slots) -> Slot:
    assert isinstance(slots, SlotsSeen)
    assert len(slots.slots) == 1
    return slots.slots[0]


def test_recorded_slots_are_read(recorded: Callable[..., Answer]) -> None:
    answer = recorded("slots-25.14.1.txt", steps=2)
    now_s = max(parse_ad(ad)["LastHeardFrom"] for ad in answer.steps[0])  # type: ignore[type-var]
    slots = slots_of(answer, max_age_s=300, now_s=float(now_s))  # type: ignore[arg-type]

    assert isinstance(slots, SlotsSeen)
    assert [(s.site, s.cores, s.memory_mib, s.busy_cores, s.running_jobs, s.accepting) for s in slots.slots] == [
        ("alpha", 4, 8000, 3, 2, True),
        ("beta", 2, 4000, 2, 2, True),
    ]
    assert parse_ad(slots.slots[0].ad_text)["Cpus"] == 4


def test_slot_has_the_pilots_totals_and_units() -> None:
    slot = only(read(WHOLE, part(1)))

    assert slot == Slot(
        pilot_id=PILOT,
        site="alpha",
        name=f"slot1@{PILOT}@n1",
        cores=4,
        memory_mib=8000,
        disk_mib=2,
        busy_cores=2,
        busy_memory_mib=256,
        busy_disk_mib=10,
        running_jobs=1,
        to_die_s=5000,
        started_s=900,
        accepting=True,
        ad_text=slot.ad_text,
        gpus=0,
        busy_groups=(("", 2),),
    )


def test_claimed_slot_that_is_idle_counts_as_free() -> None:
    slot = only(read(WHOLE, part(1, activity="Idle"), part(2)))

    assert (slot.busy_cores, slot.running_jobs) == (2, 1)


def test_slot_that_gives_up_its_job_is_still_busy() -> None:
    assert only(read(WHOLE, part(1, state="Preempting", activity="Vacating"))).busy_cores == 2


def test_broken_slot_is_not_free_and_runs_nothing() -> None:
    slot = only(read(WHOLE, part(1, state="Unclaimed", activity="Idle", more='SlotBrokenReason = "left over"')))

    assert (slot.busy_cores, slot.running_jobs) == (2, 0)


@pytest.mark.parametrize(
    "change",
    [
        ("CCBID=10.0.0.2:9618#1&", ""),
        ('State = "Unclaimed"', 'State = "Drained"'),
        ("GlideinToRetire = 4000", "GlideinToRetire = 1010"),
        ("GlideinToDie", 'DrainingRequestId = "1"; GlideinToDie'),
    ],
)
def test_slot_that_cannot_take_a_job_does_not_accept(change: tuple[str, str]) -> None:
    assert only(read(WHOLE)).accepting
    assert not only(read(WHOLE.replace(*change))).accepting


def test_ad_for_matching_is_that_of_the_empty_pilot() -> None:
    ad = parse_ad(only(read(WHOLE, part(1))).ad_text)

    assert (ad["Cpus"], ad["Memory"], ad["Disk"]) == (4, 8000, 2049)
    assert ad["State"] == "Unclaimed"
    assert "LastHeardFrom" not in ad


def test_old_ad_says_nothing() -> None:
    assert read(WHOLE, now_s=1301.0) == SlotsSeen(taken_s=1301.0, slots=())


def test_no_answer_is_unseen_with_its_reason() -> None:
    unseen = slots_of(NoAnswer(reason="no answer in 25 s"), max_age_s=300, now_s=7.0)

    assert unseen == SlotsUnseen(taken_s=7.0, reason="no answer in 25 s")


def test_collector_that_hides_its_own_ad_is_unseen() -> None:
    assert isinstance(read(WHOLE, own=()), SlotsUnseen)
    assert isinstance(read(own=()), SlotsUnseen)


def test_collector_without_pilots_is_seen() -> None:
    assert read() == SlotsSeen(taken_s=1010.0, slots=())


def test_answer_that_cannot_be_read_is_unseen() -> None:
    assert isinstance(read(WHOLE, "[ Name = ]"), SlotsUnseen)


def test_slot_that_names_another_site_than_its_pilot_id_is_left_out() -> None:
    assert read(WHOLE.replace('GlideinSite = "alpha"', 'GlideinSite = "beta"')) == SlotsSeen(taken_s=1010.0, slots=())


def test_of_two_startds_with_one_pilot_id_the_one_heard_last_counts() -> None:
    later = WHOLE.replace("LastHeardFrom = 1000", "LastHeardFrom = 1005").replace(
        "TotalSlotCpus = 4", "TotalSlotCpus = 8"
    )

    assert only(read(WHOLE, later)).cores == 8
    assert only(read(later, WHOLE)).cores == 8


# Mutation: slots._groups reads AccountingGroup first.
@pytest.mark.parametrize(
    "more",
    [
        'AcctGroup = "dp.1"; AccountingGroup = "astro.dp_1.j.smith@pool.example.org"',
        'AccountingGroup = "dp.1.ada@pool.example.org"',
        'AccountingGroup = "dp.1.ada"',
    ],
)
def test_what_runs_counts_for_its_project(more: str) -> None:
    assert (("dp.1", 2),) == only(read(WHOLE, part(1, more=more))).busy_groups
