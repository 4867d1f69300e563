"""Every bucket against every slot that could serve it: the offers of configured sites, and the slots that are there."""

from __future__ import annotations

from factory.model import Observation, Policy
from glidein.epconfig import PoolFacts
from glidein.slot import offer_ad_text
from overlay.matching import Matcher, match_table
from overlay.model import Bucket, DemandUnseen, MatchTable, SlotsSeen


def match_observation(observation: Observation, policy: Policy) -> MatchTable:
    """The match table of an observation; its clock is the observation's."""
    return match_table(buckets_of(observation), slot_ads(observation, policy), now_s=observation.now_s)


class ObservationMatcher:
    """:func:`match_observation` for one cycle after the other: what has not changed is not worked out again."""

    def __init__(self) -> None:
        self._matcher = Matcher()

    def __call__(self, observation: Observation, policy: Policy) -> MatchTable:
        """The match table of an observation."""
        return self._matcher.table(buckets_of(observation), slot_ads(observation, policy), now_s=observation.now_s)


def buckets_of(observation: Observation) -> tuple[Bucket, ...]:
    """All buckets that were seen."""
    return tuple(
        bucket for demand in observation.demands if not isinstance(demand, DemandUnseen) for bucket in demand.buckets
    )


def slot_ads(observation: Observation, policy: Policy) -> dict[str, str]:
    """Ads by slot key: that of every configured offer, and ``pilot:ID`` for every slot in the pool."""
    facts = policy.slot_facts
    ads = {
        entry.offer.key: offer_ad_text(
            offer=entry.offer,
            lifetimes=policy.lifetimes,
            # The collector's address is in no slot ad.
            pool=PoolFacts(collector="", trust_domain=facts.trust_domain),
            condor_version=facts.condor_version,
            now_s=int(observation.now_s),
        )
        for site in policy.sites
        for entry in site.entries
    }
    if isinstance(observation.slots, SlotsSeen):
        ads.update({f"pilot:{slot.pilot_id}": slot.ad_text for slot in observation.slots.slots})
    return ads
