"""
The operator's one TOML file, as models: every key, its unit, its default and the reason for the default.

Only this package and the command line see pydantic; each room makes its own frozen dataclass of what it uses.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from config.names import NAME
from config.units import parse_memory_mib, parse_span


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"'{path}' is relative; write the whole path, from /")
    return path


Name = Annotated[str, Field(pattern=NAME.pattern)]
Span = Annotated[
    timedelta,
    BeforeValidator(parse_span),
    # As it is read: what the ledger remembers of a removed site must be good for watching its pilots.
    PlainSerializer(lambda span: f"{span.total_seconds():.3f} s", return_type=str, when_used="json"),
]
MemoryMib = Annotated[int, BeforeValidator(parse_memory_mib), Field(gt=0)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@+:/-]+$")]
"""What may stand in a Slurm option or a host name: nothing that a shell or HTCondor would read as more than itself."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Instance(_Strict):
    """Who this factory is."""

    name: Name = Field(description="first part of every pilot's name; unlike that of any other factory at the sites")
    state_dir: Path = Field(
        Path("/var/lib/aerotow"), description="database, ssh control sockets, mirrors of end reports"
    )
    database: str | None = Field(
        None,
        description="SQLAlchemy URL; default is SQLite in state_dir, which serves one machine without a server",
    )

    @property
    def database_url(self) -> str:
        """The URL in force."""
        return self.database or f"sqlite:///{self.state_dir / 'aerotow.db'}"


class Pool(_Strict):
    """The HTCondor pool that the pilots join."""

    collector: Word = Field(description="host or host:port of the central manager's collector")
    trust_domain: Word = Field(description="the pool's TRUST_DOMAIN: the issuer of every token")
    secrets_dir: Path = Field(
        Path("/etc/aerotow/secrets"),
        description="0700: keys.d/pilot-SITE (keys that sign pilots' tokens), tokens.d/cm and tokens.d/AP (READ)",
    )
    ads_max_age: Span = Field(
        timedelta(minutes=5), description="a slot ad older than this says nothing about the pilot"
    )


class Bundle(_Strict):
    """The portable HTCondor that pilots unpack."""

    path: Path = Field(description="tar.gz made by 'aerotow bundle build', or an upstream tarball")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="the pilot refuses a bundle with any other")


class AccessPoint(_Strict):
    """One schedd whose queue the factory watches."""

    schedd: Word = Field(description="the schedd's Name in the collector, usually the host's full name")


class Vo(_Strict):
    """A virtual organisation and its projects."""

    projects: dict[Word, tuple[Word, ...]] = Field(
        description="project name to the users that may charge it; accounting_group must be one of the user's"
    )


class ProjectShare(_Strict):
    """A project's part of what its virtual organisation gets."""

    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="against the organisation's other projects")


class Share(_Strict):
    """
    What a virtual organisation gets where not everybody can be served.

    The plan asks for pilots by it, and the negotiator divides them by it: `aerotow pool cm` renders it.
    """

    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="against other organisations with jobs")
    guaranteed: int = Field(0, ge=0, description="cores; with less it comes before all others")
    maximum: int | None = Field(None, ge=0, description="cores that it may have at a time; absent: no limit")
    projects: dict[Word, ProjectShare] = Field(
        default_factory=dict, description="weights of its projects; one that is left out has 1"
    )

    @model_validator(mode="after")
    def _guarantee_is_within_the_maximum(self) -> Self:
        if self.maximum is not None and self.guaranteed > self.maximum:
            raise ValueError(f"guaranteed {self.guaranteed} is more than maximum {self.maximum}; mend one of them")
        return self


class Limits(_Strict):
    """Caps over all sites."""

    max_pilots: int = Field(1000, ge=0, description="pilots not yet ended, all sites together")
    ramp: int = Field(
        50,
        ge=1,
        le=100,
        description="percent of its max_pilots that a site gets in one cycle; one pilot always may go",
    )
    max_submits_per_cycle: int = Field(50, ge=0, description="a mistake costs at most this many pilots a cycle")


