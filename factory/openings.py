"""What the caps still allow, counted down in place while pilots are asked for, and which site gets the next one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from factory.absorb import Vacancy, fits, new_vacancy
from factory.caps import allowance, total_left, with_new
from factory.model import Policy, Room, ShapePolicy, SiteRoom
from factory.packing import Bits
from factory.placement import preference
from glidein.model import Offer
from overlay.model import Bucket, MatchTable

GPU_IN_CORES = 16
"""An idle GPU is as great a waste as this many idle cores: about what a node's cores are to each of its GPUs."""


@dataclass(slots=True)
class _Site:
    """One site's count-down."""

    room: SiteRoom
    bits: range
    """The bits of its entries."""
    mask: int
    """The same together."""
    preference: tuple[float, str]


class Openings:
    """Every configured offer with the pilots that it may still get."""

    def __init__(self, room: Room, table: MatchTable, policy: Policy) -> None:
        self.asked = 0
        self._policy = policy
        self._left = total_left(room)
        self._sites: list[_Site] = []
        self._entries: list[tuple[int, ShapePolicy]] = []
        self._empty: list[Vacancy] = []
        self._open = 0
        self._bits_of_sites: dict[frozenset[str], int] = {}
        for n, site in enumerate(room.sites):
            first, entries = len(self._entries), site.policy.entries
            mask = ((1 << len(entries)) - 1) << first
            self._sites.append(_Site(site, range(first, first + len(entries)), mask, preference(site, policy)))
            for entry in entries:
                self._entries.append((n, entry))
                self._empty.append(new_vacancy("", entry.offer, policy))
            self._recount(self._sites[n])
        self._order = sorted((site.preference, n) for n, site in enumerate(self._sites))
        self._bits = Bits([table.columns.get(entry.offer.key) for _, entry in self._entries])
        self._table = table

    def candidates(self, bucket: Bucket, closed: frozenset[str]) -> int:
        """The offers that match the bucket and may get a pilot, as bits; 0 where there is none."""
        if self._left <= 0 or not self._open:
            return 0
        found = self._bits.of(self._table.rows.get(bucket.key, 0)) & self._open
        return found & ~self._at(closed) if found and closed else found

    def _at(self, sites: frozenset[str]) -> int:
        """The offers of these sites, as bits."""
        known = self._bits_of_sites.get(sites)
        if known is None:
            known = sum(
                1 << n for n, (site, _) in enumerate(self._entries) if self._sites[site].room.policy.name in sites
            )
            self._bits_of_sites[sites] = known
        return known

    def ask(self, bucket: Bucket, jobs: int, closed: frozenset[str]) -> tuple[Offer, Vacancy] | None:
        """One new pilot for these jobs, at the best site and in the shape that wastes least; None: nobody may."""
        found = self.candidates(bucket, closed)
        if not found:
            return None
        for n in self._in_order(found):
            site = self._sites[n]
            able = [
                (entry, count)
                for entry in site.bits
                if found >> entry & 1 and (count := fits(self._empty[entry], bucket, self._policy.lifetimes)) > 0
            ]
            if able:
                entry = min(able, key=lambda one: self._waste(one[0], bucket, min(jobs, one[1])))[0]
                return self._take(n, entry)
        return None

    def _in_order(self, found: int) -> Iterator[int]:
        """Sites with a candidate, the preferred one first."""
        if found.bit_count() <= _FEW:
            sites = {self._entries[bit][0] for bit in _bits(found)}
            yield from sorted(sites, key=lambda n: self._sites[n].preference)
            return
        for _, n in list(self._order):
            if found & self._sites[n].mask:
                yield n

    def _waste(self, entry: int, bucket: Bucket, jobs: int) -> tuple[int, int, int]:
        """What the jobs would leave idle of such a pilot, in tenths; then the larger shape, then its place."""
        empty = self._empty[entry]
        used = -(-jobs // max(1, empty.time_s // empty.busy_s(bucket)))
        shape = self._entries[entry][1].offer.shape
        whole = shape.cores + GPU_IN_CORES * shape.gpus
        busy = used * (max(1, bucket.cores) + GPU_IN_CORES * bucket.gpus)
        return 10 * (whole - busy) // whole, -shape.cores, entry

    def _take(self, n: int, entry: int) -> tuple[Offer, Vacancy]:
        """Count one pilot."""
        site = self._sites[n]
        site.room = with_new(site.room, entry - site.bits.start)
        self._left -= 1
        self.asked += 1
        old = (site.preference, n)
        del self._order[bisect_left(self._order, old)]
        site.preference = preference(site.room, self._policy)
        insort(self._order, (site.preference, n))
        self._recount(site)
        offer = self._entries[entry][1].offer
        return offer, new_vacancy(f"new-{self.asked}", offer, self._policy)

    def _recount(self, site: _Site) -> None:
        """Which of the site's entries are still open."""
        for n, place in enumerate(site.bits):
            bit = 1 << place
            if allowance(site.room, n) > 0:
                self._open |= bit
            else:
                self._open &= ~bit


_FEW = 16
"""Up to so many candidates are compared themselves; of more the first in the order of all sites is taken."""


def _bits(found: int) -> Iterator[int]:
    while found:
        bit = found & -found
        yield bit.bit_length() - 1
        found ^= bit
