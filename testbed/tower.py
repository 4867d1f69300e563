"""The factory's host: its image, its way to the sites by ssh, its configuration, and the bundle that pilots get."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config.units import format_walltime
from glidein import bundle
from testbed import containers, htcsite, model, site
from testbed.containers import SUPERVISOR, ContainerSpec
from testbed.engine import Say, cache_dir, client, docker_cli, docker_command, step
from testbed.errors import ImageFailed
from testbed.images import content_hash

CONFIG_FILE = "/etc/aerotow/aerotow.toml"
SECRETS_DIR = "/etc/aerotow/secrets"
STATE_DIR = "/var/lib/aerotow"
BUNDLE_FILE = f"{STATE_DIR}/bundle.tar.gz"
LOG_FILE = f"{STATE_DIR}/factory.log"
SSH_DIR = f"/home/{model.FACTORY_USER}/.ssh"
SSH_KEY = f"{SECRETS_DIR}/ssh/id_ed25519"

_SSH_CONFIG = """\
Host login.*
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    BatchMode yes
    StrictHostKeyChecking yes
    ConnectTimeout 10
"""


def ensure_container(image: str, say: Say) -> None:
    """Bring the factory's host up. A new image makes a new container; state and secrets are on volumes and stay."""
    import docker.errors

    for name in (model.FACTORY_STATE_VOLUME, model.FACTORY_SECRETS_VOLUME):
        try:
            client().volumes.get(name)
        except docker.errors.NotFound:
            client().volumes.create(name, labels={model.LABEL: model.LABEL_VALUE})
    spec = ContainerSpec(
        host=model.factory_host(),
        image=image,
        daemons=(),
        watched=("aerotow",),
        volumes=((model.FACTORY_STATE_VOLUME, STATE_DIR), (model.FACTORY_SECRETS_VOLUME, SECRETS_DIR)),
        user=model.FACTORY_USER,
    )
    if containers.is_as_specified(spec) or _is_kept():
        return
    with step(say, f"factory host from {image}"):
        containers.create_and_start(spec)
        containers.wait_ready(spec.host)
    prepare = f"umask 077; cd {SECRETS_DIR} && mkdir -p ssh keys.d tokens.d admin.d {SSH_DIR}"
    containers.execute(spec.host, ["sh", "-c", prepare], user=model.FACTORY_USER)


def _is_kept() -> bool:
    """
    Whether a factory's host that runs is to stay, although its image is another: AEROTOW_TESTBED_KEEP_FACTORY=1.

    For people who share one test-bed, so that the edits of one do not end the other's factory.
    """
    container = containers.find(model.factory_host())
    kept = os.environ.get("AEROTOW_TESTBED_KEEP_FACTORY") == "1"
    return kept and container is not None and bool(container.status == "running")


def introduce(say: Say) -> None:
    """
    Let the factory reach each site's pilot account, and know each login host by its key.

    Done at every ``up``: a site that was made anew has new host keys and an empty home.
    """
    factory = model.factory_host()
    make = f'[ -e {SSH_KEY} ] || ssh-keygen -q -t ed25519 -N "" -C aerotow -f {SSH_KEY}; cat {SSH_KEY}.pub'
    public = containers.execute(factory, ["sh", "-c", make], user=model.FACTORY_USER).encode()
    with ThreadPoolExecutor(max_workers=len(model.SITES)) as threads:
        known = list(threads.map(lambda row: _introduce_to(site.login_host(row.name), public, say), model.SITES))
    _place(f"{SSH_DIR}/known_hosts", "".join(known).encode())
    _place(f"{SSH_DIR}/config", _SSH_CONFIG.format(user=model.PILOT_USER, key=SSH_KEY).encode())


def _introduce_to(login: model.Host, public: bytes, say: Say) -> str:
    """Let one login host accept the factory's public key; the login host's own key, as a line of known_hosts."""
    path = f"/home/{model.PILOT_USER}/.ssh/authorized_keys"
    if containers.read_file(login, path) != public:
        containers.write_file(login, path, public, mode=0o600, owner=f"{model.PILOT_USER}:{model.PILOT_USER}")
        say(f"{login.name}: accepts the factory's key for {model.PILOT_USER}")
    host_key = (containers.read_file(login, "/etc/ssh/ssh_host_ed25519_key.pub") or b"").decode().split()[:2]
    return f"{login.fqdn} {' '.join(host_key)}\n"


def _place(path: str, content: bytes) -> None:
    owner = f"{model.FACTORY_USER}:{model.FACTORY_USER}"
    containers.write_file(model.factory_host(), path, content, mode=0o600, owner=owner)


def ensure_bundle(pool_image: str, say: Say) -> str:
    """
    Have the pilots' bundle on the factory's host and return its sha256.

    It is made of the HTCondor in the pool's image, once for every such image, and kept in this machine's cache.
    """
    made_from = content_hash([pool_image, Path(bundle.__file__).read_bytes()])
    path = cache_dir() / f"bundle-{made_from}.tar.gz"
    if not path.exists():
        with step(say, "bundle for pilots"):
            _make_bundle(pool_image, path)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    check = f"[ -e {BUNDLE_FILE} ] && sha256sum {BUNDLE_FILE} || true"
    if sha256 not in containers.execute(model.factory_host(), ["sh", "-c", check]):
        with step(say, f"bundle to the factory, {len(content) / 1e6:.0f} MB"):
            containers.write_file(model.factory_host(), BUNDLE_FILE, content)
    return sha256


