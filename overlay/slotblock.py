"""Slots side by side: what they say of an attribute, and which of them say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overlay.forms import is_literal
from overlay.lazyad import MOVING, LazyAd, SlotAds

WHOLE = ("*",)
"""In the place of names: the whole text of the ad."""

Values = tuple[str | None, ...]
"""Texts of attributes, None where there is none."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What all slots together say of a name."""

    some: bool
    every: bool
    expressions: frozenset[str]
    """Texts that are no plain values."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Slots by what they say under some names."""

    bits: Mapping[Values, int]
    first: Mapping[Values, int]
    """The column of one slot of each group."""


class SlotBlock:
    """Slots in columns from 0; what is asked is kept until a slot changes what it says of it."""

    def __init__(self) -> None:
        self.keys: tuple[str, ...] = ()
        self.ads: list[LazyAd] = []
        self.readable = 0
        """Slots that have Requirements at all."""
        self.clauses: dict[str, int] = {}
        """Which slots have this conjunct in their Requirements."""
        self.schema_version = 0
        """Grows when expressions may reach other attributes than before."""
        self._reader = SlotAds()
        self._columns: dict[str, list[str | None]] = {}
        self._schemas: dict[str, Schema] = {}
        self._groups: dict[tuple[tuple[str, ...], int], Groups] = {}
        self._stale: dict[tuple[tuple[str, ...], int], Groups] = {}

    def update(self, slot_ads: Mapping[str, str]) -> None:
        """Take the slots of another moment, sorted by key."""
        ads = self._reader.read(slot_ads)
        keys = tuple(slot_ads)
        still = keys == self.keys and all(
            new is old or (new.template is not None and new.template is old.template)
            for new, old in zip(ads, self.ads, strict=True)
        )
        self.keys, self.ads = keys, ads
        if not still:
            self._find_clauses()
        moved = frozenset(MOVING) if still else frozenset(self._columns)
        for name in moved & self._columns.keys():
            del self._columns[name]
        before = self._schemas
        self._schemas = {}
        for name, schema in before.items():
            if still and name not in moved:
                self._schemas[name] = schema
            elif self.schema(name) != schema:
                self.schema_version += 1
        stale = {
            key: groups
            for key, groups in self._groups.items()
            if not still or key[0] == WHOLE or not moved.isdisjoint(key[0])
        }
        self._groups = {key: groups for key, groups in self._groups.items() if key not in stale}
        self._stale = stale

    def schema(self, name: str) -> Schema:
        """What the slots say of a name; from then on it is watched."""
        known = self._schemas.get(name)
        if known is None:
            texts = set(self._column(name))
            known = self._schemas[name] = Schema(
                some=texts != {None} and bool(texts),
                every=None not in texts,
                expressions=frozenset(text for text in texts if text is not None and not is_literal(text)),
            )
        return known

    def groups(self, names: tuple[str, ...], scope: int) -> Groups:
        """The slots in scope by what they say under these names; the same object while nothing of it changes."""
        known = self._groups.get((names, scope))
        if known is not None:
            return known
        bits: dict[Values, int] = {}
        first: dict[Values, int] = {}
        if names == WHOLE:
            texts: list[Values] = [(ad.text,) for ad in self.ads]
        else:
            columns = [self._column(name) for name in names]
            texts = list(zip(*columns, strict=True)) if columns else [()] * len(self.ads)
        for column, values in enumerate(texts):
            if scope >> column & 1:
                bits[values] = bits.get(values, 0) | 1 << column
                first.setdefault(values, column)
        found = Groups(bits=bits, first=first)
        before = self._stale.get((names, scope))
        self._groups[names, scope] = before if before is not None and before.bits == bits else found
        return self._groups[names, scope]

    def _column(self, name: str) -> list[str | None]:
        known = self._columns.get(name)
        if known is None:
            known = self._columns[name] = [ad.text_of(name) for ad in self.ads]
        return known

    def _find_clauses(self) -> None:
        """Which conjunct stands in which slots' Requirements."""
        before, self.clauses = self.clauses, {}
        self.readable = 0
        for column, ad in enumerate(self.ads):
            conjuncts = ad.conjuncts()
            if conjuncts:
                self.readable |= 1 << column
            for text in conjuncts:
                self.clauses[text] = self.clauses.get(text, 0) | 1 << column
        if before.keys() != self.clauses.keys():
            self.schema_version += 1
