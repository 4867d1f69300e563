"""Ramp and bad nodes; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

from dataclasses import replace

from worlds import BREAKER, NOW_S, bucket, demand, observation, policy, site_policy, table

from factory.brakes import bad_nodes, exclusions
from factory.model import Outcome, SiteOutcomes
from factory.plan import plan
from factory.sites.texts import sbatch_options
from factory.verdict import verdicts
from glidein.model import EndReason

RULES = replace(
    policy(site_policy("alpha", max_pilots=20, max_pending=20)),
    breaker=replace(BREAKER, failures=100),
    ramp_percent=25,
    exclude_nodes=2,
)


def turned_out(n: int, node: str, *, well: bool, ago_s: int = 100) -> Outcome:
    return Outcome(
        at_s=NOW_S - ago_s,
        pilot_id=f"tow-alpha-6b49d000abcd-{n}",
        joined=well,
        reason=None if well else EndReason.NOT_JOINED,
        ran_s=None if well else 300,
        jobs=None,
        node=node,
    )


def bad(*outcomes: Outcome) -> tuple[str, ...]:
    return bad_nodes(SiteOutcomes(site="alpha", outcomes=outcomes), RULES, NOW_S)


# Mutation: caps._limits without the ramp.
def test_a_site_gets_a_part_of_its_pilots_in_one_cycle() -> None:
    observed = observation(sites=("alpha",), demands=(demand(bucket(jobs=1000)),))
    assert 5 == len(plan(observed, table(observed), RULES).order)
    (told,) = verdicts(observed, table(observed), RULES, "ap1/a")
    assert ["ramp"] == [reason.code for reason in told.reasons]
    assert 1 == len(plan(observed, table(observed), replace(RULES, ramp_percent=1)).order)


# Mutation: brakes.FAILURES is 1.
def test_a_node_where_pilots_fail_is_excluded_while_others_work() -> None:
    well = turned_out(1, "n1", well=True)
    once, twice = (turned_out(n, "n2", well=False) for n in (2, 3))
    assert () == bad(well, once)
    assert ("n2",) == bad(well, once, twice)


# Mutation: brakes.bad_nodes without "if not works".
def test_where_nothing_works_no_node_is_to_blame() -> None:
    assert () == bad(*(turned_out(n, "n2", well=False) for n in range(5)))


# Mutation: brakes.bad_nodes keeps a node's count after a success.
def test_a_node_that_works_again_is_forgiven() -> None:
    fails = [turned_out(n, "n2", well=False, ago_s=200) for n in range(3)]
    assert () == bad(*fails, turned_out(9, "n2", well=True, ago_s=50))


# Mutation: brakes.bad_nodes does not look at the time.
def test_bad_nodes_are_forgotten_and_bounded() -> None:
    well = turned_out(1, "n1", well=True)
    old = [turned_out(n, "n2", well=False, ago_s=BREAKER.backoff_max_s + 1) for n in (2, 3)]
    assert () == bad(well, *old)
    many = [turned_out(10 * k + n, f"n{k}", well=False) for k in range(3, 9) for n in range(2 + (k == 8))]
    assert ("n3", "n8") == bad(well, *many)
    odd = [turned_out(n, "n[1-4]", well=False) for n in (2, 3)]
    assert () == bad(well, *odd)


# Mutation: texts.sbatch_options without --exclude.
def test_the_plan_names_the_nodes_and_sbatch_is_told() -> None:
    outcomes = (turned_out(1, "n1", well=True), *(turned_out(n, "n2", well=False) for n in (2, 3)))
    observed = observation(sites=("alpha",), outcomes=(SiteOutcomes(site="alpha", outcomes=outcomes),))
    (found,) = exclusions(observed, RULES)
    assert (found,) == plan(observed, table(observed), RULES).excludes
    offer = replace(RULES.sites[0].offer, exclude=found.nodes)
    assert "--exclude=n2" in sbatch_options("tow-alpha-6b49d000abcd-1", offer)
