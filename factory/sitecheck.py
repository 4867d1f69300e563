"""
Whether a site's description and the site fit together, before the first pilot is asked for; and a canary pilot.

Each finding says what was looked at, and if it is wrong the remedy. Pure judgements first; what talks to the site goes
through the same adapter as the factory's own work, under an instance name of its own, so that no factory mistakes the
check's jobs for pilots of its own.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from accounting.model import PilotRecord
from config.model import Config
from config.model import Site as SiteConfig
from config.names import cycle_id, pilot_id, pilot_key
from factory.policy import site_policy
from factory.sites.contract import (
    KnownPilot,
    NotSent,
    Refused,
    Site,
    SiteSeen,
    SiteSight,
    SiteUnseen,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from factory.sites.probe import Association, Partition, Probe, clock_words
from glidein.model import EndReason, EndReport, Offer, PilotPhase, Shape

CLOCK_TOLERANCE_S = 60
COLLECTOR_PORT = 9618
NODE_CHECK = Path(__file__).parent / "sites" / "nodecheck.sh"
POLL_S = 3.0

Verdict = Literal["good", "bad", "not_tried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    text: str
    remedy: str = ""


def good(what: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(what=what, verdict="good", text=text)


def bad(what: str, text: str, remedy: str) -> Finding:
    """It is not, and what to do."""
    return Finding(what=what, verdict="bad", text=text, remedy=remedy)


def not_tried(what: str, text: str) -> Finding:
    """It could not be looked at."""
    return Finding(what=what, verdict="not_tried", text=text)


def judge_here(config: Config, name: str) -> tuple[Finding, ...]:
    """What can be seen on this machine: the bundle and the signing key."""
    return (_bundle(config), _key(config, name))


def judge_site(site: SiteConfig, probe: Probe) -> tuple[Finding, ...]:
    """What the site says of itself against its description."""
    return tuple(_judgements(site, probe))


def _judgements(site: SiteConfig, probe: Probe) -> Iterator[Finding]:
    yield _clock("clock", "the login host", probe.clock_offset_s)
    partition = next((one for one in probe.partitions if one.name == site.partition), None)
    if partition is None:
        there = ", ".join(one.name for one in probe.partitions)
        yield bad("partition", f"there is no partition '{site.partition}'", f"set partition to one of: {there}")
    else:
        yield from _in_partition(site, partition)
    yield _account(site, probe)
    yield from _limits(site, probe)
    if probe.test_problem is None:
        yield not_tried("sbatch", "sbatch --test-only was not asked")
    elif probe.test_problem:
        remedy = "mend what is named; the same words would come for every pilot"
        yield bad("sbatch", f"sbatch --test-only refuses such a pilot: {probe.test_problem}", remedy)
    else:
        yield good("sbatch", "sbatch --test-only would take such a pilot")


def judge_htcondor(
    site: SiteConfig, sight: SiteSight, machines: tuple[tuple[int, int], ...] | str
) -> Iterator[Finding]:
    """What an HTCondor site's schedd and collector say, against the site's description."""
    if isinstance(sight, SiteUnseen):
        remedy = "see to schedd, collector and token_file; docs/operators.md lists what each of these words means"
        yield bad("schedd", sight.reason, remedy)
        return
    yield good("schedd", f"{site.schedd} answers, and lets us look with the token")
    yield _clock("clock", "the schedd", sight.clock_offset_s)
    if isinstance(machines, str):
        yield not_tried("machines", machines)
    elif any(cores >= site.cores and memory >= site.memory for cores, memory in machines):
        yield good("machines", f"one of {len(machines)} has room for {site.cores} cores and {site.memory} MiB")
    else:
        largest = max(machines, default=(0, 0))
        text = (
            f"none of {len(machines)} has {site.cores} cores and {site.memory} MiB; the largest has {largest[0]} cores"
        )
        yield bad(
            "machines", f"{text} and {largest[1]} MiB", "ask for less cores or memory, or such pilots wait for ever"
        )


def _in_partition(site: SiteConfig, partition: Partition) -> Iterator[Finding]:
    """Against the partition's limits; Slurm takes a job that is too long and lets it wait for ever."""
    if partition.state == "UP":
        yield good("partition", f"{partition.name} is up")
    else:
        remedy = "ask the site when it is up again, or set another partition"
        yield bad("partition", f"{partition.name} is {partition.state}", remedy)
    limit = partition.max_walltime
    if limit is not None and site.walltime > limit:
        text = f"{clock_words(site.walltime)} is longer than {partition.name} allows ({clock_words(limit)})"
        yield bad("walltime", text, f'set walltime = "{clock_words(limit)}" or less')
    else:
        yield good("walltime", f"{clock_words(site.walltime)} is within the limit of {partition.name}")
    if not partition.node_cores:
        yield not_tried("size", f"sinfo does not say how large the nodes of {partition.name} are")
        return
    for what, wanted, has, unit in (
        ("cores", site.cores, partition.node_cores, ""),
        ("memory", site.memory, partition.node_memory_mib, " MiB"),
    ):
        if wanted > has:
            text = f"{wanted}{unit} is more than any node of {partition.name} has ({has}{unit})"
            yield bad(what, text, f"set {what} to {has}{unit} or less, or another partition")
        else:
            yield good(what, f"{wanted}{unit} of {has}{unit} of a node")


