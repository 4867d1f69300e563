"""A site that runs HTCondor, over a process that answers what a test wants: what is odd is not believed."""

from __future__ import annotations

import base64
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from factory.sites.condor import CondorSettings, CondorSite
from factory.sites.condortexts import BUNDLE, COUNT_MAX, INSTANCE, PILOT, POLICY, SITE, TEXT_MAX
from factory.sites.contract import (
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    SiteSeen,
    SiteUnseen,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from glidein.model import BatchState, Offer, PilotPhase, Shape
from glidein.phase import Evidence, pilot_phase
from overlay.remote import Remote
from overlay.remote_worker import EMPTY_HISTORY

SHA256 = "ab" * 32
OFFER = Offer(
    site="delta",
    shape=Shape(cores=1, memory_mib=100, disk_mib=100, walltime_s=600),
    account="group_vo",
    partition="htc",
)
WORKER = """
read -r request
printf '%s\\n' "$request" >>'{base}/requests'
for one in look submit put edit remove machines; do
    case $request in *'"do": "'$one'"'*) exec cat '{base}/'$one ;; esac
done
"""


def pilot(n: int, instance: str = "tow") -> str:
    return f"{instance}-delta-6b033b73e138-{n}"


def job(n: int, **changed: object) -> dict[str, object]:
    """A pilot that runs."""
    ad = {PILOT: pilot(n), INSTANCE: "tow", SITE: "delta", "ClusterId": n + 1, "JobStatus": 2, "QDate": 1000}
    return {name: value for name, value in {**ad, **changed}.items() if value is not None}


BUNDLE_JOB = job(99, **{PILOT: None, BUNDLE: SHA256, "JobStatus": 1, "Iwd": "/spool/99"})
ENDED = {"JobStatus": 4, "ExitCode": 7, "ExitBySignal": False, "JobCurrentStartDate": 1010, "CompletionDate": 1020}


def known(n: int, batch_id: str | None = None) -> KnownPilot:
    return KnownPilot(pilot_id=pilot(n), batch_id=batch_id, intended_s=1000)


def answer(*steps: list[object]) -> str:
    """A whole answer of the worker, whatever its rows are."""
    lines: list[object] = []
    for number, rows in enumerate(steps):
        lines += [["ad", number, json.dumps(row)] for row in rows]
        lines.append(["end", number, len(rows)])
    return "".join(json.dumps(line) + "\n" for line in [*lines, ["done", len(steps)]])


@dataclass
class Schedd:
    """What the site's side says, and the adapter that asks it."""

    base: Path
    site: CondorSite

    def says(self, what: str, text: str) -> None:
        (self.base / what).write_text(text)

    def shows(self, *jobs: object, past: tuple[object, ...] = (), problem: str = "") -> None:
        """What a look brings."""
        problems: list[object] = [{"problem": problem}] if problem else []
        clock: list[object] = [{"ServerTime": 2000}]
        self.says("look", answer([{"Name": "ap"}], list(jobs), list(past), problems, clock))

    def look(self, *pilots: KnownPilot) -> SiteSeen | SiteUnseen:
        return self.site.look(pilots, now_s=2000)

    def submit(self, n: int) -> object:
        files = (("pilot.sh", b"#!/bin/sh\n"), ("token", b"s3cret"))
        wanted = SubmitRequest(pilot_id=pilot(n), offer=OFFER, files=files)
        (outcome,) = self.site.submit((wanted,), deadline_s=time.time() + 30)
        return outcome

    def asked(self) -> list[str]:
        """What was asked of the site, in order."""
        path = self.base / "requests"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["do"] for line in lines]


@pytest.fixture
def schedd(tmp_path: Path) -> Schedd:
    parts = ({"alg": "HS256"}, {"sub": "pilot@delta", "exp": 4_000_000_000})
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts) + ".x\n")
    (tmp_path / "worker.sh").write_text(WORKER.format(base=tmp_path))
    (tmp_path / "bundle").write_bytes(b"a bundle")
    remote = Remote(
        collector="cm.example",
        schedd="ap",
        token_file=token,
        work_dir=tmp_path / "work",
        command=("/bin/sh", str(tmp_path / "worker.sh")),
    )
    settings = CondorSettings(
        site="delta",
        instance="tow",
        account="group_vo",
        bundle_path=tmp_path / "bundle",
        bundle_sha256=SHA256,
        command_timeout_s=30,
    )
    return Schedd(base=tmp_path, site=CondorSite(settings, remote, clock=time.time))


