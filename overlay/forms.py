"""
The form of an expression, as far as matching in bulk makes use of it; everything else is :class:`Plain`.

Nothing is evaluated here. What an expression reads is found in its text; a text in which that cannot be done for
certain (``eval()``, a nested ad, a function that is not in :data:`PURE`) is *opaque* and read as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from overlay.clauses import CLOSING, OPENING, TOKEN, without_outer_parentheses

_TEXTS_KEPT = 16384

PURE = frozenset(
    {
        "abs",
        "allcompare",
        "anycompare",
        "avg",
        "bool",
        "ceiling",
        "floor",
        "identicalmember",
        "ifthenelse",
        "int",
        "isboolean",
        "isclassad",
        "iserror",
        "isinteger",
        "islist",
        "isreal",
        "isstring",
        "isundefined",
        "join",
        "max",
        "member",
        "min",
        "pow",
        "quantize",
        "real",
        "regexp",
        "regexpmember",
        "regexps",
        "replace",
        "replaceall",
        "round",
        "size",
        "split",
        "splitslotname",
        "splitusername",
        "strcat",
        "strcmp",
        "stricmp",
        "string",
        "stringlist_regexpmember",
        "stringlistavg",
        "stringlistimember",
        "stringlistisubsetmatch",
        "stringlistmax",
        "stringlistmember",
        "stringlistmin",
        "stringlistsintersect",
        "stringlistsize",
        "stringlistsubsetmatch",
        "stringlistsum",
        "substr",
        "sum",
        "tolower",
        "toupper",
        "version_in_range",
        "versioncmp",
        "versioneq",
        "versionge",
        "versiongt",
        "versionle",
        "versionlt",
    }
)
"""Functions whose value depends on nothing but their arguments."""

_EQUALITY = frozenset({"==", "!=", "=?=", "=!="})
_RELATIONAL = frozenset({"<", "<=", ">", ">="})
_BITWISE = frozenset({"|", "^", "&"})
_TERNARY = frozenset({"?", "?:", ":"})
_WORD_OPERATORS = {"is": "=?=", "isnt": "=!="}
_CONSTANTS = frozenset({"true", "false", "undefined", "error", "is", "isnt"})
_LIST_CALL = re.compile(r"(stringListI?Member)\s*\(", re.IGNORECASE)
_LITERAL = re.compile(
    r'\s*(?:"(?:[^"\\]|\\.)*"|-?\s*(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|true|false|undefined|error)\s*',
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Syntax:
    """What an expression reads, by its text alone."""

    reads: tuple[tuple[str, str], ...]
    """Scope (``my``, ``target`` or empty) and name in lower case of each attribute."""
    opaque: bool
    """It may read more than that."""
    clock: bool
    """It reads the clock by ``time()``."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left operator right``; ``stringlistmember`` and ``stringlistimember`` are operators here too."""

    operator: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Either:
    """Operands of ``||``, in their order: one that is an error hides those behind it."""

    operands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """Any other expression."""


Form = Comparison | Either | Plain


@lru_cache(maxsize=_TEXTS_KEPT)
def is_literal(text: str) -> bool:
    """Whether an attribute's text is a plain value."""
    return _LITERAL.fullmatch(text) is not None


@lru_cache(maxsize=_TEXTS_KEPT)
def syntax_of(expression: str) -> Syntax:
    """Find what an expression reads."""
    tokens = [token for token in TOKEN.finditer(expression) if not token[0].isspace()]
    words = ["", "", *(token[0].lower() for token in tokens), "", ""]
    reads: dict[tuple[str, str], None] = {}
    opaque = clock = False
    for i, token in enumerate(tokens, start=2):
        word, before, after = words[i], words[i - 1], words[i + 1]
        if token["quoted"] is not None:
            opaque = True
        elif token["operator"] is not None:
            # A dot that is no scope selects from a nested ad; an index is understood where it follows a call.
            opaque |= word == "." and before not in ("my", "target")
            opaque |= word == "[" and not (before == ")" and after.isdigit() and words[i + 2] == "]")
        elif token["name"] is None or (word in _CONSTANTS and before != "."):
            continue
        elif after == "(":
            if word == "time" and words[i + 2] == ")":
                clock = True
            else:
                opaque |= word not in PURE
        elif word in ("my", "target", "parent") or word == "currenttime":
            # Not as a scope, or behind another scope; and CurrentTime is the clock as an attribute.
            opaque |= not (word in ("my", "target") and after == "." and before != ".")
        else:
            reads[words[i - 2] if before == "." else "", word] = None
    return Syntax(reads=tuple(reads), opaque=opaque, clock=clock)


@lru_cache(maxsize=_TEXTS_KEPT)
def form_of(expression: str) -> Form:
    """Find the outermost operator of an expression that is no conjunction."""
    bare = without_outer_parentheses(expression)
    found: dict[str, list[tuple[int, int]]] = {}
    depth = 0
    previous = ""
    for token in TOKEN.finditer(bare):
        word = token[0].lower()
        if word.isspace():
            continue
        if token["operator"] is not None:
            depth += (word in OPENING) - (word in CLOSING)
        operator = _WORD_OPERATORS.get(word, "") if token["name"] is not None and previous != "." else ""
        if depth == 0:
            found.setdefault(operator or (word if token["operator"] is not None else ""), []).append(token.span())
        previous = word
    if _TERNARY & found.keys():
        return Plain()
    if "||" in found:
        return Either(operands=tuple(without_outer_parentheses(part) for part in _cut(bare, found["||"])))
    if _BITWISE & found.keys() or "&&" in found:
        return Plain()
    equality = [operator for operator in found if operator in _EQUALITY]
    relational = [operator for operator in found if operator in _RELATIONAL]
    outermost = equality or relational
    if len(outermost) == 1 and len(found[outermost[0]]) == 1:
        left, right = _cut(bare, found[outermost[0]])
        return Comparison(operator=outermost[0], left=left, right=right)
    return _list_call(bare) if not outermost else Plain()


def _list_call(bare: str) -> Form:
    """A call of stringListMember or stringListIMember with two arguments, which is the whole expression."""
    call = _LIST_CALL.match(bare)
    if call is None:
        return Plain()
    depth = 0
    commas: list[tuple[int, int]] = []
    for token in TOKEN.finditer(bare, call.end() - 1):
        symbol = token["operator"] or ""
        depth += (symbol in OPENING) - (symbol in CLOSING)
        if depth == 0:
            inside = bare[: token.start()] if token.end() == len(bare) else None
            break
        if depth == 1 and symbol == ",":
            commas.append(token.span())
    else:
        inside = None
    if inside is None or len(commas) != 1:
        return Plain()
    (start, end) = commas[0]
    return Comparison(operator=call[1].lower(), left=inside[call.end() : start].strip(), right=inside[end:].strip())


def _cut(text: str, spans: list[tuple[int, int]]) -> list[str]:
    """The parts between spans."""
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(text)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