class Factory(_Strict):
    """Clocks of the loop and of the pilots."""

    cycle: Span = Field(
        timedelta(seconds=60),
        description="pause between cycles; HTCondor asks for not more than one queue query a minute",
    )
    command_timeout: Span = Field(
        timedelta(seconds=30), description="deadline of one command at a site; its remote end is killed too"
    )
    query_timeout: Span = Field(
        timedelta(seconds=25), description="deadline of one query to the collector or an access point"
    )
    usage_interval: Span = Field(timedelta(seconds=60), description="pause between two readings of the epoch history")
    idle_timeout: Span = Field(timedelta(minutes=10), description="a pilot without a job for this long leaves")
    join_timeout: Span = Field(timedelta(minutes=5), description="a pilot that has not joined the pool by then leaves")
    max_queue_wait: Span = Field(
        timedelta(days=2), description="longest wait in a site's queue that a pilot's token must outlive"
    )
    lease: Span = Field(
        timedelta(minutes=3), description="a factory that has not renewed its lease for this long has lost it"
    )
    surplus_after: Span = Field(
        timedelta(minutes=5),
        description="a pilot that waits at a site and that no idle job needs for this long is cancelled",
    )
    default_job_runtime: Span = Field(
        timedelta(minutes=20),
        description="run time assumed for a job that declares no allowed_execute_duration",
    )
    claim_life: Span = Field(
        timedelta(minutes=20),
        description="how long a user keeps a part of a pilot for his next jobs; then the negotiator divides it anew, "
        "so shares hold over spans longer than this; less costs short jobs a wait for the negotiator each",
    )
    drain_target: Span = Field(
        timedelta(minutes=30),
        description="what waits shall have begun within this time, as far as run times are declared: short jobs follow "
        "one another in fewer pilots; '0 s' gives every waiting job a place of its own",
    )
    placement: Literal["spread", "fill", "weights"] = Field(
        "spread",
        description="where new pilots go: the emptiest site, one site after the other by weight, or all by weight",
    )
    wait_noticed: Span = Field(
        timedelta(minutes=10),
        description="a pilot that has waited longer than this is not counted on: its jobs are asked for at another "
        "site too, where none of ours waits as long, and it goes when no job needs it any more",
    )
    journal_cycles: int = Field(
        20_000, ge=2, description="decision records kept at most; cycles in which nothing changed are one record"
    )
    journal_size: MemoryMib = Field(
        256, description="compressed decision records kept at most; the oldest eighth goes when it is full"
    )


class Breaker(_Strict):
    """When a site gets no pilots because its pilots fail."""

    failures: int = Field(5, ge=1, description="failures in a row that open the breaker")
    fizzle: Span = Field(
        timedelta(seconds=60), description="a pilot that ends by itself sooner, without a job, has fizzled"
    )
    backoff: Span = Field(timedelta(minutes=5), description="first pause; doubled at each failed probe")
    backoff_max: Span = Field(timedelta(hours=4), description="longest pause")
    exclude_nodes: int = Field(
        16,
        ge=0,
        le=100,
        description="nodes of one site, at most, that pilots are kept away from (sbatch --exclude) because two pilots "
        "failed there and none worked, while others of the site did; forgotten after backoff_max; 0: never",
    )


class Metrics(_Strict):
    """The factory's own numbers for Prometheus."""

    listen: str | None = Field(
        None,
        pattern=r"^([0-9.]+|\[[0-9a-f:]+\]|localhost):[0-9]{1,5}$",
        description="address:port; absent: none are served. They tell who runs what where, to whoever connects: keep "
        "to loopback, or behind a firewall. Read at the start only",
    )


class Politeness(_Strict):
    """How a site that fails, or an access point that is busy, is left alone; see also a site's max_calls_per_minute."""

    backoff: Span = Field(
        timedelta(seconds=30),
        description="pause after a failed look; doubled at each further one, four times as long after one that says "
        "'too much'",
    )
    backoff_max: Span = Field(timedelta(minutes=10), description="longest pause; 'aerotow resume SITE' ends it at once")
    busy_interval: Span = Field(
        timedelta(minutes=5),
        description="how often an access point is asked whose schedd says that it is busy (duty cycle above 0.95, or "
        "CurbMatchmaking)",
    )


class Vanishing(_Strict):
    """When a site's answer without our pilots is not believed at once: nothing is done there until it is confirmed."""

    share: float = Field(0.5, gt=0, le=1, description="part of a site's living pilots that must be missing in one look")
    at_least: int = Field(4, ge=1, description="fewer missing pilots than these are followed one by one")
    looks: int = Field(
        3, ge=1, description="looks in a row that must say the same; 'aerotow resume SITE' confirms at once"
    )


class Outage(_Strict):
    """A span in which a site is down or not to be used."""

    start: datetime = Field(description="with its zone")
    end: datetime = Field(description="with its zone")
    why: str = Field(min_length=1, max_length=200, description="everyone who asks 'why' is told this text")

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        for name in ("start", "end"):
            if getattr(self, name).tzinfo is None:
                raise ValueError(f"{name} has no zone; write for example 2026-12-01T08:00:00Z")
        if self.end <= self.start:
            raise ValueError(f"end {self.end} is not after start {self.start}; mend one of them")
        return self


