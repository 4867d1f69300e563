"""
Jobs into pilots: first fit over the pilots that there are.

It works in bits, so that ten thousand kinds of jobs meet thousands of pilots without asking each pair.

The stock changes in place: every bucket pours into it, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from factory.absorb import Vacancy, fits, need_s, needs
from glidein.model import Lifetimes
from overlay.model import Bucket, MatchTable


class Bits:
    """
    Picks bits of a match table's rows and puts them into an order of our own.

    ``columns`` gives, for each bit of ours, the bit of the row; None: never set.
    """

    def __init__(self, columns: Sequence[int | None]) -> None:
        self._width = 1 + max((column for column in columns if column is not None), default=0)
        # Digits of a text, the most significant first: a row of 4,000 bits takes 0.1 ms so, and 1.5 ms bit by bit.
        places = [self._width if column is None else self._width - 1 - column for column in reversed(columns)]
        self._pick = itemgetter(*places) if len(places) > 1 else None
        self._places = places
        self._mask = (1 << self._width) - 1
        self._known: dict[int, int] = {}

    def of(self, row: int) -> int:
        """Our bits of one row."""
        known = self._known.get(row)
        if known is None:
            digits = format(row & self._mask, f"0{self._width}b") + "0"
            picked = self._pick(digits) if self._pick else tuple(digits[place] for place in self._places)
            known = int("".join(picked) or "0", 2)
            self._known[row] = known
        return known


FEW = 24
"""
Up to so many places are asked one by one; for more the whole row is put into our order, which takes as long as some
hundred questions and is kept.
"""


class _Levels:
    """Which places have how much of one thing left, by powers of two: a place with less than needed may be named."""

    def __init__(self) -> None:
        self._masks: list[int] = [0]

    def set(self, place: int, before: int, now: int) -> None:
        """The place has ``now`` left instead of ``before``."""
        old, new = max(0, before).bit_length(), max(0, now).bit_length()
        if old == new:
            return
        bit = 1 << place
        while len(self._masks) <= new:
            self._masks.append(0)
        for level in range(old + 1, new + 1):
            self._masks[level] |= bit
        for level in range(new + 1, old + 1):
            self._masks[level] &= ~bit

    def at_least(self, need: int) -> int:
        """Every place that has as much, and some that have nearly as much."""
        level = need.bit_length()
        return self._masks[level] if level < len(self._masks) else 0


class Stock:
    """All vacancies in the order in which they get jobs; new pilots come to the end."""

    def __init__(self, vacancies: Iterable[Vacancy], table: MatchTable, lifetimes: Lifetimes) -> None:
        self.vacancies: list[Vacancy] = []
        self._table = table
        self._lifetimes = lifetimes
        self._columns: list[int | None] = []
        self._lefts: list[tuple[int, ...]] = []
        self._sites: dict[str, int] = {}
        self._out = 0
        self._levels = tuple(_Levels() for _ in range(12))
        """As :func:`_left` has it: four of what is free, four of the time that is left, four of the work."""
        self._fluid = False
        """Whether work is anything else than what is free."""
        self._lives = _Levels()
        for vacancy in vacancies:
            self._put(vacancy)
        self._bits, self._sorted = Bits(self._columns), len(self._columns)

    def add(self, vacancy: Vacancy, bucket: Bucket, jobs: int) -> int:
        """A new pilot for jobs of a bucket: how many of them it takes."""
        self._put(vacancy)
        taken = min(jobs, fits(vacancy, bucket, self._lifetimes))
        self._take(len(self.vacancies) - 1, bucket, taken)
        return taken

    def absorb(self, bucket: Bucket, jobs: int, closed: frozenset[str]) -> Iterator[tuple[Vacancy, int]]:
        """
        Give jobs of the bucket to the vacancies, first come first served: who takes how many.

        ``closed`` are sites whose own admin keeps the jobs out.
        """
        places = self._able(bucket, closed)
        while places and jobs > 0:
            bit = places & -places
            places ^= bit
            place = bit.bit_length() - 1
            vacancy = self.vacancies[place]
            taken = min(jobs, fits(vacancy, bucket, self._lifetimes))
            if taken > 0:
                jobs -= taken
                self._take(place, bucket, taken)
                yield vacancy, taken

    def absorb_at_each_site(self, bucket: Bucket, jobs: int, closed: frozenset[str]) -> Iterator[Vacancy]:
        """Give the same jobs to each site's vacancies, as if there were no other site: who takes any."""
        places = self._able(bucket, closed)
        left: dict[str, int] = {}
        while places:
            bit = places & -places
            places ^= bit
            place = bit.bit_length() - 1
            vacancy = self.vacancies[place]
            here = left.get(vacancy.site, jobs)
            taken = min(here, fits(vacancy, bucket, self._lifetimes))
            if taken > 0:
                left[vacancy.site] = here - taken
                self._take(place, bucket, taken)
                yield vacancy
            if taken == here:
                places &= ~self._sites[vacancy.site]

    def leave_out(self, pilots: frozenset[str]) -> None:
        """These get no more jobs."""
        for place, vacancy in enumerate(self.vacancies):
            if vacancy.pilot_id in pilots:
                self._out |= 1 << place

    def _able(self, bucket: Bucket, closed: frozenset[str]) -> int:
        """Places that match and have what is needed, or nearly; most kinds find none left, so this is asked first."""
        places = self._lives.at_least(max(0, need_s(bucket, self._lifetimes))) & ~self._out
        expected_s = bucket.expected_s
        for thing, need in enumerate(needs(bucket)):
            if need > 0 and places:
                places &= self._levels[thing].at_least(need)
                if self._fluid:
                    # A job takes its own time, or all that the pilot has where that is less.
                    enough = self._levels[thing + 4].at_least(need)
                    if expected_s is not None:
                        enough |= self._levels[thing + 8].at_least(need * max(1, expected_s))
                    places &= enough
        for site in closed:
            places &= ~self._sites.get(site, 0)
        return self._matching(places, self._table.rows.get(bucket.key, 0)) if places else 0

    def _matching(self, places: int, row: int) -> int:
        """Those of the places that match."""
        if places.bit_count() <= FEW:
            return self._asked(places, row)
        if len(self._columns) - self._sorted > FEW:
            self._bits, self._sorted = Bits(self._columns), len(self._columns)
        late = places >> self._sorted << self._sorted
        return self._asked(late, row) | places & self._bits.of(row)

    def _asked(self, places: int, row: int) -> int:
        """The same, each place asked by itself."""
        found = 0
        while places:
            bit = places & -places
            places ^= bit
            column = self._columns[bit.bit_length() - 1]
            if column is not None and row >> column & 1:
                found |= bit
        return found

    def _put(self, vacancy: Vacancy) -> None:
        """One more to the end."""
        place, left = len(self.vacancies), _left(vacancy)
        self._fluid |= vacancy.time_s > 1
        self.vacancies.append(vacancy)
        self._columns.append(_column(vacancy, self._table))
        self._lefts.append(left)
        self._sites[vacancy.site] = self._sites.get(vacancy.site, 0) | 1 << place
        self._lives.set(place, 0, int(vacancy.life_s))
        for level, has in zip(self._levels, left, strict=True):
            level.set(place, 0, has)

    def _take(self, place: int, bucket: Bucket, jobs: int) -> None:
        vacancy, before = self.vacancies[place], self._lefts[place]
        vacancy.take(bucket, jobs)
        now = self._lefts[place] = _left(vacancy)
        for level, old, new in zip(self._levels, before, now, strict=True):
            if old != new:
                level.set(place, old, new)


def _left(vacancy: Vacancy) -> tuple[int, ...]:
    """Of cores, memory, disk and GPUs: what is free at a time, what one could have all the time, and the work left."""
    cores, memory, disk, gpus = vacancy.work
    time_s = vacancy.time_s
    return (
        vacancy.cores,
        vacancy.memory_mib,
        vacancy.disk_mib,
        vacancy.gpus,
        cores // time_s,
        memory // time_s,
        disk // time_s,
        gpus // time_s,
        cores,
        memory,
        disk,
        gpus,
    )


def _column(vacancy: Vacancy, table: MatchTable) -> int | None:
    """The column that speaks for a vacancy."""
    for key in vacancy.slot_keys:
        column = table.columns.get(key)
        if column is not None:
            return column
    return None
