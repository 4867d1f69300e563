"""
Whether a job and a slot accept each other, as the negotiator would decide it at the moment of the observation.

Both ads carry a Requirements expression; a match needs both to be true with the other ad as TARGET.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from overlay.classads import ClassAd, check_bindings, parse_ad, pin_time
from overlay.clauses import Owner, conjuncts_of, failed_clauses
from overlay.errors import AdUnreadable
from overlay.model import Bucket, FailedClause, MatchTable

OFFER_KEY = "offer:"
"""Keys of offers begin so; only pairs with an offer are explained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One ad with its clock pinned, and what is wrong with it if it cannot be read."""

    ad: ClassAd
    conjuncts: tuple[str, ...]
    broken: tuple[FailedClause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """
    Why pairs of a match table do not match, worked out when somebody asks.

    Why a running pilot's slot does not match is never worked out: it says nothing about a site.
    """

    jobs: Mapping[str, str]
    """Ads of jobs by bucket key."""
    slots: Mapping[str, str]
    now_s: int
    _sides: dict[tuple[Owner, str], Side] = field(default_factory=dict)

    def __call__(self, bucket: str, slot: str) -> tuple[FailedClause, ...]:
        """The clauses that fail, first the job's, then the slot's."""
        job_side, slot_side = self._side("job", bucket), self._side("slot", slot)
        broken = job_side.broken + slot_side.broken
        if broken or not slot.startswith(OFFER_KEY):
            return broken
        return failed_clauses("job", job_side.ad, slot_side.ad, job_side.conjuncts) + failed_clauses(
            "slot", slot_side.ad, job_side.ad, slot_side.conjuncts
        )

    def _side(self, owner: Owner, key: str) -> Side:
        known = self._sides.get((owner, key))
        if known is None:
            ads = self.jobs if owner == "job" else self.slots
            known = self._sides[owner, key] = prepared(owner, ads[key], self.now_s)
        return known


def match_table(buckets: Iterable[Bucket], slot_ads: Mapping[str, str], *, now_s: float) -> MatchTable:
    """
    Match every bucket with every slot ad.

    ``slot_ads`` maps ``offer:SITE`` or ``pilot:PILOT_ID`` to new-ClassAd text. Its clock is ``now_s``, not the
    machine's, so the table is the same whenever it is made again.
    """
    check_bindings()
    moment_s = int(now_s)
    columns = {key: column for column, key in enumerate(sorted(slot_ads))}
    slots = [(1 << columns[key], prepared("slot", slot_ads[key], moment_s)) for key in columns]
    jobs = {bucket.key: bucket.ad_text for bucket in buckets}
    rows: dict[str, int] = {}
    for key in sorted(jobs):
        job = prepared("job", jobs[key], moment_s)
        rows[key] = sum(bit for bit, slot in slots if sides_match(job, slot))
    return MatchTable(columns=columns, rows=rows, failed=Reasons(jobs=jobs, slots=dict(slot_ads), now_s=moment_s))


def sides_match(job: Side, slot: Side) -> bool:
    """HTCondor's own match of two ads; one that cannot be read matches nothing."""
    return not job.broken and not slot.broken and bool(job.ad.symmetricMatch(slot.ad))


def prepared(owner: Owner, ad_text: str, now_s: int) -> Side:
    """
    Parse an ad and pin its clock.

    One ad that cannot be read matches nothing and says so; it does not take the others with it.
    """
    try:
        ad = parse_ad(pin_time(ad_text, now_s), what=owner)
    except AdUnreadable as error:
        broken = FailedClause(owner=owner, text="the ad cannot be read", values=(("ad", str(error)),))
        return Side(ad=ClassAd(), conjuncts=(), broken=(broken,))
    # Expressions of old style read the clock as an attribute.
    ad["CurrentTime"] = now_s
    return Side(ad=ad, conjuncts=conjuncts_of(ad))
