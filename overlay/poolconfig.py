"""
Render the HTCondor configuration of the pool's own machines: the central manager (CM) and its access points (AP).

Every text is a whole file for a machine's ``config.d``, read after the distribution's own. Keys and tokens are
named by :mod:`config.names`: the CM holds ``passwords.d/cm`` and ``passwords.d/pilot-SITE``, an AP holds
``passwords.d/ap-AP`` and a token signed with ``cm`` in ``tokens.d``; the pilots' keys are never on an AP.
Tried with HTCondor 25.14.1; tests/system/test_security.py shows each refusal against the real daemons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from config.condortext import classad_string, config_value
from config.names import NAME, ap_identity, factory_admin_identity, factory_read_identity, pilot_identity, share_group
from overlay.errors import PoolSpecError

PROJECT_MAP = "AerotowProjects"
"""Name of the schedd's user map from user to projects."""

GROUP_MAP = "AerotowGroups"
"""Name of the schedd's user map from project to its group at the negotiator."""

SIGTERM_REQUEUES_MAX = 5
"""How often a job that ended by signal 15 runs again before the signal is taken for its own doing."""

_WORD = re.compile(r"^[A-Za-z0-9_.+-]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShare:
    """What one organisation, or one project of it, gets from the negotiator where not every job can run."""

    vo: str
    project: str = ""
    """Empty: all projects of the organisation together."""
    part: float
    """Of what the level above has and does not give away in fixed cores."""
    cores: float | None = None
    """Fixed cores in place of the part."""
    more: bool = True
    """Whether it also gets what others leave."""

    @property
    def group(self) -> str:
        """Its name at the negotiator."""
        return share_group(vo=self.vo, project=self.project) if self.project else self.vo


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """A pool: who is in it, and who may charge what."""

    trust_domain: str
    collector_host: str
    """Host, or host:port, of the collector as the APs and pilots dial it."""
    aps: Mapping[str, str]
    """AP name (as in the names of keys and identities) to its full host name."""
    sites: tuple[str, ...]
    factory_hosts: tuple[str, ...] = ()
    """Hosts or addresses from which the factory's READ token is good; empty: from anywhere."""
    projects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """User to the projects that he may charge, the default one first; empty: the pool knows no projects."""
    vos: Mapping[str, str] = field(default_factory=dict)
    """Project to its organisation, below whose group the negotiator counts it."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """
    Host name to IP address, where known. HTCondor looks names of its ALLOW lists up when it reads its configuration,
    so a host that is down at that moment stays shut out; an address has no such moment.
    """
    shares: tuple[GroupShare, ...] = ()
    """Empty: the negotiator divides by users alone."""
    fast: bool = False
    """Negotiate every second: for a small pool that is watched (1.2 % of a core on the CM, 25.14.1)."""


def render_cm(pool: PoolSpec) -> str:
    """Configuration of the central manager: collector with CCB, and negotiator."""
    _check(pool)
    pilots = [pilot_identity(site=site, trust_domain=pool.trust_domain) for site in pool.sites]
    aps = [ap_identity(ap=ap, trust_domain=pool.trust_domain) for ap in pool.aps]
    factory = factory_read_identity(trust_domain=pool.trust_domain)
    factories = _known(pool, pool.factory_hosts)
    # From named hosts only: whoever has the key of a site's pilots can sign this subject too.
    drainers = [f"{factory_admin_identity(trust_domain=pool.trust_domain)}/{host}" for host in factories]
    subjects = [*pilots, *aps, factory, factory_admin_identity(trust_domain=pool.trust_domain)]
    readers = [
        "condor@*",
        *_from_hosts(factory, factories),
        *drainers,
        *(f"*/{host}" for host in _known(pool, pool.aps.values())),
        *_LOCAL,
    ]
    lines = [
        *_common(pool),
        "DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR",
        "",
        "# HTCondor believes the subject of a token signed with any key that it holds, and the factory holds the keys",
        "# of pilots. So no token, whoever signed it, makes anybody daemon or negotiator here; only being a user of",
        "# this host does. One token, from the factory's hosts, is ADMINISTRATOR at the collector, of no other daemon:",
        "# with it the factory drains pilots. They alone offer administration by way of the collector.",
        f"SEC_TOKEN_REVOCATION_EXPR = !stringListMember(sub, {classad_string(','.join(subjects))})",
        "",
        "# Pilots do not read: ADVERTISE_STARTD would imply READ of every slot, user and priority.",
        *([f"COLLECTOR.ALLOW_ADMINISTRATOR = $(ALLOW_ADMINISTRATOR), {_list(drainers)}"] if drainers else []),
        f"ALLOW_READ = {_list(readers)}",
        f"DENY_READ = {_list(pilots)}",
        "ALLOW_WRITE = condor@*",
        f"ALLOW_ADVERTISE_STARTD = {_list(pilots)}",
        f"ALLOW_ADVERTISE_SCHEDD = {_list(aps)}",
        f"ALLOW_ADVERTISE_MASTER = {_list(['condor@*', *aps, *pilots])}",
        "",
        "# An ad is filed only if its sender may speak for it. The collector writes AuthenticatedIdentity itself,",
        "# before it evaluates this; everything else in an ad is what the sender claims, MyType too.",
        f"COLLECTOR_REQUIREMENTS = {_collector_requirements(pool)}",
    ]
    lines += _share_lines(pool)
    if pool.fast:
        lines += ["", "NEGOTIATOR_INTERVAL = 1", "NEGOTIATOR_MIN_INTERVAL = 1", "NEGOTIATOR_CYCLE_DELAY = 0"]
    return "\n".join(lines) + "\n"


def render_ap(pool: PoolSpec, ap: str) -> str:
    """
    Configuration of one access point: schedd, projects, and the second defence for jobs of cancelled pilots.

    A job that declares no AllowedExecuteDuration is given none here: HTCondor would hold it when the time is up, though
    its user promised nothing. What pilots and factory assume of it instead stands in START, rendered for both alike.
    """
    _check(pool)
    if ap not in pool.aps:
        raise PoolSpecError(what=f"access point {ap!r}", problem=f"not in the pool; known are {', '.join(pool.aps)}")
    readers = [
        "condor@*",
        *_from_hosts(factory_read_identity(trust_domain=pool.trust_domain), _known(pool, pool.factory_hosts)),
        *_LOCAL,
    ]
    lines = [
        *_common(pool),
        "DAEMON_LIST = MASTER SCHEDD",
        "# Pilots have other file systems: without this a job would be sent there without its files.",
        "FILESYSTEM_DOMAIN = $(FULL_HOSTNAME)",
        "",
        f"ALLOW_READ = {_list(readers)}",
        f"ALLOW_WRITE = condor@*, {_list(f'*@{pool.trust_domain}/{host}' for host in _LOCAL_HOSTS)}",
        "",
        "# Each attempt's records name the pilot that it ran in.",
        "SYSTEM_JOB_MACHINE_ATTRS = $(SYSTEM_JOB_MACHINE_ATTRS) GlideinSite GlideinPilotId",
        "# Records of usage are read remotely, so enough of them must outlive a factory that is away.",
        "MAX_EPOCH_HISTORY_LOG = 200000000",
        "MAX_EPOCH_HISTORY_ROTATIONS = 10",
        "MAX_HISTORY_LOG = 200000000",
        "MAX_HISTORY_ROTATIONS = 10",
        "",
        # 25.14.1, seen: the default of 20 is also how many of a user's jobs the schedd offers in a negotiation, so 20
        # jobs that match nothing yet keep all the user's other jobs from ever being looked at.
        "# No limit per user: it would also be the number of a user's jobs that a negotiation gets to see.",
        "MAX_CONCURRENT_UPLOADS_PER_USER = 0",
        "",
        "# A job that was matched to a host that is gone waits this long, not half an hour, to be matched again.",
        "REQUEST_CLAIM_TIMEOUT = 60",
        "",
        *_project_lines(pool),
        "",
        *_SIGTERM_LINES,
    ]
    if pool.fast:
        # 25.14.1, seen: schedd and negotiator then authenticate to each other at the same moment, each waits for the
        # other, and for minutes neither matches nor takes a submission. A negotiation a second needs no reminder.
        lines += ["", "SCHEDD_MIN_INTERVAL = 1", "SCHEDD_INTERVAL = 2", "SCHEDD_SEND_RESCHEDULE = False"]
        lines += ["PERIODIC_EXPR_INTERVAL = 10"]
    return "\n".join(lines) + "\n"


def _share_lines(pool: PoolSpec) -> list[str]:
    """
    Quotas of the negotiator, in cores, as a slot's weight is its cores.

    A group's jobs may use what other groups leave, in proportion to the quotas (GROUP_ACCEPT_SURPLUS), and within a
    group its users share. Organisations are groups and their projects groups below them: what one project leaves is
    for the organisation's others first. GROUP_AUTOREGROUP stays off: a group that has reached its maximum would
    compete as nobody.
    """
    if not pool.shares:
        return []
    lines = [
        "",
        f"GROUP_NAMES = {_list(share.group for share in pool.shares)}",
        "# By default an organisation and its projects each have the quota, twice of what there is, and nothing binds.",
        "NEGOTIATOR_ALLOW_QUOTA_OVERSUBSCRIPTION = False",
    ]
    for share in pool.shares:
        quota = (
            f"GROUP_QUOTA_DYNAMIC_{share.group} = {share.part:.6f}"
            if share.cores is None
            else f"GROUP_QUOTA_{share.group} = {share.cores:g}"
        )
        lines += [quota, f"GROUP_ACCEPT_SURPLUS_{share.group} = {share.more}"]
    return lines


_LOCAL_HOSTS = ("127.0.0.1", "$(IP_ADDRESS)")
_LOCAL = tuple(f"*/{host}" for host in _LOCAL_HOSTS)

_SIGTERM_LINES = (
    "# scancel sends SIGTERM to everything in a pilot. A payload that dies of it has not ended, its pilot has: it goes",
    "# back to the queue. The pilot shields its payload; this is for a pilot that could not. Exit code 143 is how a",
    "# shell reports a child that died so. Bounded, because a job may also kill itself in this way.",
    "JOB_TRANSFORM_NAMES = $(JOB_TRANSFORM_NAMES) AerotowSigterm",
    "JOB_TRANSFORM_AerotowSigterm @=end",
    "   # Once only: late materialisation transforms the cluster and then each of its jobs.",
    "   REQUIREMENTS JobUniverse == 5 && AerotowSigterm isnt True",
    "   SET AerotowSigterm True",
    "   DEFAULT OnExitRemove True",
    "   COPY OnExitRemove AerotowOnExitRemove",
    "   SET OnExitRemove AerotowOnExitRemove && !("
    "((ExitBySignal =?= True && ExitSignal =?= 15) || (ExitBySignal =?= False && ExitCode =?= 143))"
    f" && (NumJobCompletions ?: 0) <= {SIGTERM_REQUEUES_MAX})",
    "@end",
)


def _common(pool: PoolSpec) -> list[str]:
    return [
        "# Written by aerotow; changes made here are lost.",
        f"TRUST_DOMAIN = {pool.trust_domain}",
        f"UID_DOMAIN = {pool.trust_domain}",
        f"CONDOR_HOST = {config_value(pool.collector_host.partition(':')[0])}",
        f"COLLECTOR_HOST = {config_value(pool.collector_host)}",
        "use security:recommended",
        "SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS",
        "SEC_CLIENT_AUTHENTICATION_METHODS = FS, IDTOKENS",
        "# READ is decided by the lists below: users' tools on an AP have no token for the CM, their host vouches.",
        "SEC_READ_AUTHENTICATION = OPTIONAL",
        "SEC_CLIENT_AUTHENTICATION = OPTIONAL",
        "# Nobody gets a token from a daemon: they are minted where the keys are, and handed out by people.",
        "SEC_ENABLE_TOKEN_REQUEST = False",
        "SEC_ENABLE_TOKEN_FETCH = False",
        "SEC_ENABLE_SCITOKEN_EXCHANGE = False",
        f"ALLOW_ADMINISTRATOR = {_list(f'{who}@{pool.trust_domain}' for who in ('root', 'condor'))}, condor@family",
        "SEC_ENABLE_REMOTE_ADMINISTRATION = False",
        f"ALLOW_DAEMON = condor@{pool.trust_domain}, condor@family",
        f"ALLOW_NEGOTIATOR = condor@{pool.trust_domain}, condor@family",
    ]


def _collector_requirements(pool: PoolSpec) -> str:
    me = "TARGET.AuthenticatedIdentity"
    clauses = [
        f'{me} =?= "condor@family"',
        f"{me} =?= {classad_string(f'condor@{pool.trust_domain}')}",
        # The collector's own ad comes from nobody; without this: "Failed to add my own ad to myself (-4)."
        f'{me} is undefined && TARGET.MyType =?= "Collector"',
    ]
    for ap, host in pool.aps.items():
        identity = classad_string(ap_identity(ap=ap, trust_domain=pool.trust_domain))
        clauses.append(
            f'{me} =?= {identity} && stringListIMember(TARGET.MyType, "Scheduler,Submitter,DaemonMaster")'
            f" && TARGET.Machine =?= {classad_string(host)}"
        )
    sites = classad_string(",".join(pool.sites))
    domain = classad_string(f"@{pool.trust_domain}")
    clauses.append(
        'stringListIMember(TARGET.MyType, "Machine,Slot,StartD,StartDaemon,DaemonMaster")'
        f" && stringListMember(TARGET.GlideinSite, {sites})"
        f' && {me} =?= strcat("pilot-", TARGET.GlideinSite, {domain})'
    )
    return " || ".join(f"({clause})" for clause in clauses)


def _project_lines(pool: PoolSpec) -> list[str]:
    """
    Bind the accounting group to the user, as HTCondor's own ``feature:AssignAccountingGroup`` does.

    It differs in two ways: the map stands in this file, and a refusal names the projects that would do.
    """
    if not pool.projects:
        return [
            "# No projects here, so a job cannot charge one; each user's usage is his own.",
            "JOB_TRANSFORM_NAMES = $(JOB_TRANSFORM_NAMES) AerotowProject",
            "JOB_TRANSFORM_AerotowProject @=end",
            "   DELETE AcctGroup",
            "   DELETE AcctGroupUser",
            "   DELETE AccountingGroup",
            "@end",
            "IMMUTABLE_JOB_ATTRS = $(IMMUTABLE_JOB_ATTRS) AcctGroup AcctGroupUser AccountingGroup",
        ]
    mapped = f'userMap("{PROJECT_MAP}", Owner)'
    return [
        f"SCHEDD_CLASSAD_USER_MAP_NAMES = $(SCHEDD_CLASSAD_USER_MAP_NAMES) {PROJECT_MAP} {GROUP_MAP}",
        f"CLASSAD_USER_MAPDATA_{PROJECT_MAP} @=end",
        *(f"* {user} {','.join(projects)}" for user, projects in sorted(pool.projects.items())),
        "@end",
        "# The negotiator counts a project below its organisation; to people and pilots it is AcctGroup, its own name.",
        f"CLASSAD_USER_MAPDATA_{GROUP_MAP} @=end",
        *(f"* {project} {share_group(vo=vo, project=project)}" for project, vo in sorted(pool.vos.items())),
        "@end",
        "# Without accounting_group a job is charged to the user's first project; accounting_group_user is the owner.",
        "JOB_TRANSFORM_NAMES = $(JOB_TRANSFORM_NAMES) AerotowProject",
        "JOB_TRANSFORM_AerotowProject @=end",
        '   EVALSET RequestedAcctGroup (AcctGroup ?: "")',
        "   COPY Owner AcctGroupUser",
        f'   EVALSET AcctGroup userMap("{PROJECT_MAP}", Owner, RequestedAcctGroup)',
        f'   EVALSET AccountingGroup join(".", userMap("{GROUP_MAP}", AcctGroup) ?: AcctGroup, AcctGroupUser)',
        "@end",
        "IMMUTABLE_JOB_ATTRS = $(IMMUTABLE_JOB_ATTRS) AcctGroup AcctGroupUser AccountingGroup",
        "SUBMIT_REQUIREMENT_NAMES = $(SUBMIT_REQUIREMENT_NAMES) AerotowHasProject AerotowValidProject",
        f"SUBMIT_REQUIREMENT_AerotowHasProject = {mapped} isnt undefined",
        "SUBMIT_REQUIREMENT_AerotowHasProject_REASON = "
        'strcat(Owner, " belongs to no project here; ask the operators of this pool to add you to one")',
        'SUBMIT_REQUIREMENT_AerotowValidProject = RequestedAcctGroup == "" || RequestedAcctGroup =?= AcctGroup',
        "SUBMIT_REQUIREMENT_AerotowValidProject_REASON = "
        f'strcat("accounting_group ", RequestedAcctGroup, " is no project of ", Owner, "; valid: ", {mapped})',
        "# A project can be taken away while jobs of it wait; they must neither be charged to it nor wait in silence.",
        "SYSTEM_PERIODIC_HOLD_NAMES = $(SYSTEM_PERIODIC_HOLD_NAMES) AerotowProject",
        "SYSTEM_PERIODIC_HOLD_AerotowProject = JobUniverse == 5 && JobStatus == 1"
        f' && userMap("{PROJECT_MAP}", Owner, AcctGroup) =!= AcctGroup',
        "SYSTEM_PERIODIC_HOLD_AerotowProject_REASON = "
        f'strcat("accounting_group ", AcctGroup, " is no project of ", Owner, "; valid: ", {mapped} ?: "none")',
    ]


def _check(pool: PoolSpec) -> None:
    """Refuse what would say something else once it stands in a configuration file."""
    words = [("trust_domain", pool.trust_domain)]
    words += [(f"host of AP {ap}", host) for ap, host in pool.aps.items()]
    words += [("user", user) for user in pool.projects]
    words += [("project", project) for project in pool.vos]
    words += [("project with a share", share.project) for share in pool.shares if share.project]
    words += [(f"project of {user}", project) for user, names in pool.projects.items() for project in names]
    for what, word in words:
        if _WORD.match(word) is None:
            raise PoolSpecError(what=what, problem=f"{word!r} may have only letters, digits and . _ + -")
    named = [("site", site) for site in pool.sites] + [("access point", ap) for ap in pool.aps]
    named += [("organisation", vo) for vo in (*pool.vos.values(), *(share.vo for share in pool.shares))]
    for what, name in named:
        if NAME.match(name) is None:
            raise PoolSpecError(what=what, problem=f"{name!r} is no name; write a letter, then letters or digits")
    known: dict[str, str] = {}
    for project, vo in sorted(pool.vos.items()):
        group = share_group(vo=vo, project=project)
        # HTCondor compares groups without regard to case.
        other = known.setdefault(group.lower(), project)
        if other != project:
            raise PoolSpecError(what=f"projects {other} and {project}", problem=f"would both be group {group}")
    for user, names in pool.projects.items():
        if not names:
            raise PoolSpecError(what=f"user {user}", problem="has an empty list of projects; leave the user out")
    for host in [pool.collector_host, *pool.factory_hosts, *pool.addresses.values()]:
        if re.match(r"^[A-Za-z0-9_.:*/\[\]-]+$", host) is None:
            raise PoolSpecError(what="host", problem=f"{host!r} is none")


def _known(pool: PoolSpec, hosts: Iterable[str]) -> list[str]:
    """Hosts as the ALLOW lists should have them: the address where it is known."""
    return [pool.addresses.get(host, host) for host in hosts]


def _from_hosts(identity: str, hosts: list[str]) -> list[str]:
    return [f"{identity}/{host}" for host in hosts] if hosts else [identity]


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
