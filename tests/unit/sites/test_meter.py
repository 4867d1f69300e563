"""What a site is asked is counted, and the promise of how much that may be is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.sites.causes import cause_of, with_cause
from factory.sites.contract import Cause, NotSent, SiteSeen, SiteUnseen, SubmitRequest
from factory.sites.meter import CallMeter
from glidein.model import Offer, Shape
from tests.unit.sites.stubs import Stubs, make_site


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    made = Stubs.make(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(made.home))
    return made


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_call_beyond_the_limit_is_not_made_until_a_minute_has_passed() -> None:
    # Mutation: count a call that was not made, or never forget: then the last answer is no.
    clock = Clock()
    meter = CallMeter(limit=3, clock=clock)
    assert ["", "", ""] == [meter.admit() for _ in range(3)]
    assert "not asked: over the rate limit that we promised, 3 calls a minute" == meter.admit()
    clock.now_s = 59.9
    assert meter.admit()
    clock.now_s = 60.0
    assert "" == meter.admit()
    assert (4, 1, 2) == (meter.calls().calls, meter.calls().last_minute, meter.calls().not_made)


def test_a_site_beyond_its_limit_is_unseen_and_nothing_is_sent(stubs: Stubs) -> None:
    # Mutation: SlurmSite._run without admit().
    site, shell = make_site(stubs)
    site._meter = CallMeter(limit=1, clock=Clock())
    assert isinstance(site.look((), now_s=0), SiteSeen)
    before = len(shell.scripts)
    sight = with_cause(site.look((), now_s=0))
    assert isinstance(sight, SiteUnseen)
    assert "limit" == sight.cause
    shape = Shape(cores=1, memory_mib=100, disk_mib=100, walltime_s=600)
    offer = Offer(site="alpha", shape=shape, account="a", partition="p")
    wanted = SubmitRequest(pilot_id="aero-alpha-6b49d2000001-1", offer=offer, files=())
    (outcome,) = site.submit((wanted,), deadline_s=4e9)
    assert isinstance(outcome, NotSent)
    assert "over the rate limit" in outcome.reason
    assert before == len(shell.scripts)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("squeue: slurm_load_jobs error: Socket timed out on send/recv operation", "overloaded"),
        ("RPC rate limit exceeded", "overloaded"),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", "overloaded"),
        ("slurmrestd: HTTP 429, it is asked too often; it is asked less often from now on", "overloaded"),
        ("slurmrestd: an HTML page (busy), HTTP 503, in place of JSON; a proxy answers", "overloaded"),
        ("Unable to contact slurm controller (connect failure)", "unreachable"),
        ("no connection: ssh: connect to host x port 22: No route to host", "unreachable"),
        ("no answer in time (in squeue)", "unreachable"),
        ("no connection: pilot@x: Permission denied (publickey).", "refused"),
        ("token_file /etc/t: token expired 3 min ago by our clock; renew it", "refused"),
        ("spool directories: mkdir: Disk quota exceeded", "quota"),
        ("slurmrestd: an HTML page, HTTP 200, in place of JSON", "garbled"),
        ("no answer of ours: hello", "garbled"),
        ("the answer was cut short (in squeue)", "garbled"),
        ("not asked: over the rate limit that we promised, 10 calls a minute", "limit"),
        ("upload: not asked: over the rate limit that we promised, 10 calls a minute", "limit"),
        ("no answer within the cycle's patience", "late"),
        ("something new", "unknown"),
    ],
)
def test_the_words_of_a_failure_have_one_meaning(reason: str, cause: Cause) -> None:
    # Mutation: the order of the table, or a row of it.
    assert cause == cause_of(reason)
