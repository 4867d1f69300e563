"""Who is served where not everybody can be; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from worlds import BREAKER, SHAPE, bucket, demand, observation, policy, record, seen, site_policy, slot, slots, table

from accounting.model import SiteStop
from config.model import Config
from factory.model import Observation, Policy, VoShare
from factory.plan import decide, plan
from factory.policy import group_shares
from factory.verdict import verdicts
from glidein.model import PilotPhase
from overlay.model import Bucket, Match

VOS = (("bio1", ("bio",)), ("dx1", ("astro",)), ("dx2", ("astro",)))
FULL = replace(
    policy(site_policy("alpha", max_pilots=12, max_pending=12), max_submits=50),
    breaker=replace(BREAKER, failures=100),
    project_vos=VOS,
)


def rules(*shares: VoShare) -> Policy:
    return replace(FULL, shares=shares)


def jobs(project: str, *, n: int = 100, **more: object) -> Bucket:
    return bucket(f"ap1/{project}", jobs=n, group=project, **more)


def served(observed: Observation, policy_: Policy) -> Counter[str]:
    """Jobs that pilots take, by project."""
    decision = decide(observed, table(observed), policy_)
    return Counter({one.bucket.group: one.bucket.jobs - one.unplaced for one in decision.placed.values()})


def idle(*kinds: Bucket) -> Observation:
    return observation(sites=("alpha",), demands=(demand(*kinds),))


# Mutation: shares._Vo.rank without dividing by the weight.
def test_pilots_are_divided_by_weight_where_caps_bind() -> None:
    twice = rules(VoShare(vo="astro", weight=2.0), VoShare(vo="bio"))
    assert Counter(dx1=32, bio1=16) == served(idle(jobs("dx1"), jobs("bio1")), twice)


# Mutation: plan._pour serves buckets in the order of their size and not by turns.
def test_large_jobs_of_one_organisation_do_not_starve_the_other() -> None:
    assert Counter(dx1=6, bio1=24) == served(idle(jobs("dx1", cores=4), jobs("bio1")), rules())


# Mutation: shares.Turns.__iter__ takes a project without looking at its own deficit.
def test_projects_share_what_their_organisation_gets() -> None:
    astro = VoShare(vo="astro", projects=(("dx1", 3.0),))
    told = served(idle(jobs("dx1"), jobs("dx2"), jobs("bio1")), rules(astro))
    assert Counter(bio1=24, dx1=18, dx2=6) == Counter(dict(told)) or abs(told["dx1"] - 18) <= 2
    assert 24 == told["bio1"]
    assert 24 == told["dx1"] + told["dx2"]


# Mutations: plan._largest without "matched"; without the blocks.
@pytest.mark.parametrize("why", ["no match", "stopped"])
def test_a_large_site_that_nobody_can_use_changes_no_turn(why: str) -> None:
    observed = idle(jobs("dx1", n=6), jobs("bio1", n=6))
    large = site_policy("aaron", shape=replace(SHAPE, cores=64))
    sights = (seen("aaron"), *observed.sites)
    stops = (SiteStop(site="aaron", since_s=1, by="ada", reason="power work"),) if why == "stopped" else ()
    more = replace(observed, sites=sights, stops=stops)
    without = plan(observed, table(observed), rules())
    keep = Match(matches=why != "no match")
    with_it = plan(more, table(more, aaron=keep), replace(rules(), sites=(large, *rules().sites)))
    assert (without.order, without.asked_for) == (with_it.order, with_it.asked_for)


# Mutation: shares._Vo.rank without the guarantee.
def test_who_has_less_than_guaranteed_comes_first() -> None:
    sure = rules(VoShare(vo="astro", weight=100.0), VoShare(vo="bio", guaranteed_cores=20))
    assert Counter(dx1=28, bio1=20) == served(idle(jobs("dx1"), jobs("bio1")), sure)


# Mutation: shares.Turns._turn does not look at the limit.
def test_nobody_gets_more_than_the_maximum_and_the_verdict_says_so() -> None:
    little = rules(VoShare(vo="bio", maximum_cores=5))
    observed = idle(jobs("bio1"))
    assert Counter(bio1=5) == served(observed, little)
    told = verdicts(observed, table(observed), little, "ap1/bio1")[0]
    assert {"share"} == {reason.code for reason in told.reasons}
    assert "bio may have 5 cores and has 5" in told.reasons[0].text


# Mutation: plan.decide gives no running cores to the turns.
def test_what_runs_counts_towards_the_maximum() -> None:
    pilot = record("alpha", 1, PilotPhase.BUSY, joined_s=1, started_s=1)
    busy = slot(pilot, busy_cores=4, busy_groups=(("bio1", 4),))
    observed = replace(idle(jobs("bio1")), pilots=(pilot,), slots=slots(busy))
    assert Counter(bio1=1) == served(observed, rules(VoShare(vo="bio", maximum_cores=5)))


# Mutation: group_shares divides by the number of projects and not by their weights.
def test_the_negotiator_gets_the_same_shares() -> None:
    told = Config.model_validate(
        {
            "instance": {"name": "tow"},
            "pool": {"collector": "cm", "trust_domain": "pool"},
            "bundle": {"path": "/b", "sha256": "0" * 64},
            "access_points": {"ap1": {"schedd": "ap1"}},
            "vos": {
                "astro": {"projects": {"dx1": ["ada"], "dx2": ["ada"]}},
                "bio": {"projects": {"bio1": ["eva"]}},
                "chem": {"projects": {"ch1": ["kim"]}},
            },
            "shares": {
                "astro": {"weight": 2, "projects": {"dx1": {"weight": 3}}},
                "bio": {"maximum": 40},
                "chem": {"guaranteed": 8},
            },
        }
    )
    parts = {one.group: (round(one.part, 4), one.cores, one.more) for one in group_shares(told)}
    expected = {
        "astro": (0.5, None, True),
        "astro.dx1": (0.75, None, True),
        "astro.dx2": (0.25, None, True),
        "bio": (0.25, 40, False),
        "bio.bio1": (1.0, None, True),
        "chem": (0.25, 8, True),
        "chem.ch1": (1.0, None, True),
    }
    assert expected == parts
