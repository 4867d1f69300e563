"""A running pilot that takes no more jobs, and takes them again, on real daemons behind a firewall."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.fleet import Fleet, history, jobs_left, new_fleet, submit_jobs, wait_until
from tests.system.test_factory import BETA, clean_up, run_to_the_end

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed"), pytest.mark.timeout(1200)]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    # One pilot only, so that a job that waits can run nowhere else; and it stays while it waits.
    made = new_fleet(
        sites=(BETA,),
        changes={"max_pilots = 4": "max_pilots = 1", 'idle_timeout = "15 s"': 'idle_timeout = "35 s"'},
    )
    yield made
    clean_up(made)


def test_a_drained_pilot_ends_its_job_and_takes_the_next_only_when_it_is_taken_back(fleet: Fleet) -> None:
    # Mutation: epconfig's MAXJOBRETIREMENTTIME = 0 evicts the job; slots._accepts without DrainingRequestId.
    fleet.start()
    first = submit_jobs(fleet, 1, seconds=40)
    wait_until("a pilot is busy", lambda: [one["phase"] for one in fleet.ask("pilots")] == ["busy"])
    (pilot,) = fleet.ask("pilots")
    said = fleet.command("drain", pilot["pilot_id"], "--reason", "new kernel")
    assert "its jobs end" in said
    wait_until("it is seen to drain", lambda: fleet.ask("pilot", pilot["pilot_id"])["phase"] == "ending")
    second = submit_jobs(fleet, 1)
    wait_until("its job is done", lambda: jobs_left(first) == 0)
    # Once: it was not evicted. Only then the pilot is taken back, and until then it took no job.
    assert [1] == [ad["NumShadowStarts"] for ad in history(first)]
    assert 1 == jobs_left(second)
    fleet.command("drain", pilot["pilot_id"], "--cancel")
    run_to_the_end(fleet, {first: 1, second: 1})
    events = [event["detail"] for event in fleet.ask("pilot", pilot["pilot_id"])["events"]]
    assert any("drain asked for by" in event and "new kernel" in event for event in events), events
    assert any("drain taken back by" in event for event in events), events
    assert 2 == fleet.ask("pilot", pilot["pilot_id"])["jobs"]
