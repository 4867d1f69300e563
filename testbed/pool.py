"""The pool: a central manager and access points, their configuration, keys and tokens."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from config import names
from overlay.poolconfig import PoolSpec, render_ap, render_cm
from testbed import containers, model
from testbed.containers import SUPERVISOR, ContainerSpec, PlacedFile
from testbed.engine import Say, step
from testbed.errors import CommandFailed, HostNotReady
from tokens.keys import KEY_BYTES
from tokens.mint import mint
from tokens.model import ADMIN_SCOPES, AP_SCOPES, READ_SCOPES, TokenRequest

CONFIG_FILE = "/etc/condor/config.d/50-aerotow"
KEYS_DIR = "/etc/condor/passwords.d"
TOKENS_DIR = "/etc/condor/tokens.d"
GENERATION_FILE = "/etc/condor/aerotow-generation"
POOL_TOKEN_LIFETIME = timedelta(days=365)
"""A federation on one machine is made anew long before; the pilots' tokens, which travel, are the short ones."""
POOL_WAIT_S = 60.0


def specification() -> PoolSpec:
    """The pool as the configuration's renderer wants it."""
    hosts = model.pool_hosts()
    return PoolSpec(
        trust_domain=model.TRUST_DOMAIN,
        collector_host=f"{model.host_named('cm').fqdn}:9618",
        aps={host.name: host.fqdn for host in hosts if host.role is model.Role.AP},
        sites=tuple(site.name for site in model.ALL_SITES),
        factory_hosts=(model.factory_host().fqdn,),
        projects={user.name: user.projects for user in model.USERS},
        vos={project: user.vo for user in model.USERS for project in user.projects},
        addresses={host.fqdn: host.addresses[0][1] for host in (*hosts, model.factory_host())},
        fast=True,
    )


def container_specifications(image: str) -> tuple[ContainerSpec, ...]:
    """What the pool's containers are made from; the HTCondor configuration comes later, so a change of it is cheap."""
    made = []
    for host in model.pool_hosts():
        here = [user for user in model.USERS if host.name in user.aps]
        accounts = "".join(f"{user.name}:{user.uid}\n" for user in here)
        made.append(
            ContainerSpec(
                host=host,
                image=image,
                daemons=("condor",),
                files=(PlacedFile(path="/etc/testbed/users", content=accounts.encode()),),
            )
        )
    return tuple(made)


def ensure_containers(image: str, say: Say) -> None:
    """Bring the pool's hosts up, without daemons the first time. One wrong host: all are made anew, queues included."""
    wanted = container_specifications(image)
    if containers.all_as_specified(wanted):
        return
    with step(say, f"pool: HTCondor {model.CONDOR_SERIES}, cm {' '.join(model.APS)}"):
        for spec in wanted:
            containers.create_and_start(spec)
        for spec in wanted:
            containers.wait_ready(spec.host)


def configure(say: Say) -> None:
    """Write each host's configuration, restart HTCondor where it changed, and wait until the pool is whole."""
    pool = specification()
    texts = {
        host: render_cm(pool) if host.role is model.Role.CM else render_ap(pool, host.name)
        for host in model.pool_hosts()
    }
    for host, text in texts.items():
        if containers.read_file(host, CONFIG_FILE) == text.encode():
            continue
        with step(say, f"{host.name}: configured"):
            containers.write_file(host, CONFIG_FILE, text.encode())
            restart(host)
    _wait_whole(say)


def restart(host: model.Host) -> None:
    """Stop HTCondor on a host of the pool, gracefully, and start it."""
    containers.execute(host, [SUPERVISOR, "stop", "condor"])
    containers.execute(host, [SUPERVISOR, "start", "condor"])


def _wait_whole(say: Say) -> None:
    """Wait until the collector knows every access point; as a user on an access point would ask."""
    missing = set(model.APS)
    begin_s = time.monotonic()
    while missing and time.monotonic() - begin_s < POOL_WAIT_S:
        try:
            seen = containers.execute(
                model.host_named("cm"), ["condor_status", "-schedd", "-af", "Name"], timeout_s=20
            ).split()
        except CommandFailed:
            seen = []
        missing = {ap for ap in model.APS if model.host_named(ap).fqdn not in seen}
        if missing:
            time.sleep(0.5)
    if missing:
        host = model.host_named(sorted(missing)[0])
        log = containers.execute_raw(
            host, ["sh", "-c", "tail -n 15 /var/log/condor/MasterLog /var/log/condor/SchedLog"]
        )
        raise HostNotReady(host=host.name, waited_s=time.monotonic() - begin_s, log=log.stdout.decode(errors="replace"))
    waited_s = time.monotonic() - begin_s
    if waited_s > 1:
        say(f"the collector knows {' and '.join(model.APS)}  {waited_s:.1f} s")


