"""
One conjunct of a Requirements expression against all slots at once.

The value of a conjunct depends on nothing but the attributes that it reaches in the two ads, so it is worked out once
for each different set of their texts: on real ads, by the bindings. A comparison of something of the job with something
of the slot needs even less: both sides are evaluated by the bindings, each once for each different set of texts, and
the values are compared in :mod:`overlay.valueindex`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from overlay.classads import ClassAd, pin_time
from overlay.clauses import Owner, parsed
from overlay.forms import Comparison, Either, form_of, is_literal, syntax_of
from overlay.lazyad import MOVING, LazyAd
from overlay.slotblock import WHOLE, Groups, SlotBlock, Values
from overlay.valueindex import FLIPPED, NOTHING, Bits, ValueIndex, kind_of, literal_of

KEPT_MAX = 100_000
"""Answers that are kept, besides some for each kind of job; beyond that all are worked out again."""

SIDES_MAX = 500
"""Sides of comparisons that are kept; some hundred kilobytes each where there are thousands of pilots."""

CELLS_MAX = 50_000
"""Single answers that one conjunct keeps for a cycle in which the slots have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What an expression reads, through other attributes too."""

    job_names: tuple[str, ...]
    slot_names: tuple[str, ...]
    reads_job: bool
    """False when the job has none of its names."""
    opaque: bool
    """It may read anything, or reads the clock through an attribute."""


def reach_of(expression: str, owner: Owner, job: LazyAd, block: SlotBlock) -> Reach:
    """Follow an expression of ``owner`` through this job's attributes and those of all slots."""
    syntax = syntax_of(expression)
    opaque = syntax.opaque
    job_names: dict[str, str | None] = {}
    slot_names: dict[str, bool] = {}
    todo: list[tuple[Owner, str, str]] = [(owner, scope, name) for scope, name in syntax.reads]
    while todo:
        at, scope, name = todo.pop()
        for side in _sides(at, scope, name, job, block):
            if side == "job" and name not in job_names:
                text = job_names[name] = job.text_of(name)
                texts = [] if text is None or is_literal(text) else [text]
            elif side == "slot" and name not in slot_names:
                schema = block.schema(name)
                slot_names[name] = schema.some
                texts = sorted(schema.expressions)
            else:
                continue
            for inner in map(syntax_of, texts):
                opaque |= inner.opaque or inner.clock
                todo += [(side, inner_scope, inner_name) for inner_scope, inner_name in inner.reads]
    return Reach(
        job_names=tuple(sorted(job_names)),
        slot_names=tuple(sorted(name for name, some in slot_names.items() if some)),
        reads_job=any(text is not None for text in job_names.values()),
        opaque=opaque,
    )


def _sides(at: Owner, scope: str, name: str, job: LazyAd, block: SlotBlock) -> tuple[Owner, ...]:
    """Whose attribute a name may be: a bare one is looked for in its own ad first, then in the other."""
    other: Owner = "slot" if at == "job" else "job"
    if scope == "my":
        return (at,)
    if scope == "target":
        return (other,)
    own = job.text_of(name) is not None if at == "job" else block.schema(name).every
    return (at,) if own else (at, other)


class SlotSide:
    """One side of comparisons: an expression that reads slots only, and its values, shared by all who compare it."""

    def __init__(self) -> None:
        self.index = ValueIndex(())
        self.odd: list[tuple[Values, int]] = []
        """Groups whose value cannot be written down."""
        self._groups: Groups | None = None
        self._now_s = 0
        self._values: dict[Values, object] = {}

    def update(self, groups: Groups, now_s: int, value: Callable[[Values], object]) -> None:
        """Take the values of another moment, if there is anything new; ``now_s`` is 0 where it reads no clock."""
        if groups is self._groups and now_s == self._now_s:
            return
        before = self._values if now_s == self._now_s else {}
        self._groups, self._now_s = groups, now_s
        self._values = {values: before[values] if values in before else value(values) for values in groups.bits}
        plain = [(value, groups.bits[values]) for values, value in self._values.items() if literal_of(value)]
        self.odd = [(values, groups.bits[values]) for values, value in self._values.items() if not literal_of(value)]
        self.index = ValueIndex(plain)


Sides = dict[tuple[object, ...], SlotSide]
"""By owner, text, names and scope."""


