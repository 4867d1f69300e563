"""
The faults: how each is done to the test-bed and undone.

Everything stays on this machine: containers are killed and paused, daemons killed and stopped by signals, packets
dropped inside a container's own network namespace, small file systems in memory filled up, and a site's commands
wrapped in /usr/local/bin. All containers share the kernel's clock, so a skewed clock is a wrapped ``date`` on a login
host: it covers what the factory's remote scripts ask, not the time stamps that Slurm itself writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from testbed import containers, model, site
from testbed.engine import docker_cli, run
from testbed.errors import TestbedError
from tests.chaos.schedule import Kind, Planned
from tests.system.fleet import FACTORY, Fleet

SITE_DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "sshd")
REST_SITE = "gamma"
"""Asked through slurmrestd; the others through ssh."""
SHELL_SITES = ("alpha", "beta")
SCRATCH_SITE = "alpha"
SCRATCH = "/scratch"
SCRATCH_MIB = 600
STATE_MIB = 96
WRAPPERS = {
    "slow": 'sleep 8; exec /usr/bin/{tool} "$@"',
    "cut": '/usr/bin/{tool} "$@" | head -c {cut}',
    "garbled": "/usr/bin/{tool} \"$@\" | tr '|0-9' '#x'",
    "silent": '/usr/bin/{tool} "$@" >/dev/null 2>&1; exit 0',
    "failing": '/usr/bin/{tool} "$@" >/dev/null 2>&1; echo "{tool}: error: Zero Bytes were transmitted" >&2; exit 1',
}
"""What comes out of a site's command; sbatch does what it was asked all the same, only its answer is lost."""
CUT_BYTES = {"squeue": 60, "sacct": 60, "sbatch": 1}
SKEWS = {"clock-ahead": "+10 minutes", "clock-behind": "-10 minutes"}

