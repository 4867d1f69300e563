"""
The one cause for which a job waits, of all that its verdicts name: what it is, what to do, and whose it is.

Nothing is worked out anew here: the planner's own verdicts are put in order. What keeps the job from every site comes
before what keeps it from one, and of several sites the one counts that is nearest to running it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from factory.explain import Explanation
from factory.model import Reason, Verdict
from glidein.model import PilotPhase

Code = Literal[
    "no_factory",  # no cycle has run lately
    "project",  # the job's accounting group is none of the user's projects
    "no_sites",
    "pool_unseen",
    "memory",
    "cores",
    "disk",
    "gpus",
    "too_long",
    "wrong_site",  # the job names sites that are not there
    "nothing_matches",  # requirements that no pilot meets
    "denied",
    "paused",
    "stopped",
    "outage",
    "site_unseen",
    "breaker",
    "matches_nothing",  # pilots of the site join and run none of these jobs
    "cap",
    "queue",  # its pilots wait at a site
    "starting",  # its pilots run and have not joined, or are on their way to the site
    "match",  # a pilot in the pool has room for it
    "next_cycle",
    "held",
    "unknown",
]

_NEVER = frozenset({"requirements", "too_large", "too_long"})
_NO_BARS = frozenset({"absorbed", "placed_elsewhere", "slots_unseen", "late"})
_CAPS = ("cycle_limit", "ramp", "max_pending", "shape_pilots", "max_pilots", "total_pilots", "share", "site_cap")
_BARS = (*_CAPS, "matches_nothing", "breaker", "site_unseen", "outage", "stopped", "paused", "denied")
"""What keeps a job from a site that could run it, the softest first: that one is the nearest to being lifted."""

_KINDS: tuple[tuple[Code, frozenset[str]], ...] = (
    ("wrong_site", frozenset({"glideinsite"})),
    ("gpus", frozenset({"requestgpus", "gpus"})),
    ("memory", frozenset({"requestmemory"})),
    ("cores", frozenset({"requestcpus"})),
    ("disk", frozenset({"requestdisk"})),
    ("too_long", frozenset({"glideintodie", "glideintoretire", "allowedexecuteduration"})),
)
"""Kinds of misfit by an attribute that the failing requirement reads, the most telling first."""

_HAS = {"memory": ("memory", "MiB"), "cores": ("cpus", "cores"), "disk": ("disk", "KiB"), "gpus": ("gpus", "GPUs")}
_ASKS = {"memory": "requestmemory", "cores": "requestcpus", "disk": "requestdisk", "gpus": "requestgpus"}
_SUBMIT = {"memory": "request_memory", "cores": "request_cpus", "disk": "request_disk", "gpus": "request_gpus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a job waits, for people, in three parts."""

    code: Code
    text: str
    """What follows 'waits because'."""
    remedy: str
    owner: str
    """Who can change it: ``job`` (whoever submitted it), ``factory`` and ``operator`` (who runs aerotow), ``site``."""


def cause_of(told: Explanation, *, projects: tuple[str, ...] | None, idle_factory: str) -> Cause:
    """
    The cause of an idle job's wait.

    ``projects`` are those that its user may charge (None: the configuration names none at all), ``idle_factory`` why
    no factory works, or empty.
    """
    group = told.bucket.group
    covered = sum(one.absorbed_running + one.absorbed_waiting for one in told.verdicts)
    granted = sum(one.granted for one in told.verdicts)
    if projects is not None and group and group not in projects and not covered and not granted:
        valid = f"valid: {', '.join(projects)}" if projects else "the user has none"
        return Cause(
            code="project",
            text=f"its project {group} is none that {told.bucket.user.partition('@')[0]} may charge ({valid})",
            remedy="submit it anew with a valid accounting_group, or have the operators add you to the project",
            owner="job",
        )
    if idle_factory:
        return Cause(code="no_factory", text=idle_factory, remedy="start 'aerotow run' again", owner="operator")
    if not told.verdicts:
        return Cause(code="no_sites", text="no site is configured", remedy="add a site file", owner="operator")
    if not covered and not granted:
        return _shut_out(told)
    if told.unplaced > told.bucket.jobs - told.unplaced:
        # Most jobs of its kind get no pilot: what holds those back is the likelier fate of any one of them.
        return _shut_out(told)
    return _coming(told)


