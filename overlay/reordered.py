"""
The negotiator's own reading of a Requirements expression, where it differs from that of everybody else.

Before it matches, the negotiator rewrites both ads' Requirements (``MatchClassAd::OptimizeAdForMatchmaking``): own
attributes are inlined, what is constant is folded, and a constant operand of ``&&`` and ``||`` comes first. That is
another value where an operand is an error: ``TARGET.Big || error`` is true on a big slot, ``error || TARGET.Big`` is an
error. Schedd and startd read what was written. So a job runs where both readings are true, and an ad whose readings
differ has to be matched by both. Seen with 25.14.1; tests/system/test_negotiator.py shows it on the real one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache

from overlay.classads import ClassAd, ClassAdException, ExprTree, Value
from overlay.clauses import CLOSING, OPENING, TOKEN, conjuncts_of, parsed, references

_TEXTS_KEPT = 16384
_DEPTH_MAX = 8
_LOOSER = frozenset({"?", ":", ","})
"""What stands between expressions and binds less than ``||``; ``?:`` binds more than any other (25.14.1, tried)."""
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LOGIC = re.compile(r"&&|\|\|")
_CHOICE = re.compile(r"&&|\|\||\?|\bifthenelse\b", re.IGNORECASE)
"""What may leave an operand out of account."""
_READS_OTHER = re.compile(r"(?<![\w.])target\s*\.", re.IGNORECASE)

_VARIABLE = object()
"""The value of what needs the other ad."""
Fold = Callable[[str], object]
"""The value of an expression that needs nothing but its own ad, as the bindings fold it, else :data:`_VARIABLE`."""


def deciding_conjuncts(ad: ClassAd) -> tuple[str, ...]:
    """Every conjunct of an ad's Requirements, and after them those that the negotiator reads otherwise, in its way."""
    written = conjuncts_of(ad)
    readings = (negotiators_reading(clause, ad) for clause in written)
    return written + tuple(text for text in readings if text is not None)


def negotiators_reading(expression: str, ad: ClassAd) -> str | None:
    """An expression of this ad as the negotiator reads it; None where it is as it is written."""
    found = _read(expression, ad, frozenset())
    return None if found == expression else found


def _read(expression: str, ad: ClassAd, inside: frozenset[str]) -> str:
    """``inside`` are the attributes that are being read already: one that leads to itself is left alone."""
    own: dict[str, str] = {}
    for reference in references(expression):
        name = reference.name.lower()
        if reference.scope == "target" or name in inside or len(inside) == _DEPTH_MAX:
            continue
        text = _text_of(ad, name)
        if text is not None and (references(text) or _has_logic(text)):
            reading = _read(text, ad, inside | {name})
            if reading != text:
                own[name] = f"({reading})"
    if own:
        expression = _replaced(expression, own)
    return _arranged(expression, lambda text: _folded(text, ad)) if _may_differ(expression) else expression


def _arranged(expression: str, fold: Fold) -> str:
    """The expression with the constant operands of each ``&&`` and ``||`` in front."""
    pieces, between = _cut(expression, _LOOSER)
    if between:
        found = [_arranged(piece, fold) for piece in pieces]
        return found[0] + "".join(mark + piece for mark, piece in zip(between, found[1:], strict=True))
    for operator in ("||", "&&"):
        operands, between = _cut(expression, frozenset({operator}))
        if between:
            return _constants_first([_arranged(operand, fold) for operand in operands], operator, fold)
    return _within(expression, fold)


def _constants_first(operands: list[str], operator: str, fold: Fold) -> str:
    """Operands joined, from the left as they bind; a text that needs no new order stays as it is."""
    found = operands[0]
    for operand in operands[1:]:
        joined = f"{found}{operator}{operand}"
        if not _may_be_constant(operand) or fold(operand) is _VARIABLE:
            found = joined
        elif fold(found) is _VARIABLE:
            found = f"{operand.strip()} {operator} ({found.strip()})"
        else:
            # Of two constants both count: true || "a" is an error, where evaluation stops at true.
            found = "error" if fold(joined) is Value.Error else joined
    return found


def _within(expression: str, fold: Fold) -> str:
    """The same in everything that stands in parentheses, arguments of functions too."""
    if not _has_logic(expression):
        return expression
    parts: list[str] = []
    depth = begin = done = 0
    for token in TOKEN.finditer(expression):
        symbol = token["operator"] or ""
        if symbol in OPENING:
            if depth == 0 and symbol == "(":
                begin = token.end()
            depth += 1
        elif symbol in CLOSING:
            depth -= 1
            if depth == 0 and symbol == ")":
                parts += [expression[done:begin], _arranged(expression[begin : token.start()], fold)]
                done = token.start()
    return "".join(parts) + expression[done:]


def _cut(expression: str, marks: Collection[str]) -> tuple[list[str], list[str]]:
    """Cut at marks that stand in no parentheses: the pieces, and what stood between them."""
    pieces: list[str] = []
    between: list[str] = []
    depth = begin = 0
    for token in TOKEN.finditer(expression):
        symbol = token["operator"] or ""
        depth += (symbol in OPENING) - (symbol in CLOSING)
        if depth == 0 and symbol in marks:
            pieces.append(expression[begin : token.start()])
            between.append(symbol)
            begin = token.end()
    return [*pieces, expression[begin:]], between


def _replaced(expression: str, own: dict[str, str]) -> str:
    """Attributes of the own ad replaced by what they say."""
    tokens = [token[0] for token in TOKEN.finditer(expression)]
    for at, word in enumerate(tokens):
        text = own.get(word.lower())
        after = next((other for other in tokens[at + 1 :] if not other.isspace()), "")
        if text is None or after == "(":
            continue
        if at >= 2 and tokens[at - 1] == ".":
            if tokens[at - 2].lower() != "my":
                continue
            tokens[at - 2 : at] = ["", ""]
        tokens[at] = text
    return "".join(tokens)


@lru_cache(maxsize=_TEXTS_KEPT)
def _may_differ(expression: str) -> bool:
    """Whether it depends on the ad at all how it is arranged: most texts are those of many ads."""
    asked: list[str] = []

    def note(text: str) -> object:
        asked.append(text)
        return _VARIABLE

    if _has_logic(expression):
        _arranged(expression, note)
    return bool(asked)


@lru_cache(maxsize=_TEXTS_KEPT)
def _has_logic(expression: str) -> bool:
    return _LOGIC.search(_STRING.sub("", expression)) is not None


@lru_cache(maxsize=_TEXTS_KEPT)
def _may_be_constant(expression: str) -> bool:
    """False where it certainly needs the other ad: it reads it, and nothing in it could do without."""
    bare = _STRING.sub("", expression)
    return _READS_OTHER.search(bare) is None or _CHOICE.search(bare) is not None


def _folded(expression: str, ad: ClassAd) -> object:
    tree = parsed(expression)
    if tree is None:
        return _VARIABLE
    try:
        value = ad.flatten(tree)
    except (ClassAdException, ValueError):
        # An attribute that leads to itself.
        return _VARIABLE
    return _VARIABLE if isinstance(value, ExprTree) else value


def _text_of(ad: ClassAd, name: str) -> str | None:
    try:
        return str(ad.lookup(name))
    except KeyError:
        return None
