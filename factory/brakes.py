"""Nodes on which pilots fail: derived from the outcomes of pilots, kept nowhere, and forgotten after a while."""

from __future__ import annotations

import re

from factory.breaker import judge
from factory.model import Exclusion, Observation, Policy, SiteOutcomes

FAILURES = 2
"""A node is kept away from after so many pilots failed on it with none that worked in between."""

_NODE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
"""One host by its name; a list such as ``n[1-4]`` blames nobody in particular."""


def exclusions(observation: Observation, policy: Policy) -> tuple[Exclusion, ...]:
    """The nodes that new pilots of each site are kept away from."""
    if not policy.exclude_nodes:
        return ()
    found = []
    for site in sorted(observation.outcomes, key=lambda site: site.site):
        nodes = bad_nodes(site, policy, observation.now_s)
        if nodes:
            found.append(Exclusion(site=site.site, nodes=nodes))
    return tuple(found)


def bad_nodes(outcomes: SiteOutcomes, policy: Policy, now_s: float) -> tuple[str, ...]:
    """
    Nodes where the last pilots failed, those with most failures first up to the bound, sorted by name.

    None while no pilot of the site works anywhere: then it is the site that fails, which is the breaker's business, and
    to exclude node after node would leave pilots that can never start.
    """
    row: dict[str, int] = {}
    works = False
    for outcome in sorted(outcomes.outcomes, key=lambda one: (one.at_s, one.pilot_id)):
        if outcome.at_s < now_s - policy.breaker.backoff_max_s:
            continue
        match judge(outcome, policy.breaker):
            case "success":
                works = True
                row.pop(outcome.node, None)
            case "failure":
                row[outcome.node] = row.get(outcome.node, 0) + 1
            case "neither":
                pass
    if not works:
        return ()
    bad = sorted((-count, node) for node, count in row.items() if count >= FAILURES and _NODE.match(node))
    return tuple(sorted(node for _, node in bad[: policy.exclude_nodes]))