def _coming(told: Explanation) -> Cause:
    """The job will be taken: by what, and what that waits for."""
    pending = [pilot for pilot in told.takers if pilot.phase is PilotPhase.PENDING]
    starting = [pilot for pilot in told.takers if pilot.phase in (PilotPhase.STARTING, PilotPhase.INTENDED)]
    if any(one.absorbed_running for one in told.verdicts):
        sites = _list(one.site for one in told.verdicts if one.absorbed_running)
        return Cause(
            code="match",
            text=f"a running pilot at {sites} has room for it, and the pool has not matched them yet",
            remedy="nothing for some minutes; then 'condor_q -better-analyze'",
            owner="operator",
        )
    if pending and not any(pilot.phase is PilotPhase.STARTING for pilot in told.takers):
        site = pending[0].offer.site
        here = [pilot for pilot in pending if pilot.offer.site == site]
        why = Counter(pilot.batch_reason for pilot in here if pilot.batch_reason).most_common(1)
        said = f" (Slurm says: {why[0][0]})" if why else ""
        pilots = "1 pilot for jobs like it waits" if len(here) == 1 else f"{len(here)} pilots for jobs like it wait"
        return Cause(
            code="queue",
            text=f"{pilots} in the queue of site {site}{said}{_late_words(told, site)}",
            remedy="nothing: they start when the site's scheduler lets them",
            owner="site",
        )
    if starting:
        sites = _list(pilot.offer.site for pilot in starting)
        return Cause(code="starting", text=f"its pilot is starting at {sites}", remedy="nothing", owner="factory")
    sites = _list(one.site for one in told.verdicts if one.granted or one.absorbed_waiting)
    return Cause(
        code="next_cycle",
        text=f"pilots for it are asked for at {sites}" if told.counted else "no cycle has counted it yet",
        remedy="nothing: a cycle takes about a minute",
        owner="factory",
    )


def _late_words(told: Explanation, site: str) -> str:
    """That the site's pilots have waited too long, and who was asked in their place or why nobody may be."""
    mine = next((one for one in told.verdicts if one.site == site), None)
    late = next((reason for reason in mine.reasons if reason.code == "late"), None) if mine else None
    if late is None:
        return ""
    if not told.late.left:
        return f"; {late.text}"
    others = [one for one in _could(told) if one.site != site]
    barred = _barred(others)
    if not others:
        why = "no other could run them"
    elif barred:
        why = min(barred, key=lambda bar: (bar[0], bar[1]))[2].text
    else:
        why = "ours wait too long wherever they could run"
    return f"; {late.text}: {why}"


def _could(told: Explanation) -> list[Verdict]:
    """The sites that could run the job."""
    return [one for one in told.verdicts if not _NEVER & {reason.code for reason in one.reasons}]


def _barred(verdicts: Iterable[Verdict]) -> list[tuple[int, str, Reason]]:
    """What bars these sites: how hard, where, and why."""
    return [
        (_BARS.index(reason.code) if reason.code in _BARS else 0, one.site, reason)
        for one in verdicts
        for reason in one.reasons
        if reason.code not in _NO_BARS
    ]


def _shut_out(told: Explanation) -> Cause:
    """Nothing takes the job: the softest of what bars the sites that could, or why none could."""
    could = _could(told)
    barred = _barred(could)
    frozen = next((reason for one in could for reason in one.reasons if reason.code == "slots_unseen"), None)
    if frozen is not None:
        remedy = "see that the central manager answers ('aerotow status')"
        return Cause(code="pool_unseen", text=frozen.text, remedy=remedy, owner="operator")
    if barred:
        _, site, reason = min(barred, key=lambda bar: (bar[0], bar[1]))
        return _bar(site, reason, others=len({name for _, name, _ in barred}) - 1)
    if could:
        return Cause(
            code="unknown",
            text="no pilot was asked for and no limit says why",
            remedy="report it with the file that 'aerotow replay --export FILE' writes",
            owner="factory",
        )
    return _misfit(told)


def _bar(site: str, reason: Reason, *, others: int) -> Cause:
    """One bar at one site."""
    more = f" (and {others} other {'site' if others == 1 else 'sites'} barred too, see below)" if others else ""
    remedies: dict[str, tuple[Code, str]] = {
        "breaker": (
            "breaker",
            f"see why its pilots fail ('aerotow sites'); a probe goes by itself, or 'aerotow resume {site}'",
        ),
        "matches_nothing": (
            "matches_nothing",
            f"compare the site's description with a slot that it gives ('aerotow site check {site}'); a probe goes by "
            "itself",
        ),
        "site_unseen": ("site_unseen", f"see that site {site} can be reached ('aerotow sites' has a remedy)"),
        "outage": ("outage", "nothing until it is over; a shorter allowed_execute_duration may fit before it"),
        "stopped": ("stopped", f"'aerotow resume {site}' when the reason is gone"),
        "paused": ("paused", "ask the site's admin"),
        "denied": ("denied", "ask the site's admin, or use another project or site"),
        "site_cap": ("cap", "nothing: it runs when pilots there end; the site's admin can raise it"),
        "cycle_limit": ("cap", "nothing: the next cycle asks for more"),
        "ramp": ("cap", "nothing: the next cycle asks for more"),
    }
    code, remedy = remedies.get(
        reason.code, ("cap", "nothing: it runs when pilots end; the operators can raise the limit")
    )
    return Cause(code=code, text=f"{reason.text}{more}", remedy=remedy, owner=reason.owner)


