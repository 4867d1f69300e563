"""A node on which every pilot fails while another of the site works: Slurm is told to keep pilots away from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import containers, model
from tests.system.fleet import (
    Fleet,
    assert_all_done,
    jobs_left,
    new_fleet,
    on_login,
    remove_all_jobs,
    squeue_of,
    submit_jobs,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(900)]

ALPHA = model.SITES[0]
GOOD, BAD = "n2", "n1"
SCRATCH = "/mnt/scratch"
BREAKER = """
[breaker]
failures = 50
"""


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """One site, whose scratch is there on one of its two nodes."""
    good = model.host_named(f"{GOOD}.{ALPHA.name}")
    containers.execute(good, ["install", "-d", "-m", "1777", SCRATCH])
    made = new_fleet(
        sites=(ALPHA,), changes={'account = "aerotow"': f'account = "aerotow"\nscratch = "{SCRATCH}"'}, extra=BREAKER
    )
    try:
        yield made
    finally:
        if made.running():
            made.kill()
        remove_all_jobs(made)
        names = " ".join(job.job_id for job in squeue_of(ALPHA, made.instance))
        if names:
            on_login(ALPHA, f"scancel {names}")
        made.wait_empty(timeout_s=60)
        containers.execute(good, ["rm", "-rf", SCRATCH])


def seen_excluded(fleet: Fleet) -> dict[str, str]:
    """Pilots in the queue and the nodes that they keep away from, by Slurm's word."""
    lines = on_login(ALPHA, "squeue -h -u pilot -o '%j|%x'").splitlines()
    found = dict(line.split("|") for line in lines if line.startswith(f"{fleet.instance}-"))
    return {name: nodes for name, nodes in found.items() if nodes}


# Mutations: brakes.FAILURES of 1000; cycle.py does not pass the exclusions on; bad_nodes without "works".
def test_pilots_are_kept_away_from_a_node_where_they_fail(fleet: Fleet) -> None:
    cluster = submit_jobs(fleet, 6, seconds=25, more="request_cpus = 4")
    fleet.start()
    excluded: dict[str, str] = {}

    def done() -> bool:
        excluded.update(seen_excluded(fleet))
        return jobs_left(cluster) == 0

    wait_until("all jobs are done", done, timeout_s=200, pause_s=0.5)
    assert_all_done({cluster: 6})
    fleet.wait_ended()
    pilots = {one["pilot_id"]: one for one in fleet.ask("pilots", "--all")}
    failed = [name for name, one in pilots.items() if one["end_reason"] == "no_scratch"]
    print(f"{len(pilots)} pilots, {len(failed)} failed on {BAD}; kept away: {excluded}")
    assert {BAD} == {pilots[name]["node"].partition(".")[0] for name in failed}
    assert {BAD} == set(excluded.values())
    first_s = min(pilots[name]["intended_s"] for name in excluded)
    assert set() == {name for name in failed if pilots[name]["intended_s"] >= first_s}
    assert {GOOD} == {one["node"].partition(".")[0] for name, one in pilots.items() if one["jobs"]}