class Leaf:
    """An expression, the texts on which its value depends, and its values so far."""

    def __init__(self, text: str, owner: Owner, block: SlotBlock, reach: Reach) -> None:
        self.text = text
        self.job_names = WHOLE if reach.opaque else reach.job_names
        self._slot_names = WHOLE if reach.opaque else reach.slot_names
        self._owner: Owner = owner
        self._block = block
        self._opaque = reach.opaque
        self._clock = reach.opaque or syntax_of(text).clock
        self.moves = self._clock or not frozenset(MOVING).isdisjoint(reach.slot_names)
        self._split: tuple[str, str, str] | None = None
        self._scope = 0
        self._now_s = 0
        self._groups: Groups | None = None
        self._rows: dict[Values, Bits] = {}
        self._cells: dict[Values, dict[Values, int]] = {}
        self._job_values: dict[Values, tuple[object, str | None]] = {}
        self._sides: Sides = {}
        self._side: SlotSide | None = None

    def split(self, operator: str, job_side: str, slot_side: str, sides: Sides) -> None:
        """Say that it is ``job_side operator slot_side``, where each side reads its own ad only."""
        self._split = (operator, job_side, slot_side)
        self._sides = sides

    def refresh(self, scope: int, now_s: int) -> bool:
        """Let go of what no longer holds; whether there was anything."""
        # It may be nobody's any more.
        self._side = None
        groups = self._block.groups(self._slot_names, scope)
        moved = self._clock and now_s != self._now_s
        if groups is self._groups and scope == self._scope and not moved:
            return False
        self._scope, self._now_s, self._groups = scope, now_s, groups
        self._rows.clear()
        if moved:
            self._cells.clear()
            if self._split is None or syntax_of(self._split[1]).clock:
                self._job_values.clear()
        return True

    def values_of(self, job: LazyAd) -> Values:
        """The job's texts on which it depends."""
        return (job.text,) if self.job_names is WHOLE else tuple(map(job.text_of, self.job_names))

    def bits(self, values: Values, job: LazyAd) -> Bits:
        """Where it is true and where it is an error, for a job with these texts."""
        found = self._rows.get(values)
        if found is None:
            found = self._rows[values] = self.worked_out(values, job)
        return found

    def worked_out(self, values: Values, job: LazyAd) -> Bits:
        """The same, and it is not kept."""
        return self._split_bits(values, job) if self._split else self._plain_bits(values, job)

    def _plain_bits(self, values: Values, job: LazyAd) -> Bits:
        assert self._groups is not None
        cells = self._cells.get(values)
        if cells is None:
            cells = {}
            if (len(self._cells) + 1) * len(self._groups.bits) <= CELLS_MAX:
                self._cells[values] = cells
        true = error = 0
        for slot_values, bits in self._groups.bits.items():
            kind = cells.get(slot_values)
            if kind is None:
                kind = cells[slot_values] = kind_of(self._evaluated(self.text, job, slot_values))
            if kind == 1:
                true |= bits
            elif kind == 2:
                error |= bits
        return true, error

    def _split_bits(self, values: Values, job: LazyAd) -> Bits:
        assert self._groups is not None
        assert self._split is not None
        if not self._groups.bits:
            return NOTHING
        operator, job_side, _ = self._split
        known = self._job_values.get(values)
        if known is None:
            value = self._evaluated(job_side, job, next(iter(self._groups.bits)))
            known = self._job_values[values] = value, literal_of(value)
        value, text = known
        if text is None:
            return self._plain_bits(values, job)
        side = self._side = self._side or self._slot_side(job)
        true, error = side.index.bits(operator, value, text)
        for slot_values, bits in side.odd:
            kind = kind_of(self._evaluated(self.text, job, slot_values))
            true |= bits if kind == 1 else 0
            error |= bits if kind == 2 else 0
        return true, error

    def _slot_side(self, job: LazyAd) -> SlotSide:
        """The values of all slots, up to date."""
        assert self._groups is not None
        assert self._split is not None
        text = self._split[2]
        key = (self._owner, text, self._slot_names, self._scope)
        side = self._sides.get(key)
        if side is None:
            side = self._sides[key] = SlotSide()
        now_s = self._now_s if syntax_of(text).clock else 0
        side.update(self._groups, now_s, lambda values: self._evaluated(text, job, values))
        return side

    def _evaluated(self, text: str, job: LazyAd, slot_values: Values) -> object:
        """Value of an expression on the job and a slot that has these texts."""
        assert self._groups is not None
        slot = self._block.ads[self._groups.first[slot_values]]
        if self._opaque:
            job_ad, slot_ad = job.pinned(self._now_s), slot.pinned(self._now_s)
        else:
            job_ad, slot_ad = job.ad(), slot.ad()
        own, other = (job_ad, slot_ad) if self._owner == "job" else (slot_ad, job_ad)
        return value_of(pin_time(text, self._now_s) if self._clock else text, own, other)


