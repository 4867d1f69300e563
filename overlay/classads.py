"""
ClassAd evaluation as the negotiator does it: the one door to the classad2 bindings, with the traps handled.

``htcondor2`` must be imported first: it loads HTCondor's configuration, and only then a bare attribute of a job's
Requirements is looked for in the slot too, as the negotiator does. classad2 alone says undefined, and nothing matches
(25.14.1, measured). :func:`check_bindings` proves it on the installed version.
"""

from __future__ import annotations

import os
import re
from functools import cache

from config.condortext import classad_string
from overlay.errors import AdUnreadable, BindingsUnfit

_saved = os.environ.get("CONDOR_CONFIG")
# A configuration that happens to lie on this machine must not decide how expressions are evaluated.
os.environ["CONDOR_CONFIG"] = "/dev/null"
try:
    import htcondor2
    from classad2 import ClassAd, ClassAdException, ExprTree, Value
finally:
    if _saved is None:
        del os.environ["CONDOR_CONFIG"]
    else:
        os.environ["CONDOR_CONFIG"] = _saved

__all__ = [
    "ClassAd",
    "ClassAdException",
    "ExprTree",
    "Value",
    "ad_line",
    "check_bindings",
    "evaluate",
    "htcondor2",
    "integer",
    "number",
    "parse_ad",
    "pin_time",
    "show",
    "text",
    "truth",
]


def parse_ad(ad_text: str, *, what: str = "ad") -> ClassAd:
    """Parse new-ClassAd text."""
    try:
        return ClassAd(ad_text)
    except ClassAdException as error:
        raise AdUnreadable(what=what, problem=f"no ClassAd: {ad_text[:200]!r}") from error


def ad_line(ad: ClassAd) -> str:
    """Write an ad as one line of new-ClassAd text."""
    return repr(ad)


def evaluate(ad: ClassAd, name: str, target: ClassAd | None = None) -> object:
    """
    Value of an attribute; Value.Undefined where it is missing.

    Undefined and Error are integers and true in Python, so a caller compares with ``is``.
    """
    try:
        expression = ad.lookup(name)
    except KeyError:
        return Value.Undefined
    return expression.eval(scope=ad) if target is None else expression.eval(scope=ad, target=target)


def truth(value: object) -> bool:
    """Whether the negotiator takes a value for true: True itself or a number that is not zero."""
    if isinstance(value, Value):
        return False
    if isinstance(value, bool):
        return value
    return isinstance(value, int | float) and value != 0


def number(ad: ClassAd, name: str) -> float | None:
    """Value of an attribute as a number, None where it has none."""
    value = evaluate(ad, name)
    if isinstance(value, Value | bool) or not isinstance(value, int | float):
        return None
    return float(value)


def integer(ad: ClassAd, name: str) -> int | None:
    """Value of an attribute as an integer, a fraction cut off; None where it has none."""
    value = number(ad, name)
    return None if value is None or value != value or abs(value) > 2**62 else int(value)


def text(ad: ClassAd, name: str) -> str | None:
    """Value of an attribute as a string, None where it has none."""
    value = evaluate(ad, name)
    return value if isinstance(value, str) else None


def show(value: object) -> str:
    """Write a value for people, as ClassAd text."""
    if value is Value.Undefined:
        return "undefined"
    if isinstance(value, Value):
        return "error"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        try:
            return classad_string(value)
        except ValueError:
            return repr(value)
    return str(value)


_STRING_OR_CLOCK = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|(?<![\w.])time\s*\(\s*\)', re.IGNORECASE)


def pin_time(expression: str, now_s: int) -> str:
    """
    Put a moment in the place of every ``time()`` that is not inside a string.

    ``time()`` reads the machine's clock at evaluation, so a replayed decision would differ from the recorded one.
    """

    def pinned(found: re.Match[str]) -> str:
        return found[0] if found[0][0] in "\"'" else str(now_s)

    return _STRING_OR_CLOCK.sub(pinned, expression)


@cache
def check_bindings() -> None:
    """
    Prove once per process that expressions are evaluated as the negotiator does.

    :raises BindingsUnfit: the installed bindings do otherwise.
    """
    job = ClassAd('[ Requirements = HasFoo && Memory >= RequestMemory; RequestMemory = 100; Want = "x" ]')
    slot = ClassAd('[ HasFoo = true; Memory = 200; Start = TARGET.Want == "x"; Requirements = Start ]')
    probes = (
        ("bare attribute of the other ad", job.lookup("Requirements").eval(scope=job, target=slot), True),
        ("attribute of the own ad behind another", slot.lookup("Requirements").eval(scope=slot, target=job), True),
        ("stringListMember of undefined", ExprTree('stringListMember(undefined, "a")').eval(), False),
        ("time() in an expression", ExprTree(pin_time("time () + 1", 41)).eval(), 42),
    )
    for expression, got, expected in probes:
        if got is not expected and not (isinstance(got, int) and type(got) is type(expected) and got == expected):
            raise BindingsUnfit(expression=expression, expected=show(expected), got=show(got))
