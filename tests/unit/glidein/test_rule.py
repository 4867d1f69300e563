"""The lifetime rule, the slot that is promised and the configuration of the pilot that keeps the promise."""

from __future__ import annotations

from pathlib import Path

import classad2
import htcondor2  # noqa: F401  # without it classad2 reads bare names strictly, unlike the negotiator
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glidein.epconfig import LEARNED, PUBLISHED, PoolFacts, ep_config_text
from glidein.errors import BadPilotInput
from glidein.model import Lifetimes, Offer, Shape
from glidein.slot import ABILITIES, offer_ad_text, template_drift
from glidein.start import start_expression, to_die_s, to_retire_s

RECORDED = Path(__file__).parents[2] / "recorded" / "slot-25.14.1.txt"
VERSION = "$CondorVersion: 25.14.1 2026-10-16 PackageID: 25.14.1+dfsg-1 $"
POOL = PoolFacts(collector="cm.pool:9618", trust_domain="pool")
LIFETIMES = Lifetimes(join_timeout_s=60, idle_timeout_s=600, default_job_runtime_s=120, retire_margin_s=60)
SHAPE = Shape(cores=2, memory_mib=2048, disk_mib=1024, walltime_s=3000)
OFFER = Offer(site="alpha", shape=SHAPE, account="aerotow", partition="main")
NOW_S = 1795360504


def offer_ad(**change: object) -> classad2.ClassAd:
    arguments = {"offer": OFFER, "lifetimes": LIFETIMES, "pool": POOL, "condor_version": VERSION, "now_s": NOW_S}
    # time() reads this machine's clock; the overlay pins it in the same way.
    text = offer_ad_text(**{**arguments, **change}).replace("time()", str(NOW_S))
    return classad2.ClassAd(text)


def real_ad() -> classad2.ClassAd:
    lines = [line for line in RECORDED.read_text().splitlines() if not line.startswith("#")]
    return next(iter(classad2.parseAds("\n".join(lines) + "\n", classad2.ParserType.Old)))


def job_ad(**attributes: object) -> classad2.ClassAd:
    ad = classad2.ClassAd(
        {"MyType": "Job", "RequestCpus": 1, "RequestMemory": 128, "RequestDisk": 1024, "Requirements": True}
    )
    ad.update(attributes)
    return ad


def evaluated(ad: classad2.ClassAd, names: tuple[str, ...]) -> dict[str, object]:
    return {name: ad.eval(name) for name in names if name in ad}


def takes(slot: classad2.ClassAd, job: classad2.ClassAd) -> bool:
    return bool(job.symmetricMatch(slot))


def test_every_attribute_that_is_promised_was_in_a_real_slot() -> None:
    promised, real = offer_ad(), real_ad()
    assert set() == {name for name in promised if name not in real}


def test_real_slot_of_the_same_shape_keeps_the_promise() -> None:
    promised, real = offer_ad(), real_ad()
    exact = (
        "Cpus",
        "Memory",
        "GPUs",
        "Arch",
        "OpSys",
        "PartitionableSlot",
        "GlideinSite",
        "UidDomain",
        "CondorVersion",
    )
    assert evaluated(promised, exact) == evaluated(real, exact)
    assert {name: real.eval(name) for name in ABILITIES} == {name: promised.eval(name) for name in ABILITIES}
    names = tuple(promised)
    assert () == template_drift(promised=evaluated(promised, names), arrived=evaluated(real, names))


def test_start_and_the_clocks_are_those_of_the_real_slot() -> None:
    # HTCondor prints `is` as =?= and without the spaces after commas.
    printed = str(classad2.ExprTree(start_expression(LIFETIMES)))
    assert printed == str(real_ad().lookup("Start"))
    real = real_ad()
    assert to_die_s(start_s=NOW_S, walltime_s=3000) == real["GlideinToDie"]
    assert to_retire_s(start_s=NOW_S, walltime_s=3000, lifetimes=LIFETIMES) == real["GlideinToRetire"]


@pytest.mark.parametrize(
    ("wish", "taken"),
    [
        ({}, True),
        ({"RequestCpus": 2}, True),
        ({"RequestCpus": 3}, False),
        ({"RequestMemory": 1920}, True),
        ({"RequestMemory": 1921}, False),
        ({"RequestDisk": 1024 * 1024}, True),
        ({"RequestDisk": 1024 * 1024 + 1}, False),
        ({"RequestGPUs": 1}, False),
        ({"RequestGPUs": 0}, True),
        # 3000 s - 60 s to join - 30 s to stop - 60 s of margin
        ({"AllowedExecuteDuration": 2849}, True),
        ({"AllowedExecuteDuration": 2850}, False),
    ],
)
def test_offer_takes_what_fits_and_nothing_else(wish: dict[str, object], taken: bool) -> None:
    assert taken == takes(offer_ad(), job_ad(**wish))