def _misfit(told: Explanation) -> Cause:
    """No site's pilots can ever run the job: what the nearest ones lack."""
    kinds = {one.site: _kinds_of(one) for one in told.verdicts}
    named = {site: kind for site, kind in kinds.items() if "wrong_site" not in kind}
    # A site that the job itself leaves out says nothing of what the job lacks, unless it leaves out all.
    nearest = min(named or kinds, key=lambda site: (len(kinds[site]), site))
    code: Code = next((kind for kind, _ in _KINDS if kind in kinds[nearest]), "nothing_matches")
    verdicts = [one for one in told.verdicts if one.site in (named or kinds)]
    if code == "wrong_site":
        sites = ", ".join(sorted(kinds))
        clause = _clause(told.verdicts, "wrong_site")
        return Cause(
            code=code,
            text=f"it requires {clause}, and there is no such site (there are: {sites})",
            remedy="name a site that is there: condor_qedit its Requirements, or submit it anew",
            owner="job",
        )
    if code in _HAS:
        return _too_much(told, verdicts, code)
    if code == "too_long":
        reason = next((r for one in verdicts for r in one.reasons if r.code == "too_long"), None)
        return Cause(
            code=code,
            text=reason.text if reason else f"it is longer than any pilot lives: {_clause(verdicts, code)}",
            remedy="declare a shorter allowed_execute_duration, or ask the operators for longer pilots",
            owner="job",
        )
    return Cause(
        code="nothing_matches",
        text=f"no pilot of any site meets its requirement {_clause(verdicts, code)}",
        remedy="take that out of its requirements with condor_qedit, or ask the operators for such pilots",
        owner="job",
    )


def _too_much(told: Explanation, verdicts: list[Verdict], code: Code) -> Cause:
    """The job asks for more than any pilot has, with both numbers."""
    attribute, unit = _HAS[code]
    most, where = max(((_value(one, attribute), one.site) for one in verdicts), key=lambda pair: pair[0])
    asks = next((value for one in verdicts if (value := _value(one, _ASKS[code]))), 0)
    if code == "gpus" and not most:
        text = f"it asks for {asks or told.bucket.gpus} GPUs, and no site's pilots have any"
        remedy = "submit it without request_gpus, or ask the operators for pilots with GPUs"
        return Cause(code=code, text=text, remedy=remedy, owner="job")
    return Cause(
        code=code,
        text=f"it asks for {asks} {unit} of {code}, and the largest pilot, at {where}, has {most} {unit}"
        if code not in ("cores", "gpus")
        else f"it asks for {asks} {unit}, and the largest pilot, at {where}, has {most}",
        remedy=f"ask for less ({_SUBMIT[code]}), or ask the operators for larger pilots",
        owner="job",
    )


def _kinds_of(verdict: Verdict) -> frozenset[Code]:
    """In what ways a job and a site's pilots do not go together."""
    kinds: set[Code] = set()
    for reason in verdict.reasons:
        if reason.code == "too_long":
            kinds.add("too_long")
        for failed in reason.failed:
            kinds.add(_kind_of(name for name, _ in failed.values))
    return frozenset(kinds) or frozenset({"nothing_matches"})


def _kind_of(names: Iterable[str]) -> Code:
    """What a failing requirement is about, by the attributes that it reads."""
    read = {name.lower() for name in names}
    return next((kind for kind, telling in _KINDS if telling & read), "nothing_matches")


def _clause(verdicts: Iterable[Verdict], code: Code) -> str:
    """The first failing requirement of a kind, in the job's words if it is the job's."""
    failed = [
        clause
        for one in verdicts
        for reason in one.reasons
        for clause in reason.failed
        if _kind_of(name for name, _ in clause.values) == code
    ]
    failed.sort(key=lambda clause: clause.owner)
    return failed[0].text if failed else "as a whole"


def _value(verdict: Verdict, attribute: str) -> int:
    """A number that a failing requirement read; 0 where none did."""
    for reason in verdict.reasons:
        for failed in reason.failed:
            for name, value in failed.values:
                if name.lower() == attribute:
                    try:
                        return int(float(value))
                    except ValueError:
                        continue
    return 0


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
