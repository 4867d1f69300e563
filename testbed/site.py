"""One Slurm site: brought up as a unit, and handled daemon by daemon in fault tests."""

from __future__ import annotations

import contextlib
import secrets
import time

from testbed import containers, model, slurmconf
from testbed.containers import ContainerSpec, PlacedFile
from testbed.engine import Say, client, step
from testbed.errors import HostNotReady

LOGIN_DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "sshd", "slurmrestd", "stunnel4")
NODE_DAEMONS = ("munged", "slurmd")
USABLE = {"idle", "mix", "alloc", "comp"}
NODES_WAIT_S = 60.0


def specifications(site: model.SlurmSite, *, image: str, munge_key: bytes) -> tuple[ContainerSpec, ...]:
    """What a site's containers are made from. The munge key is new for each making: sites share no secret."""
    files = [
        PlacedFile(path="/etc/slurm/slurm.conf", content=slurmconf.slurm_conf(site).encode()),
        PlacedFile(path="/etc/testbed/munge.key", content=munge_key, mode=0o600, secret=True),
    ]
    cgroup = slurmconf.cgroup_conf(site)
    if cgroup is not None:
        files.append(PlacedFile(path="/etc/slurm/cgroup.conf", content=cgroup.encode()))
    login_files = [
        PlacedFile(path="/etc/testbed/slurmdbd.conf", content=slurmconf.SLURMDBD_CONF.encode(), mode=0o600),
        PlacedFile(path="/etc/testbed/accounts", content=slurmconf.accounts(site).encode()),
        PlacedFile(path="/etc/mysql/mariadb.conf.d/99-testbed.cnf", content=slurmconf.MARIADB_CONF.encode()),
        PlacedFile(path="/etc/testbed/stunnel.conf", content=slurmconf.stunnel_conf().encode()),
        PlacedFile(path="/etc/ssh/sshd_config.d/testbed.conf", content=b"PasswordAuthentication no\nUseDNS no\n"),
    ]
    return tuple(
        ContainerSpec(
            host=host,
            image=image,
            daemons=LOGIN_DAEMONS if host.role is model.Role.LOGIN else NODE_DAEMONS,
            variables=(("CLUSTER", site.name),),
            files=(*files, *login_files) if host.role is model.Role.LOGIN else tuple(files),
            volumes=((model.home_volume(site), f"/home/{model.PILOT_USER}"),),
            unmasked=host.role is model.Role.NODE,
        )
        for host in model.site_hosts(site)
    )


def ensure_site(site: model.SlurmSite, *, image: str, say: Say) -> bool:
    """
    Bring a site up; True if it was made anew.

    A site whose hosts all are what they should be is only healed. Otherwise all of it is made anew, its accounting and
    the pilot account's home too: half a cluster of an earlier run is worth nothing, and a new one takes seconds.
    """
    wanted = specifications(site, image=image, munge_key=secrets.token_bytes(1024))
    if containers.all_as_specified(wanted):
        _wait_for_nodes(site)
        return False
    with step(say, f"site {site.name}: Slurm {site.slurm_series}, {len(site.nodes)} compute host(s)"):
        for spec in wanted:
            containers.remove(spec.host)
        _fresh_volume(model.home_volume(site))
        for spec in wanted:
            containers.create_and_start(spec)
        for spec in wanted:
            containers.wait_ready(spec.host)
        _wait_for_nodes(site)
    return True


def _wait_for_nodes(site: model.SlurmSite) -> None:
    """
    Wait until Slurm would start a job on every node; a node that a test drained or that was down is resumed.

    :raises HostNotReady: a node does not come back.
    """
    login = login_host(site.name)
    begin_s = time.monotonic()
    seen = ""
    while time.monotonic() - begin_s < NODES_WAIT_S:
        done = containers.execute_raw(login, ["sinfo", "-h", "-N", "-p", site.partition, "-o", "%N %t"])
        seen = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        states = dict(line.split() for line in seen.splitlines()) if done.returncode == 0 else {}
        if len(states) == len(site.nodes) and set(states.values()) <= USABLE:
            return
        for node, state in states.items():
            if state.startswith(("drain", "drng", "down")):
                containers.execute_raw(login, ["scontrol", "update", f"NodeName={node}", "State=RESUME"])
        time.sleep(0.5)
    raise HostNotReady(host=login.name, waited_s=time.monotonic() - begin_s, log=seen)


def _fresh_volume(name: str) -> None:
    import docker.errors

    with contextlib.suppress(docker.errors.NotFound):
        client().volumes.get(name).remove(force=True)
    client().volumes.create(name, labels={model.LABEL: model.LABEL_VALUE})


def login_host(site: str) -> model.Host:
    """The login and controller host of a site."""
    return model.host_named(f"login.{site}")


def rest_address(site: str) -> str:
    """Where a site's slurmrestd is, for this machine; its certificate is for the address too."""
    return f"https://{login_host(site).addresses[0][1]}:{model.REST_PORT}"


def rest_authority(site: str) -> bytes:
    """The authority that signed the certificate of a site's slurmrestd."""
    return containers.execute(login_host(site), ["cat", "/etc/testbed/tls/ca.pem"]).encode()


def rest_token(site: str, *, user: str = model.PILOT_USER, lifespan_s: int = 36_000) -> str:
    """A token for slurmrestd, as a site's admin makes it."""
    argv = ["scontrol", "token", f"username={user}", f"lifespan={lifespan_s}"]
    return containers.execute(login_host(site), argv).strip().removeprefix("SLURM_JWT=")


def daemon_host(site: str, daemon: str, node: str | None = None) -> model.Host:
    """Where a site's daemon runs: slurmd on compute host ``node`` (default the first), all else on the login host."""
    if daemon != "slurmd" and node is None:
        return login_host(site)
    return model.host_named(f"{node or model.site_named(site).nodes[0]}.{site}")


def stop_daemon(site: str, daemon: str, *, node: str | None = None, kill: bool = False) -> None:
    """End a daemon, with TERM or with KILL, and wait until it is gone; it stays down until :func:`start_daemon`."""
    containers.execute(daemon_host(site, daemon, node), [containers.SUPERVISOR, "kill" if kill else "stop", daemon])


def start_daemon(site: str, daemon: str, *, node: str | None = None) -> None:
    """Start a daemon that is down; nothing happens if it runs."""
    containers.execute(daemon_host(site, daemon, node), [containers.SUPERVISOR, "start", daemon])


def signal_daemon(site: str, daemon: str, signal: str, *, node: str | None = None) -> None:
    """Send a signal, named without SIG (``STOP``, ``CONT``, ``HUP``), to a daemon's first process."""
    containers.execute(daemon_host(site, daemon, node), [containers.SUPERVISOR, "signal", daemon, signal])
