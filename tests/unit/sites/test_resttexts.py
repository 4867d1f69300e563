"""Reading what the three slurmrestds really answered, and anything else without raising."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.sites import resttexts, restversions
from factory.sites.contract import NotSent, Refused, Submitted, Uncertain
from factory.sites.resthttp import Failure, NoReply, Reply
from factory.sites.resttexts import Queue, Said
from factory.sites.resttoken import RestToken, parse_token
from factory.sites.restversions import DIALECTS, Dialect
from factory.sites.texts import Unreadable
from glidein.model import BatchRecord, BatchState

RECORDED = Path(__file__).parents[2] / "recorded"
VERSIONS = ("22.05.8", "24.11.5", "26.05.5")
USER = "local"
SITE = {"22.05.8": "alpha", "24.11.5": "beta", "26.05.5": "gamma"}


@dataclass(frozen=True)
class Recording:
    """One answer of one version."""

    dialect: Dialect
    reply: Reply

    @property
    def said(self) -> Said:
        read = resttexts.read_reply(self.reply)
        assert isinstance(read, Said), read
        return read


def recording(version: str, case: str) -> Recording:
    """Read one file; its first four lines say what it is."""
    text = (RECORDED / f"rest-{version}-{case}.txt").read_text()
    found = re.fullmatch(
        r"# Slurm \S+, API (?P<api>\S+)\n# [A-Z]+ \S+\n# status (?P<status>\d+)\n# type (?P<type>[^\n]*)\n"
        r"(?P<body>.*)\n",
        text,
        re.DOTALL,
    )
    assert found is not None, case
    (dialect,) = (one for one in DIALECTS if one.version == found["api"])
    reply = Reply(status=int(found["status"]), content_type=found["type"], location="", body=found["body"].encode())
    return Recording(dialect=dialect, reply=reply)


def queue_of(version: str, case: str = "queue") -> Queue:
    read = resttexts.parse_queue(recording(version, case).said, user=USER)
    assert isinstance(read, Queue), read
    return read


def final_of(version: str, case: str = "final") -> tuple[BatchRecord, ...]:
    recorded = recording(version, case)
    read = resttexts.parse_final(recorded.said, user=USER, exit_codes=recorded.dialect.accounts_exit_codes)
    assert isinstance(read, tuple), read
    return read


def named(records: tuple[BatchRecord, ...], version: str) -> dict[int, BatchRecord]:
    """Records of this recording by the number in their name."""
    prefix = f"rec-{SITE[version]}-00000002-"
    return {int(one.name.removeprefix(prefix)): one for one in records if one.name.startswith(prefix)}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_queue_is_read_the_same_from_every_version(version: str) -> None:
    """Turned red by: leaving a list out of _state, a number with ``set`` out of _number, or never_ran."""
    jobs = named(queue_of(version).records, version)
    assert {0: BatchState.RUNNING, 1: BatchState.FAILED, 2: BatchState.FAILED, 3: BatchState.PENDING} == {
        n: jobs[n].state for n in range(4)
    }
    assert jobs[4].state is BatchState.CANCELLED
    running, waiting, left = jobs[0], jobs[3], jobs[4]
    assert running.start_s is not None
    assert (1, None, "n1", "local") == (running.alloc_cpus, running.end_s, running.node, running.account)
    assert ("PartitionTimeLimit", None, None, None, "") == (
        waiting.reason,
        waiting.start_s,
        waiting.end_s,
        waiting.alloc_cpus,
        waiting.node,
    )
    assert (None, None) == (left.start_s, left.alloc_cpus)
    assert left.end_s is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_accounting_is_read_the_same_from_every_version(version: str) -> None:
    """Turned red by: leaving never_ran out of _final_record, or a half record in."""
    jobs = named(final_of(version), version)
    assert {0, 1, 2, 3, 4} == set(jobs)
    assert BatchState.FAILED is jobs[1].state
    assert BatchState.CANCELLED is jobs[4].state
    assert (None, None, "") == (jobs[4].start_s, jobs[4].alloc_cpus, jobs[4].node)
    assert jobs[1].end_s is not None
    assert jobs[1].start_s is not None
    assert (jobs[1].end_s - jobs[1].start_s, 1) == (jobs[1].elapsed_s, jobs[1].alloc_cpus)


@pytest.mark.parametrize("version", VERSIONS)
def test_exit_codes_are_true_or_not_told(version: str) -> None:
    """22.05's accounting says 0 for exit 7. Turned red by: believing it, or not asking the controller in its place."""
    told = named(final_of(version), version)
    known = {(7, 0), (None, None)} if version.startswith("22") else {(7, 0)}
    assert (told[1].exit_code, told[1].exit_signal) in known
    whole = named(resttexts.with_codes(final_of(version), queue_of(version)), version)
    assert (7, 0) == (whole[1].exit_code, whole[1].exit_signal)
    assert (0, 9) == (whole[2].exit_code, whole[2].exit_signal)
    assert whole[0].exit_code is None


