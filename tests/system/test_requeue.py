"""What a site does with running pilots by its own right: preempted is not failed, requeued is not doubled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testbed import model
from tests.system.fleet import Fleet, new_fleet, on_login, submit_jobs, wait_until
from tests.system.test_factory import ALPHA, BETA, GAMMA, clean_up, run_to_the_end
from tests.system.test_faults import breaker_mode

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(900)]


@pytest.fixture
def fleets() -> Iterator[list[Fleet]]:
    """Put a fleet in, and nothing of it is left afterwards."""
    made: list[Fleet] = []
    yield made
    for fleet in made:
        clean_up(fleet)


def busy_pilot(fleet: Fleet) -> dict[str, Any]:
    """The one pilot, once it runs a job."""

    def busy() -> list[dict[str, Any]]:
        return [one for one in fleet.ask("pilots") if one["phase"] == "busy"]

    wait_until("a pilot is busy", lambda: bool(busy()), timeout_s=120)
    (pilot,) = busy()
    return pilot


def record_of(fleet: Fleet, pilot_id: str) -> dict[str, Any]:
    (found,) = [one for one in fleet.ask("pilots", "--all") if one["pilot_id"] == pilot_id]
    return dict(found)


@pytest.mark.parametrize(
    "row", [GAMMA, *(pytest.param(row, marks=pytest.mark.long) for row in (ALPHA, BETA))], ids=lambda row: row.name
)
def test_a_pilot_that_the_site_requeues_and_runs_again_is_one_pilot_and_no_failure(
    fleets: list[Fleet], row: model.SlurmSite
) -> None:
    # Mutation: pilot.sh without leave_again; plan._taken_back without _cancels_of_requeued leaves it to the second run.
    fleet = new_fleet(sites=(row,))
    fleets.append(fleet)
    fleet.start()
    cluster = submit_jobs(fleet, 1, seconds=45)
    pilot = busy_pilot(fleet)
    job = pilot["batch_id"]
    # --no-requeue stands until an admin takes it back; then Slurm starts it again, and we are quicker than our cancel.
    on_login(row, f"scontrol update JobId={job} Requeue=1 && scontrol requeue {job}", user="root")
    on_login(
        row,
        f"for i in $(seq 40); do scontrol update JobId={job} StartTime=now && exit; sleep .2; done; true",
        user="root",
    )
    wait_until("its end is known", lambda: record_of(fleet, pilot["pilot_id"])["phase"] == "ended", timeout_s=120)
    ended = record_of(fleet, pilot["pilot_id"])
    assert "requeued" == ended["end_reason"], ended
    assert 1 == ended["jobs"] or ended["report"] is None, ended
    run_to_the_end(fleet, {cluster: 1})
    runs = [one for one in sacct_runs(row, job) if one[0] == pilot["pilot_id"]]
    assert 2 == len(runs), runs
    assert any(state.startswith("REQUEUED") for _, state, _ in runs), runs
    # One pilot in the ledger, charged for both runs.
    wait_until(
        "sacct's last word is read",
        lambda: (record_of(fleet, pilot["pilot_id"])["batch"] or {}).get("elapsed_s") is not None,
    )
    assert record_of(fleet, pilot["pilot_id"])["batch"]["elapsed_s"] == sum(elapsed for _, _, elapsed in runs)
    assert "closed" == breaker_mode(fleet, row.name)


def sacct_runs(row: model.SlurmSite, job: str) -> list[tuple[str, str, int]]:
    """Name, state and seconds of every run of a job."""
    text = on_login(row, f"sacct -X -D -n -P -j {job} -o JobName,State,ElapsedRaw")
    return [(name, state, int(elapsed)) for name, state, elapsed in (line.split("|") for line in text.splitlines())]


def test_a_pilot_that_a_more_urgent_job_takes_the_node_of_is_preempted_and_its_job_runs_again(
    fleets: list[Fleet],
) -> None:
    # Mutation: breaker._NOBODYS_FAULT without PREEMPTED and STOPPED; phase.end_reason takes every report's word.
    fleet = new_fleet(sites=(BETA,))
    fleets.append(fleet)
    fleet.start()
    cluster = submit_jobs(fleet, 1, seconds=30)
    pilot = busy_pilot(fleet)
    submit = "cd /tmp && sbatch --parsable -A local -p urgent --exclusive -t 1 -o /dev/null --wrap 'sleep 5'"
    on_login(BETA, submit, user=model.OTHER_USER)
    wait_until("its end is known", lambda: record_of(fleet, pilot["pilot_id"])["phase"] == "ended", timeout_s=120)
    ended = record_of(fleet, pilot["pilot_id"])
    assert ("preempted", "PREEMPTED") == (ended["end_reason"], ended["batch"]["raw_state"])
    run_to_the_end(fleet, {cluster: 1})
    assert "closed" == breaker_mode(fleet, "beta")