def value_of(expression: str, own: ClassAd, other: ClassAd) -> object:
    """Value of an expression in the scope of one ad with the other as TARGET."""
    tree = parsed(expression)
    assert tree is not None, expression
    return tree.eval(scope=own, target=other)


class Cell:
    """What one clause says for jobs with the same texts: the slots that it lets have them."""

    __slots__ = ("bits", "clause", "values")

    def __init__(self, clause: Clause, values: tuple[Values, ...]) -> None:
        self.clause = clause
        self.values = values
        self.bits: int | None = None

    def fill(self, job: LazyAd) -> int:
        """Work it out on one of these jobs."""
        self.bits = found = self.clause.bits(job, self.values)
        return found


class Clause:
    """One conjunct: a leaf, or leaves joined by ``||``; and where the slots are to which it does not apply."""

    def __init__(self, owner: Owner, text: str, leaves: tuple[Leaf, ...]) -> None:
        self.owner: Owner = owner
        self.text = text
        self.cells: dict[tuple[Values, ...], Cell] = {}
        """By the job's texts on which it depends."""
        self.constant = all(leaf.job_names == () for leaf in leaves)
        self.moves = any(leaf.moves for leaf in leaves)
        """Whether it may change from one cycle to the next by nothing but time."""
        self._leaves = leaves
        self._outside = 0

    def refresh(self, block: SlotBlock, now_s: int) -> bool:
        """Let go of what no longer holds; whether there was anything."""
        scope = block.readable if self.owner == "job" else block.clauses[self.text]
        outside = block.readable & ~scope
        changed = outside != self._outside
        for leaf in self._leaves:
            changed |= leaf.refresh(scope, now_s)
        self._outside = outside
        if changed:
            for cell in self.cells.values():
                cell.bits = None
        return changed

    def cell(self, job: LazyAd) -> Cell:
        """The cell of a job."""
        values = tuple(leaf.values_of(job) for leaf in self._leaves)
        known = self.cells.get(values)
        if known is None:
            known = self.cells[values] = Cell(self, values)
        return known

    def bits(self, job: LazyAd, values: tuple[Values, ...]) -> int:
        """The slots that it lets have a job, which says ``values`` to its leaves."""
        if len(self._leaves) == 1:
            # The cell keeps it; nobody else asks this leaf.
            return self._leaves[0].worked_out(values[0], job)[0] | self._outside
        true = error = 0
        for leaf, leaf_values in zip(self._leaves, values, strict=True):
            leaf_true, leaf_error = leaf.bits(leaf_values, job)
            # An operand that is an error makes the whole one, whatever follows.
            true |= leaf_true & ~error
            error |= leaf_error & ~true
        return true | self._outside


def clause_of(text: str, owner: Owner, job: LazyAd, block: SlotBlock, sides: Sides) -> Clause:
    """Work out how a conjunct is evaluated for jobs like this one."""
    form = form_of(text)
    if not isinstance(form, Either):
        return Clause(owner, text, (_leaf_of(text, owner, job, block, sides),))
    return Clause(owner, text, tuple(_leaf_of(operand, owner, job, block, sides) for operand in form.operands))


def _leaf_of(text: str, owner: Owner, job: LazyAd, block: SlotBlock, sides: Sides) -> Leaf:
    leaf = Leaf(text, owner, block, reach_of(text, owner, job, block))
    form = form_of(text)
    if leaf.job_names is WHOLE or not isinstance(form, Comparison):
        return leaf
    left, right = (reach_of(side, owner, job, block) for side in (form.left, form.right))
    is_list = form.operator.startswith("string")
    if not left.slot_names and not right.reads_job:
        leaf.split(f"in {form.operator}" if is_list else form.operator, form.left, form.right, sides)
    elif not right.slot_names and not left.reads_job:
        leaf.split(f"has {form.operator}" if is_list else FLIPPED[form.operator], form.right, form.left, sides)
    return leaf


_REACHES_FURTHER = None
"""In the place of a clause: which one it is depends on more of the job than the names in its text."""


class Common:
    """Cells that many jobs share, because they say the same for all: their bits are put together once."""

    __slots__ = ("_bits", "cells")

    def __init__(self, cells: tuple[Cell, ...]) -> None:
        self.cells = cells
        self._bits: int | None = None

    def forget(self) -> None:
        """Put them together again when asked next."""
        self._bits = None

    def bits(self, job: LazyAd, readable: int) -> int:
        """The slots that all of them let have the job."""
        if self._bits is None:
            self._bits = readable
            for cell in self.cells:
                self._bits &= cell.fill(job) if cell.bits is None else cell.bits
        return self._bits


