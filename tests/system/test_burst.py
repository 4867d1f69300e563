"""A burst of 300 mixed jobs of two organisations, weights 2 to 1, while every pilot of one of three sites fizzles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from testbed import containers, model
from tests.system.fleet import (
    Fleet,
    new_fleet,
    on_login,
    remove_all_jobs,
    squeue_of,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(3600), pytest.mark.long]

BROKEN = "gamma"
FAILURES = 3
BACKOFF_S = 20
EXTRA = f"""
[shares.astro]
weight = 2.0

[shares.bio]
weight = 1.0

[breaker]
failures = {FAILURES}
backoff = "{BACKOFF_S} s"
backoff_max = "{2 * BACKOFF_S} s"
"""
PARTS = {"astro": 2 / 3, "bio": 1 / 3}
SUBMITTERS = (("ap1", "alice", "dp001"), ("ap1", "bob", "dp001"), ("ap2", "carol", "bio01"), ("ap2", "dave", "bio01"))
"""Of astro's two projects one has no jobs: what it leaves is astro's. Each submits as much as any other."""
JOBS_EACH = 75
QUOTAS = "/etc/condor/config.d/60-burst-test"
QUOTA_LINES = ("GROUP_", "NEGOTIATOR_ALLOW_QUOTA")
HISTORY = (
    "AccountingGroup,AcctGroup,RequestCpus,CpusProvisioned,QDate,JobStatus,ExitCode,NumShadowStarts,"
    "JobCurrentStartDate,JobCurrentStartExecutingDate,CompletionDate,MachineAttrGlideinPilotId0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One job's run, in HTCondor's own words: cores that it asked for and had, and when its payload ran."""

    vo: str
    cores: int
    held_cores: int
    queued_s: int
    began_s: int
    ended_s: int
    starts: int

    def core_s(self, since_s: int, until_s: int) -> int:
        """Core seconds within a span."""
        return self.cores * max(0, min(self.ended_s, until_s) - max(self.began_s, since_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One pilot in sacct."""

    name: str
    cores: int
    start_s: int
    end_s: int

    @property
    def core_s(self) -> int:
        """What the site charges for it."""
        return self.cores * (self.end_s - self.start_s)


@dataclass(slots=True)
class Burst:
    """What the burst left in everybody's books."""

    fleet: Fleet
    breaker: list[dict[str, Any]] = field(default_factory=list)
    """Of the broken site, as ``aerotow sites`` showed it, each change once."""
    runs: list[Run] = field(default_factory=list)
    pilots: list[dict[str, Any]] = field(default_factory=list)


def submit_mix(fleet: Fleet) -> None:
    """Each submitter's jobs: 1 to 4 cores, three sizes of memory for a core, 20 to 60 s, drawn from a seed."""
    for ap, user, project in SUBMITTERS:
        dice = Random(f"burst {user}")
        rows = "".join(
            f"{dice.choice((20, 30, 40, 60))} {cores} {cores * dice.choice((200, 500, 1000))}\n"
            for cores in dice.choices((1, 2, 3, 4), weights=(6, 2, 1, 1), k=JOBS_EACH)
        )
        text = (
            "executable = /bin/sleep\narguments = $(seconds)\ntransfer_executable = false\n"
            "should_transfer_files = YES\nrequest_cpus = $(cores)\nrequest_memory = $(memory)\nrequest_disk = 50MB\n"
            f"allowed_execute_duration = 600\naccounting_group = {project}\n"
            f'requirements = TARGET.FleetName == "{fleet.instance}"\nMy.FleetName = "{fleet.instance}"\n'
            f"queue seconds, cores, memory from (\n{rows})\n"
        )
        command = f"cd /home/{user} && condor_submit -terse /dev/stdin"
        containers.execute(model.host_named(ap), ["sh", "-c", command], user=user, stdin=text.encode())


def ads(fleet: Fleet, ap: str, command: str, attributes: str) -> list[dict[str, Any]]:
    """This fleet's jobs at an access point, as condor_q or condor_history has them."""
    argv = [command, *(["-allusers"] if command == "condor_q" else [])]
    argv += ["-json", "-constraint", f'FleetName =?= "{fleet.instance}"', "-attributes", attributes]
    text = containers.execute(model.host_named(ap), argv).strip()
    found: list[dict[str, Any]] = json.loads(text) if text else []
    return found


def jobs_left(burst: Burst) -> int:
    """Jobs that are not done; the broken site's breaker is noted on the way."""
    (state,) = [row["breaker"] for row in burst.fleet.ask("sites")["sites"] if row["site"] == BROKEN]
    if state is not None and burst.breaker[-1:] != [state]:
        burst.breaker.append(state)
    return sum(len(ads(burst.fleet, ap, "condor_q", "ClusterId")) for ap in model.APS)


def runs_of(fleet: Fleet) -> list[Run]:
    """Every job's run; an AssertionError for a job that did not complete."""
    found = [ad for ap in model.APS for ad in ads(fleet, ap, "condor_history", HISTORY)]
    assert [] == [ad for ad in found if ad.get("JobStatus") != 4 or ad.get("ExitCode") != 0]
    return [
        Run(
            vo=ad["AccountingGroup"].partition(".")[0],
            cores=ad["RequestCpus"],
            held_cores=ad["CpusProvisioned"],
            queued_s=ad["QDate"],
            began_s=ad["JobCurrentStartExecutingDate"],
            ended_s=ad["CompletionDate"],
            starts=ad["NumShadowStarts"],
        )
        for ad in found
    ]


def sacct(fleet: Fleet) -> list[Batch]:
    """Every pilot that Slurm started, from each site's accounting."""
    found = []
    for row in fleet.sites:
        command = "SLURM_TIME_FORMAT=%s sacct -X -D -n -P -S now-2hours -E now -u pilot -o JobName,AllocCPUS,Start,End"
        for line in on_login(row, command).splitlines():
            name, cores, start, end = line.split("|")
            if name.startswith(f"{fleet.instance}-") and start.isdigit():
                found.append(Batch(name=name, cores=int(cores), start_s=int(start), end_s=int(end)))
    return found


def both_wait(runs: Sequence[Run], most: int) -> tuple[int, int]:
    """The span in which each organisation has idle jobs of up to so many cores."""
    since_s = max(min(run.queued_s for run in runs if run.vo == vo) for vo in PARTS)
    until_s = min(max(run.began_s for run in runs if run.vo == vo and run.cores <= most) for vo in PARTS)
    return since_s, until_s


def set_quotas(lines: Sequence[str] | None) -> None:
    """What ``aerotow pool cm`` says of shares, taken into force as the guide says; None takes it away."""
    cm = model.host_named("cm")
    if lines is None:
        containers.execute(cm, ["rm", "-f", QUOTAS])
    else:
        containers.write_file(cm, QUOTAS, "".join(f"{line}\n" for line in lines).encode())
    containers.execute(cm, ["condor_reconfig"])


@pytest.fixture(scope="module")
def burst() -> Iterator[Burst]:
    """All of it, run to the end: submitted at once, all jobs done, all pilots gone."""
    # As on nodes whose scratch is not mounted: each pilot there ends in its first second.
    fleet = new_fleet(
        changes={'account = "ext-aerotow"': 'account = "ext-aerotow"\nscratch = "/mnt/scratch"'}, extra=EXTRA
    )
    made = Burst(fleet)
    try:
        set_quotas([line for line in fleet.command("pool", "cm").splitlines() if line.startswith(QUOTA_LINES)])
        submit_mix(fleet)
        fleet.start()
        wait_until("all jobs are done", lambda: jobs_left(made) == 0, timeout_s=1000, pause_s=2)
        made.runs = runs_of(fleet)
        fleet.wait_ended()
        made.pilots = fleet.ask("pilots", "--all")
        yield made
    finally:
        set_quotas(None)
        if fleet.running():
            fleet.kill()
        remove_all_jobs(fleet)
        for row in fleet.sites:
            names = " ".join(job.job_id for job in squeue_of(row, fleet.instance))
            if names:
                on_login(row, f"scancel {names}")
        fleet.wait_empty(timeout_s=60)


def test_every_job_runs_once_and_no_pilot_is_lost_or_doubled(burst: Burst) -> None:
    assert len(SUBMITTERS) * JOBS_EACH == len(burst.runs)
    assert {1} == {run.starts for run in burst.runs}
    assert {1, 2, 3, 4} == {run.cores for run in burst.runs}
    # Mutation: epconfig without DSLOT_REQUIREMENTS_CLAUSES.
    assert [] == [run for run in burst.runs if run.held_cores != run.cores]
    burst.fleet.assert_no_pilot_doubled()
    burst.fleet.assert_no_pilot_lost()


# Mutations: group_shares gives every organisation the same part; share_group is the project alone, so that a project's
# quota is nobody's neighbour and what dp002 leaves is divided among all; NEGOTIATOR_ALLOW_QUOTA_OVERSUBSCRIPTION True.
def test_shares_are_within_ten_percent_of_the_weights_while_both_have_idle_jobs(burst: Burst) -> None:
    # Cores get free one by one, and HTCondor keeps none back for a job of four: an organisation that has only such jobs
    # left cannot take its share, and the other takes it. So what counts as demand is an idle job of one core.
    for most in (4, 1):
        since_s, until_s = both_wait(burst.runs, most)
        used = {vo: sum(run.core_s(since_s, until_s) for run in burst.runs if run.vo == vo) for vo in PARTS}
        shares = {vo: core_s / sum(used.values()) for vo, core_s in used.items()}
        print(f"both had idle jobs of up to {most} cores for {until_s - since_s} s; core seconds {used}; {shares}")
    assert until_s - since_s > 120
    for vo, part in PARTS.items():
        assert shares[vo] == pytest.approx(part, rel=0.10)


# Mutations: BreakerPolicy.failures is read as one more; trials() lets two go when half open; breaker() never half open.
def test_the_broken_sites_breaker_opens_at_its_limit_and_probes(burst: Burst) -> None:
    sent = sorted((one for one in burst.pilots if one["site"] == BROKEN), key=lambda one: one["intended_s"])
    assert {"no_scratch"} == {one["end_reason"] for one in sent}
    opened = next(state for state in burst.breaker if state["mode"] != "closed")
    print(f"{BROKEN}: {[(state['mode'], state['failures']) for state in burst.breaker]}")
    assert sorted(one["ended_s"] for one in sent)[FAILURES - 1] == opened["since_s"]
    assert "no scratch" in opened["reason"]
    before = [one for one in sent if one["intended_s"] <= opened["since_s"]]
    probes = [one for one in sent if one["intended_s"] > opened["since_s"]]
    print(f"{BROKEN}: {len(before)} pilots before it opened, {len(probes)} probes")
    # The site took the first ones, so it may have been given all that it may have before they failed.
    assert FAILURES <= len(before) <= FAILURES + 1
    assert len(probes) >= 3
    for earlier, later in pairwise([before[-1], *probes]):
        assert later["intended_s"] >= earlier["ended_s"] + BACKOFF_S
    assert {"open", "half_open"} <= {state["mode"] for state in burst.breaker}


# Mutation: idle_timeout of ten minutes; a negotiation a minute; epconfig without DSLOT_REQUIREMENTS_CLAUSES.
def test_pilots_that_joined_worked_for_at_least_85_percent_of_what_they_cost(burst: Burst) -> None:
    joined = {one["pilot_id"] for one in burst.pilots if one["joined_s"] is not None}
    batches = sacct(burst.fleet)
    cost_s = sum(one.core_s for one in batches if one.name in joined)
    fizzled_s = sum(one.core_s for one in batches if one.name not in joined)
    asked_s = sum(run.core_s(0, run.ended_s) for run in burst.runs)
    held_s = sum(run.held_cores * (run.ended_s - run.began_s) for run in burst.runs)
    print(
        f"{len(joined)} pilots joined and cost {cost_s} core seconds, {len(batches) - len(joined)} others {fizzled_s}; "
        f"jobs ran {asked_s} of the cores that they asked for ({asked_s / cost_s:.1%}), in slots of {held_s}"
    )
    assert asked_s / cost_s >= 0.85