def test_job_without_a_declared_length_counts_with_the_default() -> None:
    short = Offer(
        site="alpha", shape=Shape(cores=1, memory_mib=512, disk_mib=100, walltime_s=270), account="a", partition="p"
    )
    assert not takes(offer_ad(offer=short), job_ad())
    assert takes(offer_ad(offer=short), job_ad(AllowedExecuteDuration=110))


def test_slot_that_the_pool_cannot_reach_takes_nothing() -> None:
    slot = offer_ad()
    slot["MyAddress"] = "<10.0.0.1:9618?addrs=10.0.0.1-9618>"
    assert not takes(slot, job_ad())


@given(
    walltime_s=st.integers(120, 10**6),
    left_s=st.integers(0, 10**6),
    need_s=st.one_of(st.none(), st.integers(0, 10**6)),
)
def test_job_that_is_taken_ends_a_margin_before_the_pilot(walltime_s: int, left_s: int, need_s: int | None) -> None:
    offer = Offer(
        site="alpha",
        shape=Shape(cores=1, memory_mib=512, disk_mib=100, walltime_s=walltime_s),
        account="a",
        partition="p",
    )
    slot = offer_ad(offer=offer, now_s=NOW_S - max(0, walltime_s - left_s))
    job = job_ad() if need_s is None else job_ad(AllowedExecuteDuration=need_s)
    need = LIFETIMES.default_job_runtime_s if need_s is None else need_s
    assert takes(slot, job) == (NOW_S + need + LIFETIMES.retire_margin_s < slot["GlideinToDie"])


def test_drift_names_what_is_worse_and_only_that() -> None:
    promised = {"TotalSlotMemory": 1920, "TotalSlotCpus": 2, "OpSys": "LINUX", "GlideinSite": "alpha"}
    arrived = {"TotalSlotMemory": 1000, "TotalSlotCpus": 4, "OpSys": "WINDOWS", "GlideinSite": "alpha"}
    assert (
        "OpSys: promised 'LINUX', got 'WINDOWS'",
        "TotalSlotMemory: promised 1920, got 1000",
    ) == template_drift(promised=promised, arrived=arrived)


def config(**change: object) -> dict[str, str]:
    arguments = {"pilot_id": "bed-alpha-0000abcd-1", "offer": OFFER, "pool": POOL, "lifetimes": LIFETIMES}
    text = ep_config_text(**{**arguments, **change})
    lines = [line for line in text.splitlines() if " =" in line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def test_configuration_has_the_rule_and_leaves_to_the_node_what_only_it_knows() -> None:
    settings = config()
    assert start_expression(LIFETIMES) == settings["START"]
    assert set() == set(LEARNED) & set(settings)
    assert set(PUBLISHED) <= set(settings["STARTD_ATTRS"].split()) & set(settings["MASTER_ATTRS"].split())
    assert '"alpha"' == settings["GlideinSite"]
    assert "IDTOKENS" == settings["SEC_DEFAULT_AUTHENTICATION_METHODS"] == settings["SEC_CLIENT_AUTHENTICATION_METHODS"]


def test_operators_attributes_are_published_by_both_sides() -> None:
    offer = Offer(site="alpha", shape=SHAPE, account="a", partition="p", slot_attributes=(("HasCvmfs", "true"),))
    assert "true" == config(offer=offer)["HasCvmfs"]
    assert "HasCvmfs" in config(offer=offer)["STARTD_ATTRS"].split()
    assert offer_ad(offer=offer)["HasCvmfs"] is True


@pytest.mark.parametrize(
    ("name", "value"),
    [("GlideinSite", '"beta"'), ("A B", "1"), ("START", "true\nDAEMON_LIST = SCHEDD"), ("X", "$(FILE:/etc/shadow)")],
)
def test_attribute_that_would_be_more_than_itself_is_refused(name: str, value: str) -> None:
    offer = Offer(site="alpha", shape=SHAPE, account="a", partition="p", slot_attributes=((name, value),))
    with pytest.raises((BadPilotInput, ValueError)):
        ep_config_text(pilot_id="bed-alpha-0000abcd-1", offer=offer, pool=POOL, lifetimes=LIFETIMES)