def generation(host: model.Host) -> bytes | None:
    """Which set of keys and tokens a host has; None if it has none."""
    return containers.read_file(host, _generation_path(host))


def ensure_secrets(say: Say) -> None:
    """
    Make all keys and tokens anew unless every host has those of one making.

    Keys are where they are needed and nowhere else: the pilots' on the CM, which checks, and the factory, which signs;
    an AP's on that AP; the CM's on the CM. They are made in this process, travel through stdin, and touch no disk here.
    """
    hosts = (*model.pool_hosts(), model.factory_host())
    with ThreadPoolExecutor(max_workers=4) as threads:
        generations = set(threads.map(generation, hosts))
    # Whose keys and tokens were made then: one with fewer is made anew.
    names_of_sites = ".".join(("admin", *(site.name for site in model.ALL_SITES)))
    made = generations.pop() if len(generations) == 1 else None
    if made is not None and made.startswith(f"{names_of_sites} ".encode()):
        return
    with step(say, "keys and tokens: one key per site, one per access point"):
        for host in hosts:
            containers.execute(host, ["rm", "-f", _generation_path(host)], user="root")
        _place_secrets()
        mark = f"{names_of_sites} {secrets.token_hex(8)}".encode()
        for host in hosts:
            containers.write_file(host, _generation_path(host), mark, mode=0o600, owner=_owner(host))
        for host in model.pool_hosts():
            if containers.read_file(host, CONFIG_FILE) is not None:
                restart(host)


def _generation_path(host: model.Host) -> str:
    return "/etc/aerotow/secrets/generation" if host.role is model.Role.FACTORY else GENERATION_FILE


def _owner(host: model.Host) -> str:
    return "aerotow:aerotow" if host.role is model.Role.FACTORY else "root:root"


def _place_secrets() -> None:
    cm, factory = model.host_named("cm"), model.factory_host()
    for host in model.pool_hosts():
        containers.execute(
            host, ["sh", "-c", f"install -d -m 0700 {KEYS_DIR} {TOKENS_DIR} && rm -f {KEYS_DIR}/* {TOKENS_DIR}/*"]
        )
    for site in model.ALL_SITES:
        key = secrets.token_bytes(KEY_BYTES)
        kid = names.pilot_key(site=site.name)
        _place(cm, f"{KEYS_DIR}/{kid}", key)
        _place(factory, f"/etc/aerotow/secrets/keys.d/{kid}", key)
    cm_key = secrets.token_bytes(KEY_BYTES)
    _place(cm, f"{KEYS_DIR}/{names.CM_KEY}", cm_key)
    reader = names.factory_read_identity(trust_domain=model.TRUST_DOMAIN)
    _place(factory, "/etc/aerotow/secrets/tokens.d/cm", _token(cm_key, names.CM_KEY, reader, READ_SCOPES))
    drainer = names.factory_admin_identity(trust_domain=model.TRUST_DOMAIN)
    containers.execute(
        factory, ["install", "-d", "-m", "0700", "/etc/aerotow/secrets/admin.d"], user=model.FACTORY_USER
    )
    _place(factory, "/etc/aerotow/secrets/admin.d/cm", _token(cm_key, names.CM_KEY, drainer, ADMIN_SCOPES))
    for ap in model.APS:
        key, kid, host = secrets.token_bytes(KEY_BYTES), names.ap_key(ap=ap), model.host_named(ap)
        _place(host, f"{KEYS_DIR}/{kid}", key)
        _place(factory, f"/etc/aerotow/secrets/tokens.d/{ap}", _token(key, kid, reader, READ_SCOPES))
        identity = names.ap_identity(ap=ap, trust_domain=model.TRUST_DOMAIN)
        _place(host, f"{TOKENS_DIR}/cm", _token(cm_key, names.CM_KEY, identity, AP_SCOPES))


def _place(host: model.Host, path: str, content: bytes) -> None:
    containers.write_file(host, path, content, mode=0o600, owner=_owner(host))


def _token(key: bytes, kid: str, subject: str, scopes: tuple[str, ...]) -> bytes:
    request = TokenRequest(
        subject=subject,
        issuer=model.TRUST_DOMAIN,
        scopes=scopes,
        issued_at=datetime.now(UTC),
        lifetime=POOL_TOKEN_LIFETIME,
        jti=secrets.token_hex(16),
    )
    return mint(key, kid, request).encode() + b"\n"