class Shape(_Strict):
    """One of several kinds of pilots that a site gets; a key that is left out is the site's own."""

    name: Name = Field(description="what plans and commands call it: SITE/NAME")
    cores: int | None = Field(None, ge=1, description="cores of one pilot")
    memory: MemoryMib | None = Field(None, description="memory of one pilot")
    disk: MemoryMib | None = Field(None, description="node-local scratch that one pilot may use")
    gpus: int | None = Field(None, ge=0, description="GPUs of one pilot")
    walltime: Span | None = Field(None, description="time limit of one pilot")
    account: Word | None = Field(None, description="Slurm account that pays for it")
    partition: Word | None = Field(None, description="Slurm partition")
    qos: Word | None = Field(None, description="Slurm QOS")
    max_pilots: int | None = Field(
        None, ge=0, description="pilots of this shape not yet ended; those of the site hold beside it"
    )
    slot_attributes: dict[str, str | int | bool] = Field(
        default_factory=dict, description="further attributes of the slots, beside those of the site"
    )


class Site(_Strict):
    """One site: where its Slurm or HTCondor is, whom to charge, and the pilot that it gets."""

    account: Word = Field(description="Slurm account, or HTCondor accounting group, that pays for the pilots")
    partition: Word = Field(description="Slurm partition; at an HTCondor site the queue (BatchQueue), or any word")
    cores: int = Field(ge=1, description="cores of one pilot")
    memory: MemoryMib = Field(description="memory of one pilot, for example '16 GiB'")
    walltime: Span = Field(description="time limit of one pilot")
    login: Word | None = Field(None, description="user@host for ssh; absent: this machine has the Slurm commands")
    qos: Word | None = Field(None, description="Slurm QOS, where the account needs one")
    disk: MemoryMib = Field(10240, description="node-local scratch that one pilot may use")
    scratch: Word = Field("/tmp", description="node-local directory for the pilot's sandbox")  # noqa: S108
    policy_file: str = Field(
        "~/.aerotow/site-policy.conf",
        pattern=r"^(~/|/)[A-Za-z0-9_.+@/-]+$",
        description="what the site's own admin lets run there (docs/site-admins.md), on its login and compute hosts; "
        "it need not exist",
    )
    gpus: int = Field(0, ge=0, description="GPUs of one pilot")
    weight: int = Field(1, ge=1, description="the site's part where factory.placement is 'weights' or 'fill'")
    shapes: tuple[Shape, ...] = Field(
        (),
        description="several kinds of pilots, each a table [[sites.NAME.shapes]]; the kind that wastes least is asked "
        "for. Absent: one kind, from the site's own keys",
    )
    max_pilots: int = Field(10, ge=0, description="pilots not yet ended at this site")
    max_pending: int = Field(5, ge=0, description="pilots waiting in this site's queue")
    max_calls_per_minute: int = Field(
        120,
        ge=10,
        description="remote commands and REST requests in any 60 s; a call beyond them is not made. A cycle takes 2 to "
        "6, and with 'rest' one for each new pilot",
    )
    ssh_options: tuple[str, ...] = Field((), description="further OpenSSH options, for example '-oProxyJump=gate'")
    slot_attributes: dict[str, str | int | bool] = Field(
        default_factory=dict, description="further attributes of the slots, for matching"
    )
    outages: tuple[Outage, ...] = Field(
        (),
        description="spans in which the site is down: no pilot runs into one, and those that wait are taken back",
    )
    rest: str | None = Field(
        None,
        pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
        description="address of the site's slurmrestd: jobs go that way, files by 'login' or 'shared_dir'",
    )
    token_file: AbsolutePath | None = Field(
        None,
        description="the site's token for slurmrestd, or an IDTOKEN or SciToken for its schedd; mode 0600, read at "
        "every use, so renewing it is enough",
    )
    ca_file: AbsolutePath | None = Field(
        None,
        description="PEM file of the authority of slurmrestd's certificate, or of the schedd's for a SciToken; absent: "
        "those that this machine trusts",
    )
    rest_user: Word | None = Field(
        None, description="account whose jobs they are, where the token does not say it in its claim 'sun'"
    )
    rest_limit: MemoryMib = Field(
        8, le=1024, description="longest answer that is read; a job of anybody in the queue takes 4 to 12 kB of it"
    )
    shared_dir: AbsolutePath | None = Field(
        None,
        description="with 'rest' and no 'login': a directory that this machine and the site see under one name, "
        "used in place of the account's home; this factory must run under the account's uid",
    )

    pyslurm: bool = Field(
        False,
        description="this machine has the site's Slurm, and pyslurm of exactly its version is installed beside "
        "aerotow: ask the library in place of the commands",
    )
    schedd: Word | None = Field(
        None,
        description="Name of the schedd of a site that runs HTCondor: pilots are jobs there, 'token_file' opens it",
    )
    collector: Word | None = Field(
        None, description="with 'schedd': the site's own collector, host or host:port, which knows where the schedd is"
    )

    @property
    def kinds(self) -> tuple[tuple[str, Self], ...]:
        """Every kind of pilot as if it were the site's only one, with its name; one without a name if there is one."""
        return tuple((shape.name, self._as(shape)) for shape in self.shapes) or (("", self),)

    def _as(self, shape: Shape) -> Self:
        own = shape.model_dump(exclude={"name", "max_pilots", "slot_attributes"}, exclude_none=True)
        attributes = {**self.slot_attributes, **shape.slot_attributes}
        return self.model_copy(update={**own, "slot_attributes": attributes, "shapes": ()})

    @model_validator(mode="after")
    def _names_of_shapes_differ(self) -> Self:
        names = [shape.name for shape in self.shapes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"shapes: two are called {', '.join(twice)}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _schedd_is_whole(self) -> Self:
        if self.schedd is None:
            if self.collector is not None:
                raise ValueError('collector without schedd; add schedd = "its Name in that collector" or remove it')
            return self
        if self.collector is None:
            raise ValueError('schedd without collector; add collector = "host:port" of the site\'s own collector')
        if self.token_file is None:
            raise ValueError("schedd without token_file; put the site's token into a 0600 file and name it")
        others = [name for name in ("login", "rest", "shared_dir", "qos", "rest_user") if getattr(self, name)]
        if others:
            raise ValueError(f"{', '.join(others)} beside schedd; an HTCondor site is reached by its schedd alone")
        return self

    @model_validator(mode="after")
    def _pyslurm_is_on_the_spot(self) -> Self:
        others = [name for name in ("login", "rest", "shared_dir", "schedd") if getattr(self, name)]
        if self.pyslurm and others:
            raise ValueError(
                f"{', '.join(others)} beside pyslurm; the library asks the Slurm of this machine, so keep one of them"
            )
        return self

    @model_validator(mode="after")
    def _rest_is_whole(self) -> Self:
        if self.schedd is not None:
            return self
        if self.rest is None:
            alone = [name for name in ("token_file", "ca_file", "rest_user", "shared_dir") if getattr(self, name)]
            if alone:
                raise ValueError(f'{", ".join(alone)} without rest; add rest = "https://..." or remove it')
            return self
        if self.token_file is None:
            raise ValueError("rest without token_file; put the site's token into a 0600 file and name it")
        if self.login is None and self.shared_dir is None:
            raise ValueError(
                'rest carries no files; add login = "user@host", or shared_dir where this machine shares a file system'
            )
        if self.login is not None and self.shared_dir is not None:
            raise ValueError("login and shared_dir are two ways for the files; keep one of them")
        return self


class Config(_Strict):
    """The whole file."""

    instance: Instance
    pool: Pool
    bundle: Bundle
    access_points: dict[Name, AccessPoint] = Field(min_length=1)
    vos: dict[Name, Vo] = Field(default_factory=dict)
    shares: dict[Name, Share] = Field(default_factory=dict)
    limits: Limits = Limits()
    factory: Factory = Factory()
    breaker: Breaker = Breaker()
    politeness: Politeness = Politeness()
    metrics: Metrics = Metrics()
    vanishing: Vanishing = Vanishing()
    sites: dict[Name, Site] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _schedds_differ(self) -> Self:
        # The collector compares names without regard to case; one queue under two names would count each job twice.
        known: dict[str, str] = {}
        for name, ap in self.access_points.items():
            other = known.setdefault(ap.schedd.lower(), name)
            if other != name:
                raise ValueError(
                    f"access_points.{name}.schedd: '{ap.schedd}' is the schedd of access point {other} too, and its "
                    "jobs would be counted twice; remove one of the two"
                )
        return self

    @model_validator(mode="after")
    def _shares_name_what_there_is(self) -> Self:
        for name, share in self.shares.items():
            if name not in self.vos:
                there = ", ".join(sorted(self.vos)) or "none"
                raise ValueError(f"shares.{name}: there is no table vos.{name}; known are {there}")
            for project in share.projects:
                if project not in self.vos[name].projects:
                    there = ", ".join(sorted(self.vos[name].projects)) or "none"
                    raise ValueError(
                        f"shares.{name}.projects.{project}: vos.{name} has no such project; it has {there}"
                    )
        return self

    @model_validator(mode="after")
    def _walltime_leaves_room_for_a_job(self) -> Self:
        kinds = [
            (f"sites.{name}" + (f".shapes.{kind}" if kind else ""), site)
            for name, each in self.sites.items()
            for kind, site in each.kinds
        ]
        for where, site in kinds:
            if site.walltime <= self.factory.join_timeout + timedelta(minutes=1):
                raise ValueError(
                    f"{where}.walltime: {site.walltime} leaves no time for a job after factory.join_timeout "
                    f"({self.factory.join_timeout}); make it longer"
                )
        return self
