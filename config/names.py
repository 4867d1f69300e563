"""Names that several rooms must spell alike: instances, sites, pilots, token identities and keys."""

from __future__ import annotations

import re

NAME = re.compile(r"^[a-z][a-z0-9]{0,19}$")
"""Instances and sites. No dash, because a pilot's id is split at dashes; short, because sacct cuts names at 255."""

PILOT_ID = re.compile(
    r"^(?P<instance>[a-z][a-z0-9]{0,19})-(?P<site>[a-z][a-z0-9]{0,19})-(?P<cycle>[0-9a-f]{8,16})-(?P<n>\d{1,6})$"
)


def pilot_id(*, instance: str, site: str, cycle: str, n: int) -> str:
    """
    Name the ``n``-th pilot that one cycle asks a site for; it is the Slurm job name and the EP's name too.

    ``cycle`` comes from :func:`cycle_id`, so the name is unique also after a lost ledger or beside a second factory.
    """
    name = f"{instance}-{site}-{cycle}-{n}"
    if PILOT_ID.match(name) is None:
        raise ValueError(f"{name!r} is no pilot id")
    return name


def cycle_id(*, epoch_s: int, nonce: int) -> str:
    """Name a cycle by its start (8 hex digits, sorts by time) and 16 random bits that tell two factories apart."""
    return f"{epoch_s & 0xFFFFFFFF:08x}{nonce & 0xFFFF:04x}"


def split_pilot_id(name: str) -> tuple[str, str, str, int] | None:
    """Instance, site, cycle and number of a pilot's id, or None when the name is not one of ours."""
    found = PILOT_ID.match(name)
    if found is None:
        return None
    return found["instance"], found["site"], found["cycle"], int(found["n"])


def pilot_identity(*, site: str, trust_domain: str) -> str:
    """Token subject of every pilot of a site; the collector binds the ad's site name to it."""
    return f"pilot-{site}@{trust_domain}"


def pilot_key(*, site: str) -> str:
    """Name of the signing key (``kid``) of a site's pilots, a file below the CM's SEC_PASSWORD_DIRECTORY."""
    return f"pilot-{site}"


def ap_identity(*, ap: str, trust_domain: str) -> str:
    """Token subject of an access point's daemons towards the central manager."""
    return f"ap-{ap}@{trust_domain}"


def ap_key(*, ap: str) -> str:
    """Name of the signing key that only this AP holds; it checks the factory's READ token with it."""
    return f"ap-{ap}"


def share_group(*, vo: str, project: str) -> str:
    """
    A project's group at the negotiator, below that of its organisation; a dot in it would begin a level of its own.

    HTCondor gives what a group leaves to its neighbours below the same parent before it gives it to others.
    """
    return f"{vo}.{project.replace('.', '_')}"


CM_KEY = "cm"
"""Name of the signing key that only the CM holds: it signs the APs' tokens and the factory's READ token."""


def factory_admin_identity(*, trust_domain: str) -> str:
    """Token subject of the factory where it drains pilots: ADMINISTRATOR at the collector, and nowhere else."""
    return f"factory-admin@{trust_domain}"


def factory_read_identity(*, trust_domain: str) -> str:
    """Token subject of the factory where it only reads."""
    return f"factory-read@{trust_domain}"