@pytest.mark.parametrize("version", VERSIONS)
def test_names_and_ids_that_accounting_does_not_know_are_no_records(version: str) -> None:
    """22.05 says error 9003 for that. Turned red by: taking NOTHING_FOUND for a failure."""
    assert () == final_of(version, "final-unknown")
    assert {1} == set(named(final_of(version, "final-names"), version))


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_of_others_are_none_of_ours(version: str) -> None:
    """A stranger may give a job the name of a pilot. Turned red by: no look at user_name or user."""
    for user in ("pilot", "nobody"):
        read = resttexts.parse_queue(recording(version, "queue").said, user=user)
        assert isinstance(read, Queue)
        assert named(read.records, version) == {}
        final = resttexts.parse_final(recording(version, "final").said, user=user, exit_codes=True)
        assert final == ()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["bad-token", "controller-dead", "controller-stuck"])
def test_a_queue_that_was_not_asked_is_not_empty(version: str, case: str) -> None:
    """Turned red by: reading ``jobs``, which is [] here, before ``errors``."""
    read = resttexts.parse_queue(recording(version, f"queue-{case}").said, user=USER)
    assert isinstance(read, Unreadable)
    if case == "bad-token":
        assert "token" in read.reason


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["bad-token", "dbd-dead"])
def test_accounting_that_was_not_asked_has_no_word(version: str, case: str) -> None:
    """22.05 says so with HTTP 200. Turned red by: looking at the status of HTTP only."""
    read = resttexts.parse_final(recording(version, f"final-{case}").said, user=USER, exit_codes=True)
    assert isinstance(read, Unreadable)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_token_is_told_as_such(version: str) -> None:
    for case in ("queue-no-token", "final-no-token", "submit-no-token"):
        read = resttexts.read_reply(recording(version, case).reply)
        assert isinstance(read, Unreadable)
        assert "HTTP 401" in read.reason


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("case", "kind", "word"),
    [
        ("accepted", Submitted, ""),
        ("bad-partition", Refused, "Invalid partition name specified"),
        ("bad-account", Refused, "Invalid account or account/partition combination specified"),
        ("bad-qos", Refused, "Invalid qos specification"),
        ("too-much-memory", Refused, ""),
        ("bad-json", NotSent, "400"),
        ("no-token", NotSent, "401"),
        ("bad-token", Uncertain, ""),
        ("controller-dead", NotSent, "connect failure"),
        ("controller-stuck", Uncertain, "timed out"),
    ],
)
def test_what_became_of_a_submission(version: str, case: str, kind: type, word: str) -> None:
    """Measured: the stuck controller took the job. Turned red by: any other order of the branches of parse_submit."""
    outcome = resttexts.parse_submit("p", recording(version, f"submit-{case}").reply)
    assert isinstance(outcome, kind), outcome
    assert word in getattr(outcome, "reason", "")


def test_a_job_that_has_an_id_was_made_whatever_stands_beside_it() -> None:
    """
    22.05 for a job that cannot start now: HTTP 200, an error and the id. Taken for a refusal, each is a pilot more.

    Turned red by: a look at ``errors`` before ``job_id`` in parse_submit.
    """
    errors = [{"error_code": 2015, "error": "Requested partition configuration not available now"}]
    body = json.dumps({"errors": errors, "job_id": 34, "step_id": "BATCH", "job_submit_user_msg": ""}).encode()
    reply = Reply(status=200, content_type="application/json", location="", body=body)
    assert Submitted(pilot_id="p", batch_id="34") == resttexts.parse_submit("p", reply)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["one", "unknown", "ended"])
