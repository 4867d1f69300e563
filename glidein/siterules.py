"""
What a site's own admin lets run there: the file that only the site writes, and who it keeps out.

The factory reads it here, every running pilot reads it with ``policy.sh``; one grammar, and a test holds both to it.
A file that cannot be read as a whole says nothing that one may rely on, so it closes the site: it never means that
everything is allowed. docs/site-admins.md tells it to those who write it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from config.condortext import classad_string

RULES_MAX_BYTES = 16384
RULES_PERIOD_S = 60
"""A running pilot reads the file so often."""

Kind = Literal["vo", "project", "user"]
Cap = Literal["max_pilots", "max_pending", "max_cores"]

_NAME = re.compile(r"[A-Za-z0-9_.@+:/-]{1,64}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_STRANGE = re.compile(rb"[^\t\n -~]")
PUBLISHED_RULES = ("GlideinPaused", "GlideinDenied", "GlideinAllowed")
"""Attributes of a slot that START reads; ``policy.sh`` writes them."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Rule:
    """One name that is let in or kept out; names are compared without regard to case."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SiteRules:
    """The site's file as it was read; without any rule everything is allowed."""

    file: str = ""
    """Where it was looked for."""
    allow: tuple[Rule, ...] = ()
    """If there is any, only jobs that one of them names; a denial is stronger."""
    deny: tuple[Rule, ...] = ()
    max_pilots: int | None = None
    max_pending: int | None = None
    max_cores: int | None = None
    paused: str = ""
    """The admin's reason for no work at all; empty: not paused."""
    problem: str = ""
    """Why the file cannot be relied on; the site is then closed as if paused."""

    @property
    def closed(self) -> str:
        """Why nothing at all may run there, or empty."""
        if self.problem:
            return f"{self.file} cannot be relied on ({self.problem}), so nothing is taken to be allowed"
        return f"paused by the site's admin in {self.file}: {self.paused}" if self.paused else ""

    def denies(self, *, user: str, project: str, vos: Iterable[str]) -> str:
        """Why the site does not take a job, or empty when it does; ``user`` is without a domain."""
        if self.closed:
            return self.closed
        names = {("user", user.lower()), ("project", project.lower()), *(("vo", vo.lower()) for vo in vos)}
        for rule in self.deny:
            if (rule.kind, rule.name) in names:
                return f"{self.file} denies {rule.kind} {rule.name}"
        if self.allow and not any((rule.kind, rule.name) in names for rule in self.allow):
            return f"{self.file} allows only {', '.join(f'{rule.kind} {rule.name}' for rule in self.allow)}"
        return ""

    def words(self) -> str:
        """The rules on one line, in the words of the file."""
        parts = [f"allow {rule.kind} {rule.name}" for rule in self.allow]
        parts += [f"deny {rule.kind} {rule.name}" for rule in self.deny]
        caps = (("max_pilots", self.max_pilots), ("max_pending", self.max_pending), ("max_cores", self.max_cores))
        parts += [f"cap {name} {value}" for name, value in caps if value is not None]
        return "; ".join(parts)


NO_RULES = SiteRules()
"""Of a site whose admin has written nothing, or that was not seen."""


