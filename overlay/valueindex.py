"""
Values of slots, ordered so that a comparison with a job's value is answered for all slots at once.

Numbers and plain strings are compared here; whatever could be special (booleans, undefined, numbers that a double does
not hold, letters beyond ASCII) is compared by the bindings, once for each pair of values.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache

from overlay.classads import ClassAdException, ExprTree, Value, show, truth

Bits = tuple[int, int]
"""Where something is true, and where it is an error or no truth value; in all other places it is false or undefined."""

NOTHING: Bits = (0, 0)
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!=", "=?=": "=?=", "=!=": "=!="}
"""Operators with their sides exchanged."""

_EXACT_MAX = 2**53
_ORDERED = frozenset({"<", "<=", ">", ">="})
_EQUAL = frozenset({"==", "!=", "=?=", "=!="})
_HAS = frozenset({"has stringlistmember", "has stringlistimember"})
_DELIMITERS = re.compile(r"[ ,]+")


def kind_of(value: object) -> int:
    """1 for true, 2 for an error or what is no truth value, 0 for false and undefined."""
    if truth(value):
        return 1
    return (
        0 if value is Value.Undefined or (isinstance(value, bool | int | float) and not isinstance(value, Value)) else 2
    )


def literal_of(value: object) -> str | None:
    """A value as ClassAd text that reads back to it exactly; None where there is no such text."""
    if isinstance(value, Value | bool):
        return show(value)
    if isinstance(value, int):
        return str(value) if abs(value) < _EXACT_MAX else None
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) < _EXACT_MAX else None
    if isinstance(value, str):
        text = show(value)
        return text if text.startswith('"') else None
    return None


@lru_cache(maxsize=65536)
def compare(operator: str, job: str, slot: str) -> int:
    """Kind of a comparison of two literals by the bindings; the job's value stands left."""
    way, _, function = operator.partition(" ")
    if way == "has":
        text = f"{function}({slot}, {job})"
    elif way == "in":
        text = f"{function}({job}, {slot})"
    else:
        text = f"({job}) {operator} ({slot})"
    try:
        return kind_of(ExprTree(text).eval())
    except ClassAdException:
        return 2


class ValueIndex:
    """Values with the bits of the slots that have them."""

    def __init__(self, values: Iterable[tuple[object, int]]) -> None:
        numbers: dict[float, int] = {}
        self._typed: dict[tuple[type, float], int] = {}
        self._strings: dict[str, int] = {}
        self._lower: dict[str, int] = {}
        self._others: list[tuple[str, int]] = []
        for value, bits in values:
            if _is_number(value):
                assert isinstance(value, int | float)
                numbers[value] = numbers.get(value, 0) | bits
                self._typed[type(value), value] = self._typed.get((type(value), value), 0) | bits
            elif isinstance(value, str) and value.isascii():
                self._strings[value] = self._strings.get(value, 0) | bits
                self._lower[value.lower()] = self._lower.get(value.lower(), 0) | bits
            else:
                text = literal_of(value)
                assert text is not None
                self._others.append((text, bits))
        self._equal = numbers
        self._sorted = sorted(numbers)
        # From each number on: the bits of it and of all that are greater.
        self._from = [0] * (len(self._sorted) + 1)
        for i in range(len(self._sorted) - 1, -1, -1):
            self._from[i] = self._from[i + 1] | numbers[self._sorted[i]]
        self._all_strings = 0
        for bits in self._strings.values():
            self._all_strings |= bits

    def bits(self, operator: str, value: object, text: str) -> Bits:
        """Where ``value operator slot's value`` is true, and where it is an error; ``text`` is the value as literal."""
        numbers = strings = None
        if _is_number(value):
            assert isinstance(value, int | float)
            numbers = self._numbers(operator, value)
            if numbers is not None and not self._strings and not self._others:
                return numbers, 0
        elif isinstance(value, str) and value.isascii():
            strings = self._of_strings(operator, value)
        true, error = (numbers or 0) | (strings or 0), 0
        for other, bits in self._rest(numbers=numbers is None, strings=strings is None):
            kind = compare(operator, text, other)
            if kind == 1:
                true |= bits
            elif kind == 2:
                error |= bits
        return true, error

    def _rest(self, *, numbers: bool, strings: bool) -> Iterator[tuple[str, int]]:
        """What the bindings have to compare: the odd values, and of the others those that are not known already."""
        yield from self._others
        if numbers:
            for (_, number), bits in self._typed.items():
                yield repr(number), bits
        if strings:
            for string, bits in self._strings.items():
                yield show(string), bits

    def _numbers(self, operator: str, value: float) -> int | None:
        """Where the comparison with a number is true, None where this is not known."""
        match operator:
            case "<":
                return self._from[bisect_right(self._sorted, value)]
            case "<=":
                return self._from[bisect_left(self._sorted, value)]
            case ">":
                return self._from[0] & ~self._from[bisect_left(self._sorted, value)]
            case ">=":
                return self._from[0] & ~self._from[bisect_right(self._sorted, value)]
            case "==":
                return self._equal.get(value, 0)
            case "!=":
                return self._from[0] & ~self._equal.get(value, 0)
            case "=?=":
                return self._typed.get((type(value), value), 0)
            case "=!=":
                return self._from[0] & ~self._typed.get((type(value), value), 0)
        return None

    def _of_strings(self, operator: str, value: str) -> int | None:
        """Where the comparison with a string is true, None where this is not known."""
        match operator:
            case "==":
                return self._lower.get(value.lower(), 0)
            case "!=":
                return self._all_strings & ~self._lower.get(value.lower(), 0)
            case "=?=":
                return self._strings.get(value, 0)
            case "=!=":
                return self._all_strings & ~self._strings.get(value, 0)
        if operator not in _HAS or not value.isprintable() or not value.strip(" ,"):
            return None
        found = 0
        known = self._lower if operator.endswith("imember") else self._strings
        for word in _DELIMITERS.split(value.lower() if operator.endswith("imember") else value):
            if word:
                found |= known.get(word, 0)
        return found


def _is_number(value: object) -> bool:
    """Whether Python compares the number as HTCondor does; zero as a real is left out because it has a sign."""
    if type(value) is int:
        return abs(value) < _EXACT_MAX
    return type(value) is float and value == value and 0 < abs(value) < _EXACT_MAX