def test_a_cancel_of_what_is_gone_is_no_problem(version: str, case: str) -> None:
    """Turned red by: an empty ``harmless``."""
    assert (("5",), "") == resttexts.parse_cancel(recording(version, f"cancel-{case}").said, ("5",))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cancel_that_nobody_took_is_a_problem(version: str) -> None:
    """24.11 and 26.05 call a dead controller "Operation not permitted". Turned red by: no look at ``errors``."""
    reached, problem = resttexts.parse_cancel(recording(version, "cancel-controller-dead").said, ("5",))
    assert reached == ()
    assert problem.startswith("cancel: ")


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_running_job_is_left_alone_by_the_controller(version: str) -> None:
    """Turned red by: NOT_IN_THAT_STATE as a problem, or as a job that was cancelled."""
    said = recording(version, "cancel").said
    assert "Job state RUNNING != filter state PENDING" in json.dumps(said.data["status"])
    assert (("1", "2"), "") == resttexts.parse_cancel(said, ("1", "2"))
    assert named(queue_of(version).records, version)[0].state is BatchState.RUNNING


def test_a_job_whose_owner_is_not_told_makes_the_queue_unreadable_if_it_may_be_ours() -> None:
    """A slurmrestd that knows no names must not hide our jobs. Turned red by: ``owner != user`` alone."""
    ours = {"job_id": 1, "name": "tow-alpha-00000001-1", "job_state": "RUNNING", "user_name": ""}
    theirs = {"job_id": 2, "name": "theirs", "job_state": "RUNNING", "user_name": None}
    assert isinstance(resttexts.parse_queue(said({"jobs": [ours]}), user="pilot"), Unreadable)
    assert isinstance(resttexts.parse_queue(said({"jobs": [theirs]}), user="pilot"), Queue)


def said(data: dict[str, object], status: int = 200) -> Said:
    read = resttexts.read_reply(
        Reply(status=status, content_type="application/json", location="", body=json.dumps(data).encode())
    )
    assert isinstance(read, Said)
    return read


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
job_keys = ["job_id", "name", "job_state", "user_name", "user", "state", "time", "tres", "exit_code", "nodes", "cpus"]
jobs = st.lists(json_values | st.dictionaries(st.sampled_from(job_keys), json_values | st.just("pilot")), max_size=4)
answers = st.dictionaries(st.sampled_from(["jobs", "errors", "job_id", "status", "pings"]), json_values | jobs)


@given(st.integers(100, 599), st.sampled_from(["application/json", "text/html", ""]), st.binary(max_size=200))
def test_any_bytes_have_an_answer(status: int, kind: str, body: bytes) -> None:
    check(Reply(status=status, content_type=kind, location="x", body=body))


@given(st.sampled_from([200, 400, 500]), answers)
def test_any_json_has_an_answer(status: int, data: dict[str, object]) -> None:
    check(Reply(status=status, content_type="application/json", location="", body=json.dumps(data).encode()))


def check(reply: Reply) -> None:
    """No reader raises, and a submission that is believed has a job id."""
    outcome = resttexts.parse_submit("p", reply)
    assert not isinstance(outcome, Submitted) or int(outcome.batch_id) > 0
    read = resttexts.read_reply(reply)
    if isinstance(read, Said):
        resttexts.trouble(read)
        resttexts.parse_queue(read, user="pilot")
        resttexts.parse_final(read, user="pilot", exit_codes=True)
        resttexts.parse_cancel(read, ("1", "2"))


@given(st.binary(max_size=300) | st.text("abc.=-_{}", max_size=60).map(str.encode))
def test_any_token_file_has_an_answer(content: bytes) -> None:
    read = parse_token(content, Path("file"))
    if isinstance(read, RestToken):
        assert read.text.isascii()
        assert not re.search(r"\s", read.text)


def test_every_failure_has_a_remedy() -> None:
    for failure in Failure:
        reason = resttexts.no_reply(NoReply(failure=failure, detail="x", sent=False), timeout_s=30)
        assert "; " in reason


@given(
    st.lists(st.integers(1, 10**9), max_size=1000), st.lists(st.from_regex(r"[a-z]{3}-[a-z]{3}-[0-9a-f]{8}-[0-9]{1,4}"))
)
def test_no_query_grows_past_its_limit_and_none_loses_an_id(ids: list[int], names: list[str]) -> None:
    """Turned red by: a chunk that forgets its last word."""
    for dialect in DIALECTS:
        paths = restversions.final_paths(dialect, ids=map(str, ids), names=names, since_s=5)
        assert all(len(path) < restversions.QUERY_MAX_CHARACTERS + 200 for path in paths)
        found = [int(number) for path in paths for number in re.findall(r"(?:step=|%2C)(\d+)(?=&|%2C|$)", path)]
        assert ids == found
        assert not any(bad in path for path in paths for bad in (" ", ",", "\n"))


def test_the_versions_stand_newest_first_and_once() -> None:
    numbers = [int(dialect.version.removeprefix("v0.0.")) for dialect in DIALECTS]
    assert sorted(set(numbers), reverse=True) == numbers