Where = Literal["site", "ap", "collector", "factory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What a fault hits: the part that the factory must see again, and its name."""

    where: Where
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault with its two sides."""

    hit: Hit
    inject: Callable[[], object]
    heal: Callable[[], object]


def kinds() -> tuple[Kind, ...]:
    """Every class of faults and what it may hit."""
    sites = tuple(row.name for row in model.SITES)
    nodes = tuple(f"{node}.{row.name}" for row in model.SITES for node in row.nodes)
    found = [
        Kind(name=f"{daemon}-{how}", targets=sites, lane="site")
        for daemon in SITE_DAEMONS
        for how in ("kill", "freeze")
    ]
    found += [
        Kind(name=f"{daemon}-{how}", targets=(REST_SITE,), lane="site")
        for daemon in ("slurmrestd", "stunnel4")
        for how in ("kill", "freeze")
    ]
    found += [Kind(name=f"slurmd-{how}", targets=nodes, lane="site") for how in ("kill", "freeze")]
    found += [Kind(name=f"node-{how}", targets=nodes, lane="site", longest_s=30) for how in ("reboot", "pause")]
    found += [
        Kind(name=f"{tool}-{how}", targets=SHELL_SITES, lane="site")
        for tool in ("squeue", "sacct", "sbatch")
        for how in WRAPPERS
    ]
    found += [Kind(name=name, targets=SHELL_SITES, lane="site") for name in SKEWS]
    found += [
        Kind(name="scratch-full", targets=tuple(f"{node}.alpha" for node in model.SITES[0].nodes), lane="site"),
        Kind(name="cut-pilots-pool", targets=sites, lane="site"),
        Kind(name="cut-factory-site", targets=sites, lane="site"),
    ]
    found += [Kind(name=f"collector-{how}", targets=("cm",), lane="pool") for how in ("kill", "freeze")]
    found += [Kind(name=f"negotiator-{how}", targets=("cm",), lane="pool") for how in ("kill", "freeze")]
    found += [Kind(name="cm-reboot", targets=("cm",), lane="pool")]
    found += [
        Kind(name=name, targets=model.APS, lane="pool")
        for name in ("schedd-kill", "schedd-freeze", "ap-pause", "cut-ap-cm", "cut-factory-ap")
    ]
    found += [Kind(name="cut-factory-cm", targets=("cm",), lane="pool")]
    found += [
        Kind(name=f"factory-{how}", targets=("factory",), lane="pool")
        for how in ("kill", "freeze", "pause", "disk-full", "db-locked", "db-read-only")
    ]
    return tuple(found)


def fault(planned: Planned, fleet: Fleet) -> Fault:
    """What a planned fault does."""
    what, _, how = planned.kind.rpartition("-")
    target = planned.target
    if what in SITE_DAEMONS or what in ("slurmrestd", "stunnel4"):
        return _site_daemon(what, how, target)
    if what in ("slurmd", "node"):
        return _node(what, how, target)
    if what in CUT_BYTES:
        return _wrapped(what, WRAPPERS[how].format(tool=what, cut=CUT_BYTES[what]), target)
    if planned.kind in SKEWS:
        return _wrapped("date", f'exec /usr/bin/date -d "{SKEWS[planned.kind]}" "$@"', target)
    if planned.kind == "scratch-full":
        return _scratch_full(target)
    if planned.kind.startswith("cut-"):
        return _cut(planned.kind, target)
    if what == "factory" or planned.kind.startswith("factory-"):
        return _factory(planned.kind.removeprefix("factory-"), fleet)
    return _pool(what, how, target)


def heal_host(host: model.Host) -> None:
    """Start what is down on a host and continue what is frozen, with patience: daemons need each other."""
    for again in (True, True, False):
        try:
            containers.heal(host)
            return
        except TestbedError:
            if not again:
                raise
            time.sleep(3)


def _site_daemon(daemon: str, how: str, name: str) -> Fault:
    login = site.login_host(name)
    inject = (
        (lambda: site.stop_daemon(name, daemon, kill=True))
        if how == "kill"
        else (lambda: site.signal_daemon(name, daemon, "STOP"))
    )
    return Fault(hit=Hit(where="site", name=name), inject=inject, heal=lambda: heal_host(login))


def _node(what: str, how: str, target: str) -> Fault:
    host = model.host_named(target)
    name = str(host.site)

    def heal() -> None:
        awake(host)
        heal_host(host)
        prepare_scratch(host)
        resume_nodes(name)

    injects: dict[str, Callable[[], object]] = {
        "slurmd-kill": lambda: containers.execute(host, [containers.SUPERVISOR, "kill", "slurmd"]),
        "slurmd-freeze": lambda: containers.execute(host, [containers.SUPERVISOR, "signal", "slurmd", "STOP"]),
        "node-reboot": lambda: docker_cli("kill", host.container),
        "node-pause": lambda: pause(host),
    }
    return Fault(hit=Hit(where="site", name=name), inject=injects[f"{what}-{how}"], heal=heal)


def _wrapped(tool: str, line: str, name: str) -> Fault:
    login, path = site.login_host(name), f"/usr/local/bin/{tool}"
    return Fault(
        hit=Hit(where="site", name=name),
        inject=lambda: containers.write_file(login, path, f"#!/bin/sh\n{line}\n".encode(), mode=0o755),
        heal=lambda: containers.execute(login, ["rm", "-f", path]),
    )


def _scratch_full(target: str) -> Fault:
    host = model.host_named(target)
    return Fault(
        hit=Hit(where="site", name=str(host.site)),
        inject=lambda: fill(host, SCRATCH),
        heal=lambda: containers.execute(host, ["rm", "-f", f"{SCRATCH}/.full"]),
    )


def fill(host: model.Host, directory: str) -> None:
    """Use up all the space of a small file system; dd ends with an error when there is none left, as it should."""
    argv = ["dd", "if=/dev/zero", f"of={directory}/.full", "bs=1M", f"count={4 * SCRATCH_MIB}"]
    containers.execute_raw(host, argv, user="root")


def _cut(kind: str, target: str) -> Fault:
    cm, pool = model.host_named("cm"), f"{model.host_named('cm').addresses[0][1].rpartition('.')[0]}.0/24"
    if kind == "cut-pilots-pool":
        nodes = [host for host in model.site_hosts(model.site_named(target)) if host.role is model.Role.NODE]
        pairs, hit = [(node, pool) for node in nodes], Hit(where="site", name=target)
    elif kind == "cut-factory-site":
        address = dict(site.login_host(target).addresses)[model.POOL_NETWORK]
        pairs, hit = [(FACTORY, address)], Hit(where="site", name=target)
    elif kind == "cut-factory-ap":
        pairs, hit = [(FACTORY, model.host_named(target).addresses[0][1])], Hit(where="ap", name=target)
    elif kind == "cut-ap-cm":
        pairs, hit = [(model.host_named(target), cm.addresses[0][1])], Hit(where="ap", name=target)
    else:
        pairs, hit = [(FACTORY, cm.addresses[0][1])], Hit(where="collector", name=target)
    return Fault(
        hit=hit,
        inject=lambda: [drop(host, address) for host, address in pairs],
        heal=lambda: [undrop(host) for host, _ in pairs],
    )


def drop(host: model.Host, address: str) -> None:
    """Let no packet pass between a host and an address: silence, not a refusal."""
    inside(host, "-n", "iptables", "-w", "-I", "INPUT", "-s", address, "-j", "DROP")
    inside(host, "-n", "iptables", "-w", "-I", "OUTPUT", "-d", address, "-j", "DROP")


def undrop(host: model.Host) -> None:
    """Let all pass again; a container has no other rules in these chains."""
    inside(host, "-n", "iptables", "-w", "-F", "INPUT")
    inside(host, "-n", "iptables", "-w", "-F", "OUTPUT")


def inside(host: model.Host, space: str, *argv: str) -> str:
    """Run a command of this machine inside a namespace of a container (``-n`` network, ``-m`` mounts)."""
    pid = docker_cli("inspect", "-f", "{{.State.Pid}}", host.container).strip()
    return run(["nsenter", "-t", pid, space, *argv], timeout_s=60)


def signal_condor(host: model.Host, daemon: str, signal: str) -> None:
    """Send a signal to one daemon of the pool; a daemon that is not there is no error."""
    containers.execute_raw(host, ["pkill", f"-{signal}", "-f", f"^condor_{daemon}( |$)"], user="root")


def _pool(what: str, how: str, target: str) -> Fault:
    host = model.host_named(target)
    hit = Hit(where="ap", name=target) if target in model.APS else Hit(where="collector", name=target)
    if how in ("pause", "reboot"):
        inject = (lambda: pause(host)) if how == "pause" else (lambda: docker_cli("kill", host.container))
        return Fault(hit=hit, inject=inject, heal=lambda: mend_pool(host))
    signal = "KILL" if how == "kill" else "STOP"
    # condor_master starts a daemon that was killed by itself, after a pause that grows.
    return Fault(hit=hit, inject=lambda: signal_condor(host, what, signal), heal=lambda: mend_pool(host))


def mend_pool(host: model.Host) -> None:
    """A host of the pool as it should be."""
    awake(host)
    for daemon in ("collector", "negotiator", "schedd"):
        signal_condor(host, daemon, "CONT")
    heal_host(host)


def _factory(how: str, fleet: Fleet) -> Fault:
    def mend() -> None:
        mend_factory(fleet)

    injects: dict[str, Callable[[], object]] = {
        "kill": lambda: fleet.signal("KILL"),
        "freeze": lambda: fleet.signal("STOP"),
        "pause": lambda: pause(FACTORY),
        "disk-full": lambda: fill(FACTORY, fleet.directory),
        "db-locked": lambda: _lock_database(fleet),
        "db-read-only": lambda: _protect_database(fleet),
    }
    return Fault(hit=Hit(where="factory", name="factory"), inject=injects[how], heal=mend)


def _lock_database(fleet: Fleet) -> None:
    """Somebody else writes, and does not end."""
    code = (
        "import os, sqlite3, time; open('/tmp/chaos-lock.pid', 'w').write(str(os.getpid()));"
        f" held = sqlite3.connect('{fleet.directory}/aerotow.db', timeout=30); held.execute('BEGIN EXCLUSIVE');"
        " time.sleep(120)"
    )
    docker_cli("exec", "-d", "-u", model.FACTORY_USER, FACTORY.container, "/opt/aerotow/bin/python", "-c", code)


def _protect_database(fleet: Fleet) -> None:
    """What is open stays writable, so the factory dies first; who starts it finds a database that nobody may write."""
    fleet.kill()
    files = f"{fleet.directory}/aerotow.db*"
    containers.execute(FACTORY, ["sh", "-c", f"chown root {files} && chmod 444 {files}"], user="root")


def mend_factory(fleet: Fleet) -> None:
    """The factory's host as it should be, and the factory running."""
    awake(FACTORY)
    undrop(FACTORY)
    script = f"""
        rm -f {fleet.directory}/.full
        [ ! -e /tmp/chaos-lock.pid ] || kill -9 "$(cat /tmp/chaos-lock.pid)"; rm -f /tmp/chaos-lock.pid
        for file in {fleet.directory}/aerotow.db*; do
            [ ! -e "$file" ] || {{ chown {model.FACTORY_USER}: "$file"; chmod 600 "$file"; }}
        done
    """
    containers.execute_raw(FACTORY, ["sh", "-c", script], user="root")
    fleet.signal("CONT")
    if not fleet.running():
        fleet.start()


def pause(host: model.Host) -> None:
    """Freeze a whole container. Docker cannot while something inside is just being started ("unable to freeze")."""
    for again in (True, True, True, False):
        try:
            docker_cli("pause", host.container)
            return
        except TestbedError:
            if not again:
                raise
            time.sleep(1)


def awake(host: model.Host) -> None:
    """A container that is paused goes on, one that was killed is started."""
    state = docker_cli("inspect", "-f", "{{.State.Status}}", host.container).strip()
    if state == "paused":
        docker_cli("unpause", host.container)
    elif state != "running":
        docker_cli("start", host.container)
        containers.wait_ready(host)


def prepare_scratch(host: model.Host) -> None:
    """A small file system of its own for the pilots of a compute host of the site that has one; lost at a reboot."""
    if host.site != SCRATCH_SITE or host.role is not model.Role.NODE:
        return
    if "tmpfs" in inside(host, "-m", "sh", "-c", f"mkdir -p {SCRATCH}; stat -f -c %T {SCRATCH}"):
        return
    inside(host, "-m", "mount", "-t", "tmpfs", "-o", f"size={SCRATCH_MIB}m,mode=1777", "chaos", SCRATCH)


def remove_scratch(host: model.Host) -> None:
    """Leave the compute host as it was."""
    if host.site == SCRATCH_SITE and host.role is model.Role.NODE:
        inside(host, "-m", "sh", "-c", f"umount -l {SCRATCH} 2>/dev/null; rmdir {SCRATCH} 2>/dev/null; true")


def resume_nodes(name: str) -> None:
    """What a site's admin does with hosts that came back: Slurm leaves some of them down."""
    login = site.login_host(name)
    for node in model.site_named(name).nodes:
        script = (
            f"case $(sinfo -h -n {node} -o %t | head -n 1) in down*|drain*|unk*)"
            f" scontrol update NodeName={node} State=RESUME;; esac"
        )
        containers.execute_raw(login, ["timeout", "20", "sh", "-c", script])


def mend_hosts() -> None:
    """Undo whatever may still be broken anywhere but in the factory itself."""
    for host in model.hosts():
        awake(host)
    for host in model.hosts():
        undrop(host)
        if host.role is model.Role.LOGIN:
            containers.execute(host, ["sh", "-c", "cd /usr/local/bin && rm -f squeue sacct sbatch date"])
        if host.role is model.Role.NODE:
            containers.execute(host, ["rm", "-f", f"{SCRATCH}/.full"])
        if host.role in (model.Role.CM, model.Role.AP):
            mend_pool(host)
        elif host.role is not model.Role.FACTORY:
            heal_host(host)
    for row in model.SITES:
        resume_nodes(row.name)


def mend_all(fleet: Fleet) -> None:
    """Undo whatever may still be broken anywhere."""
    mend_hosts()
    mend_factory(fleet)
