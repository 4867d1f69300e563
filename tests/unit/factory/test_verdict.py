"""Verdicts by example; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import (
    NOW_S,
    bucket,
    demand,
    observation,
    outcome,
    outcomes,
    policy,
    record,
    site_policy,
    slot,
    slots,
    table,
)

from accounting.model import SiteStop
from factory.model import Observation, Policy, Verdict
from factory.sites.contract import SiteUnseen
from factory.verdict import verdicts
from glidein.model import EndReason, PilotPhase
from overlay.model import FailedClause, Match, SlotsUnseen

ALPHA = site_policy("alpha")
BETA = site_policy("beta")
TWO = policy(ALPHA, BETA)
MEMORY = FailedClause(
    owner="job", text="TARGET.Memory >= RequestMemory", values=(("Memory", "8064"), ("RequestMemory", "88231"))
)


def told(observed: Observation, rules: Policy = TWO, key: str = "ap1/a", **no: Match) -> tuple[Verdict, ...]:
    return verdicts(observed, table(observed, **no), rules, key)


def _texts(verdict: Verdict) -> list[tuple[str, str]]:
    return [(reason.code, reason.text) for reason in verdict.reasons]


def test_the_impossible_job_names_the_requirement_and_both_values_at_each_site() -> None:
    no = Match(matches=False, failed=(MEMORY,))
    alpha, beta = told(observation(demands=(demand(bucket(memory_mib=88231)),)), alpha=no, beta=no)
    assert (0, 0, 0, 0) == (alpha.wanted, alpha.granted, beta.wanted, beta.granted)
    requirement, too_large = alpha.reasons
    assert ("requirements", "job", (MEMORY,)) == (requirement.code, requirement.owner, requirement.failed)
    assert "TARGET.Memory >= RequestMemory (Memory 8064, RequestMemory 88231)" in requirement.text
    assert ("the job is too large for site alpha: it asks for memory_mib 88231, a pilot has 8064") == too_large.text
    assert ["requirements", "too_large"] == [reason.code for reason in beta.reasons]


def test_a_clause_of_the_slot_belongs_to_the_site() -> None:
    clause = FailedClause(owner="slot", text='TARGET.Project != "x"', values=(("Project", '"x"'),))
    (alpha, _) = told(observation(demands=(demand(bucket()),)), alpha=Match(matches=False, failed=(clause,)))
    assert [("requirements", "site")] == [(reason.code, reason.owner) for reason in alpha.reasons]


def test_a_pair_that_was_not_compared_is_no_match_and_says_so() -> None:
    observed = observation(sites=("alpha",), demands=(demand(bucket()),))
    verdict = told(observed, TWO)[1]
    assert [("requirements", "the job was not compared with a pilot of site beta")] == _texts(verdict)


def test_a_job_that_is_too_long_says_how_long() -> None:
    (alpha, _) = told(observation(demands=(demand(bucket(runtime_s=9000)),)))
    assert [
        (
            "too_long",
            "the job is too long for site alpha: 9000 s run time (declared) and 60 s margin do not fit in the 6870 s "
            "that a pilot is sure to work",
        )
    ] == _texts(alpha)


def test_jobs_that_pilots_take_are_counted_by_where_the_pilots_are() -> None:
    running = record("alpha", 1, PilotPhase.BUSY, joined_s=NOW_S - 500)
    observed = observation(
        demands=(demand(bucket(jobs=6)),),
        pilots=(running, record("beta", 2, PilotPhase.PENDING)),
        slots=slots(slot(running, busy_cores=2)),
    )
    alpha, beta = told(observed)
    assert ((2, 0), (0, 4)) == (
        (alpha.absorbed_running, alpha.absorbed_waiting),
        (beta.absorbed_running, beta.absorbed_waiting),
    )
    assert [
        (
            "absorbed",
            "6 of 6 jobs will be taken by pilots that are there: 2 by running ones, 4 by ones that start or wait "
            "(alpha 2, beta 4)",
        )
    ] == _texts(alpha)


# Mutation: verdict._held_back without the loop over binding limits.
def test_a_cap_is_named_with_its_numbers() -> None:
    rules = policy(site_policy("alpha", max_pending=7))
    waiting = tuple(record("alpha", n, PilotPhase.PENDING, cancel_intended_s=NOW_S - 9) for n in range(3))
    observed = observation(sites=("alpha",), demands=(demand(bucket(jobs=48)),), pilots=waiting)
    (alpha,) = told(observed, rules)
    assert (12, 4) == (alpha.wanted, alpha.granted)
    assert [
        (
            "max_pending",
            "capped from 12 to 4 by max_pending of site alpha (3 waiting now, 4 asked for in this cycle, limit 7)",
        )
    ] == _texts(alpha)


@pytest.mark.parametrize(
    ("rules", "code", "text"),
    [
        (
            policy(site_policy("alpha", max_pilots=2)),
            "max_pilots",
            "capped from 12 to 1 by max_pilots of site alpha (1 open now, 1 asked for in this cycle, limit 2)",
        ),
        (
            policy(ALPHA, max_pilots=2),
            "total_pilots",
            "capped from 12 to 1 by max_pilots of all sites (1 open now, 1 asked for in this cycle, limit 2)",
        ),
        (
            policy(ALPHA, max_submits=2),
            "cycle_limit",
            "capped from 12 to 2 by max_submits_per_cycle (2 asked for in this cycle)",
        ),
    ],
)
def test_every_cap_has_its_words(rules: Policy, code: str, text: str) -> None:
    there = (record("alpha", 1, PilotPhase.ENDING),)
    observed = observation(sites=("alpha",), demands=(demand(bucket(jobs=48)),), pilots=there)
    (alpha,) = told(observed, rules)
    assert [(code, text)] == _texts(alpha)


def test_a_site_that_has_not_said_yes_is_held_back_by_the_breaker() -> None:
    (alpha,) = told(observation(sites=("alpha",), demands=(demand(bucket(jobs=48)),)), policy(ALPHA))
    assert (3, ["breaker"]) == (alpha.granted, [reason.code for reason in alpha.reasons])


def test_an_open_breaker_says_what_failed_and_when_it_tries_again() -> None:
    refused = outcomes(*(outcome(NOW_S - 10, EndReason.REFUSED, pilot_id=f"p{n}", detail="no") for n in range(3)))
    (alpha, _) = told(observation(demands=(demand(bucket()),), outcomes=(refused,)))
    assert [
        (
            "breaker",
            "breaker of site alpha is open after 3 failures in a row (last: refused: no); "
            "next probe at 2027-01-15 08:04:50Z",
        )
    ] == _texts(alpha)


def test_need_met_elsewhere_is_said() -> None:
    _, beta = told(observation(demands=(demand(bucket()),)))
    assert (1, 0) == (beta.wanted, beta.granted)
    assert [("placed_elsewhere", "the jobs get new pilots elsewhere: 1 at alpha")] == _texts(beta)


def test_what_blocks_a_site_is_said_even_if_the_need_is_met_elsewhere() -> None:
    observed = observation(demands=(demand(bucket()),))
    unseen = SiteUnseen(site="beta", taken_s=NOW_S, reason="ssh timed out")
    _, beta = told(replace(observed, sites=(observed.sites[0], unseen)))
    assert [("site_unseen", "site beta is not seen: ssh timed out")] == _texts(beta)
    stop = SiteStop(site="beta", since_s=NOW_S, by="ada", reason="power work")
    _, beta = told(replace(observed, stops=(stop,)))
    assert [("stopped", "site beta was stopped at 2027-01-15 08:00:00Z by ada: power work")] == _texts(beta)
    assert "operator" == beta.reasons[0].owner


def test_unseen_slots_are_the_reason_everywhere() -> None:
    blind = SlotsUnseen(taken_s=NOW_S, reason="no answer in 25 s")
    for verdict in told(observation(demands=(demand(bucket()),), slots=blind)):
        assert [
            ("slots_unseen", "nothing is asked for anywhere: the pool's slots are not seen: no answer in 25 s")
        ] == _texts(verdict)


def test_an_unknown_bucket_is_our_own_bug() -> None:
    with pytest.raises(KeyError):
        told(observation(demands=(demand(bucket()),)), key="ap1/other")


def _late(*pilots: tuple[str, int], jobs: int = 1, rules: Policy = TWO) -> tuple[Verdict, ...]:
    """Waiting pilots by site and the seconds since they were submitted."""
    waiting = tuple(
        record(site, n, PilotPhase.PENDING, submitted_s=NOW_S - for_s)
        for n, (site, for_s) in enumerate(pilots, start=1)
    )
    return told(observation(demands=(demand(bucket(jobs=jobs)),), pilots=waiting), rules)


def test_who_was_asked_in_the_place_of_a_late_pilot_is_said_in_one_line() -> None:
    # Mutations: _verdict leaves out _late; Placed.new is granted alone.
    alpha, beta = _late(("alpha", 5000))
    assert (
        "late",
        "1 of these jobs count on pilots of site alpha that have waited longer than 600 s; new pilots are asked for in "
        "their place: 1 at beta",
    ) == _texts(alpha)[-1]
    assert (0, 0, 1, 1) == (alpha.wanted, alpha.granted, beta.wanted, beta.granted)
    assert ["absorbed"] == [reason.code for reason in beta.reasons]


def test_pilots_on_their_way_that_stand_in_for_late_ones_are_said() -> None:
    # Mutation: _late leaves out "covered".
    alpha, beta = _late(("alpha", 5000), ("beta", 60))
    assert "pilots on their way at beta have room for 1" in _texts(alpha)[-1][1]
    assert (0, 0) == (alpha.wanted, beta.wanted)


def test_that_nobody_may_be_asked_in_a_late_ones_place_is_said_with_each_cap() -> None:
    # Mutation: _verdict counts jobs of late pilots at no site (without _not_covered).
    alpha, beta = _late(("alpha", 5000), jobs=4, rules=policy(ALPHA, site_policy("beta", max_pilots=0)))
    assert "no site where none of ours is late may be asked for 4" in _texts(alpha)[-1][1]
    assert (1, 0) == (beta.wanted, beta.granted)
    assert ("max_pilots", "capped from 1 to 0 by max_pilots of site beta (0 open now, limit 0)") == _texts(beta)[-1]


def test_a_site_where_ours_are_late_is_not_wanted_for_late_jobs() -> None:
    # Mutation: _verdict counts jobs of late pilots at every site (without "if site.late").
    alpha, beta = _late(("alpha", 5000), ("beta", 4000))
    assert (0, 0) == (alpha.wanted, beta.wanted)
    assert ["absorbed"] == [reason.code for reason in beta.reasons]