def phase_of(sight: SiteSeen, n: int, *, sent: str) -> PilotPhase:
    """The phase of a pilot of long ago whose slot nobody sees."""
    live = next((record for record in sight.live if record.name == pilot(n)), None)
    final = "unseen" if isinstance(sight.final, FinalUnseen) else next(iter(sight.final.records), None)
    evidence = Evidence(
        prior=PilotPhase.STARTING,
        sent=sent,  # type: ignore[arg-type]
        past_deadline=True,
        age_s=5000,
        live=live,
        final=final,  # type: ignore[arg-type]
        slot="none",
        report=None,
    )
    return pilot_phase(evidence)[0]


@pytest.mark.parametrize("problem", [EMPTY_HISTORY, "Permission denied"])
@pytest.mark.parametrize(
    ("sent", "phase"), [("submitted", PilotPhase.UNKNOWN), ("uncertain", PilotPhase.UNCERTAIN)], ids=["known", "lost"]
)
def test_a_history_that_cannot_be_read_ends_no_pilot(
    schedd: Schedd, problem: str, sent: str, phase: PilotPhase
) -> None:
    # Mutation: no_past dropped in condor.py, and an empty history says that the lost one never came into being.
    schedd.shows(job(1), problem=problem)
    sight = schedd.look(known(1, "2"), known(2))
    assert isinstance(sight, SiteSeen)
    assert FinalUnseen(reason=f"history: {problem}") == sight.final
    assert [pilot(1)] == [record.name for record in sight.live]
    assert phase is phase_of(sight, 2, sent=sent)


def test_a_submitted_pilot_that_is_in_no_record_stays_open_also_by_a_good_history(schedd: Schedd) -> None:
    # Mutation: ENDED for UNKNOWN in phase._absent_phase.
    schedd.shows(job(1))
    sight = schedd.look(known(1), known(2, "3"))
    assert isinstance(sight, SiteSeen)
    assert FinalSeen(records=()) == sight.final
    assert PilotPhase.UNKNOWN is phase_of(sight, 2, sent="submitted")


def test_what_ended_and_is_still_in_the_queue_has_ended_whatever_the_history_says(schedd: Schedd) -> None:
    # Mutation: live without _finals in condor._sight; then a dead history keeps every ended pilot open.
    schedd.shows(job(1, **ENDED), problem="Permission denied")
    sight = schedd.look(known(1, "2"))
    assert isinstance(sight, SiteSeen)
    ((name, state, code),) = [(record.name, record.state, record.exit_code) for record in sight.live]
    assert (pilot(1), BatchState.FAILED, 7) == (name, state, code)
    assert PilotPhase.ENDED is phase_of(sight, 1, sent="submitted")
    schedd.shows(job(1, **ENDED))
    sight = schedd.look(known(1, "2"))
    assert isinstance(sight, SiteSeen)
    assert () == sight.live
    assert isinstance(sight.final, FinalSeen)
    assert [pilot(1)] == [record.name for record in sight.final.records]


ODD_JOBS = {
    "another instance": (job(1, **{INSTANCE: "evil"}), "of instance 'evil' and site 'delta'"),
    "no instance": (job(1, **{INSTANCE: None}), "of instance missing and site 'delta'"),
    "another site": (job(1, **{SITE: "alpha"}), "of instance 'tow' and site 'alpha'"),
    "an instance that is no text": (job(1, **{INSTANCE: 7}), "of instance 7"),
    "no number": (job(1, ClusterId=None), "a job whose ClusterId is missing"),
    "a number that is text": (job(1, ClusterId="1 || true"), "a job whose ClusterId is '1 || true'"),
    "number zero": (job(1, ClusterId=0), "a job whose ClusterId is 0"),
    "a number without end": (job(1, ClusterId=math.inf), "a job whose ClusterId is inf"),
    "an absurd number": (job(1, ClusterId=10**300), "a job whose ClusterId is 1000"),
    "no status": (job(1, JobStatus=None), "a job whose JobStatus is missing"),
    "a status that is text": (job(1, JobStatus="RUNNING"), "a job whose JobStatus is 'RUNNING'"),
    "a status that is true": (job(1, JobStatus=True), "a job whose JobStatus is True"),
    "half a status": (job(1, JobStatus=2.5), "a job whose JobStatus is 2.5"),
    "a negative status": (job(1, JobStatus=-1), "a job whose JobStatus is -1"),
}
ODD_ROWS = {"a list": [1], "a number": 7, "nothing": None, "an ad in an ad": job(1, Inner={"a": 1})}