@dataclass(slots=True)
class Parts:
    """What decides about a job: the cells that it shares with most, and its own."""

    common: Common
    steady: tuple[Cell, ...]
    """Cells that time alone does not change."""
    moving: tuple[Cell, ...]
    known: int = -1
    """When the steady ones were put together."""
    bits: int = 0


class BulkMatch:
    """All conjuncts of both sides for one block of slots; what holds from one cycle to the next is kept."""

    def __init__(self) -> None:
        self.block = SlotBlock()
        self.version = 0
        """Grows when the parts of a job must be found again."""
        self._schema_version = 0
        self._now_s = 0
        self._clauses: dict[tuple[object, ...], Clause | None] = {}
        self._steady = 0
        """Grows when a clause changes that time alone does not change."""
        self._commons: dict[tuple[int, ...], Common] = {}
        self._sides: Sides = {}

    def update(self, slot_ads: Mapping[str, str], *, now_s: int, jobs: int) -> None:
        """Take the slots of another moment, in their order; ``jobs`` are the kinds that will be asked about."""
        self.block.update(slot_ads)
        self._now_s = now_s
        kept = len(self._commons) + sum(
            1 + len(clause.cells) for clause in self._clauses.values() if clause is not None
        )
        if self.block.schema_version != self._schema_version or kept > KEPT_MAX + 60 * jobs:
            self._schema_version = self.block.schema_version
            self.version += 1
            for memory in (self._clauses, self._commons, self._sides):
                memory.clear()
        if len(self._sides) > SIDES_MAX:
            self._sides.clear()
        for clause in self._clauses.values():
            if clause is not None and clause.refresh(self.block, now_s) and not clause.moves:
                self._steady += 1
        for common in self._commons.values():
            common.forget()

    def parts_of(self, job: LazyAd) -> Parts:
        """The clauses that decide about a job, with its texts."""
        owned: list[tuple[Owner, str]] = [("job", text) for text in job.conjuncts()]
        owned += [("slot", text) for text in self.block.clauses]
        cells = [self._clause(owner, text, job).cell(job) for owner, text in owned]
        shared = tuple(cell for cell in cells if cell.clause.constant)
        key = tuple(map(id, shared))
        common = self._commons.get(key)
        if common is None:
            common = self._commons[key] = Common(shared)
        own = [cell for cell in cells if not cell.clause.constant]
        return Parts(
            common=common,
            steady=tuple(cell for cell in own if not cell.clause.moves),
            moving=tuple(cell for cell in own if cell.clause.moves),
        )

    def row(self, job: LazyAd, parts: Parts) -> int:
        """The slots that match a job."""
        if parts.known != self._steady:
            parts.known = self._steady
            parts.bits = _all_of(parts.steady, job, -1)
        return _all_of(parts.moving, job, parts.common.bits(job, self.block.readable) & parts.bits)

    def _clause(self, owner: Owner, text: str, job: LazyAd) -> Clause:
        """The clause for jobs that have the same of its names, and the same expressions under them."""
        names = tuple(name for _, name in syntax_of(text).reads)
        key: tuple[object, ...] = (owner, text, _kinds(names, job))
        known = self._clauses.get(key)
        if known is not None:
            return known
        if key in self._clauses:
            further = reach_of(text, owner, job, self.block).job_names
            wide = (*key, further, _kinds(further, job))
            known = self._clauses.get(wide)
            if known is None:
                known = self._clauses[wide] = self._new_clause(owner, text, job)
            return known
        if set(reach_of(text, owner, job, self.block).job_names) <= set(names):
            found = self._clauses[key] = self._new_clause(owner, text, job)
            return found
        self._clauses[key] = _REACHES_FURTHER
        return self._clause(owner, text, job)

    def _new_clause(self, owner: Owner, text: str, job: LazyAd) -> Clause:
        clause = clause_of(text, owner, job, self.block, self._sides)
        clause.refresh(self.block, self._now_s)
        return clause


def _all_of(cells: tuple[Cell, ...], job: LazyAd, found: int) -> int:
    """Of some slots those that every cell lets have the job."""
    for cell in cells:
        if not found:
            break
        bits = cell.bits
        found &= cell.fill(job) if bits is None else bits
    return found


def _kinds(names: tuple[str, ...], job: LazyAd) -> tuple[object, ...]:
    """For each name: None where the job has none, True for a plain value, else the text of the expression."""
    texts = (job.text_of(name) for name in names)
    return tuple(None if text is None else is_literal(text) or text for text in texts)