def _account(site: SiteConfig, probe: Probe) -> Finding:
    """Whether the accounting lets the login user charge the account."""
    if probe.associations is None:
        return not_tried("account", "the site's accounting does not say whom this user may charge")
    mine = [one for one in probe.associations if one.account == site.account]
    if not mine:
        there = ", ".join(sorted({one.account for one in probe.associations})) or "none at all"
        text = f"{probe.user} may not charge account '{site.account}'"
        return bad("account", text, f"set account to one that he may charge ({there}), or ask the site to add him")
    if site.qos is not None and not any(site.qos in one.qos for one in mine):
        there = ", ".join(sorted({qos for one in mine for qos in one.qos}))
        return bad("qos", f"account {site.account} has no QOS '{site.qos}'", f"set qos to one of: {there}")
    return good("account", f"{probe.user} may charge {site.account}")


def _limits(site: SiteConfig, probe: Probe) -> Iterator[Finding]:
    """Our caps against the accounting's."""
    mine: list[Association] = [one for one in probe.associations or () if one.account == site.account]
    submit = min((one.max_submit for one in mine if one.max_submit is not None), default=None)
    if submit is not None and site.max_pilots > submit:
        text = f"max_pilots {site.max_pilots} is more than the {submit} jobs that the site lets {probe.user} have"
        yield bad("caps", text, f"set max_pilots = {submit} or less")
    else:
        yield good("caps", f"max_pilots {site.max_pilots} is within what the accounting allows")


def judge_node(
    report: EndReport, *, site: SiteConfig, collector: str, window: tuple[float, float]
) -> tuple[Finding, ...]:
    """What the check's job found on a compute node; it ran at some time in the window, by our clock."""
    head, _, words = report.detail.partition(" words=")
    facts = dict(fact.partition("=")[::2] for fact in head.split(" "))
    offset_s = 0.0
    if report.end_s < window[0]:
        offset_s = report.end_s - window[0]
    elif report.start_s > window[1]:
        offset_s = report.start_s - window[1]
    findings = [
        _clock("node clock", f"compute node {report.node}", offset_s),
        _network(facts.get("net", ""), words, node=report.node, collector=collector),
        _scratch(facts.get("free_mib", ""), site, report.node),
    ]
    missing = facts.get("missing", "")
    if missing:
        remedy = "ask the site to install them; a pilot cannot start without"
        findings.append(bad("tools", f"{report.node} has no {missing}", remedy))
    else:
        findings.append(good("tools", f"{report.node} has every command that a pilot needs"))
    return tuple(findings)


