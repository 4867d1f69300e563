"""One HTCondor site: a pool of its own, whose schedd the factory reaches with a token; brought up as a unit."""

from __future__ import annotations

import secrets
import time

from testbed import containers, model
from testbed.containers import ContainerSpec, PlacedFile
from testbed.engine import Say, step
from testbed.errors import CommandFailed, HostNotReady
from tokens.keys import KEY_BYTES

CONFIG_FILE = "/etc/condor/config.d/50-aerotow"
POLICY_CONFIG = "/etc/condor/config.d/60-site-policy"
"""What the site's admin lets run there, for the schedd's ad."""
POLICY_FILE = "/etc/aerotow/site-policy.conf"
"""The same for running pilots, on the compute hosts."""
WAIT_S = 60.0

_COMMON = """\
CONDOR_HOST = login.{name}
COLLECTOR_HOST = {login}:9618
TRUST_DOMAIN = {name}
UID_DOMAIN = {name}
FILESYSTEM_DOMAIN = $(FULL_HOSTNAME)
use security:recommended
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS
ALLOW_READ = *
ALLOW_WRITE = *@{name}, condor@password, condor@child, execute-side@matchsession, submit-side@matchsession
ALLOW_DAEMON = condor@{name}, condor@child, condor@password, execute-side@matchsession, submit-side@matchsession
ALLOW_ADMINISTRATOR = root@{name}, condor@{name}, condor@child, condor@password
ALLOW_NEGOTIATOR = condor@{name}, condor@child, condor@password
TRUST_UID_DOMAIN = True
SEC_ENABLE_TOKEN_REQUEST = False
"""

# A site of this kind looks at jobs every minute; a test cannot wait so long.
_LOGIN = """\
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD
NETWORK_INTERFACE = {login}
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 5
SCHEDD_MIN_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 5
MAX_PERIODIC_EXPR_INTERVAL = 5
PERIODIC_EXPR_TIMESLICE = 1.0
SUBMIT_REQUIREMENT_NAMES = AccountingQueue
SUBMIT_REQUIREMENT_AccountingQueue = BatchQueue =?= undefined || BatchQueue == "{queue}"
SUBMIT_REQUIREMENT_AccountingQueue_REASON = "Invalid partition name specified: this site's queue is {queue}"
AerotowSitePolicy = ""
SCHEDD_ATTRS = $(SCHEDD_ATTRS) AerotowSitePolicy
"""

_NODE = """\
DAEMON_LIST = MASTER STARTD
NUM_CPUS = {cpus}
MEMORY = {memory}
use feature:PartitionableSlot
START = True
SUSPEND = False
PREEMPT = False
KILL = False
UPDATE_INTERVAL = 20
STARTER_UPDATE_INTERVAL = 10
STARTER_INITIAL_UPDATE_INTERVAL = 1
"""


def specifications(row: model.HtcSite, *, image: str, key: bytes) -> tuple[ContainerSpec, ...]:
    """What the site's containers are made from. ``key`` is its signing key, new for each making."""
    hosts = model.site_hosts(row)
    facts = {
        "name": row.name,
        "login": dict(hosts[0].addresses)[model.POOL_NETWORK],
        "queue": row.queue,
        "cpus": row.cpus_per_node,
        "memory": row.memory_per_node_mb,
    }
    accounts = f"{model.PILOT_USER}:2001\n{model.OTHER_USER}:2002\n"
    return tuple(
        ContainerSpec(
            host=host,
            image=image,
            daemons=("condor",),
            files=(
                PlacedFile(path="/etc/testbed/users", content=accounts.encode()),
                PlacedFile(path="/etc/condor/passwords.d/POOL", content=key, mode=0o600, secret=True),
                PlacedFile(path=CONFIG_FILE, content=(_COMMON + (_NODE if n else _LOGIN)).format(**facts).encode()),
            ),
        )
        for n, host in enumerate(hosts)
    )


def ensure_site(row: model.HtcSite, *, image: str, say: Say) -> bool:
    """Bring the site up; True if it was made anew, queue and keys included."""
    wanted = specifications(row, image=image, key=secrets.token_bytes(KEY_BYTES))
    if containers.all_as_specified(wanted):
        _wait_whole(row)
        return False
    with step(say, f"site {row.name}: HTCondor {model.CONDOR_SERIES}, {len(row.nodes)} compute host(s)"):
        for spec in wanted:
            containers.remove(spec.host)
        for spec in wanted:
            containers.create_and_start(spec)
        for spec in wanted:
            containers.wait_ready(spec.host)
        _wait_whole(row)
    return True


def _wait_whole(row: model.HtcSite) -> None:
    """Wait until the site's collector knows its schedd and every compute host."""
    login = login_host(row.name)
    wanted = {login.fqdn, *(host.fqdn for host in model.site_hosts(row)[1:])}
    begin_s = time.monotonic()
    seen: set[str] = set()
    while time.monotonic() - begin_s < WAIT_S:
        try:
            answer = containers.execute(
                login, ["sh", "-c", "condor_status -schedd -af Name; condor_status -af Machine"]
            )
            seen = set(answer.split())
        except CommandFailed:
            seen = set()
        if wanted <= seen:
            return
        time.sleep(0.5)
    log = containers.execute_raw(
        login, ["sh", "-c", "tail -n 15 /var/log/condor/CollectorLog /var/log/condor/SchedLog"]
    )
    raise HostNotReady(host=login.name, waited_s=time.monotonic() - begin_s, log=log.stdout.decode(errors="replace"))


def login_host(site: str) -> model.Host:
    """The host of a site's schedd, collector and negotiator."""
    return model.host_named(f"login.{site}")


def collector(site: str) -> str:
    """The site's collector, for this machine and for the factory."""
    return f"{dict(login_host(site).addresses)[model.POOL_NETWORK]}:9618"


def token(
    site: str,
    *,
    identity: str = "",
    issuer: str = "",
    lifetime_s: int = 36_000,
    scopes: tuple[str, ...] = ("READ", "WRITE"),
) -> str:
    """A token as the site's admin makes it for the factory: it may look, submit and remove as the pilot account."""
    domain = model.htc_site_named(site).trust_domain
    argv = [
        "condor_token_create",
        "-identity",
        identity or f"{model.PILOT_USER}@{domain}",
        "-lifetime",
        str(lifetime_s),
    ]
    for scope in scopes:
        argv += ["-authz", scope]
    return containers.execute(login_host(site), ["env", f"_CONDOR_TRUST_DOMAIN={issuer or domain}", *argv]).strip()


def set_policy(site: str, text: str) -> None:
    """Write what the site's admin lets run there, for the factory in the schedd's ad and for pilots in a file."""
    one_line = text.replace("\n", ";").replace('"', "")
    containers.write_file(login_host(site), POLICY_CONFIG, f'AerotowSitePolicy = "{one_line}"\n'.encode())
    containers.execute(login_host(site), ["condor_reconfig"])
    for host in model.site_hosts(model.htc_site_named(site))[1:]:
        containers.execute(host, ["mkdir", "-p", "/etc/aerotow"])
        containers.write_file(host, POLICY_FILE, text.encode())
