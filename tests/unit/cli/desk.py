"""
An operator's desk: a real ledger filled by the real cycle over fake sites, and the command line on top of it.

Job and slot ads are real ClassAds, so that verdicts come from real matching.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from typing import Any

from click.testing import CliRunner, Result

from aerotow.cli.app import App
from aerotow.cli.main import main
from config.load import load_config
from config.model import Config
from factory.matching import match_observation, slot_ads
from factory.model import Observation, Policy
from factory.policy import policy_of
from factory.sites.fake import FakeSite
from overlay.classads import parse_ad
from overlay.demand import bucket_of
from overlay.job import JobAbsent, JobFound, JobSight, JobStatus
from overlay.model import Bucket, Demand, DemandSeen, MatchTable, Slot, SlotsSeen
from tests.simulation.world import INSTANCE, SimWorld

CONFIG = """
[instance]
name = "{instance}"
state_dir = "{state_dir}"
database = "sqlite:///{directory}/ledger.db"

[pool]
collector = "127.0.0.1:1"
trust_domain = "pool"
secrets_dir = "{directory}/secrets"

[bundle]
path = "{directory}/bundle.tar.gz"
sha256 = "{sha256}"

[limits]
ramp = 100

[factory]
drain_target = "0 s"
cycle = "30 s"
query_timeout = "5 s"

[access_points.ap1]
schedd = "ap1.pool"

[access_points.ap2]
schedd = "ap2.pool"

[vos.astro.projects]
dp001 = ["alice"]

[sites.alpha]
login = "pilot@login.alpha"
account = "a"
partition = "p"
cores = 4
memory = "8000 MiB"
walltime = "2:00:00"
max_pilots = 10
max_pending = {max_pending}

[sites.beta]
login = "pilot@login.beta"
account = "a"
partition = "p"
cores = 4
memory = "8000 MiB"
walltime = "2:00:00"
max_pilots = 10
max_pending = {max_pending}
"""

GROUP = """[ JobCount = {jobs}; JobIds = "{first}"; Owner = "alice"; User = "alice@pool"; AcctGroup = "dp001";
JobStatus = 1; JobUniverse = 5; RequestCpus = {cores}; RequestMemory = {memory}; RequestDisk = 1024;
AllowedExecuteDuration = 600;
Requirements = (TARGET.Arch == "X86_64") && (TARGET.Memory >= RequestMemory) && (TARGET.Cpus >= RequestCpus) ]"""


def bucket(*, jobs: int = 1, first: str = "1.0", cores: int = 1, memory: int = 100, ap: str = "ap1") -> Bucket:
    """Idle jobs as an AP tells of them."""
    return bucket_of(parse_ad(GROUP.format(jobs=jobs, first=first, cores=cores, memory=memory)), ap=ap)


def found(kind: Bucket | None, **changes: Any) -> JobFound:
    """A job as an AP tells of it when asked."""
    job = JobFound(
        ap="ap1",
        cluster=12,
        proc=0,
        taken_s=0.0,
        status=JobStatus.IDLE,
        universe=5,
        user="alice@pool",
        group="dp001",
        cores=1 if kind is None else kind.cores,
        memory_mib=100 if kind is None else kind.memory_mib,
        queued_s=1_800_000_000,
        since_s=1_800_000_000,
        starts=0,
        hold_reason="",
        last_vacate_reason="",
        site="",
        pilot_id="",
        remote_host="",
        bucket=kind,
    )
    return replace(job, **changes)


@dataclass(slots=True, kw_only=True)
class DeskWorld(SimWorld):
    """The small world with real ads."""

    more: tuple[Bucket, ...] = ()
    """Further idle jobs, which nothing ever runs."""
    config: Config

    def policy(self) -> Policy:
        policy = policy_of(self.config)
        return replace(policy, sites=tuple(site for site in policy.sites if site.name not in self.removed))

    def demand(self, ap: str, *, now_s: float) -> Demand:
        seen = SimWorld.demand(self, ap, now_s=now_s)
        return (
            replace(seen, buckets=tuple(sorted((*seen.buckets, *self.more)))) if isinstance(seen, DemandSeen) else seen
        )

    def match(self, observation: Observation, policy: Policy) -> MatchTable:
        return match_observation(observation, policy)

    def _bucket(self, jobs: int) -> Bucket:
        return bucket(jobs=jobs)

    def _slot(self, pilot_id: str, site: FakeSite) -> Slot:
        slot = SimWorld._slot(self, pilot_id, site)
        empty = Observation(
            cycle="0", now_s=self.now_s, sites=(), slots=SlotsSeen(taken_s=0, slots=()), demands=(), pilots=()
        )
        return replace(slot, ad_text=slot_ads(empty, self.policy())[f"offer:{site.name}"])


@dataclass(kw_only=True)
class Desk:
    """The world and the person in front of it."""

    world: DeskWorld
    app: App
    jobs: dict[tuple[str, int, int], JobSight] = field(default_factory=dict)
    """What the APs have in their queues; everything else is absent."""

    def run(self, *args: str, code: int = 0) -> Result:
        """Run a command; its exit code is checked."""
        # A new context object each time, as a new process has.
        app = App(config_path=self.app.config_path, clock=self.world.clock, find_job=self.find_job)
        result = CliRunner().invoke(main, args, obj=app, catch_exceptions=False)
        assert code == result.exit_code, f"{result.exit_code}\n{result.output}"
        return result

    def json(self, *args: str, code: int = 0) -> Any:
        """Run a read command with --json."""
        return json.loads(self.run(*args, "--json", code=code).stdout)

    def find_job(self, _config: Config, ap: str, cluster: int, proc: int, now_s: float) -> JobSight:
        """An AP in memory."""
        absent = JobAbsent(ap=ap, cluster=cluster, proc=proc, taken_s=now_s)
        return self.jobs.get((ap, cluster, proc), absent)


def make_desk(directory: Any, *, max_pending: int = 5) -> Desk:
    """A desk in an empty directory; no cycle has run."""
    path = directory / "aerotow.toml"
    # A socket's name has to be short, and pytest's directories are not.
    state_dir = tempfile.mkdtemp(prefix="desk")
    atexit.register(shutil.rmtree, state_dir, ignore_errors=True)
    path.write_text(
        CONFIG.format(
            instance=INSTANCE, directory=directory, state_dir=state_dir, sha256="0" * 64, max_pending=max_pending
        )
    )
    world = DeskWorld(directory=directory, config=load_config(path))
    return Desk(world=world, app=App(config_path=path, clock=world.clock))