def _network(net: str, words: str, *, node: str, collector: str) -> Finding:
    """The way from a compute node to the pool."""
    match net:
        case "open":
            return good("network", f"{node} reaches the collector at {collector}")
        case "refused":
            return bad(
                "port",
                f"{collector} refuses the connection of {node}: nothing listens at that port, or a firewall rejects",
                "see that pool.collector names the collector's port and that it runs; open the port on the CM's side",
            )
        case "silent" | "unreachable":
            return bad(
                "network",
                f"{node} has no way to {collector}: {words or 'no answer in 15 s'}",
                f"ask the site to let compute nodes connect outward to {collector} (TCP)",
            )
        case "unresolved":
            return bad(
                "network",
                f"{node} cannot resolve the name of {collector}",
                "write the collector's address into pool.collector, or ask the site for DNS on compute nodes",
            )
        case _:
            return not_tried("network", f"{node} has no bash to try a connection with")


def _scratch(free: str, site: SiteConfig, node: str) -> Finding:
    wanted = site.disk + 64
    if not free.isdigit():
        text = f"no directory can be made in {site.scratch} on {node}"
        return bad("scratch", text, "set scratch to a node-local directory that the pilot account may write")
    if int(free) < wanted:
        text = f"{free} MiB free in {site.scratch} on {node}, a pilot wants {wanted} MiB"
        return bad("scratch", text, "set disk to less, or scratch to a larger node-local directory")
    return good("scratch", f"{free} MiB free in {site.scratch} on {node}")


def _clock(what: str, where: str, offset_s: float) -> Finding:
    if abs(offset_s) > CLOCK_TOLERANCE_S:
        text = f"the clock of {where} is {offset_s:+.0f} s off ours"
        return bad(what, text, "ask the site to keep its clocks by NTP, and see to ours: tokens and lifetimes need it")
    return good(what, f"the clock of {where} is ours to within {CLOCK_TOLERANCE_S} s")


def _bundle(config: Config) -> Finding:
    """Whether the bundle on this machine is the one that pilots are told of."""
    path = config.bundle.path
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return bad("bundle", f"{path}: {error.strerror}", "make it with 'aerotow bundle build', or mend bundle.path")
    if found != config.bundle.sha256:
        text = f"{path} has sha256 {found}, not bundle.sha256"
        return bad("bundle", text, f'set bundle.sha256 = "{found}" if the file is the one that you mean')
    return good("bundle", f"{path} has the sha256 of the configuration")


def _key(config: Config, name: str) -> Finding:
    """Whether the key is here; whether the collector knows it, only a pilot finds out."""
    key = config.pool.secrets_dir / "keys.d" / pilot_key(site=name)
    if not key.is_file():
        remedy = (
            f"make it with 'aerotow token key {pilot_key(site=name)}', copy it to the CM, and condor_reconfig there"
        )
        return bad("key", f"there is no signing key {key}", remedy)
    return good("key", f"{key} is there (whether the collector knows it, --canary finds out)")