@pytest.mark.parametrize("case", [*ODD_JOBS, *ODD_ROWS])
def test_an_answer_with_an_odd_job_is_none_and_nothing_is_sent(schedd: Schedd, case: str) -> None:
    # Mutation: one branch of condortexts.oddity, or the look at rows in remote._ask, left out.
    bad, words = ODD_JOBS.get(case) or (ODD_ROWS[case], "not a line of plain values")
    schedd.shows(BUNDLE_JOB, job(2), bad)
    sight = schedd.look(known(1), known(2))
    assert isinstance(sight, SiteUnseen), sight
    assert words in sight.reason
    outcome = schedd.submit(3)
    assert isinstance(outcome, NotSent), outcome
    assert words in outcome.reason
    assert ["look", "look"] == schedd.asked()


@pytest.mark.parametrize("case", ODD_JOBS)
def test_a_history_with_an_odd_job_is_no_history(schedd: Schedd, case: str) -> None:
    # Mutation: self._oddity(looked.past) left out in condor._sight.
    bad, words = ODD_JOBS[case]
    schedd.shows(job(2), past=(bad,))
    sight = schedd.look(known(1), known(2))
    assert isinstance(sight, SiteSeen)
    assert isinstance(sight.final, FinalUnseen)
    assert words in sight.final.reason
    assert () == sight.reports


@pytest.mark.parametrize("name", ["", "tow", pilot(1, "evil"), "tow-alpha-6b033b73e138-1", 7, None])
def test_a_job_whose_name_is_not_ours_is_neither_counted_nor_forgotten(schedd: Schedd, name: object) -> None:
    # Mutation: `mine` is looked.jobs in condor._sight.
    schedd.shows(job(1, **{PILOT: name}), past=(job(3, **{PILOT: name, **ENDED}),))
    sight = schedd.look(known(1), known(3))
    assert isinstance(sight, SiteSeen)
    assert ((), FinalSeen(records=()), (), ()) == (sight.live, sight.final, sight.reports, sight.spools)


@pytest.mark.parametrize("value", ["text", -1, math.inf, -math.inf, math.nan, 10**300, True, 1e300])
def test_a_number_that_is_none_is_not_known(schedd: Schedd, value: object) -> None:
    # Mutation: no bound in condortexts.count_of; int(inf) raises, and a huge one is too large for a database.
    fields = ("QDate", "JobCurrentStartDate", "CompletionDate", "CpusProvisioned", "ExitCode", "HoldReasonCode")
    odd = dict.fromkeys(fields, value)
    schedd.shows(job(1, **odd), job(2, **{**odd, "JobStatus": 4}))
    sight = schedd.look(known(1), known(2))
    assert isinstance(sight, SiteSeen), sight
    assert isinstance(sight.final, FinalSeen)
    (live,), (final,) = sight.live, sight.final.records
    assert (None, None, None) == (live.submit_s, live.start_s, live.alloc_cpus)
    assert (None, None, None) == (final.start_s, final.end_s, final.elapsed_s)
    assert all(number is None or abs(number) < COUNT_MAX for number in (final.exit_code, final.exit_signal))


