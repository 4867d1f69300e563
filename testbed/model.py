"""
The federation on one machine, as a table: pool, sites, hosts, users, networks and who has which address.

Everything else here reads this table; so do the demo's configuration and the system tests.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

NAME = os.environ.get("AEROTOW_TESTBED_NAME", "aerotow")
"""First part of every object's name. Another name (at most 9 characters), with another subnet, is another test-bed."""
LABEL = "org.aerotow.testbed"
"""Every object that ``up`` makes carries this label, and ``down`` removes what carries it, nothing else."""
LABEL_VALUE = "1" if NAME == "aerotow" else NAME
OURS = f"{LABEL}={LABEL_VALUE}"
FIREWALL_NOTE = LABEL if NAME == "aerotow" else f"{LABEL}.{NAME}"
"""Comment of every firewall rule of ours."""
IMAGE_LABEL = "org.aerotow.testbed.image"
"""The same for images, which ``down`` keeps unless it is asked for them."""
HASH_LABEL = "org.aerotow.testbed.hash"
"""What an object was made from; an object with another hash is made anew."""

CONDOR_SERIES = "25.14"
TRUST_DOMAIN = "pool"
PILOT_USER = "pilot"
"""The account at each site that the factory reaches by ssh; uid 2001."""
OTHER_USER = "local"
"""An ordinary user of each site, who must not see the pilots' secrets; uid 2002."""
FACTORY_USER = "aerotow"
HIGH_PARTITION = "urgent"
"""Partition of higher priority at every site, for the site's own users; it preempts pilots."""
BACKFILL_PARTITION = "backfill"
"""Partition of lower priority at every site, for what may be ended at any moment: every other partition preempts it."""

REST_PORT = 6821
"""Of the TLS proxy in front of slurmrestd, on every login host."""


class Role(StrEnum):
    """What a host is; the same words are in files/host.sh."""

    CM = "cm"
    AP = "ap"
    FACTORY = "factory"
    LOGIN = "login"
    NODE = "node"
    HTC = "htc"
    """Any host of an HTCondor site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSite:
    """
    One Slurm cluster, and the pilot that the demo's configuration asks it for.

    CPUs and memory are what Slurm believes (``config_overrides``), not what this machine has; memory in MB of 2**20
    bytes, as in slurm.conf. The Slurm version is the one of the Debian suite.
    """

    name: str
    suite: str
    slurm_series: str
    nodes: tuple[str, ...]
    cpus_per_node: int
    memory_per_node_mb: int
    partition: str
    max_walltime: timedelta
    account: str
    network_number: int
    pilot_cores: int
    pilot_memory_mib: int
    pilot_walltime: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class HtcSite:
    """
    A site that runs an HTCondor pool of its own, and the pilot that a configuration asks it for.

    Its login host is collector, negotiator and access point. CPUs and memory (in MB of 2**20 bytes) are what each
    compute host advertises. It is brought up only where it is asked for: three more containers cost everybody.
    """

    name: str
    nodes: tuple[str, ...]
    cpus_per_node: int
    memory_per_node_mb: int
    queue: str
    account: str
    network_number: int
    pilot_cores: int
    pilot_memory_mib: int
    pilot_walltime: timedelta

    @property
    def trust_domain(self) -> str:
        """Its own: no key or token of our pool is good there, nor one of its own in our pool."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUser:
    """An operating-system account on access points, its virtual organisation and the projects it may charge."""

    name: str
    uid: int
    vo: str
    projects: tuple[str, ...]
    aps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One container. ``addresses`` maps a network's name to the host's address there, the main one first."""

    name: str
    role: Role
    site: str | None
    addresses: tuple[tuple[str, str], ...]

    @property
    def container(self) -> str:
        """Name of the container."""
        return f"{NAME}-{self.name}"

    @property
    def fqdn(self) -> str:
        """Full host name, unique in the federation: HTCondor's CCB mistakes hosts of one name for neighbours."""
        return self.name if self.site is not None else f"{self.name}.{TRUST_DOMAIN}"

    @property
    def short(self) -> str:
        """Host name without domain, as Slurm calls the host."""
        return self.name.partition(".")[0]


SITES: tuple[SlurmSite, ...] = (
    SlurmSite(
        name="alpha",
        suite="bookworm",
        slurm_series="22.05",
        nodes=("n1", "n2"),
        cpus_per_node=8,
        memory_per_node_mb=16_000,
        partition="main",
        max_walltime=timedelta(hours=2),
        account="aerotow",
        network_number=1,
        pilot_cores=4,
        pilot_memory_mib=8000,
        pilot_walltime=timedelta(minutes=60),
    ),
    SlurmSite(
        name="beta",
        suite="trixie",
        slurm_series="24.11",
        nodes=("n1",),
        cpus_per_node=16,
        memory_per_node_mb=32_000,
        partition="batch",
        max_walltime=timedelta(hours=4),
        account="grid",
        network_number=2,
        pilot_cores=8,
        pilot_memory_mib=16000,
        pilot_walltime=timedelta(minutes=60),
    ),
    SlurmSite(
        name="gamma",
        suite="forky",
        slurm_series="26.05",
        nodes=("n1", "n2"),
        cpus_per_node=4,
        memory_per_node_mb=64_000,
        partition="compute",
        max_walltime=timedelta(hours=1),
        account="ext-aerotow",
        network_number=3,
        pilot_cores=4,
        pilot_memory_mib=60000,
        pilot_walltime=timedelta(minutes=45),
    ),
)

