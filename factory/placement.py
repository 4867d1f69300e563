"""Which site is asked first: the operator's policy, corrected by how the sites' queues treat our pilots."""

from __future__ import annotations

from factory.model import Policy, SiteRoom

KAPPA = 0.5
"""
How much a full queue of ours weighs against a full site: facts on placement, 5.5. At 0 the queue does not count; large
values spread whatever the policy says.
"""


def preference(site: SiteRoom, policy: Policy) -> tuple[float, str]:
    """Sort key: the site with the least is asked first; ties by name."""
    name = site.policy.name
    held = site.open + site.new
    match policy.placement:
        case "spread":
            filled = held / max(1, site.policy.max_pilots)
        case "fill":
            # One after the other, in the order in which they are preferred.
            filled = -float(site.policy.weight) if site.policy.weight != 1 else 0.0
        case "weights":
            filled = held / max(1, site.policy.weight)
    return filled + KAPPA * waiting(site, policy), name


def waiting(site: SiteRoom, policy: Policy) -> float:
    """
    How badly the site's queue treats our pilots: 0 where none has waited long, up to 1.

    Pilots that have just been asked for say nothing yet, so a site is not shunned for having been asked.
    """
    if site.wait_s <= policy.wait_noticed_s or not site.pending:
        return 0.0
    late = 1 - policy.wait_noticed_s / site.wait_s
    return late * min(1.0, site.pending / max(1, site.policy.max_pending))
