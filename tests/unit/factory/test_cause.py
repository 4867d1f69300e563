"""The one cause of a wait: by example for each kind, and for every small world one that its verdicts bear out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import NOW_S, bucket, policy, record, site_policy

from factory.cause import Cause, Code, cause_of
from factory.explain import Explanation
from factory.model import Late, Reason, Verdict
from glidein.model import PilotPhase
from overlay.model import FailedClause

POLICY = policy(site_policy("alpha"), site_policy("beta"))


def failed(text: str, **values: object) -> FailedClause:
    return FailedClause(owner="job", text=text, values=tuple((name, str(value)) for name, value in values.items()))


def misfit(*clauses: FailedClause) -> Reason:
    return Reason(code="requirements", text="they do not accept each other", owner="job", failed=clauses)


MEMORY = failed("TARGET.Memory >= RequestMemory", Memory=7872, RequestMemory=88231)
SITE = failed('TARGET.GlideinSite == "gamma"', GlideinSite='"alpha"')
GPUS = failed("TARGET.GPUs >= RequestGPUs", GPUs="undefined", RequestGPUs=2)
ODD = failed("TARGET.HasLicence == true", HasLicence="undefined")
LONG = Reason(code="too_long", text="the job is too long for site alpha: 9000 s", owner="job")


def verdict(
    site: str, *reasons: Reason, wanted: int = 0, granted: int = 0, running: int = 0, waiting: int = 0
) -> Verdict:
    return Verdict(
        bucket="ap1/a",
        site=site,
        absorbed_running=running,
        absorbed_waiting=waiting,
        wanted=wanted,
        granted=granted,
        reasons=reasons,
    )


def told(*verdicts: Verdict, jobs: int = 1, unplaced: int = 1, **more: object) -> Explanation:
    fields: dict[str, object] = {
        "as_of_s": float(NOW_S),
        "bucket": bucket(jobs=jobs),
        "counted": True,
        "verdicts": verdicts,
        "unplaced": unplaced,
        "takers": (),
    }
    return Explanation(**(fields | more))  # type: ignore[arg-type]


def cause(explanation: Explanation, *, projects: tuple[str, ...] | None = None, idle: str = "") -> Cause:
    return cause_of(explanation, projects=projects, idle_factory=idle)


def bar(code: str, owner: str = "factory") -> Reason:
    return Reason(code=code, text=f"{code} said so", wanted=1, allowed=0, owner=owner)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reasons", "code", "words"),
    [
        ((misfit(MEMORY),), "memory", "88231 MiB of memory, and the largest pilot, at alpha, has 7872"),
        ((misfit(SITE),), "wrong_site", "there is no such site (there are: alpha, beta)"),
        ((misfit(GPUS),), "gpus", "it asks for 2 GPUs, and no site's pilots have any"),
        ((misfit(ODD),), "nothing_matches", "TARGET.HasLicence == true"),
        ((LONG,), "too_long", "9000 s"),
        ((misfit(failed("TARGET.Cpus >= RequestCpus", Cpus=4, RequestCpus=64)),), "cores", "64 cores"),
        ((misfit(failed("x", Disk=4, RequestDisk=64)),), "disk", "64 KiB of disk"),
    ],
)
def test_what_no_site_can_run(reasons: tuple[Reason, ...], code: Code, words: str) -> None:
    found = cause(told(verdict("alpha", *reasons), verdict("beta", *reasons)))
    assert (code, "job") == (found.code, found.owner)
    assert words in found.text


def test_a_site_that_the_job_leaves_out_is_no_cause_while_there_is_another() -> None:
    # Mutation: _misfit takes all sites for nearest.
    found = cause(told(verdict("alpha", misfit(SITE)), verdict("gamma", misfit(MEMORY, ODD))))
    assert ("memory", True) == (found.code, "at gamma" in found.text)
    denied = cause(told(verdict("alpha", misfit(SITE)), verdict("gamma", bar("denied", "site"))))
    assert ("denied", "site") == (denied.code, denied.owner)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("max_pilots", "cap"),
        ("max_pending", "cap"),
        ("total_pilots", "cap"),
        ("site_cap", "cap"),
        ("cycle_limit", "cap"),
        ("breaker", "breaker"),
        ("matches_nothing", "matches_nothing"),
        ("site_unseen", "site_unseen"),
        ("paused", "paused"),
        ("stopped", "stopped"),
        ("outage", "outage"),
        ("denied", "denied"),
        ("slots_unseen", "pool_unseen"),
    ],
)
def test_what_bars_a_site_that_could(code: str, expected: Code) -> None:
    found = cause(told(verdict("alpha", misfit(MEMORY)), verdict("beta", bar(code), wanted=1)))
    assert expected == found.code
    assert f"{code} said so" in found.text


def test_of_several_bars_the_softest_counts_and_the_others_are_counted() -> None:
    # Mutation: min by site only.
    found = cause(told(verdict("alpha", bar("denied", "site"), wanted=1), verdict("beta", bar("max_pilots"), wanted=1)))
    assert "cap" == found.code
    assert "and 1 other site barred too" in found.text


def test_pilots_in_the_queue_of_a_site() -> None:
    # Mutation: tell the cap of another site although a pilot for the job waits.
    pilots = tuple(record("alpha", n, PilotPhase.PENDING, batch_reason="Priority") for n in (1, 2))
    waiting = told(verdict("alpha", waiting=1), verdict("beta", bar("max_pilots"), wanted=0), unplaced=0, takers=pilots)
    found = cause(waiting)
    assert ("queue", "site") == (found.code, found.owner)
    assert "2 pilots for jobs like it wait in the queue of site alpha (Slurm says: Priority)" == found.text


LATE = Reason(code="late", text="4 of these jobs count on pilots of site alpha that have waited longer than 600 s; so")


def _late(*others: Verdict, left: int) -> Cause:
    here = verdict("alpha", LATE, waiting=4)
    pilots = (record("alpha", 1, PilotPhase.PENDING), record("beta", 2, PilotPhase.PENDING, intended_s=NOW_S))
    return cause(told(here, *others, jobs=4, unplaced=0, takers=pilots, late=Late(jobs=(("alpha", 4),), left=left)))


def test_that_a_pilot_is_late_and_another_site_was_asked_is_said_in_the_line() -> None:
    # Mutation: _coming leaves out _late_words.
    found = _late(verdict("beta", granted=1, wanted=1), left=0)
    assert ("queue", "site") == (found.code, found.owner)
    assert f"1 pilot for jobs like it waits in the queue of site alpha; {LATE.text}" == found.text


def test_that_no_other_site_may_be_asked_is_said_with_the_reason() -> None:
    # Mutations: _late_words never names a bar; it takes the bars of the late site; it does not ask who could run them.
    assert _late(verdict("beta", bar("max_pending"), wanted=1), left=4).text.endswith("so: max_pending said so")
    assert _late(verdict("beta", waiting=1), left=4).text.endswith("so: ours wait too long wherever they could run")
    assert _late(verdict("beta", misfit(MEMORY)), left=4).text.endswith("so: no other could run them")


def test_most_jobs_without_a_pilot_are_told_the_limit() -> None:
    # Mutation: leave out the comparison with unplaced.
    kept = told(verdict("alpha", bar("max_pending"), waiting=1, wanted=9), jobs=10, unplaced=9)
    assert "cap" == cause(kept).code
    assert "queue" == cause(replace(kept, unplaced=3, takers=(record("alpha", 1, PilotPhase.PENDING),))).code


def test_starting_matching_and_the_next_cycle() -> None:
    start = told(verdict("alpha", waiting=1), unplaced=0, takers=(record("alpha", 1, PilotPhase.STARTING),))
    assert "starting" == cause(start).code
    assert "match" == cause(told(verdict("alpha", running=1), unplaced=0)).code
    assert "next_cycle" == cause(told(verdict("alpha", granted=1, wanted=1), unplaced=0, counted=False)).code


def test_what_is_wrong_with_the_factory_or_the_project_comes_first() -> None:
    barred = told(verdict("alpha", bar("max_pilots"), wanted=1))
    assert ("no_factory", "operator") == (cause(barred, idle="no factory works").code, cause(barred, idle="x").owner)
    assert "no_sites" == cause(told()).code
    assert "cap" == cause(barred, projects=(barred.bucket.group,)).code
    found = cause(barred, projects=("other",))
    assert ("project", True) == (found.code, "(valid: other)" in found.text)
    # The AP has the last word: a job whose pilot is on its way does not wait because of its project.
    assert (
        "starting"
        == cause(
            told(verdict("alpha", waiting=1), unplaced=0, takers=(record("alpha", 1, PilotPhase.STARTING),)),
            projects=(),
        ).code
    )
