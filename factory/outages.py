"""
When a site will be down: no pilot is asked for that could not end before it.

Two sources: windows that the operator wrote for the site, which its scheduler knows nothing of, and reservations of the
whole partition, which the look brings. Before the former, pilots that still wait are taken back too; the latter the
scheduler keeps by itself. Reservations that could not be read are not "none": ``aerotow sites`` says so, and pilots are
asked for, because a pilot too many waits behind the maintenance, while a site whose reservations nobody may read would
never get one.
"""

from __future__ import annotations

from datetime import UTC, datetime

from accounting.model import CancelIntent, PilotRecord
from factory.model import Observation, Outage, Policy, Reason, SitePolicy
from factory.sites.contract import SiteSeen, SiteSight
from glidein.model import Offer


def outage_reason(offer: Offer, site: SitePolicy, sight: SiteSight | None, now_s: float) -> Reason | None:
    """Why a pilot of this offer, were it to start now, would meet an outage; None when it would not."""
    crossed = crossed_window(offer, site, now_s)
    if crossed is not None:
        return _reason(offer, crossed, now_s, owner="operator", source="an outage that the operator has entered")
    if not isinstance(sight, SiteSeen):
        return None
    for closure in sight.closures:
        window = Outage(start_s=closure.start_s, end_s=closure.end_s, why=closure.why)
        if closure.partition == offer.partition and _crosses(offer, window, now_s + sight.clock_offset_s):
            return _reason(offer, window, now_s, owner="site", source=f"no node of partition {offer.partition} is free")
    return None


def crossed_window(offer: Offer, site: SitePolicy, now_s: float) -> Outage | None:
    """The first of the operator's windows that a pilot of this offer, were it to start now, would meet."""
    return min((window for window in site.outages if _crosses(offer, window, now_s)), default=None)


def cancels_before_outages(observation: Observation, policy: Policy, waiting: list[PilotRecord]) -> list[CancelIntent]:
    """Take back those of the waiting pilots that would be running when the operator's outage begins."""
    sites = {site.name: site for site in policy.sites}
    cancels = []
    for pilot in waiting:
        site = sites.get(pilot.offer.site)
        window = None if site is None else crossed_window(pilot.offer, site, observation.now_s)
        if window is not None:
            reason = (
                f"site {pilot.offer.site}: outage from {_utc(window.start_s)} to {_utc(window.end_s)}: {window.why}"
            )
            cancels.append(CancelIntent(pilot_id=pilot.pilot_id, reason=reason))
    return cancels


def _crosses(offer: Offer, window: Outage, now_s: float) -> bool:
    return now_s < window.end_s and now_s + offer.shape.walltime_s > window.start_s


def _reason(offer: Offer, window: Outage, now_s: float, *, owner: str, source: str) -> Reason:
    left_s = int(window.start_s - now_s)
    fits = f"begins in {left_s} s" if left_s > 0 else "has begun"
    text = (
        f"site {offer.site}: {source} from {_utc(window.start_s)} to {_utc(window.end_s)} ({window.why}); it {fits}, "
        f"and a pilot has {offer.shape.walltime_s} s"
    )
    return Reason(code="outage", text=text, allowed=0, owner=owner)


def _utc(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
