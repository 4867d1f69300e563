"""The whole test-bed: up, down, and how it is."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from testbed import containers, htcsite, images, model, network, pool, site, tower
from testbed.containers import Daemon
from testbed.engine import Say, cache_dir, client, ensure_engine, step

PARALLEL_BUILDS = 2
"""Each build unpacks and compresses; more of them only wait for each other's disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """How one host is: ``version`` of the Slurm or HTCondor in its image, ``since`` when its container started."""

    host: str
    state: str
    image: str
    version: str
    since: datetime | None
    daemons: tuple[Daemon, ...]


def up(say: Say, *, htc: Sequence[model.HtcSite] = ()) -> None:
    """
    Bring the federation up, or back to what it should be. What is right already is left alone.

    ``htc`` are the HTCondor sites that are wanted too; those that are up and not named stay as they are.

    Two of these at once would undo each other's work, so the second one waits.
    """
    with _alone(say), step(say, "test-bed is up"):
        with _alone(say, of="machine"):
            ensure_engine(say)
            tags = _ensure_images(say)
        network.ensure_networks(say)
        network.ensure_firewall(say)
        _at_once(
            *(_site_task(row, tags[row.name], say) for row in model.SITES),
            *(_htc_task(row, tags["pool"], say) for row in htc),
            lambda: pool.ensure_containers(tags["pool"], say),
            lambda: tower.ensure_container(tags["aerotow"], say),
        )
        _remove_strangers(say)
        _at_once(lambda: tower.introduce(say), lambda: pool.ensure_secrets(say))
        pool.configure(say)
        with _alone(say, of="machine"):
            sha256 = tower.ensure_bundle(tags["pool"], say)
            images.prune()
        tower.configure(sha256)


def _site_task(row: model.SlurmSite, tag: str, say: Say) -> Callable[[], object]:
    return lambda: site.ensure_site(row, image=tag, say=say)


def _htc_task(row: model.HtcSite, tag: str, say: Say) -> Callable[[], object]:
    return lambda: htcsite.ensure_site(row, image=tag, say=say)


def _at_once(*tasks: Callable[[], object]) -> None:
    """Run tasks in threads; all of them end before the first failure is raised."""
    with ThreadPoolExecutor(max_workers=len(tasks)) as threads:
        running = [threads.submit(task) for task in tasks]
    for done in running:
        done.result()


def _ensure_images(say: Say) -> dict[str, str]:
    """Tag of every image: of each site, of ``pool`` and of ``aerotow``."""
    wanted: dict[str, Callable[[], str]] = {
        "aerotow": lambda: images.aerotow_image(say),
        "pool": lambda: images.pool_image(say),
    }
    # Bases first, each once: trixie is the base of two images.
    suites = dict.fromkeys(["bookworm", "trixie", *(row.suite for row in model.SITES)])
    with ThreadPoolExecutor(max_workers=PARALLEL_BUILDS) as threads:
        list(threads.map(lambda suite: images.ensure_base(suite, say), suites))
        building = {row.name: threads.submit(images.site_image, row, say) for row in model.SITES}
        building |= {name: threads.submit(make) for name, make in wanted.items()}
    return {name: future.result() for name, future in building.items()}


def _remove_strangers(say: Say) -> None:
    """Remove containers with our label that are no host of ours: left over from another table or a broken run."""
    ours = {host.container for host in (*model.hosts(), *model.optional_hosts())}
    for container in client().containers.list(all=True, filters={"label": model.OURS}):
        if container.name not in ours:
            container.remove(force=True, v=True)
            say(f"removed left-over container {container.name}")


def down(say: Say, *, with_images: bool = False) -> None:
    """Remove every container, network, volume and firewall rule that :func:`up` made, and nothing else."""
    with _alone(say):
        ensure_engine(say)
        label = {"label": model.OURS}
        found = client().containers.list(all=True, filters=label)
        with step(say, f"removed {len(found)} containers"):
            if found:
                _at_once(*(_removal(container) for container in found))
        network.remove_firewall()
        network.remove_networks(say)
        for volume in client().volumes.list(filters=label):
            volume.remove(force=True)
            say(f"removed volume {volume.name}")
        if with_images:
            images.remove_images(say)


def _removal(container: object) -> Callable[[], object]:
    return lambda: container.remove(force=True, v=True)  # type: ignore[attr-defined]


@contextmanager
def _alone(say: Say, *, of: str = model.NAME) -> Iterator[None]:
    """
    Hold the lock of this test-bed, or the machine's: Docker, images and the bundle are shared by test-beds.

    The kernel frees it when a holder dies, so it never goes stale.
    """
    with (cache_dir() / f"{of}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another `testbed up` or `down`")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def status() -> tuple[HostStatus, ...]:
    """How every host of the table is; a host that is not there is ``absent``."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        always = tuple(threads.map(_host_status, model.hosts()))
        asked_for = tuple(threads.map(_host_status, model.optional_hosts()))
    return (*always, *(host for host in asked_for if host.state != "absent"))


def _host_status(host: model.Host) -> HostStatus:
    container = containers.find(host)
    if container is None:
        return HostStatus(host=host.name, state="absent", image="", version="", since=None, daemons=())
    image = container.attrs["Config"]["Image"]
    if container.status != "running":
        return HostStatus(host=host.name, state=container.status, image=image, version="", since=None, daemons=())
    started = datetime.fromisoformat(container.attrs["State"]["StartedAt"][:19]).replace(tzinfo=UTC)
    return HostStatus(
        host=host.name,
        state="running",
        image=image,
        version=_version(host),
        since=started,
        daemons=containers.daemons(host),
    )


def _version(host: model.Host) -> str:
    match host.role:
        case model.Role.CM | model.Role.AP | model.Role.HTC:
            product, path = "HTCondor", "/etc/condor-version"
        case model.Role.LOGIN | model.Role.NODE:
            product, path = "Slurm", "/etc/slurm-version"
        case model.Role.FACTORY:
            return "aerotow"
    found = containers.read_file(host, path)
    return f"{product} {found.decode().strip()}" if found else product