def judge_canary(report: EndReport, *, name: str) -> Finding:
    """How a whole pilot ended that was asked for to see whether one works."""
    if report.joined_s is not None:
        return good("canary", f"a pilot joined the pool after {report.joined_s - report.start_s} s on {report.node}")
    remedies = {
        EndReason.NOT_JOINED: "if the network is good, the collector does not take the token: copy "
        f"keys.d/{pilot_key(site=name)} to the CM's SEC_PASSWORD_DIRECTORY, render 'aerotow pool cm' with this site, "
        "and condor_reconfig there",
        EndReason.BAD_BUNDLE: "see that bundle.path is what bundle.sha256 says, and that the home is not full",
        EndReason.NO_SCRATCH: "set scratch to a node-local directory with room, or disk to less",
        EndReason.CONDOR_FAILED: "the bundle does not run on the site's nodes; its logs lie beside the report",
    }
    remedy = remedies.get(report.reason, "see the pilot's words")
    return bad("canary", f"the pilot did not join: {report.reason.value} ({report.detail})", remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """What became of a job of the check: its report, or why there is none; and the time in which it ran."""

    report: EndReport | None
    problem: str
    began_s: float
    ended_s: float


def run_to_report(site: Site, request: SubmitRequest, *, wait_s: float, submit_s: float) -> Waited:
    """Submit one job, wait for its end report, and leave nothing behind but what still runs."""
    began_s = time.time()
    (outcome,) = site.submit((request,), deadline_s=began_s + submit_s)
    match outcome:
        case Submitted(batch_id=batch_id):
            known = KnownPilot(pilot_id=request.pilot_id, batch_id=batch_id, intended_s=int(began_s))
        case Refused(reason=why) | NotSent(reason=why) | Uncertain(reason=why):
            return Waited(
                report=None, problem=f"{outcome.kind.replace('_', ' ')}: {why}", began_s=began_s, ended_s=began_s
            )
    last = "no look succeeded"
    while time.time() < began_s + wait_s:
        time.sleep(POLL_S)
        sight = site.look((known,), now_s=time.time())
        if not isinstance(sight, SiteSeen):
            last = f"unseen: {sight.reason}"
            continue
        report = next((one for one in sight.reports if one.pilot_id == request.pilot_id), None)
        job = next((one for one in sight.live if one.name == request.pilot_id), None)
        if report is not None and (job is None or job.state.is_final):
            site.forget((request.pilot_id,))
            return Waited(report=report, problem="", began_s=began_s, ended_s=time.time())
        if job is not None:
            last = f"{job.raw_state} {job.reason}".strip()
    site.cancel((known,))
    problem = f"no end within {wait_s:.0f} s (Slurm job {known.batch_id}: {last})"
    return Waited(report=None, problem=problem, began_s=began_s, ended_s=time.time())


def node_request(config: Config, name: str, *, instance: str, nonce: int) -> SubmitRequest:
    """The job that looks at a compute node: small, so that it need not wait for a whole pilot's room."""
    site = config.sites[name]
    offer = site_policy(name, site).offer
    shape = Shape(cores=1, memory_mib=min(256, site.memory), disk_mib=0, walltime_s=300)
    host, port = collector_address(config.pool.collector)
    ident = _id(name, instance=instance, nonce=nonce)
    facts = "".join(f"{fact}\n" for fact in (ident, host, port, site.scratch, site.disk + 64))
    files = (("pilot.sh", NODE_CHECK.read_bytes()), ("check.env", facts.encode()))
    return SubmitRequest(pilot_id=ident, offer=replace(offer, shape=shape), files=files)


def canary_request(
    config: Config,
    name: str,
    *,
    instance: str,
    nonce: int,
    render: Callable[[PilotRecord], tuple[tuple[str, bytes], ...]],
) -> SubmitRequest:
    """A whole pilot, as the factory would send it."""
    offer: Offer = site_policy(name, config.sites[name]).offer
    now_s = int(time.time())
    record = PilotRecord(
        pilot_id=_id(name, instance=instance, nonce=nonce),
        offer=offer,
        cycle="canary",
        sent="intended",
        phase=PilotPhase.INTENDED,
        intended_s=now_s,
        submit_deadline_s=now_s,
    )
    return SubmitRequest(pilot_id=record.pilot_id, offer=offer, files=render(record))


def _id(name: str, *, instance: str, nonce: int) -> str:
    return pilot_id(instance=instance, site=name, cycle=cycle_id(epoch_s=int(time.time()), nonce=nonce), n=1)


def collector_address(collector: str) -> tuple[str, int]:
    """Host and port; without a port it is HTCondor's own."""
    host, _, port = collector.partition(":")
    return host, int(port) if port.isdigit() else COLLECTOR_PORT


def judge_collector(collector: str, *, timeout_s: float = 5.0) -> Finding:
    """Whether the collector can be reached from here; the other half of the question from the node."""
    address = collector_address(collector)
    try:
        socket.create_connection(address, timeout=timeout_s).close()
    except OSError as error:
        remedy = "see that the collector runs and that pool.collector names its host and port"
        return bad("collector", f"{collector} cannot be reached from this machine ({error})", remedy)
    return good("collector", f"{collector} takes connections of this machine")
