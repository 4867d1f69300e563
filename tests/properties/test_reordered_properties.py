"""The negotiator's reading of an expression lets through what HTCondor's own flattening of it lets through."""

from __future__ import annotations

from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from overlay.classads import ClassAd, ExprTree, parse_ad, pin_time, truth
from overlay.clauses import parsed
from overlay.reordered import negotiators_reading
from tests.properties.expressions import NAMES, VALUES, requirements

RANDOMS = st.integers(0, 2**40).map(Random)
NOW_S = 1_795_386_480


def plain_ad(rng: Random) -> ClassAd:
    """An ad of plain values: of them alone the bindings' flattening makes what the negotiator's makes."""
    plain = [value for value in VALUES if value[0] not in "[{"]
    values = {name: rng.choice(plain) for name in rng.sample(NAMES[:-1], rng.randint(2, 9))}
    return parse_ad("[ " + "; ".join(f"{name} = {value}" for name, value in values.items()) + " ]")


def taken(expression: object, ad: ClassAd, other: ClassAd) -> bool:
    """Whether the negotiator takes it for true."""
    return truth(expression.eval(scope=ad, target=other) if isinstance(expression, ExprTree) else expression)


# Mutations: _constants_first keeps every order; _arranged stops at parentheses.
@settings(max_examples=2000)
@given(RANDOMS)
def test_both_readings_are_true_where_the_expression_is_true_as_written_and_flattened(rng: Random) -> None:
    own, other = plain_ad(rng), plain_ad(rng)
    text = pin_time(requirements(rng), NOW_S)
    tree = parsed(text)
    assume(tree is not None)
    assert tree is not None
    reading = negotiators_reading(text, own)
    flat = own.flatten(tree)
    written = taken(tree, own, other)
    assert (written and taken(flat, own, other)) == (written and taken(ExprTree(reading or text), own, other))


# Mutations: _read does not look into attributes; _arranged does not cut at "?"; two constants are not folded.
def test_what_an_own_attribute_says_is_read_in_the_same_way() -> None:
    ad = parse_ad('[ Bad = "a" % 3; Any = TARGET.Big || Bad; Loop = Loop || error; Fine = TARGET.Big || TARGET.Small ]')

    assert negotiators_reading("Any =!= 3", ad) == "(Bad || (TARGET.Big)) =!= 3"
    assert negotiators_reading("MY.Any", ad) == "(Bad || (TARGET.Big))"
    for text in ("TARGET.Any", "Fine", "TARGET.Big || TARGET.Bad", "TARGET.Big > 3"):
        assert negotiators_reading(text, ad) is None
    assert negotiators_reading("TARGET.A ? TARGET.B || error : 2", ad) == "TARGET.A ?error || (TARGET.B): 2"
    assert negotiators_reading('(true || "a") =!= TARGET.B', ad) == "(error) =!= TARGET.B"
    # Mutation: "?:" among _LOOSER.
    assert negotiators_reading("TARGET.A ?: TARGET.B || error", ad) == "error || (TARGET.A ?: TARGET.B)"
    assert negotiators_reading("Loop", ad) == "(error || (Loop))"
