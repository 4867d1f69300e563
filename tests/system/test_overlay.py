"""What the factory's readers see of the real pool, from the factory's host and with its own tokens."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from testbed import containers, model
from tests.system.conftest import Bed
from tests.system.fleet import wait_until

PYTHON = "/opt/aerotow/bin/python3"

LOOK = """
import dataclasses, json, sys, time
from pathlib import Path
from overlay.client import PoolClient
from overlay.pool import HtcondorPool
from overlay.sparing import Contacts
steps = json.loads(sys.argv[1])
schedds = {"ap1": "ap1.pool", "ap2": "ap2.pool"}
client = PoolClient(collector=steps.get("collector", "cm.pool:9618"), tokens_dir=Path("/etc/aerotow/secrets/tokens.d"),
                    timeout_s=steps.get("timeout_s", 20), contacts=Contacts(addresses=dict(steps.get("addresses", {}))))
pool = HtcondorPool(client=client, schedds=schedds, ads_max_age_s=300, max_buckets=steps.get("max_buckets", 1000))
what = {
    "slots": lambda: pool.slots(now_s=time.time()),
    "demand": lambda: pool.demand(steps["ap"], now_s=time.time()),
    "records": lambda: pool.records(steps["ap"], since_s=0, now_s=time.time()),
}[steps["what"]]
for _ in range(steps.get("times", 1)):
    began = time.monotonic()
    seen = what()
