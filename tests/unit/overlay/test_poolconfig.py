"""The pool's configuration says who may do what, and nothing that an odd name could slip in."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace

import pytest

from overlay.classads import ClassAd, ExprTree, truth
from overlay.errors import PoolSpecError
from overlay.poolconfig import GroupShare, PoolSpec, render_ap, render_cm

POOL = PoolSpec(
    trust_domain="pool",
    collector_host="cm.pool:9618",
    aps={"ap1": "ap1.pool", "ap2": "ap2.pool"},
    sites=("alpha", "beta"),
    factory_hosts=("factory.pool",),
    projects={"alice": ("dp001", "dp002"), "carol": ("bio01",)},
    vos={"dp001": "astro", "dp002": "astro", "bio01": "bio"},
    addresses={"ap1.pool": "10.0.0.3"},
)


def settings(text: str) -> dict[str, str]:
    lines = (line.split("=", 1) for line in text.splitlines() if re.match(r"^[A-Z_.]+ = ", line))
    return {name.strip(): value.strip() for name, value in lines}


def accepted(identity: str | None, **ad: object) -> bool:
    requirements = ExprTree(settings(render_cm(POOL))["COLLECTOR_REQUIREMENTS"])
    if identity is not None:
        ad["AuthenticatedIdentity"] = identity
    return truth(requirements.eval(scope=ClassAd(), target=ClassAd(dict(ad))))


@pytest.mark.parametrize(
    ("identity", "ad"),
    [
        ("condor@family", {"MyType": "Negotiator"}),
        ("condor@pool", {"MyType": "Negotiator"}),
        (None, {"MyType": "Collector"}),
        ("pilot-alpha@pool", {"MyType": "Machine", "GlideinSite": "alpha"}),
        ("pilot-alpha@pool", {"MyType": "StartD", "GlideinSite": "alpha"}),
        ("pilot-alpha@pool", {"MyType": "DaemonMaster", "GlideinSite": "alpha"}),
        ("ap-ap1@pool", {"MyType": "Scheduler", "Machine": "ap1.pool"}),
        ("ap-ap1@pool", {"MyType": "Submitter", "Machine": "ap1.pool"}),
        ("ap-ap2@pool", {"MyType": "DaemonMaster", "Machine": "ap2.pool"}),
    ],
)
def test_collector_files_what_its_sender_may_say(identity: str | None, ad: dict[str, object]) -> None:
    assert accepted(identity, **ad)


@pytest.mark.parametrize(
    ("identity", "ad"),
    [
        ("pilot-alpha@pool", {"MyType": "Machine", "GlideinSite": "beta"}),
        ("pilot-alpha@pool", {"MyType": "Slot", "GlideinSite": "beta"}),
        ("pilot-alpha@pool", {"MyType": "Machine"}),
        ("pilot-alpha@pool", {"GlideinSite": "alpha"}),
        ("pilot-alpha@pool", {"MyType": "Scheduler", "GlideinSite": "alpha"}),
        ("pilot-alpha@pool", {"MyType": "Negotiator", "GlideinSite": "alpha"}),
        ("pilot-alpha@pool", {"MyType": "Collector", "GlideinSite": "alpha"}),
        ("pilot-gamma@pool", {"MyType": "Machine", "GlideinSite": "gamma"}),
        ("pilot-alpha@elsewhere", {"MyType": "Machine", "GlideinSite": "alpha"}),
        ("ap-ap1@pool", {"MyType": "Scheduler", "Machine": "ap2.pool"}),
        ("ap-ap1@pool", {"MyType": "Machine", "Machine": "ap1.pool", "GlideinSite": "alpha"}),
        ("ap-ap1@pool", {"MyType": "Negotiator", "Machine": "ap1.pool"}),
        ("factory-read@pool", {"MyType": "Machine", "GlideinSite": "alpha"}),
        (None, {"MyType": "Machine", "GlideinSite": "alpha"}),
        (None, {}),
    ],
)
def test_collector_files_nothing_else(identity: str | None, ad: dict[str, object]) -> None:
    assert not accepted(identity, **ad)


@pytest.mark.parametrize(
    ("subject", "good"),
    [
        ("pilot-alpha@pool", True),
        ("ap-ap2@pool", True),
        ("factory-read@pool", True),
        ("factory-admin@pool", True),
        ("condor@pool", False),
        ("condor@family", False),
        ("root@pool", False),
        ("pilot-gamma@pool", False),
        (None, False),
    ],
)
def test_no_token_but_the_one_makes_anybody_administrator(subject: str | None, good: bool) -> None:
    revoked = ExprTree(settings(render_cm(POOL))["SEC_TOKEN_REVOCATION_EXPR"])
    claims = ClassAd({} if subject is None else {"sub": subject})

    assert revoked.eval(scope=claims) is (not good)


def test_reading_is_for_the_factory_the_aps_and_the_machine_itself() -> None:
    cm = settings(render_cm(POOL))

    assert cm["ALLOW_READ"].split(", ") == [
        "condor@*",
        "factory-read@pool/factory.pool",
        "factory-admin@pool/factory.pool",
        "*/10.0.0.3",
        "*/ap2.pool",
        "*/127.0.0.1",
        "*/$(IP_ADDRESS)",
    ]
    assert cm["DENY_READ"] == "pilot-alpha@pool, pilot-beta@pool"


def test_rights_are_not_open_to_anybody() -> None:
    for text in (render_cm(POOL), render_ap(POOL, "ap1")):
        for name, value in settings(text).items():
            if name.startswith("ALLOW_"):
                assert "*" not in value.split(", "), name


def test_no_daemon_gives_tokens() -> None:
    for text in (render_cm(POOL), render_ap(POOL, "ap1")):
        switched = settings(text)
        for name in ("SEC_ENABLE_TOKEN_REQUEST", "SEC_ENABLE_TOKEN_FETCH", "SEC_ENABLE_SCITOKEN_EXCHANGE"):
            assert switched[name] == "False"


def test_ap_knows_nothing_of_pilots_keys_and_every_users_projects() -> None:
    text = render_ap(POOL, "ap2")

    assert "pilot-" not in text
    assert "* alice dp001,dp002\n* carol bio01\n" in text
    assert "IMMUTABLE_JOB_ATTRS = $(IMMUTABLE_JOB_ATTRS) AcctGroup AcctGroupUser AccountingGroup" in text


def test_pool_without_projects_lets_nobody_charge_one() -> None:
    text = render_ap(dataclasses.replace(POOL, projects={}), "ap1")

    assert "DELETE AccountingGroup" in text
    assert "SUBMIT_REQUIREMENT_NAMES" not in text


# Mutations: the project's group is the project alone; share_group keeps dots.
def test_a_projects_quota_is_below_its_organisations_and_jobs_are_counted_there() -> None:
    shares = (
        GroupShare(vo="astro", part=0.6, cores=40, more=False),
        GroupShare(vo="astro", project="dp.1", part=0.75),
        GroupShare(vo="astro", project="dp2", part=0.25),
    )
    pool = replace(POOL, vos={"dp.1": "astro", "dp2": "astro"}, shares=shares)
    lines = [line for line in render_cm(pool).splitlines() if line.startswith("GROUP_")]

    assert lines == [
        "GROUP_NAMES = astro, astro.dp_1, astro.dp2",
        "GROUP_QUOTA_astro = 40",
        "GROUP_ACCEPT_SURPLUS_astro = False",
        "GROUP_QUOTA_DYNAMIC_astro.dp_1 = 0.750000",
        "GROUP_ACCEPT_SURPLUS_astro.dp_1 = True",
        "GROUP_QUOTA_DYNAMIC_astro.dp2 = 0.250000",
        "GROUP_ACCEPT_SURPLUS_astro.dp2 = True",
    ]
    assert "NEGOTIATOR_ALLOW_QUOTA_OVERSUBSCRIPTION = False\n" in render_cm(pool)
    assert "* dp.1 astro.dp_1\n* dp2 astro.dp2\n" in render_ap(pool, "ap1")
    with pytest.raises(PoolSpecError, match=r"dp\.1 and dp_1"):
        render_cm(replace(POOL, vos={"dp.1": "astro", "dp_1": "astro"}))


def test_fast_negotiation_is_asked_for_and_not_the_rule() -> None:
    assert "NEGOTIATOR_INTERVAL" not in render_cm(POOL)
    assert "NEGOTIATOR_INTERVAL = 1" in render_cm(dataclasses.replace(POOL, fast=True))
    assert "SCHEDD_INTERVAL = 2" in render_ap(dataclasses.replace(POOL, fast=True), "ap1")


@pytest.mark.parametrize(
    "change",
    [
        {"trust_domain": "pool\nALLOW_READ = *"},
        {"collector_host": "$(HOME)"},
        {"aps": {"ap1": "host, *"}},
        {"aps": {"AP 1": "ap1.pool"}},
        {"sites": ("alpha", 'x" || true || "')},
        {"projects": {"alice": ("dp001 dp002",)}},
        {"projects": {"alice\n*": ("dp001",)}},
        {"projects": {"alice": ()}},
        {"vos": {"dp001 *": "astro"}},
        {"vos": {"dp001": "astro\n*"}},
        {"factory_hosts": ("a, *",)},
        {"addresses": {"ap1.pool": "10.0.0.3, *"}},
    ],
)
def test_name_that_would_say_something_else_is_refused(change: dict[str, object]) -> None:
    pool = dataclasses.replace(POOL, **change)  # type: ignore[arg-type]
    with pytest.raises(PoolSpecError):
        render_cm(pool)
    with pytest.raises(PoolSpecError):
        render_ap(pool, "ap1")


def test_unknown_ap_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PoolSpecError, match="ap1, ap2"):
        render_ap(POOL, "ap3")


def test_the_factory_is_administrator_at_the_collector_only_and_from_its_own_host_only() -> None:
    # Mutation: ALLOW_ADMINISTRATOR in place of COLLECTOR.ALLOW_ADMINISTRATOR; drainers without their hosts.
    cm = settings(render_cm(POOL))
    assert "factory-admin" not in settings(render_cm(replace(POOL, factory_hosts=())))["ALLOW_READ"]
    assert "COLLECTOR.ALLOW_ADMINISTRATOR" not in settings(render_cm(replace(POOL, factory_hosts=())))
    assert "$(ALLOW_ADMINISTRATOR), factory-admin@pool/factory.pool" == cm["COLLECTOR.ALLOW_ADMINISTRATOR"]
    for text in (render_cm(POOL), render_ap(POOL, "ap1")):
        assert "factory" not in settings(text)["ALLOW_ADMINISTRATOR"]
        # Or the collector would hand out sessions for the access points too.
        assert "False" == settings(text)["SEC_ENABLE_REMOTE_ADMINISTRATION"]
