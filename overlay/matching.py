"""
Whether a job and a slot accept each other, as the negotiator would decide it at the moment of the observation.

Both ads carry a Requirements expression; a match needs both to be true with the other ad as TARGET.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from overlay.classads import ClassAd, check_bindings, parse_ad, pin_time
from overlay.clauses import Owner, conjuncts_of, failed_clauses
from overlay.errors import AdUnreadable
from overlay.model import Bucket, FailedClause, Match, MatchTable

OFFER_KEY = "offer:"
"""Keys of offers begin so; only pairs with an offer are explained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One ad with its clock pinned, and what is wrong with it if it cannot be read."""

    ad: ClassAd
    conjuncts: tuple[str, ...]
    broken: tuple[FailedClause, ...] = ()


def match_table(buckets: Iterable[Bucket], slot_ads: Mapping[str, str], *, now_s: float) -> MatchTable:
    """
    Match every bucket with every slot ad.

    ``slot_ads`` maps ``offer:SITE`` or ``pilot:PILOT_ID`` to new-ClassAd text. Its clock is ``now_s``, not the
    machine's, so the table is the same whenever it is made again. Why a running pilot's slot does not match is not
    worked out: it says nothing about a site, and costs some twenty times what the match does (25.14.1, measured).
    """
    check_bindings()
    moment_s = int(now_s)
    slots = [(key, _prepared("slot", slot_ads[key], moment_s)) for key in sorted(slot_ads)]
    matches: dict[tuple[str, str], Match] = {}
    for bucket in sorted(buckets):
        job = _prepared("job", bucket.ad_text, moment_s)
        for key, slot in slots:
            matches[bucket.key, key] = _match(job, slot, explained=key.startswith(OFFER_KEY))
    return MatchTable(matches=matches)


def _match(job: _Side, slot: _Side, *, explained: bool) -> Match:
    broken = job.broken + slot.broken
    if broken:
        return Match(matches=False, failed=broken)
    if job.ad.symmetricMatch(slot.ad):
        return Match(matches=True)
    if not explained:
        return Match(matches=False)
    return Match(
        matches=False,
        failed=failed_clauses("job", job.ad, slot.ad, job.conjuncts)
        + failed_clauses("slot", slot.ad, job.ad, slot.conjuncts),
    )


def _prepared(owner: Owner, ad_text: str, now_s: int) -> _Side:
    """
    Parse an ad and pin its clock.

    One ad that cannot be read matches nothing and says so; it does not take the others with it.
    """
    try:
        ad = parse_ad(pin_time(ad_text, now_s), what=owner)
    except AdUnreadable as error:
        broken = FailedClause(owner=owner, text="the ad cannot be read", values=(("ad", str(error)),))
        return _Side(ad=ClassAd(), conjuncts=(), broken=(broken,))
    # Expressions of old style read the clock as an attribute.
    ad["CurrentTime"] = now_s
    return _Side(ad=ad, conjuncts=conjuncts_of(ad))
