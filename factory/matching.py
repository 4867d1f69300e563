"""Every bucket against every slot that could serve it: the offers of configured sites, and the slots that are there."""

from __future__ import annotations

from collections.abc import Iterable

from factory.model import Observation, Policy
from glidein.slot import offer_ad_text
from overlay.matching import match_table
from overlay.model import Bucket, DemandUnseen, MatchTable, SlotsSeen


def match_observation(observation: Observation, policy: Policy) -> MatchTable:
    """The match table of an observation; its clock is the observation's."""
    return match_table(buckets_of(observation), slot_ads(observation, policy), now_s=observation.now_s)


def match_with(observation: Observation, policy: Policy, buckets: Iterable[Bucket]) -> MatchTable:
    """The same for an observation with other buckets, for example one job that somebody asks about."""
    return match_table((*buckets_of(observation), *buckets), slot_ads(observation, policy), now_s=observation.now_s)


def buckets_of(observation: Observation) -> tuple[Bucket, ...]:
    """All buckets that were seen."""
    return tuple(
        bucket for demand in observation.demands if not isinstance(demand, DemandUnseen) for bucket in demand.buckets
    )


def slot_ads(observation: Observation, policy: Policy) -> dict[str, str]:
    """Ads by slot key: ``offer:SITE`` for every configured site, ``pilot:ID`` for every slot in the pool."""
    ads = {
        f"offer:{site.name}": offer_ad_text(site.offer, now_s=int(observation.now_s), lifetimes=policy.lifetimes)
        for site in policy.sites
    }
    if isinstance(observation.slots, SlotsSeen):
        ads.update({f"pilot:{slot.pilot_id}": slot.ad_text for slot in observation.slots.slots})
    return ads
