"""
Jobs and slots with hard expressions, made from random numbers: every operator, type and scope that a user may write.

Names are few, so that expressions meet attributes; a name may be the job's, the slot's, both or nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from overlay.model import Bucket

VALUES = (
    "0", "1", "2", "3", "4", "-1", "2.0", "2.5", "0.0", "-0.0", "1E300", "9007199254740993", "9007199254740992.0",
    "true", "false", "undefined", "error", '""', '"a"', '"A"', '"b"', '"alpha"', '"Alpha"', '"alpha,beta"', '"a b"',
    '"X86_64"', '"1"', '"true"', '"ä"', "{1, 2}", '{"a", "alpha"}', "[ x = 1 ]", "1.5E+01", '"25.14.1"', '" ,"',
)  # fmt: skip
NAMES = ("Memory", "Cpus", "Site", "Arch", "Flag", "List", "RequestMemory", "RequestCpus", "Wanted", "Nobody")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=", "=?=", "=!=", "is", "isnt")


def name(rng: Random) -> str:
    """An attribute in one of its scopes, in some spelling."""
    found = rng.choice(NAMES)
    found = rng.choice((found, found, found.lower(), found.upper()))
    return rng.choice(("", "", "MY.", "TARGET.", "TARGET.", "target.", "My.")) + found


def value(rng: Random, depth: int = 2) -> str:
    """Something that has a value: mostly plain, sometimes worked out."""
    plain = rng.random()
    if plain < 0.45 or depth <= 0:
        return name(rng) if plain < 0.3 else rng.choice(VALUES)
    one, two = value(rng, depth - 1), value(rng, depth - 1)
    return rng.choice(
        (
            name(rng), name(rng), f"({one} + {two})", f"({one}) - {two}", f"{one} * 2", f"({one} ?: {two})",
            f"ifThenElse({truth(rng, depth - 1)}, {one}, {two})", f"strcat({one}, {two})", f"size({one})",
            f"toLower({one})", f"split({one})[0]", f"time() - {one}", f"({one}) % 3", f"int({one})",
            f"({one}) / 2", f"({truth(rng, depth - 1)}) ? {one} : {two}", "CurrentTime",
        )
    )  # fmt: skip


def truth(rng: Random, depth: int = 3) -> str:
    """Something that is mostly a truth value."""
    if depth <= 0:
        return rng.choice((name(rng), "true", "false", "undefined", "error"))
    kind = rng.random()
    if kind < 0.5:
        return f"{value(rng, depth - 1)} {rng.choice(COMPARISONS)} {value(rng, depth - 1)}"
    one, two = truth(rng, depth - 1), truth(rng, depth - 1)
    if kind < 0.62:
        return f"({one}) || ({two})"
    if kind < 0.68:
        return f"({one}) && ({two})"
    a, b = value(rng, 1), value(rng, 1)
    return rng.choice(
        (
            f"!({one})", f"!{name(rng)}", f"stringListMember({a}, {b})", f"stringListIMember({a}, {b})",
            f'stringListMember({name(rng)}, "alpha, a ,b")', f'stringListIMember({name(rng)}, "ALPHA,A")',
            f"stringListMember({a}, {b}, \",\")", f"member({a}, {b})", f'regexp("^[aA]", {a})', f"isUndefined({a})",
            f"isError({a})", f"{one} || {two} || {name(rng)}", f"{one} ? {two} : {name(rng)}", f"({a}) ?: {one}",
            name(rng), f"eval({a})", f"MY[{a}]", f"{a} & 1", f"{one} is true", f"{a} == {b} == true", "Start",
            "MY.Start",
            f"(({one}))", f"time() {rng.choice(COMPARISONS)} {a}", f"{a} + time() < {b}", "TARGET.List.x == 1",
            f'versionGE({a}, "25.12.0")', f"identicalMember({a}, {b})", f"unparse({a}) == {b}",
            f"'{rng.choice(NAMES)}' == 1",
        )
    )  # fmt: skip


def requirements(rng: Random) -> str:
    """A Requirements expression: as condor_submit writes them, or anything. Half are one clause, so that many match."""
    if rng.random() < 0.5:
        return rng.choice(
            ("true", "true", truth(rng), truth(rng), f"({truth(rng)}) || ({truth(rng)})", f"!({truth(rng)})")
        )
    parts = rng.choices(
        (
            "TARGET.Memory >= RequestMemory",
            "TARGET.Cpus >= RequestCpus",
            'versionGE(split(TARGET.Arch)[1],"25.12.0") || (TARGET.Memory >= RequestMemory)',
            '(TARGET.Arch == "X86_64")',
            '(TARGET.Site == "alpha") || (TARGET.Site == "b")',
            "stringListMember(Site, Wanted)",
            "(TARGET.Wanted ?: 2) + 1 < Memory - time()",
            "TARGET.RequestMemory <= MY.Memory",
            "true",
        ),
        k=rng.randint(0, 3),
    )
    parts += [truth(rng) for _ in range(rng.randint(0 if parts else 1, 2))]
    rng.shuffle(parts)
    return " && ".join(f"({part})" for part in parts)


def ad_text(rng: Random, of: Expressions, *, more: str = "") -> str:
    """An ad with some of the names, some of them expressions; what it requires is one of a few."""
    attributes = [f"{name} = {text}" for name, text in hard_attributes(rng, of).items()]
    if rng.random() < 0.97:
        attributes += [f"Requirements = {rng.choice(of.requirements)}"]
    rng.shuffle(attributes)
    return "[ MyType = 1; " + "; ".join(attributes) + more + " ]" if rng.random() < 0.99 else "[ Broken = ( ]"


def hard_attributes(rng: Random, of: Expressions) -> dict[str, str]:
    """Texts of attributes by name."""
    found = {name: attribute(rng, of) for name in rng.sample(NAMES[:-1], rng.randint(4, 9))}
    return found | ({"Start": rng.choice(of.truths)} if rng.random() < 0.6 else {})


def attribute(rng: Random, of: Expressions) -> str:
    """What stands under a name: mostly a small number or a word, so that many are equal."""
    roll = rng.random()
    if roll < 0.6:
        return rng.choice(("1", "2", "3", "2.0", '"a"', '"A"', '"alpha"', '"a, alpha"', '"Memory"'))
    return rng.choice(VALUES) if roll < 0.8 else rng.choice(of.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expressions:
    """Expressions that the ads of one world share: what is kept from one pair must not be wrong for another."""

    requirements: tuple[str, ...]
    truths: tuple[str, ...]
    values: tuple[str, ...]


def expressions(rng: Random) -> Expressions:
    """A few of each."""
    return Expressions(
        requirements=tuple(requirements(rng) for _ in range(rng.randint(1, 3))),
        truths=tuple(truth(rng, 2) for _ in range(2)),
        values=tuple(value(rng, 1) for _ in range(3)),
    )


def moving(rng: Random) -> str:
    """What moves in an offer's ad from cycle to cycle."""
    return f"; GlideinToDie = {rng.randint(0, 5)}; GlideinToRetire = {rng.randint(0, 5)}" if rng.random() < 0.5 else ""


def buckets(texts: dict[str, str]) -> list[Bucket]:
    """Buckets with these ads."""
    return [
        Bucket(
            key=key, ap="ap1", user="ada@pool", group="dx1", jobs=1, first_job="1.0", cores=1, memory_mib=1, disk_mib=1,
            ad_text=text,
        )
        for key, text in texts.items()
    ]  # fmt: skip