def test_ten_megabytes_of_words_are_cut_to_what_a_line_holds(schedd: Schedd) -> None:
    # Mutation: value without its limit in condortexts._text.
    big = "x" * 10_000_000
    schedd.shows(job(1, JobStatus=5, HoldReason=big, AcctGroup=big, BatchQueue=big, RemoteHost=f"slot1@{big}"))
    sight = schedd.look(known(1))
    assert isinstance(sight, SiteSeen)
    (record,) = sight.live
    assert len(record.reason) <= 300
    assert max(map(len, (record.account, record.partition, record.node))) <= TEXT_MAX


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "incomplete"),
        ("<html>not found</html>\n", "damaged"),
        ("<html>" + "x" * 10_000_000, "damaged"),
        (
            '["ad", 0, "{\\"a\\": 1"]\n["end", 0, 1]\n' + "".join(f'["end", {n}, 0]\n' for n in range(1, 5)),
            "incomplete",
        ),
        (answer(*[[]] * 5).replace('["end", 0, 0]', '["ad", 0, "{"]\n["end", 0, 1]'), "no JSON"),
        ("x" * (65 << 20), "longer than"),
    ],
    ids=["empty", "a page", "10 MB", "cut", "a broken ad", "65 MiB"],
)
def test_what_is_no_answer_is_said_in_one_line_and_nothing_is_sent(schedd: Schedd, text: str, words: str) -> None:
    # Mutation: the request for "done" left out in client.read_answer.
    for what in ("look", "put", "remove", "edit"):
        schedd.says(what, text)
    sight = schedd.look(known(1))
    assert isinstance(sight, SiteUnseen)
    assert words in sight.reason
    assert len(sight.reason) <= 400
    assert isinstance(schedd.submit(3), NotSent)
    assert set(schedd.asked()) == {"look"}
    cancelled = schedd.site.cancel((known(1),))
    assert () == cancelled.sent
    assert cancelled.problem
    assert schedd.site.forget((pilot(1),))


@pytest.mark.parametrize("count", ["all", None, 1.5, [1], 1])
def test_a_removal_that_is_not_told_is_no_removal(schedd: Schedd, count: object) -> None:
    # Mutation: no look at the counts in remote.remove.
    schedd.says("remove", answer([{"TotalSuccess": 1, "TotalError": count}]))
    assert () == schedd.site.cancel((known(1),)).sent
    schedd.says("remove", answer([{"TotalSuccess": 1, "TotalError": 0}]))
    assert (pilot(1),) == schedd.site.cancel((known(1),)).sent


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([["trying", pilot(3)], ["queued", pilot(3), "7"], ["spooled", pilot(3)], ["gone", pilot(3)]], Submitted),
        ([["trying", pilot(3)], ["queued", pilot(3), "1 || true"], ["gone", pilot(3)]], Uncertain),
        ([["trying", pilot(3)], ["queued", pilot(3), 7], ["gone", pilot(3)]], Uncertain),
        ([["trying", pilot(3)], {"queued": 7}], Uncertain),
        ([["trying", pilot(3)], ["x" * 10_000_000]], Uncertain),
        ([["queued", pilot(4), "7"], ["gone", pilot(4)]], NotSent),
    ],
    ids=["whole", "a number that is a constraint", "a number that is none", "no line", "10 MB", "of another"],
)
def test_a_submission_is_believed_only_as_a_whole(schedd: Schedd, lines: list[object], kind: type) -> None:
    # Mutation: any text taken for a ClusterId in condortexts.outcome.
    schedd.shows(BUNDLE_JOB)
    schedd.says("submit", "".join(json.dumps(line) + "\n" for line in [*lines, ["done", 1]]))
    outcome = schedd.submit(3)
    assert kind is type(outcome), outcome
    if not isinstance(outcome, Submitted):
        assert len(outcome.reason) <= 400  # type: ignore[attr-defined]


@pytest.mark.parametrize("rules", [7, True, "allow nobody", "deny projekt x"])
def test_rules_that_cannot_be_read_close_the_site(schedd: Schedd, rules: object) -> None:
    # Mutation: NO_RULES for what is no string in condor.read_rules.
    schedd.says("look", answer([{"Name": "ap", POLICY: rules}], [job(1)], [], [], []))
    sight = schedd.look(known(1))
    assert isinstance(sight, SiteSeen)
    assert sight.rules.closed


@pytest.mark.parametrize("clock", ["now", math.inf, -5, 10**300, None])
def test_a_clock_that_makes_no_sense_is_no_offset(schedd: Schedd, clock: object) -> None:
    # Mutation: any number taken for ServerTime in remote.look.
    row = {} if clock is None else {"ServerTime": clock}
    schedd.says("look", answer([{"Name": "ap"}], [], [], [], [row]))
    sight = schedd.look()
    assert isinstance(sight, SiteSeen)
    assert 0.0 == sight.clock_offset_s
