"""
Pilots in a preemptible partition do not hold up the site's own users.

The case that hurts: a job of a site's user waits for two nodes while one of them is taken by another user's job, and
pilots fill what is free. When that job ends, ours must be out of the way within one cycle of Slurm's scheduler.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest

from testbed import model
from tests.system.fleet import Fleet, jobs_left, new_fleet, on_login, remove_all_jobs, submit_jobs, wait_until
from tests.system.test_factory import GAMMA, clean_up

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(1800)]

SCHEDULER_CYCLE_S = 5
"""sched_interval of every site of the test-bed (testbed/slurmconf.py)."""
KILL_WAIT_S = 10
"""KillWait of every site of the test-bed."""
BLOCKED_S = 10
"""How long the job in front of the big one runs."""
LOCAL = f"sbatch --parsable -A {model.OTHER_USER} -p {GAMMA.partition} --mem=0 -t 3 -o /dev/null"


@pytest.fixture
def backfill() -> Iterator[Fleet]:
    """A fleet whose pilots go into the backfill partition, with a short walltime."""
    fleet = new_fleet(
        sites=(GAMMA,),
        changes={
            f'partition = "{GAMMA.partition}"': f'partition = "{model.BACKFILL_PARTITION}"',
            'walltime = "0-00:45:00"': 'walltime = "10 min"',
        },
    )
    yield fleet
    clean_up(fleet)


LADDER = f"""
[[sites.gamma.shapes]]
name = "short"
walltime = "10 min"
partition = "{model.BACKFILL_PARTITION}"

[[sites.gamma.shapes]]
name = "long"
walltime = "30 min"
partition = "{model.BACKFILL_PARTITION}"

[[sites.gamma.shapes]]
name = "own"
"""
"""Rungs in the order in which they are to be taken; the last one is no backfill."""


@pytest.fixture
def ladder() -> Iterator[Fleet]:
    """A fleet with three shapes at one site."""
    fleet = new_fleet(sites=(GAMMA,), extra=LADDER)
    yield fleet
    clean_up(fleet)


def test_each_job_gets_the_shortest_rung_of_the_ladder_that_it_fits_in(ladder: Fleet) -> None:
    ladder.start()
    clusters = [
        submit_jobs(ladder, 1, more=f"request_cpus = 4\nallowed_execute_duration = {seconds}", seconds=1)
        for seconds in (60, 1200, 2200)
    ]
    wait_until("the jobs are done", lambda: jobs_left(*clusters) == 0, timeout_s=120)
    command = "sacct -X -n -P -S now-1hour -E now -u pilot -o JobName,Partition,TimelimitRaw"
    rows = [line.split("|") for line in on_login(GAMMA, command).splitlines()]
    ran = {(partition, int(minutes)) for name, partition, minutes in rows if name.startswith(f"{ladder.instance}-")}
    assert {(model.BACKFILL_PARTITION, 10), (model.BACKFILL_PARTITION, 30), (GAMMA.partition, 45)} == ran


def waits_s(repetitions: int, fleet: Fleet | None) -> list[int]:
    """For each repetition the seconds between the end of the job in front and the start of the 2-node job."""
    return [_once(fleet) for _ in range(repetitions)]


def _once(fleet: Fleet | None) -> int:
    if fleet is not None:
        wait_until("a pilot works on every node", lambda: _working(fleet) == len(GAMMA.nodes), timeout_s=120)
    front = _submit(f"-N 1 -w {GAMMA.nodes[0]} --exclusive --wrap 'sleep {BLOCKED_S}'")
    wait_until("the job in front runs", lambda: _state(front)[0] == "RUNNING", timeout_s=60, pause_s=0.3)
    big = _submit(f"-N {len(GAMMA.nodes)} --exclusive --wrap 'sleep 1'")
    wait_until("both have ended", lambda: all(_state(job)[2].isdigit() for job in (front, big)), timeout_s=90)
    (front_state, _, front_end), (big_state, big_start, _) = _state(front), _state(big)
    assert ("COMPLETED", "COMPLETED") == (front_state, big_state)
    return int(big_start) - int(front_end)


def _submit(options: str) -> str:
    return on_login(GAMMA, f"cd /tmp && {LOCAL} {options}", user=model.OTHER_USER).strip()


def _state(job: str) -> tuple[str, str, str]:
    """State, start and end by the site's accounting."""
    text = on_login(GAMMA, f"SLURM_TIME_FORMAT=%s sacct -X -n -P -j {job} -o State,Start,End")
    state, start, end = (text.strip() or "unknown||").split("|")
    return state, start, end


def _working(fleet: Fleet) -> int:
    return sum(one["phase"] == "busy" for one in fleet.ask("pilots"))


def compare(backfill: Fleet, repetitions: int, *, allowed_s: int) -> None:
    """Measure without pilots, then with them, print both, and compare."""
    without = waits_s(repetitions, None)
    backfill.start()
    # Enough short jobs that every pilot is busy all the time.
    submit_jobs(
        backfill, 60 * repetitions + 100, seconds=15, more="allowed_execute_duration = 60\nrequest_memory = 1GB"
    )
    began_s = time.time()
    beside = waits_s(repetitions, backfill)
    remove_all_jobs(backfill)
    ends = [one["end_reason"] for one in backfill.ask("pilots", "--all") if one["end_reason"]]
    print(f"\nwait of the blocked {len(GAMMA.nodes)}-node job after the job in front of it, s; {repetitions} times")
    for what, found in (("without pilots", without), ("with pilots", beside)):
        print(f"  {what}: {sorted(found)}, median {statistics.median(found)}, at most {max(found)}")
    print(f"  pilots preempted: {ends.count('preempted')}, in {time.time() - began_s:.0f} s")
    # It was a real obstacle: on every repetition a pilot had to go for the big job, and one for the job in front.
    # Mutation: GraceTime=30 for the partition (testbed/slurmconf.py).
    wait_until(
        "the preempted pilots are known",
        lambda: [one["end_reason"] for one in backfill.ask("pilots", "--all")].count("preempted") >= len(beside),
    )
    assert max(beside) <= max(without) + allowed_s


def test_a_blocked_job_of_the_sites_own_user_does_not_wait_long_for_backfill_pilots(backfill: Fleet) -> None:
    # Once, and on any machine: what Slurm itself sees to, for a pilot that does not go by itself is killed.
    compare(backfill, 1, allowed_s=SCHEDULER_CYCLE_S + KILL_WAIT_S)


@pytest.mark.long
def test_ten_blocked_jobs_of_the_sites_own_user_do_not_wait_for_backfill_pilots(backfill: Fleet) -> None:
    # A pilot's own leaving is most of the wait, and processes of a machine that is busy leave slowly.
    compare(backfill, 10, allowed_s=SCHEDULER_CYCLE_S)