def _make_bundle(pool_image: str, out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="aerotow-bundle-", dir="/var/tmp") as scratch:
        container_id = docker_cli("create", "--label", model.OURS, pool_image, "true").strip()
        try:
            export = subprocess.Popen([docker_command(), "export", container_id], stdout=subprocess.PIPE)
            unpack = subprocess.run(
                ["tar", "-x", "-C", scratch, "--exclude=dev/*", "--exclude=var/cache/*", "--exclude=usr/share/doc/*"],
                stdin=export.stdout,
                check=False,
            )
            if export.wait() != 0 or unpack.returncode != 0:
                raise ImageFailed(image=pool_image, problem="its files could not be exported")
            bundle.build_bundle(Path(scratch), out)
        finally:
            docker_cli("rm", "-f", container_id)


def config_text(*, bundle_sha256: str, extra: str = "", sites: Sequence[model.SlurmSite] = model.SITES) -> str:
    """The factory's TOML for this federation; ``extra`` is appended, for the tables that a test adds."""
    lines = [
        "# Written by `aerotow testbed up`; changes made here are lost.",
        "[instance]",
        'name = "bed"',
        f'state_dir = "{STATE_DIR}"',
        "",
        "[pool]",
        f'collector = "{model.host_named("cm").fqdn}:9618"',
        f'trust_domain = "{model.TRUST_DOMAIN}"',
        f'secrets_dir = "{SECRETS_DIR}"',
        "",
        "[bundle]",
        f'path = "{BUNDLE_FILE}"',
        f'sha256 = "{bundle_sha256}"',
        "",
        "# A small pool that is watched: everything is quicker than one would have it in production.",
        "[limits]",
        "# Few pilots and short tests: a site may get all of its pilots at once.",
        "ramp = 100",
        "",
        "[factory]",
        'cycle = "2 s"',
        'usage_interval = "10 s"',
        'idle_timeout = "30 s"',
        'surplus_after = "15 s"',
        # The pool negotiates every second, so nobody has to keep what he has.
        'claim_life = "20 s"',
        # Every waiting job has a place of its own: tests and demo count pilots.
        'drain_target = "0 s"',
        'join_timeout = "2 min"',
        'max_queue_wait = "2 h"',
        'lease = "30 s"',
        "",
        "[politeness]",
        'backoff = "2 s"',
        'backoff_max = "8 s"',
    ]
    for ap in model.APS:
        lines += ["", f"[access_points.{ap}]", f'schedd = "{model.host_named(ap).fqdn}"']
    for vo in sorted({user.vo for user in model.USERS}):
        lines += ["", f"[vos.{vo}.projects]", *_projects(vo)]
    for row in sites:
        lines += ["", *_site_lines(row)]
    return "\n".join(lines) + "\n" + extra


def _projects(vo: str) -> list[str]:
    members = [user for user in model.USERS if user.vo == vo]
    projects = sorted({project for user in members for project in user.projects})
    charging = {project: [user.name for user in members if project in user.projects] for project in projects}
    return [f"{project} = {json.dumps(charging[project])}" for project in projects]


def _site_lines(row: model.SlurmSite) -> list[str]:
    per_node = min(row.cpus_per_node // row.pilot_cores, row.memory_per_node_mb // row.pilot_memory_mib)
    room = per_node * len(row.nodes)
    return [
        f"[sites.{row.name}]",
        f'login = "{model.PILOT_USER}@{site.login_host(row.name).fqdn}"',
        f'account = "{row.account}"',
        f'partition = "{row.partition}"',
        f"cores = {row.pilot_cores}",
        f'memory = "{row.pilot_memory_mib} MiB"',
        f'walltime = "{format_walltime(row.pilot_walltime)}"',
        f"max_pilots = {room + 2}",
        f"max_pending = {room + 2}",
    ]


def htc_site_text(row: model.HtcSite, *, token_file: str) -> str:
    """The table of an HTCondor site, for a test's configuration."""
    room = row.cpus_per_node // row.pilot_cores * len(row.nodes)
    login = htcsite.login_host(row.name)
    lines = [
        "",
        f"[sites.{row.name}]",
        f'schedd = "{login.fqdn}"',
        f'collector = "{login.fqdn}:9618"',
        f'token_file = "{token_file}"',
        f'account = "{row.account}"',
        f'partition = "{row.queue}"',
        f"cores = {row.pilot_cores}",
        f'memory = "{row.pilot_memory_mib} MiB"',
        f'walltime = "{format_walltime(row.pilot_walltime)}"',
        'disk = "1000 MiB"',
        f"max_pilots = {room + 2}",
        f"max_pending = {room + 2}",
    ]
    return "\n".join(lines) + "\n"


def configure(bundle_sha256: str) -> None:
    """Write the factory's configuration file."""
    text = config_text(bundle_sha256=bundle_sha256).encode()
    if containers.read_file(model.factory_host(), CONFIG_FILE) != text:
        owner = f"{model.FACTORY_USER}:{model.FACTORY_USER}"
        containers.write_file(model.factory_host(), CONFIG_FILE, text, owner=owner)


def start_factory() -> None:
    """Start ``aerotow run`` on the factory's host; nothing happens if it runs. Its output goes to LOG_FILE."""
    containers.execute(model.factory_host(), [SUPERVISOR, "start", "aerotow"], user=model.FACTORY_USER)


def stop_factory(*, kill: bool = False) -> None:
    """End the factory, with TERM or with KILL, and wait until it is gone."""
    containers.execute(model.factory_host(), [SUPERVISOR, "kill" if kill else "stop", "aerotow"], user="root")
