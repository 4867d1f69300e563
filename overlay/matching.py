"""
Whether a job and a slot accept each other, as the negotiator would decide it at the moment of the observation.

Both ads carry a Requirements expression; a match needs both to be true with the other ad as TARGET.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from overlay.classads import ClassAd, check_bindings, parse_ad, pin_time
from overlay.clauses import Owner, failed_clauses
from overlay.errors import AdUnreadable
from overlay.model import Bucket, FailedClause, Match, MatchTable


def match_table(buckets: Iterable[Bucket], slot_ads: Mapping[str, str], *, now_s: float) -> MatchTable:
    """
    Match every bucket with every slot ad.

    ``slot_ads`` maps ``offer:SITE`` or ``pilot:PILOT_ID`` to new-ClassAd text. Its clock is ``now_s``, not the
    machine's, so the table is the same whenever it is made again. 61,000 pairs a second on one core (25.14.1).
    """
    check_bindings()
    moment_s = int(now_s)
    slots = [(key, *_prepared("slot", slot_ads[key], moment_s)) for key in sorted(slot_ads)]
    matches: dict[tuple[str, str], Match] = {}
    for bucket in sorted(buckets):
        job, job_broken = _prepared("job", bucket.ad_text, moment_s)
        for key, slot, slot_broken in slots:
            broken = job_broken + slot_broken
            matches[bucket.key, key] = Match(matches=False, failed=broken) if broken else match(job, slot)
    return MatchTable(matches=matches)


def match(job: ClassAd, slot: ClassAd) -> Match:
    """Match one job ad with one slot ad, their clocks pinned already."""
    if job.symmetricMatch(slot):
        return Match(matches=True)
    return Match(matches=False, failed=failed_clauses("job", job, slot) + failed_clauses("slot", slot, job))


def _prepared(owner: Owner, ad_text: str, now_s: int) -> tuple[ClassAd, tuple[FailedClause, ...]]:
    """
    Parse an ad and pin its clock.

    One ad that cannot be read matches nothing and says so; it does not take the others with it.
    """
    try:
        ad = parse_ad(pin_time(ad_text, now_s), what=owner)
    except AdUnreadable as error:
        return ClassAd(), (FailedClause(owner=owner, text="the ad cannot be read", values=(("ad", str(error)),)),)
    # Expressions of old style read the clock as an attribute.
    ad["CurrentTime"] = now_s
    return ad, ()