HTC_SITES: tuple[HtcSite, ...] = (
    HtcSite(
        name="delta",
        nodes=("n1",),
        cpus_per_node=8,
        memory_per_node_mb=16_000,
        queue="htc",
        account="group_aerotow",
        network_number=4,
        pilot_cores=2,
        pilot_memory_mib=2000,
        pilot_walltime=timedelta(minutes=60),
    ),
)
"""Sites with HTCondor; up only where they are asked for."""

ALL_SITES: tuple[SlurmSite | HtcSite, ...] = (*SITES, *HTC_SITES)

APS: tuple[str, ...] = ("ap1", "ap2")

USERS: tuple[PoolUser, ...] = (
    PoolUser(name="alice", uid=3001, vo="astro", projects=("dp001", "dp002"), aps=("ap1", "ap2")),
    PoolUser(name="bob", uid=3002, vo="astro", projects=("dp001",), aps=("ap1",)),
    PoolUser(name="carol", uid=3003, vo="bio", projects=("bio01",), aps=("ap2",)),
    PoolUser(name="dave", uid=3004, vo="bio", projects=("bio01",), aps=("ap2",)),
)

POOL_NETWORK = f"{NAME}-pool"
FACTORY_STATE_VOLUME = f"{NAME}-factory-state"
FACTORY_SECRETS_VOLUME = f"{NAME}-factory-secrets"


def site_network(site: SlurmSite | HtcSite) -> str:
    """Name of a site's network, and of its bridge (at most 15 characters)."""
    return f"{NAME}-{site.name}"


def home_volume(site: SlurmSite) -> str:
    """Name of the volume with the pilot account's home, shared by login and compute hosts."""
    return f"{NAME}-{site.name}-home"


def _prefix() -> str:
    return os.environ.get("AEROTOW_TESTBED_SUBNET", "10.88")


def networks() -> dict[str, str]:
    """Every network and its subnet; the first two bytes come from AEROTOW_TESTBED_SUBNET, default 10.88."""
    return {POOL_NETWORK: f"{_prefix()}.0.0/24"} | {
        site_network(site): f"{_prefix()}.{site.network_number}.0/24" for site in ALL_SITES
    }


def site_named(name: str) -> SlurmSite:
    """One row of the table; KeyError for a site that is not there."""
    return {site.name: site for site in SITES}[name]


def htc_site_named(name: str) -> HtcSite:
    """One row of the table of HTCondor sites; KeyError for a site that is not there."""
    return {site.name: site for site in HTC_SITES}[name]


def _pool_address(last_byte: int) -> tuple[str, str]:
    return POOL_NETWORK, f"{_prefix()}.0.{last_byte}"


def site_hosts(site: SlurmSite | HtcSite) -> tuple[Host, ...]:
    """The login host, which is on the pool's network too, and the compute hosts, which are on the site's only."""
    network, subnet = site_network(site), f"{_prefix()}.{site.network_number}"
    htc = isinstance(site, HtcSite)
    login = Host(
        name=f"login.{site.name}",
        role=Role.HTC if htc else Role.LOGIN,
        site=site.name,
        addresses=((network, f"{subnet}.10"), _pool_address(100 + site.network_number)),
    )
    nodes = (
        Host(
            name=f"{node}.{site.name}",
            role=Role.HTC if htc else Role.NODE,
            site=site.name,
            addresses=((network, f"{subnet}.{20 + n}"),),
        )
        for n, node in enumerate(site.nodes, start=1)
    )
    return (login, *nodes)


def pool_hosts() -> tuple[Host, ...]:
    """Central manager and access points."""
    aps = (
        Host(name=ap, role=Role.AP, site=None, addresses=(_pool_address(10 + n),)) for n, ap in enumerate(APS, start=1)
    )
    return (Host(name="cm", role=Role.CM, site=None, addresses=(_pool_address(10),)), *aps)


def factory_host() -> Host:
    """Where ``aerotow run`` runs."""
    return Host(name="factory", role=Role.FACTORY, site=None, addresses=(_pool_address(50),))


def hosts() -> tuple[Host, ...]:
    """Every host of the federation as ``up`` makes it."""
    return (*pool_hosts(), factory_host(), *(host for site in SITES for host in site_hosts(site)))


def optional_hosts() -> tuple[Host, ...]:
    """Hosts of the sites that are up only where they are asked for."""
    return tuple(host for site in HTC_SITES for host in site_hosts(site))


def host_named(name: str) -> Host:
    """Find a host by name, full name or container name; KeyError otherwise."""
    table = {alias: host for host in (*hosts(), *optional_hosts()) for alias in (host.container, host.fqdn, host.name)}
    return table[name]


def names_seen_from(host: Host) -> dict[str, str]:
    """
    Names and addresses for a host's /etc/hosts: the pool from everywhere, a site's hosts where they can be reached.

    From the pool only login hosts have an address; that is all that the factory may know of a site.
    """
    names: dict[str, str] = {}
    for other in (*hosts(), *optional_hosts()):
        if other == host:
            continue
        where = dict(other.addresses)
        near = where.get(host.addresses[0][0]) or where.get(POOL_NETWORK)
        if near is None or (POOL_NETWORK not in dict(host.addresses) and other.site not in (None, host.site)):
            continue
        names[other.fqdn] = near
        if other.site in (None, host.site):
            names[other.short] = near
    return names
