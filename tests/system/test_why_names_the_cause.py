"""Ten causes arranged on real Slurm and HTCondor at once: the first line of ``aerotow why`` names the true one."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from testbed import containers, model
from tests.system.fleet import (
    Fleet,
    new_fleet,
    on_login,
    remove_all_jobs,
    squeue_of,
    submit_jobs,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(1800)]

ALPHA, BETA, GAMMA = model.SITES
RULES = "/etc/aerotow-why-test.conf"
AP2_MAP = "/etc/condor/config.d/99-why-test"
UNSEEN_SITE = """
[sites.omega]
login = "pilot@localhost"
account = "a"
partition = "p"
cores = 4
memory = "8000 MiB"
walltime = "1:00:00"
max_pilots = 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A job, and what the first line about it has to say."""

    job: str
    code: str
    words: tuple[str, ...]
    owner: str


@dataclass(slots=True)
class Stage:
    """One fleet with everything arranged on it."""

    fleet: Fleet
    cases: dict[str, Case] = field(default_factory=dict)

    def arrange(self, name: str, job: str, code: str, *words: str, owner: str = "job") -> None:
        self.cases[name] = Case(job=job, code=code, words=words, owner=owner)


def arrange_misfits(stage: Stage, dice: random.Random) -> None:
    """Jobs that no pilot can run, whatever is done at the sites."""
    fleet = stage.fleet
    gib, gpus, site, licence = dice.randint(100, 900), dice.randint(1, 8), f"site{dice.randint(10, 99)}", dice.random()
    big = submit_jobs(fleet, 1, more=f"request_memory = {gib}GB")
    stage.arrange("too much memory", f"ap1#{big}.0", "memory", str(gib * 1024), "the largest pilot, at gamma, has ")
    lost = submit_jobs(fleet, 1, where=f'TARGET.GlideinSite == "{site}"')
    stage.arrange("wrong site", f"ap1#{lost}.0", "wrong_site", site, "alpha, beta, gamma, omega")
    fast = submit_jobs(fleet, 1, more=f"request_gpus = {gpus}")
    stage.arrange("no GPU", f"ap1#{fast}.0", "gpus", f"{gpus} GPUs")
    odd = submit_jobs(fleet, 1, where=f"TARGET.Licence{int(licence * 1000)} == true")
    stage.arrange("nothing matches", f"ap1#{odd}.0", "nothing_matches", f"Licence{int(licence * 1000)}")


def arrange_sites(stage: Stage, dice: random.Random) -> None:
    """Jobs that a site could run and does not."""
    fleet = stage.fleet
    denied = submit_jobs(fleet, 1, project="dp002", where='TARGET.GlideinSite == "alpha"')
    stage.arrange("denied by the site", f"ap1#{denied}.0", "denied", f"{RULES} denies project dp002", owner="site")
    waits = submit_jobs(fleet, dice.randint(1, 4), where='TARGET.GlideinSite == "alpha"')
    stage.arrange("queue wait", f"ap1#{waits}.0", "queue", "in the queue of site alpha", "PartitionDown", owner="site")
    # It must outlast the whole test on a slow machine: when it ends, the capped job runs.
    submit_jobs(
        fleet,
        1,
        seconds=2400,
        where='TARGET.GlideinSite == "beta"',
        more="request_cpus = 8\nallowed_execute_duration = 2400",
    )
    capped = submit_jobs(
        fleet, 1, where='TARGET.GlideinSite == "beta"', more=f"priority = -5\nrequest_cpus = {dice.randint(1, 8)}"
    )
    stage.arrange("cap", f"ap1#{capped}.0", "cap", "max_pilots of site beta", "limit 1", owner="factory")
    broken = submit_jobs(fleet, 1, where='TARGET.GlideinSite == "gamma"')
    stage.arrange("breaker", f"ap1#{broken}.0", "breaker", "site gamma", owner="factory")
    unseen = submit_jobs(fleet, 1, where='TARGET.GlideinSite == "omega"')
    stage.arrange("site unseen", f"ap1#{unseen}.0", "site_unseen", "site omega is not seen", owner="site")
    charged = submit_jobs(fleet, 1, ap="ap2", project="dp002", where='TARGET.GlideinSite == "omega"')
    stage.arrange("project not valid", f"ap2#{charged}.0", "project", "dp002 is no project of alice; valid: dp001")


def alices_projects(text: str | None) -> None:
    """Take a project from alice at ap2, or give it back."""
    ap2 = model.host_named("ap2")
    if text is None:
        containers.execute(ap2, ["rm", "-f", AP2_MAP], user="root")
    else:
        lines = f"CLASSAD_USER_MAPDATA_AerotowProjects @=end\n* alice {text}\n@end\n"
        containers.write_file(ap2, AP2_MAP, lines.encode())
    containers.execute(ap2, ["condor_reconfig"], user="root")


def is_busy(fleet: Fleet, site: str) -> bool:
    """Until then the one pilot that the cap allows has room for either job, and that would be the true cause."""
    return any(pilot["site"] == site and pilot["phase"] == "busy" for pilot in fleet.ask("pilots"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The fleet; the numbers are drawn anew in each run, and printed."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    fleet = new_fleet(
        changes={
            'partition = "main"': f'partition = "main"\npolicy_file = "{RULES}"',
            'account = "ext-aerotow"': f'account = "none{dice.randint(100, 999)}"',
            "max_pilots = 4": "max_pilots = 1",
            '"15 s"': '"10 min"',
        },
        extra=UNSEEN_SITE,
    )
    containers.write_file(model.host_named("login.alpha"), RULES, b"deny project dp002\n")
    on_login(ALPHA, f"scontrol update PartitionName={ALPHA.partition} State=DOWN", user="root")
    made = Stage(fleet)
    try:
        arrange_misfits(made, dice)
        arrange_sites(made, dice)
        alices_projects("dp001")
        fleet.start()
        wait_until("the long job runs at beta", lambda: is_busy(fleet, BETA.name))
        yield made
    finally:
        alices_projects(None)
        on_login(ALPHA, f"scontrol update PartitionName={ALPHA.partition} State=UP", user="root")
        containers.execute(model.host_named("login.alpha"), ["rm", "-f", RULES], user="root")
        if fleet.running():
            fleet.kill()
        remove_all_jobs(fleet)
        for row in fleet.sites:
            names = " ".join(job.job_id for job in squeue_of(row, fleet.instance))
            if names:
                on_login(row, f"scancel {names}")
        fleet.wait_empty(timeout_s=60)


def first_line(fleet: Fleet, job: str) -> str:
    return fleet.command("why", job).splitlines()[0]


def told(fleet: Fleet, case: Case) -> Callable[[], bool]:
    """Whether the cause is the arranged one by now; a breaker opens after some failures only."""
    return lambda: (fleet.ask("why", case.job)["cause"] or {}).get("code") == case.code


@pytest.mark.parametrize(
    "name",
    [
        "cap",
        "too much memory",
        "wrong site",
        "no GPU",
        "nothing matches",
        "site unseen",
        "denied by the site",
        "queue wait",
        "breaker",
        "project not valid",
    ],
)
def test_the_first_line_names_the_true_cause(stage: Stage, name: str) -> None:
    # Mutations: cause._BARS in another order; _misfit takes the first site in place of the nearest; the AP without
    # SYSTEM_PERIODIC_HOLD_AerotowProject.
    case = stage.cases[name]
    try:
        wait_until(f"{name}: the cause is {case.code}", told(stage.fleet, case), timeout_s=90)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{stage.fleet.command('why', case.job)}") from error
    line = first_line(stage.fleet, case.job)
    print(line)
    assert line.startswith(f"{case.job} {'is held' if name == 'project not valid' else 'waits'} because ")
    for words in (*case.words, "; what to do: ", "; owner: "):
        assert words in line, line
    assert case.owner == stage.fleet.ask("why", case.job)["cause"]["owner"]


def test_recorded_cycles_replay_to_the_identical_plan(stage: Stage) -> None:
    # Mutation: match by the machine's clock; decide by the configuration of now.
    fleet = stage.fleet
    wait_until("a cycle is recorded", lambda: fleet.ask("status")["factory"]["last_cycle"] is not None, timeout_s=60)
    last = fleet.ask("replay")
    assert (True, []) == (last["identical"], last["differences"])
    moments = {last["cycle"]["first_s"] - ago for ago in (10, 20, 40) if _is_recorded(fleet, last, ago)}
    for at_s in sorted(moments):
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))
        assert fleet.ask("replay", "--at", at)["identical"]
    file = f"{fleet.directory}/cycle.json"
    fleet.command("replay", "--export", file)
    assert "the identical plan" in fleet.command("replay", file)
    told = fleet.ask("explain", "gamma")
    assert told["identical"]
    assert sum(one["jobs"] for one in told["kinds"]) >= 5


def _is_recorded(fleet: Fleet, last: dict[str, Any], ago_s: int) -> bool:
    """Whether the journal goes back so far."""
    oldest = min(pilot["intended_s"] for pilot in fleet.ask("pilots", "--all"))
    return bool(last["cycle"]["first_s"] - ago_s > oldest)