def parse_site_rules(raw: bytes, *, file: str) -> SiteRules:
    """
    Read the whole file; any bytes give rules, if only those that close the site.

    Each line is blank or ``deny|allow vo|project|user NAME``, ``cap max_pilots|max_pending|max_cores N`` or
    ``pause REASON``; a word that begins with ``#`` begins a comment. The smallest of several equal caps holds.
    """
    problem = _unfit(raw)
    if problem:
        return SiteRules(file=file, problem=problem)
    allow: list[Rule] = []
    deny: list[Rule] = []
    caps: dict[str, int] = {}
    paused = ""
    for number, line in enumerate(raw.decode("ascii").split("\n"), start=1):
        words = _words(line)
        match [word.lower() for word in words]:
            case []:
                pass
            case ["pause", *_]:
                paused = paused or " ".join(words[1:]) or "no reason given"
            case [("deny" | "allow") as verb, ("vo" | "project" | "user") as kind, name] if _NAME.fullmatch(name):
                (deny if verb == "deny" else allow).append(Rule(kind=_kind(kind), name=name))
            case ["cap", name, value] if name in get_args(Cap) and _NUMBER.fullmatch(value):
                caps[name] = min(int(value), caps.get(name, int(value)))
            case _:
                shown = line.strip()[:60]
                return SiteRules(file=file, problem=f"line {number} is no rule: {shown!r}")
    return SiteRules(
        file=file,
        allow=tuple(sorted(set(allow))),
        deny=tuple(sorted(set(deny))),
        max_pilots=caps.get("max_pilots"),
        max_pending=caps.get("max_pending"),
        max_cores=caps.get("max_cores"),
        paused=paused,
    )


def published_rules(rules: SiteRules, vo_map: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """What a pilot's slots say of the rules, as ClassAd text; ``vo_map`` is project to virtual organisations."""
    return {
        "GlideinPaused": "true" if rules.closed else "false",
        "GlideinDenied": classad_string("" if rules.closed else ",".join(_expanded(rules.deny, vo_map))),
        "GlideinAllowed": classad_string("" if rules.closed else ",".join(_expanded(rules.allow, vo_map))),
    }


def vo_map_text(vo_map: Mapping[str, Iterable[str]]) -> str:
    """The map as ``policy.sh`` reads it: one ``project vo`` a line, in small letters."""
    return "".join(f"{project} {vo}\n".lower() for project in sorted(vo_map) for vo in sorted(vo_map[project]))


def rules_expression() -> str:
    """
    Say which jobs the site's admin lets in, in ClassAd text over :data:`PUBLISHED_RULES` of the slot.

    Undefined, which is no match, where the slot does not say: no job by mistake.
    """
    user = 'strcat("user:", TARGET.Owner ?: "")'
    project = 'strcat("project:", TARGET.AcctGroup ?: "")'
    # An empty list is asked for first: most sites have no rules, and looking into lists doubles the cost of a match.
    return (
        f'GlideinPaused is false && (GlideinDenied == "" || !(stringListIMember({user}, GlideinDenied)'
        f" || stringListIMember({project}, GlideinDenied)))"
        f' && (GlideinAllowed == "" || stringListIMember({user}, GlideinAllowed)'
        f" || stringListIMember({project}, GlideinAllowed))"
    )


def _unfit(raw: bytes) -> str:
    """What is wrong with the bytes themselves."""
    if len(raw) > RULES_MAX_BYTES:
        return f"it is longer than {RULES_MAX_BYTES} bytes"
    strange = _STRANGE.search(raw)
    if strange is not None:
        line = raw.count(b"\n", 0, strange.start()) + 1
        return f"line {line} has a character that is not plain ASCII (byte {raw[strange.start()]})"
    if raw and not raw.endswith(b"\n"):
        return "its last line has no end, so it may have been cut short"
    return ""


def _words(line: str) -> list[str]:
    """The words of a line up to a comment."""
    words: list[str] = []
    for word in line.split():
        if word.startswith("#"):
            break
        words.append(word)
    return words


def _kind(word: str) -> Kind:
    return "vo" if word == "vo" else "project" if word == "project" else "user"


def _expanded(rules: Iterable[Rule], vo_map: Mapping[str, Iterable[str]]) -> list[str]:
    """
    Names of users and projects that rules stand for.

    A VO stays in the list beside its projects: an allowed one without projects must not leave an empty list.
    """
    names: set[str] = set()
    for rule in rules:
        names.add(f"{rule.kind}:{rule.name}")
        if rule.kind == "vo":
            names |= {
                f"project:{project}".lower()
                for project, vos in vo_map.items()
                if rule.name in {vo.lower() for vo in vos}
            }
    return sorted(names)
