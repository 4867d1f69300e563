"""
What a site says of itself: partitions, nodes, accounts and version, read over its own transport in one remote command.

For people who write a site's description, and for checking one (:mod:`factory.sitecheck`). The texts are the same on
22.05, 24.11 and 26.05 (docs/operators.md says how to use it).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from config.units import format_walltime, parse_walltime
from factory.sites import scripts, texts
from factory.sites.scripts import Answer, Section
from factory.sites.shell import Script, Shell
from factory.sites.slurm import parse_result

PROBE_TIMEOUT_S = 60.0
SUGGESTED_CORES_MAX = 8
SUGGESTED_WALLTIME = timedelta(hours=12)
_UNLIMITED = ("UNLIMITED", "INFINITE", "NONE")


def clock_words(span: timedelta) -> str:
    """A time limit as Slurm shows it, without a zero of days."""
    return format_walltime(span).removeprefix("0-")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Partition:
    """One partition; a ``max_walltime`` of None is no limit. ``node_*`` are of its largest node, MiB."""

    name: str
    is_default: bool
    state: str
    max_walltime: timedelta | None
    nodes: int
    node_cores: int
    node_memory_mib: int
    gres: tuple[str, ...] = ()
    allow_accounts: tuple[str, ...] = ()
    """Empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Association:
    """What the accounting lets the user charge; None is no limit, an empty partition is any."""

    account: str
    partition: str
    qos: tuple[str, ...]
    max_jobs: int | None
    max_submit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The answer of a site."""

    user: str
    version: str
    cluster: str
    clock_offset_s: float
    """The site's clock minus ours, as far as one call can tell."""
    partitions: tuple[Partition, ...]
    associations: tuple[Association, ...] | None
    """None: the accounting did not say."""
    enforces_accounts: bool
    test_problem: str | None = None
    """What ``sbatch --test-only`` said against the options; empty: nothing; None: it was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoProbe:
    """The site gave no usable answer."""

    reason: str


def read_probe(
    shell: Shell, *, options: tuple[str, ...] = (), nonce: str, clock: Callable[[], float]
) -> Probe | NoProbe:
    """Ask the site; with ``options`` of sbatch also whether it would take such a job."""
    assert not any("\n" in option for option in options)
    orders = "".join(f"option {option}\n" for option in options) + ("test\n" if options else "") + "end\n"
    data = f"{nonce}\nprobe\n{orders}".encode()
    result = shell.run(Script(text=scripts.PROBE, data=data, timeout_s=PROBE_TIMEOUT_S))
    now_s = clock()
    answer = parse_result(result, nonce)
    if not answer.ended or answer.clock_s is None:
        words = (result.stderr + b"\n" + result.stdout).decode(errors="replace").splitlines()
        said = texts.essence("\n".join(line for line in words if not line.startswith("@")), status=result.status)
        return NoProbe(reason=f"{result.outcome.value.replace('_', ' ')}: {said}")
    return parse_probe(answer, clock_offset_s=answer.clock_s - now_s)


def parse_probe(answer: Answer, *, clock_offset_s: float) -> Probe | NoProbe:
    """Read the sections; without partitions there is nothing to tell."""
    shown = _text(answer.section("partitions"))
    if shown is None:
        section = answer.section("partitions")
        why = texts.essence(section.stderr, status=section.status) if section else "no answer"
        return NoProbe(reason=f"scontrol show partition: {why}")
    partitions = _partitions(shown, _text(answer.section("nodes")) or "")
    if not partitions:
        return NoProbe(reason="scontrol shows no partition that this user may see")
    settings = dict(re.findall(r"^(\w+)\s*=\s*(.*)$", _text(answer.section("settings")) or "", re.MULTILINE))
    accounts = _text(answer.section("associations"))
    test = answer.section("test")
    version = re.search(r"[0-9]+\.[0-9]+\S*", _text(answer.section("version")) or "")
    return Probe(
        user=next((rest for word, rest in answer.marks if word == "user"), ""),
        version=version[0] if version else "",
        cluster=settings.get("ClusterName", "").strip(),
        clock_offset_s=clock_offset_s,
        partitions=partitions,
        associations=None if accounts is None else tuple(_associations(accounts)),
        enforces_accounts="associations" in settings.get("AccountingStorageEnforce", ""),
        test_problem=None if test is None else _test_problem(test),
    )


def site_file(probe: Probe, *, name: str, login: str | None, now_s: float) -> str:
    """A commented site file: a modest pilot on the default partition, to be edited by people."""
    partition = min(probe.partitions, key=lambda one: (not one.is_default, one.state != "UP", one.name))
    cores = max(1, min(partition.node_cores, SUGGESTED_CORES_MAX))
    memory_mib = partition.node_memory_mib * cores // max(1, partition.node_cores)
    limit = partition.max_walltime
    walltime = SUGGESTED_WALLTIME if limit is None else min(limit, SUGGESTED_WALLTIME)
    accounts = sorted({one.account for one in probe.associations or ()})
    when = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d %H:%MZ")
    lines = [
        f"# Read from {login or 'this machine'} on {when}: Slurm {probe.version}, cluster {probe.cluster or '?'}, "
        f"clock {probe.clock_offset_s:+.0f} s of ours.",
        f"# Check it: aerotow site check {name}",
        "#",
        "# Partitions:",
        *(f"#   {_partition_words(one)}" for one in probe.partitions),
        f"# Accounts that {probe.user or 'this user'} may charge:",
        *(f"#   {_association_words(one)}" for one in probe.associations or ()),
    ]
    if not accounts:
        lines.append("#   (the site does not say; ask its admins)")
    lines += [
        f"[sites.{name}]",
        *([f"login       = {json.dumps(login)}"] if login else []),
        f"account     = {json.dumps(accounts[0] if accounts else 'ASK')}",
        f"partition   = {json.dumps(partition.name)}",
        f"cores       = {cores}",
        f'memory      = "{max(memory_mib, 1)} MiB"',
        f'walltime    = "{clock_words(walltime)}"',
        "max_pilots  = 2      # raise it once pilots are seen to work",
        "max_pending = 1",
    ]
    # The site's own words stand in it: none may begin a line of its own.
    return "".join("".join(filter(str.isprintable, line)) + "\n" for line in lines)


def _text(section: Section | None) -> str | None:
    """What a command printed, when it did its work."""
    return section.stdout if section is not None and section.status == 0 else None


def _test_problem(test: Section) -> str:
    """Slurm tells the good news on stderr too."""
    return "" if test.status == 0 else texts.essence(test.stderr or test.stdout, status=test.status)


def _partitions(shown: str, listed: str) -> tuple[Partition, ...]:
    """``scontrol -o show partition`` with the sizes of ``sinfo -N``."""
    largest: dict[str, tuple[int, int]] = {}
    gres: dict[str, set[str]] = {}
    for line in listed.splitlines():
        values = line.split("|", 5)
        if len(values) != 6 or not values[1].isdigit() or not values[2].isdigit():
            continue
        size = (int(values[1]), int(values[2]))
        largest[values[0]] = max(largest.get(values[0], (0, 0)), size)
        if values[3] not in ("", "(null)"):
            gres.setdefault(values[0], set()).add(values[3])
    found = []
    for line in shown.splitlines():
        facts = dict(re.findall(r"(\w+)=(\S*)", line))
        name = facts.get("PartitionName")
        if not name:
            continue
        cores, memory_mib = largest.get(name, (0, 0))
        allowed = facts.get("AllowAccounts", "ALL")
        found.append(
            Partition(
                name=name,
                is_default=facts.get("Default") == "YES",
                state=facts.get("State", "?"),
                max_walltime=_limit(facts.get("MaxTime", "UNLIMITED")),
                nodes=int(facts["TotalNodes"]) if facts.get("TotalNodes", "").isdigit() else 0,
                node_cores=cores,
                node_memory_mib=memory_mib,
                gres=tuple(sorted(gres.get(name, ()))),
                allow_accounts=() if allowed == "ALL" else tuple(allowed.split(",")),
            )
        )
    return tuple(sorted(found))


def _limit(text: str) -> timedelta | None:
    """A time limit; one that is no time is taken for none."""
    if text.upper() in _UNLIMITED:
        return None
    try:
        return parse_walltime(text)
    except ValueError:
        return None


def _associations(text: str) -> list[Association]:
    """``sacctmgr -n -P show assoc``: account, partition, QOS list, MaxJobs, MaxSubmit and more."""
    found = []
    for line in text.splitlines():
        values = line.split("|")
        if len(values) < 5 or not values[0]:
            continue
        found.append(
            Association(
                account=values[0],
                partition=values[1],
                qos=tuple(filter(None, values[2].split(","))),
                max_jobs=int(values[3]) if values[3].isdigit() else None,
                max_submit=int(values[4]) if values[4].isdigit() else None,
            )
        )
    return sorted(set(found))


def _partition_words(one: Partition) -> str:
    limit = "no time limit" if one.max_walltime is None else f"up to {clock_words(one.max_walltime)}"
    gres = f", {', '.join(one.gres)}" if one.gres else ""
    allowed = f", only accounts {', '.join(one.allow_accounts)}" if one.allow_accounts else ""
    default = " (default)" if one.is_default else ""
    return (
        f"{one.name}{default}: {one.state}, {limit}, {one.nodes} nodes of up to {one.node_cores} cores and "
        f"{one.node_memory_mib} MiB{gres}{allowed}"
    )


def _association_words(one: Association) -> str:
    limits = [f"at most {one.max_submit} jobs queued"] if one.max_submit is not None else []
    limits += [f"at most {one.max_jobs} running"] if one.max_jobs is not None else []
    where = f" in partition {one.partition}" if one.partition else ""
    qos = f", QOS {' '.join(one.qos)}" if one.qos else ""
    return f"{one.account}{where}{qos}" + "".join(f", {limit}" for limit in limits)
