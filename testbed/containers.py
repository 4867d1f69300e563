"""Containers: made from a specification, reused while they are what it says, spoken to through ``docker exec``."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from testbed import model
from testbed.engine import client, docker_command
from testbed.errors import CommandFailed, HostNotReady
from testbed.images import FILES, content_hash

if TYPE_CHECKING:
    from docker.models.containers import Container

READY_TIMEOUT_S = 60.0
SUPERVISOR = "/usr/local/sbin/testbed-host"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedFile:
    """A file put into a container before it starts. A secret one does not count for the container's hash."""

    path: str
    content: bytes
    mode: int = 0o644
    secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything that a container is made from. ``volumes`` maps a volume's name to the path it is mounted at."""

    host: model.Host
    image: str
    daemons: tuple[str, ...]
    watched: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    files: tuple[PlacedFile, ...] = ()
    volumes: tuple[tuple[str, str], ...] = ()
    user: str = "root"
    unmasked: bool = False

    def made_from(self) -> str:
        """Hash of all that decides whether a container that is there may stay."""
        public = asdict(self)
        public["files"] = [
            (file.path, file.mode, "" if file.secret else file.content.decode()) for file in self.all_files()
        ]
        public["names"] = model.names_seen_from(self.host)
        return content_hash([json.dumps(public, sort_keys=True, default=str)])

    def all_files(self) -> tuple[PlacedFile, ...]:
        """The files, the supervisor and what it is told."""
        env = [
            f"ROLE={self.host.role}",
            f'DAEMONS="{" ".join(self.daemons)}"',
            f'WATCHED="{" ".join(self.watched)}"',
            *(f'{name}="{value}"' for name, value in self.variables),
        ]
        return (
            *self.files,
            PlacedFile(path=SUPERVISOR, content=(FILES / "host.sh").read_bytes(), mode=0o755),
            PlacedFile(path="/etc/testbed/host.env", content=("\n".join(env) + "\n").encode()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon as its host sees it; ``state`` is running, frozen (stopped by a signal) or down."""

    name: str
    state: str
    pid: int | None
    age_s: int | None


def find(host: model.Host) -> Container | None:
    """The container of a host, in whatever state, or None."""
    import docker.errors

    try:
        return client().containers.get(host.container)
    except docker.errors.NotFound:
        return None


def is_as_specified(spec: ContainerSpec) -> bool:
    """Whether the container runs, came up once, and is made from this very specification; if so, it is healed."""
    container = find(spec.host)
    if container is None or container.labels.get(model.HASH_LABEL) != spec.made_from():
        return False
    if container.status == "paused":
        container.unpause()
        container.reload()
    if container.status != "running":
        return False
    try:
        heal(spec.host)
    except CommandFailed:
        return False
    return True


def all_as_specified(specs: Sequence[ContainerSpec]) -> bool:
    """Whether every one is; see :func:`is_as_specified`."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        return all(list(threads.map(is_as_specified, specs)))


def remove(host: model.Host) -> None:
    """Remove a host's container, whatever it is doing."""
    container = find(host)
    if container is not None:
        container.remove(force=True, v=True)


def create_and_start(spec: ContainerSpec) -> None:
    """Make the container anew, place its files and start it; it is not ready yet."""
    remove(spec.host)
    api = client().api
    first, *others = spec.host.addresses
    host_config = api.create_host_config(
        extra_hosts=model.names_seen_from(spec.host),
        binds={name: {"bind": path, "mode": "rw"} for name, path in spec.volumes},
        security_opt=["seccomp=unconfined"] if spec.unmasked else None,
        network_mode=first[0],
    )
    if spec.unmasked:
        # What the client calls systempaths=unconfined; the daemon knows it only in this form.
        host_config["MaskedPaths"] = []
        host_config["ReadonlyPaths"] = []
    made = api.create_container(
        spec.image,
        name=spec.host.container,
        hostname=spec.host.fqdn,
        user=spec.user,
        entrypoint=[SUPERVISOR, "init"],
        command=[],
        labels={model.LABEL: model.LABEL_VALUE, model.HASH_LABEL: spec.made_from()},
        host_config=host_config,
        networking_config=api.create_networking_config({first[0]: api.create_endpoint_config(ipv4_address=first[1])}),
    )
    api.put_archive(made["Id"], "/", _archive(spec.all_files()))
    for network, address in others:
        api.connect_container_to_network(made["Id"], network, ipv4_address=address)
    api.start(made["Id"])


def _archive(files: Sequence[PlacedFile]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, int(time.time())
            tar.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def wait_ready(host: model.Host) -> None:
    """
    Wait until the host says that it came up.

    :raises HostNotReady: it stopped, or took too long; its log is in the text.
    """
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < READY_TIMEOUT_S:
        container = find(host)
        if container is None or container.status not in ("running", "created"):
            break
        if container.status == "running" and "ready" in _status_lines(host):
            return
        time.sleep(0.3)
    container = find(host)
    log = container.logs(tail=30).decode(errors="replace") if container is not None else "(no container)"
    raise HostNotReady(host=host.name, waited_s=time.monotonic() - begin_s, log=log)


def heal(host: model.Host) -> str:
    """
    Start the daemons that are down and continue those that are frozen; what was done, as text.

    :raises CommandFailed: a daemon does not start, or the host never came up.
    """
    return execute(host, [SUPERVISOR, "heal"])


def _status_lines(host: model.Host) -> list[str]:
    try:
        return execute(host, [SUPERVISOR, "status"]).splitlines()
    except CommandFailed:
        return []


def daemons(host: model.Host) -> tuple[Daemon, ...]:
    """State of each daemon of a host; empty if the host does not answer."""
    found = []
    for line in _status_lines(host)[1:]:
        name, state, pid, age_s = line.split()
        known = pid.isdigit()
        found.append(
            Daemon(name=name, state=state, pid=int(pid) if known else None, age_s=int(age_s) if known else None)
        )
    return tuple(found)


def execute_raw(
    host: model.Host,
    argv: Sequence[str],
    *,
    user: str | None = None,
    stdin: bytes | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a container and return all of it, whatever its exit status."""
    command = [docker_command(), "exec", "-i", *(["-u", user] if user else []), host.container, *argv]
    return subprocess.run(command, input=stdin or b"", capture_output=True, timeout=timeout_s, check=False)


def execute(
    host: model.Host,
    argv: Sequence[str],
    *,
    user: str | None = None,
    stdin: bytes | None = None,
    timeout_s: float = 120,
) -> str:
    """
    Run a command in a container and return its standard output.

    :raises CommandFailed: exit status other than 0.
    """
    done = execute_raw(host, argv, user=user, stdin=stdin, timeout_s=timeout_s)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise CommandFailed(where=host.name, argv=tuple(argv), exit_status=done.returncode, output=output)
    return done.stdout.decode(errors="replace")


_WRITE = (
    'set -e; umask 077; t="$1.new.$$"; cat > "$t"; chmod "$2" "$t"; [ -z "$3" ] || chown "$3" "$t"; mv -f "$t" "$1"'
)


def write_file(host: model.Host, path: str, content: bytes, *, mode: int = 0o644, owner: str = "") -> None:
    """Put a file into a running container: through stdin, under a temporary name, then renamed."""
    execute(host, ["sh", "-c", _WRITE, "write_file", path, f"{mode:o}", owner], user="root", stdin=content)


def read_file(host: model.Host, path: str) -> bytes | None:
    """Content of a file in a running container, or None if it is not there."""
    done = execute_raw(host, ["cat", path], user="root")
    return done.stdout if done.returncode == 0 else None
