"""What a pilot's spool directory holds before it is submitted: names, modes and contents of its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from config.names import split_pilot_id
from glidein.epconfig import PoolFacts, ep_config_text
from glidein.errors import BadPilotInput
from glidein.model import Lifetimes, Offer, PilotId
from glidein.siterules import vo_map_text
from glidein.start import MEMORY_RESERVE_MIB, STOP_BEFORE_END_S

PILOT_SCRIPT = Path(__file__).with_name("pilot.sh")
PAYLOAD_SCRIPT = Path(__file__).with_name("payload.sh")
POLICY_SCRIPT = Path(__file__).with_name("policy.sh")

PILOT_ENV = "pilot.env"
CONDOR_CONFIG = "condor_config"
PAYLOAD = "payload.sh"
POLICY = "policy.sh"
VO_MAP = "vo.map"
TOKEN = "token"  # noqa: S105  # a file's name
END_REPORT = "end.json"
LOG_TAIL = "log.tail"

RULES_FILE = PurePosixPath("../../../site-policy.conf")
"""The file of the site's admin below ``~/.aerotow``, from the spool directory."""

_HARMLESS = re.compile(r"^[A-Za-z0-9._:/@+~-]+$")
"""Characters of a value in pilot.env; ``pilot.sh`` refuses every other."""
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRef:
    """
    The bundle as a pilot is told of it: its path on the site's hosts, and the only sha256 that it accepts.

    A relative path starts at the pilot's spool directory: what the home directory is called only the site knows.
    """

    path: PurePosixPath
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What a pilot must know of its site beyond the offer."""

    scratch_dir: str
    """Node-local directory for its sandbox, an absolute path."""
    rules_file: PurePosixPath = RULES_FILE
    """The file of the site's admin; a relative path starts at the pilot's spool directory, as the bundle's."""
    vo_map: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Project to the virtual organisations that it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SpoolFile:
    """One file of a pilot's spool directory. None of these is secret: the token is written apart, with mode 0600."""

    name: str
    mode: int
    text: str


def spool_dir(*, home: PurePosixPath, instance: str, pilot_id: PilotId) -> PurePosixPath:
    """Where a pilot's files lie in the shared home of a site's account; its directory has mode 0700."""
    return home / ".aerotow" / instance / "pilots" / pilot_id


def pilot_script_text() -> str:
    """The batch script, the same for every pilot; its one argument is the spool directory."""
    return PILOT_SCRIPT.read_text()


def pilot_env_text(*, pilot_id: PilotId, offer: Offer, lifetimes: Lifetimes, bundle: BundleRef, site: SiteFacts) -> str:
    """Render ``pilot.env``: KEY=value lines that ``pilot.sh`` reads as data."""
    if split_pilot_id(pilot_id) is None:
        raise BadPilotInput(key="pilot_id", value=pilot_id, problem="no pilot id")
    if _SHA256.match(bundle.sha256) is None:
        raise BadPilotInput(key="bundle_sha256", value=bundle.sha256, problem="no sha256 in lower-case hex digits")
    if offer.shape.walltime_s <= STOP_BEFORE_END_S + lifetimes.retire_margin_s:
        raise BadPilotInput(
            key="walltime_s",
            value=str(offer.shape.walltime_s),
            problem=f"too short; {STOP_BEFORE_END_S + lifetimes.retire_margin_s} s are needed to end in order",
        )
    facts = {
        "pilot_id": pilot_id,
        "scratch_dir": site.scratch_dir,
        "rules_file": str(site.rules_file),
        "bundle": str(bundle.path),
        "bundle_sha256": bundle.sha256,
        "walltime_s": str(offer.shape.walltime_s),
        "stop_before_end_s": str(STOP_BEFORE_END_S),
        "retire_margin_s": str(lifetimes.retire_margin_s),
        "join_timeout_s": str(lifetimes.join_timeout_s),
        "memory_reserve_mib": str(MEMORY_RESERVE_MIB),
        "disk_mib": str(offer.shape.disk_mib),
        "cores": str(offer.shape.cores),
        "memory_mib": str(offer.shape.memory_mib),
    }
    for key, value in facts.items():
        if _HARMLESS.match(value) is None:
            raise BadPilotInput(key=key, value=value, problem="only letters, digits and . _ : / @ + ~ - can stand here")
    if not site.scratch_dir.startswith("/"):
        raise BadPilotInput(key="scratch_dir", value=site.scratch_dir, problem="must be an absolute path")
    return "".join(f"{key}={value}\n" for key, value in facts.items())


def spool_files(
    *,
    pilot_id: PilotId,
    offer: Offer,
    pool: PoolFacts,
    lifetimes: Lifetimes,
    bundle: BundleRef,
    site: SiteFacts,
) -> tuple[SpoolFile, ...]:
    """All files of a pilot's spool directory but the token (:data:`TOKEN`, mode 0600), which only the sender holds."""
    env = pilot_env_text(pilot_id=pilot_id, offer=offer, lifetimes=lifetimes, bundle=bundle, site=site)
    config = ep_config_text(pilot_id=pilot_id, offer=offer, pool=pool, lifetimes=lifetimes)
    return (
        SpoolFile(name=CONDOR_CONFIG, mode=0o600, text=config),
        SpoolFile(name=PAYLOAD, mode=0o700, text=PAYLOAD_SCRIPT.read_text()),
        SpoolFile(name=PILOT_ENV, mode=0o600, text=env),
        SpoolFile(name=POLICY, mode=0o700, text=POLICY_SCRIPT.read_text()),
        SpoolFile(name=VO_MAP, mode=0o600, text=vo_map_text(site.vo_map)),
    )