answer = {"seen": dataclasses.asdict(seen), "took_s": time.monotonic() - began, "addresses": client.contacts.addresses}
json.dump(answer, sys.stdout)
"""


def look(**steps: Any) -> dict[str, Any]:
    """One look with the factory's own code, tokens and host."""
    done = containers.execute_raw(
        model.factory_host(), [PYTHON, "-c", LOOK, json.dumps(steps)], user=model.FACTORY_USER, timeout_s=90
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def waiting(bed: Bed) -> Any:
    """Three idle jobs of alice's at ap1 that can run nowhere, bound by a word of their own."""
    word = f"w{secrets.token_hex(6)}"
    text = (
        "executable=/bin/true\\nrequest_cpus=2\\nrequest_memory=300\\nallowed_execute_duration=77\\n"
        f'requirements=TARGET.GlideinSite == "{word}"\\nqueue 3\\n'
    )
    script = f"printf '{text}' >{word}.sub && condor_submit -terse {word}.sub && rm {word}.sub"
    cluster = bed.as_user("ap1", "alice", script).split(".")[0]
    yield word, cluster
    bed.as_user("ap1", "alice", f"condor_rm {cluster}")


def buckets_with(answer: dict[str, Any], word: str) -> list[dict[str, Any]]:
    return [bucket for bucket in answer["seen"]["buckets"] if word in bucket["ad_text"]]


def test_idle_jobs_are_seen_in_one_bucket(waiting: tuple[str, str]) -> None:
    word, cluster = waiting
    answer = look(what="demand", ap="ap1")

    assert answer["seen"]["kind"] == "seen"
    (bucket,) = buckets_with(answer, word)
    assert (bucket["jobs"], bucket["cores"], bucket["memory_mib"], bucket["runtime_s"]) == (3, 2, 300, 77)
    assert (bucket["user"], bucket["group"], bucket["first_job"]) == ("alice@pool", "dp001", f"{cluster}.0")


def test_demand_agrees_with_the_queue_of_each_ap(bed: Bed, waiting: tuple[str, str]) -> None:
    idle = ["condor_q", "-allusers", "-constraint", "JobUniverse == 5 && JobStatus == 1", "-af", "ClusterId"]
    for ap in model.APS:
        # Other jobs may start in between, so a few looks are allowed to find the two of one mind.
        looks: list[tuple[int, int]] = []
        for _ in range(5):
            seen = sum(bucket["jobs"] for bucket in look(what="demand", ap=ap)["seen"]["buckets"])
            looks.append((seen, len(bed.run(ap, idle).split())))
            if looks[-1][0] == looks[-1][1]:
                break
        assert looks[-1][0] == looks[-1][1], looks


def test_more_kinds_than_the_limit_is_at_least(bed: Bed, waiting: tuple[str, str]) -> None:
    script = "printf 'executable=/bin/true\\nrequest_memory=99999998\\nqueue\\n' >m.sub && condor_submit -terse m.sub"
    cluster = bed.as_user("ap1", "alice", script).split(".")[0]
    try:
        assert look(what="demand", ap="ap1", max_buckets=1)["seen"]["kind"] == "at_least"
    finally:
        bed.as_user("ap1", "alice", f"condor_rm {cluster}")


def test_jobs_that_late_materialisation_holds_back_are_known_apart(bed: Bed) -> None:
    # Mutation: count TotalSubmitProcs of such a cluster as idle (overlay/demand.py, _unmaterialized).
    word = f"w{secrets.token_hex(6)}"
    text = (
        "executable=/bin/true\\nallowed_execute_duration=77\\nmax_materialize=2\\n"
        f'requirements=TARGET.GlideinSite == "{word}"\\nqueue 7\\n'
    )
    before = look(what="demand", ap="ap1")["seen"]["unmaterialized"]
    cluster = bed.as_user("ap1", "alice", f"printf '{text}' >l.sub && condor_submit -terse l.sub").split(".")[0]
    try:
        wait_until("two of the jobs are in the queue", lambda: _jobs_with(word) == 2)
        assert look(what="demand", ap="ap1")["seen"]["unmaterialized"] == before + 5
    finally:
        bed.as_user("ap1", "alice", f"condor_rm {cluster}")


def _jobs_with(word: str) -> int:
    return sum(bucket["jobs"] for bucket in buckets_with(look(what="demand", ap="ap1"), word))


def test_slots_and_records_are_seen() -> None:
    assert look(what="slots")["seen"]["kind"] == "seen"
    records = look(what="records", ap="ap1")["seen"]
    assert (records["kind"], records["unreadable"]) == ("seen", [])


def test_collector_that_is_away_is_unseen_and_a_known_schedd_still_answers(waiting: tuple[str, str]) -> None:
    addresses = look(what="demand", ap="ap1")["addresses"]
    assert look(what="slots", collector="cm.pool:1")["seen"]["kind"] == "unseen"
    assert look(what="demand", ap="ap1", collector="cm.pool:1")["seen"]["kind"] == "unseen"

    answer = look(what="demand", ap="ap1", collector="cm.pool:1", addresses=addresses)
    assert answer["seen"]["kind"] == "seen"
    assert buckets_with(answer, waiting[0])


def test_schedd_that_hangs_is_unseen_within_the_deadline(bed: Bed, healed: Callable[[], None]) -> None:
    pids = bed.run("ap2", ["pgrep", "condor_schedd"], user="root").split()
    bed.run("ap2", ["kill", "-STOP", *pids], user="root")
    try:
        answer = look(what="demand", ap="ap2", timeout_s=3)
    finally:
        bed.run("ap2", ["kill", "-CONT", *pids], user="root")

    assert answer["seen"]["kind"] == "unseen"
    assert "3 s" in answer["seen"]["reason"]
    assert answer["took_s"] < 6
    assert look(what="demand", ap="ap2")["seen"]["kind"] == "seen"


def test_schedd_that_lets_itself_be_curbed_is_asked_less_often(bed: Bed) -> None:
    # Mutation: the worker does not look at CurbMatchmaking (overlay/worker.py).
    file = "/etc/condor/config.d/99-curbed-test"
    containers.write_file(model.host_named("ap2"), file, b"CURB_MATCHMAKING = true\n")

    def curbed() -> bool:
        bed.run("ap2", ["condor_reconfig"], user="root")
        return bed.run("cm", ["condor_status", "-schedd", "ap2.pool", "-af", "CurbMatchmaking"]).strip() == "true"

    try:
        wait_until("the collector knows that ap2 is curbed", curbed)
        assert look(what="demand", ap="ap2")["seen"]["kind"] == "seen"
        for what in ("demand", "records"):
            spared = look(what=what, ap="ap2", times=2)["seen"]
            assert spared["kind"] == "unseen"
            assert "the schedd is busy: CurbMatchmaking is true" in spared["reason"]
    finally:
        bed.run("ap2", ["rm", file], user="root")
        bed.run("ap2", ["condor_reconfig"], user="root")
    assert look(what="demand", ap="ap1", times=2)["seen"]["kind"] == "seen"
