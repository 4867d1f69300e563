"""
The HTCondor configuration of a pilot: rendered here, completed on the node by ``pilot.sh`` with what only it can know.

Every knob was tried with HTCondor 25.14.1 from behind NAT; docs/architecture.md has the figures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from config.condortext import classad_string, config_value
from glidein.errors import BadPilotInput
from glidein.model import Lifetimes, Offer, PilotId
from glidein.siterules import PUBLISHED_RULES, RULES_PERIOD_S
from glidein.start import start_expression

LEARNED = (
    "LOCAL_DIR",
    "RELEASE_DIR",
    "NUM_CPUS",
    "MEMORY",
    "GlideinToDie",
    "GlideinToRetire",
    "GlideinSlurmJobId",
    "GlideinNode",
    *PUBLISHED_RULES,
)
"""Settings that ``pilot.sh`` appends, in its order."""

PUBLISHED = (
    "GlideinSite",
    "GlideinPilotId",
    "GlideinToRetire",
    "GlideinToDie",
    "GlideinSlurmJobId",
    "GlideinNode",
    *PUBLISHED_RULES,
)
"""Our attributes in every slot and master ad of a pilot."""

_ATTRIBUTE = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """What a pilot must know of its pool."""

    collector: str
    """Host or host:port of the central manager's collector."""
    trust_domain: str


def ep_config_text(*, pilot_id: PilotId, offer: Offer, pool: PoolFacts, lifetimes: Lifetimes) -> str:
    """
    Render the execution point's configuration of one pilot, without the settings named in :data:`LEARNED`.

    Nothing in it is secret; the token comes as a file of its own.
    """
    extra = [(name, value) for name, value in offer.slot_attributes]
    for name, value in extra:
        if _ATTRIBUTE.match(name) is None or name in PUBLISHED:
            raise BadPilotInput(key=f"slot_attributes.{name}", value=value, problem="no attribute name of your own")
    named = {
        "COLLECTOR_HOST": config_value(pool.collector),
        "TRUST_DOMAIN": config_value(pool.trust_domain),
        "UID_DOMAIN": config_value(pool.trust_domain),
        "FILESYSTEM_DOMAIN": config_value(pilot_id),
        # The default is the host's full name: two sites' hosts of one name would then try to connect directly.
        "PRIVATE_NETWORK_NAME": config_value(pilot_id),
        "MASTER_NAME": config_value(pilot_id),
        "STARTD_NAME": config_value(pilot_id),
        "STARTD_NOCLAIM_SHUTDOWN": str(lifetimes.idle_timeout_s),
        "CLAIM_WORKLIFE": str(lifetimes.claim_life_s),
        "START": start_expression(lifetimes),
        "GlideinSite": classad_string(offer.site),
        "GlideinPilotId": classad_string(pilot_id),
        **{name: config_value(value) for name, value in extra},
        "STARTD_CRON_RULES_PERIOD": str(RULES_PERIOD_S),
        "STARTD_ATTRS": " ".join(["$(STARTD_ATTRS)", *PUBLISHED, "FillsSlot", *(name for name, _ in extra)]),
        "MASTER_ATTRS": " ".join(["$(MASTER_ATTRS)", *PUBLISHED]),
        # Whose job it is: AccountingGroup is the negotiator's spelling.
        "STARTD_JOB_ATTRS": "$(STARTD_JOB_ATTRS) AcctGroup",
    }
    lines = [f"{name} = {value}" for name, value in named.items()]
    if offer.shape.gpus:
        # Slurm shows a job its own GPUs only, and the discovery heeds CUDA_VISIBLE_DEVICES.
        lines.append("use feature:GPUs")
    return f"# Pilot {pilot_id}\n{_FIXED}\n" + "\n".join(lines) + "\n"


_FIXED = """\
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
REQUIRE_LOCAL_CONFIG_FILE = False
use security:recommended
use feature:PartitionableSlot
DAEMON_LIST = MASTER STARTD

# Who we are: the pilot's token and nothing else. No FS: it would prove only the uid that payloads share.
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS
SEC_TOKEN_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords.d
SEC_TOKEN_POOL_SIGNING_KEY_FILE =

# Outward connections only.
CCB_ADDRESS = $(COLLECTOR_HOST)
CCB_HEARTBEAT_INTERVAL = 120
SHARED_PORT_PORT = 0

# Everything below the pilot's own directory.
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIBEXEC = $(RELEASE_DIR)/libexec
LIB = $(RELEASE_DIR)/lib/condor
LOG = $(LOCAL_DIR)/log
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
DAEMON_SOCKET_DIR = $(LOCAL_DIR)/sock
MAX_DEFAULT_LOG = 2 Mb
MAX_NUM_DEFAULT_LOG = 1

# Wrappers against the SIGTERM that Slurm sends to every process of a job; see payload.sh and pilot.sh.
PROCD = $(LOCAL_DIR)/procd.sh
USER_JOB_WRAPPER = $(LOCAL_DIR)/payload.sh
JOB_INHERITS_STARTER_ENVIRONMENT = False
STARTER_JOB_ENVIRONMENT = "PATH=/usr/local/bin:/usr/bin:/bin"

# What the site's admin lets run here, read again and again. Its words take the place of those from the start.
STARTD_CRON_JOBLIST = RULES
STARTD_CRON_RULES_EXECUTABLE = $(LOCAL_DIR)/policy.sh
STARTD_CRON_RULES_MODE = Periodic
STARTD_CRON_RULES_KILL = True

# Start at once and be seen soon: the plugins in Python, Java and benchmarks cost most of a second.
FILETRANSFER_PLUGINS = $(LIBEXEC)/curl_plugin, $(LIBEXEC)/data_plugin
JAVA =
BENCHMARKS_JOBLIST =
RUNBENCHMARKS = False
PREEN =
UPDATE_INTERVAL = 20
MASTER_UPDATE_INTERVAL = 20
MASTER_BACKOFF_CEILING = 60
MASTER_CHECK_NEW_EXEC_INTERVAL = 1000000000
# A part of the pilot that was cut for a job goes to the user's next job only if that fills it; else the whole is free
# again. Without this, jobs of one core ran in parts of four (25.14.1, seen: an eighth of all core seconds).
FillsSlot = (TARGET.RequestCpus ?: 1) >= MY.Cpus && (TARGET.RequestGPUs ?: 0) >= (MY.GPUs ?: 0)
DSLOT_REQUIREMENTS_CLAUSES = FillsSlot
# A drained pilot lets its jobs end. Everything else that ends it has no time: Slurm kills 10 s after its SIGTERM. The
# time must be longer than MachineMaxVacateTime, or a graceful drain evicts at once (25.14.1, tried).
MachineMaxVacateTime = 30
MAXJOBRETIREMENTTIME = ifThenElse(MY.DrainReason isnt undefined || MY.Draining =?= True, 31536000, 0)
SHUTDOWN_GRACEFUL_TIMEOUT = 30
SHUTDOWN_FAST_TIMEOUT = 10
"""
