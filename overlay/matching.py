"""
Whether a job and a slot accept each other, as the negotiator would decide it at the moment of the observation.

Both ads carry a Requirements expression; a match needs both to be true with the other ad as TARGET.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from overlay.bulk import BulkMatch, Parts
from overlay.classads import ClassAd, ExprTree, check_bindings, parse_ad, pin_time
from overlay.clauses import Owner, conjuncts_of, failed_clauses
from overlay.errors import AdUnreadable
from overlay.lazyad import LazyAd, job_ad
from overlay.model import Bucket, FailedClause, MatchTable
from overlay.reordered import deciding_conjuncts

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
    return Matcher().table(buckets, slot_ads, now_s=now_s)


@dataclass(slots=True)
class _Job:
    """A job's ad and the clauses that decide about it, for offers and for pilots, with the versions they hold for."""

    ad: LazyAd
    versions: tuple[int, int] = (-1, -1)
    offers: Parts | None = None
    pilots: Parts | None = None


class Matcher:
    """
    Matches from one cycle to the next: what has not changed is not evaluated again.

    Its tables are those of :func:`match_table`; it keeps nothing of jobs and slots that are gone for longer than a
    cycle, but for a bounded number of answers.
    """

    def __init__(self) -> None:
        check_bindings()
        self._jobs: dict[str, _Job] = {}
        # Apart, because pilots come and go and offers stay.
        self._offers, self._pilots = BulkMatch(), BulkMatch()

    def table(self, buckets: Iterable[Bucket], slot_ads: Mapping[str, str], *, now_s: float) -> MatchTable:
        """Match every bucket with every slot ad, as :func:`match_table` does."""
        moment_s = int(now_s)
        ads = {bucket.key: bucket.ad_text for bucket in buckets}
        before, self._jobs = self._jobs, {}
        keys = sorted(slot_ads, key=lambda key: (not key.startswith(OFFER_KEY), key))
        offers = {key: slot_ads[key] for key in keys if key.startswith(OFFER_KEY)}
        pilots = {key: slot_ads[key] for key in keys if not key.startswith(OFFER_KEY)}
        self._offers.update(offers, now_s=moment_s, jobs=len(ads))
        self._pilots.update(pilots, now_s=moment_s, jobs=len(ads))
        rows: dict[str, int] = {}
        versions = self._offers.version, self._pilots.version
        for bucket_key in sorted(ads):
            ad_text = ads[bucket_key]
            job = self._jobs.get(ad_text) or before.get(ad_text) or _Job(ad=job_ad(ad_text))
            self._jobs[ad_text] = job
            rows[bucket_key] = self._row(job, versions, len(offers))
        return MatchTable(
            columns={key: column for column, key in enumerate(keys)},
            rows=rows,
            failed=Reasons(jobs=ads, slots=dict(slot_ads), now_s=moment_s),
        )

    def _row(self, job: _Job, versions: tuple[int, int], offers: int) -> int:
        """The slots that match a job: offers first, then pilots."""
        ad = job.ad
        if not ad.conjuncts():
            return 0
        if job.versions != versions:
            job.versions = versions
            job.offers = self._offers.parts_of(ad) if self._offers.block.keys else None
            job.pilots = self._pilots.parts_of(ad) if self._pilots.block.keys else None
        found = 0
        if job.offers is not None:
            found = self._offers.row(ad, job.offers)
        if job.pilots is not None:
            found |= self._pilots.row(ad, job.pilots) << offers
        ad.forget()
        return found


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
    conjuncts = deciding_conjuncts(ad)
    otherwise = conjuncts[len(conjuncts_of(ad)) :]
    if otherwise:
        ad["Requirements"] = ExprTree(" && ".join(f"({text})" for text in (ad.lookup("Requirements"), *otherwise)))
    return Side(ad=ad, conjuncts=conjuncts)
