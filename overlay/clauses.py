"""
Which part of a Requirements expression fails, and with which values.

An expression is split at its top-level ``&&``; a part that is the bare name of another expression of the same ad
(``START``, ``WithinResourceLimits``) is opened and split too. HTCondor's own analysis does the same and has no API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from overlay.classads import ClassAd, ClassAdException, ExprTree, Value, evaluate, show, truth
from overlay.model import FailedClause

_DEPTH_MAX = 8
_VALUE_MAX = 200
_TEXTS_KEPT = 16384
"""Buckets and slots share most of their expressions; without keeping them, explaining a pair costs ten times more."""
TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*")
      | (?P<quoted>'(?:[^'\\]|\\.)*')
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<operator>=\?=|=!=|&&|\|\||<=|>=|==|!=|<<|>>>?|\?:|.)""",
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_]\w*")
OPENING = frozenset("([{")
CLOSING = frozenset(")]}")
_WORDS = frozenset({"true", "false", "undefined", "error", "is", "isnt", "parent", "my", "target"})

Owner = Literal["job", "slot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An attribute that an expression reads; ``scope`` is ``my``, ``target`` or empty for a bare name."""

    scope: str
    name: str


def conjuncts_of(ad: ClassAd) -> tuple[str, ...]:
    """Every conjunct of an ad's Requirements, in the order they are written; none where it has no Requirements."""
    requirements = _text_of(ad, "Requirements")
    return () if requirements is None else tuple(_opened(requirements, ad))


def failed_clauses(
    owner: Owner, ad: ClassAd, other: ClassAd, conjuncts: tuple[str, ...] | None = None
) -> tuple[FailedClause, ...]:
    """
    Conjuncts of ``ad``'s Requirements that are not true with ``other`` as TARGET.

    Who explains one ad against many passes its :func:`conjuncts_of`, which depend on nothing else.
    """
    if truth(evaluate(ad, "Requirements", other)):
        return ()
    failed = tuple(
        FailedClause(owner=owner, text=clause, values=_values(clause, ad, other))
        for clause in (conjuncts_of(ad) if conjuncts is None else conjuncts)
        if not truth(_value(clause, ad, other))
    )
    if failed:
        return failed
    # There is no Requirements, or each part is true and the whole is not: then the whole is the clause.
    whole = _text_of(ad, "Requirements")
    if whole is None:
        return (FailedClause(owner=owner, text="Requirements", values=(("Requirements", "undefined"),)),)
    return (FailedClause(owner=owner, text=whole, values=_values(whole, ad, other)),)


@lru_cache(maxsize=_TEXTS_KEPT)
def split_conjuncts(expression: str) -> tuple[str, ...]:
    """
    Split at top-level ``&&``, redundant outer parentheses removed.

    An expression whose outermost operator binds more loosely (``||``, ``? :``) is one clause.
    """
    bare = without_outer_parentheses(expression)
    cuts: list[tuple[int, int]] = []
    depth = 0
    for token in TOKEN.finditer(bare):
        symbol = token["operator"]
        if symbol is None:
            continue
        depth += (symbol in OPENING) - (symbol in CLOSING)
        if depth == 0 and symbol in ("||", "?", "?:", ":"):
            return (bare,)
        if depth == 0 and symbol == "&&":
            cuts.append(token.span())
    if not cuts:
        return (bare,)
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(bare)]
    parts = [bare[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    return tuple(clause for part in parts for clause in split_conjuncts(part))


@lru_cache(maxsize=_TEXTS_KEPT)
def references(expression: str) -> tuple[Reference, ...]:
    """Attributes that an expression reads, each once, in the order of their first appearance."""
    tokens = [token for token in TOKEN.finditer(expression) if not token[0].isspace()]
    found: dict[tuple[str, str], Reference] = {}
    for i, token in enumerate(tokens):
        name = token["name"]
        if name is None:
            continue
        followed_by = tokens[i + 1][0] if i + 1 < len(tokens) else ""
        preceded_by = tokens[i - 1][0] if i > 0 else ""
        if name.lower() in _WORDS or followed_by == "(":
            continue
        scope = ""
        if preceded_by == ".":
            scope = tokens[i - 2][0].lower() if i > 1 else ""
            if scope not in ("my", "target"):
                # A member of a nested ad: its head has been listed.
                continue
        found.setdefault((scope, name.lower()), Reference(scope=scope, name=name))
    return tuple(found.values())


def _opened(expression: str, ad: ClassAd, depth: int = 0) -> Iterator[str]:
    """Conjuncts of an expression, those that only name another expression of the same ad opened."""
    for clause in split_conjuncts(expression):
        name = clause[3:] if clause[:3].lower() == "my." else clause
        inner = _expression_of(ad, name) if depth < _DEPTH_MAX else None
        if inner is None:
            yield clause
        else:
            yield from _opened(inner, ad, depth + 1)


def _expression_of(ad: ClassAd, name: str) -> str | None:
    """Text of an attribute that is an expression over others; None for a plain value or no attribute."""
    if _NAME.fullmatch(name) is None or name.lower() in _WORDS:
        return None
    text = _text_of(ad, name)
    return text if text is not None and references(text) else None


def _text_of(ad: ClassAd, name: str) -> str | None:
    try:
        return str(ad.lookup(name))
    except KeyError:
        return None


def without_outer_parentheses(expression: str) -> str:
    """Remove parentheses that enclose the whole."""
    bare = expression.strip()
    while bare.startswith("("):
        depth = 0
        for token in TOKEN.finditer(bare):
            symbol = token["operator"] or ""
            depth += (symbol in OPENING) - (symbol in CLOSING)
            if depth == 0:
                if token.end() < len(bare):
                    return bare
                break
        else:
            return bare
        bare = bare[1:-1].strip()
    return bare


@lru_cache(maxsize=_TEXTS_KEPT)
def parsed(expression: str) -> ExprTree | None:
    """Parse an expression; None where it is none."""
    try:
        return ExprTree(expression)
    except ClassAdException:
        return None


def _value(expression: str, ad: ClassAd, other: ClassAd) -> object:
    tree = parsed(expression)
    return Value.Error if tree is None else tree.eval(scope=ad, target=other)


def _values(clause: str, ad: ClassAd, other: ClassAd) -> tuple[tuple[str, str], ...]:
    """Values of what a clause reads, under the names as written; MY. and TARGET. only where they tell two apart."""
    read = references(clause)
    names = [reference.name.lower() for reference in read]
    values: list[tuple[str, str]] = []
    for reference in read:
        mine = reference.scope == "my" or (reference.scope == "" and reference.name in ad)
        holder, target = (ad, other) if mine else (other, ad)
        shown = show(evaluate(holder, reference.name, target))
        if len(shown) > _VALUE_MAX:
            shown = shown[: _VALUE_MAX - 1] + "…"
        twice = names.count(reference.name.lower()) > 1 and reference.scope
        values.append((f"{reference.scope.upper()}.{reference.name}" if twice else reference.name, shown))
    return tuple(values)
