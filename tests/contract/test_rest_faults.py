"""
Faults of three real slurmrestds, and every version of the API that they have.

Each test names a mutation of the code that turns it red.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from benches import RestBench, eventually, request, rest_bench

from factory.sites import restapi, resttexts, restversions
from factory.sites.contract import (
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    SiteSeen,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from factory.sites.resttexts import Said
from factory.sites.restversions import DIALECTS, Place
from factory.sites.slurmrestd import SlurmrestdSite
from testbed import containers
from testbed import site as sites
from testbed.model import PILOT_USER

pytestmark = pytest.mark.system

VERSIONS = {
    "alpha": ("v0.0.38",),
    "beta": ("v0.0.42", "v0.0.41", "v0.0.40"),
    "gamma": ("v0.0.45", "v0.0.44", "v0.0.43", "v0.0.42"),
}
"""What each site has of the versions that we speak."""


@pytest.fixture(scope="module", params=["alpha", "beta", "gamma"])
def bench(request: pytest.FixtureRequest) -> Iterator[RestBench]:
    with tempfile.TemporaryDirectory() as directory, rest_bench(request.param, Path(directory)) as made:
        yield made


@pytest.fixture(autouse=True)
def healed(bench: RestBench) -> Iterator[None]:
    """Whatever a test broke runs again, and answers."""
    yield
    containers.heal(sites.login_host(bench.site.name))
    for _ in range(40):
        if isinstance(bench.site.look((), now_s=time.time()), SiteSeen):
            return
        time.sleep(0.5)
    raise AssertionError("the site does not come back")


def site_with(bench: RestBench, **changes: object) -> SlurmrestdSite:
    """The same site with another configuration."""
    rest = replace(bench.rest, **changes)
    return SlurmrestdSite(bench.settings, rest, bench.shell, clock=time.time, nonce=bench.site._nonce)


def token_file(bench: RestBench, text: str) -> Path:
    path = bench.rest.token_file.with_name("another-token")
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def known(*requests: SubmitRequest) -> tuple[KnownPilot, ...]:
    """As the ledger has them after a lost answer: no id."""
    return tuple(KnownPilot(pilot_id=one.pilot_id, batch_id=None, intended_s=int(time.time()) - 60) for one in requests)


def submit(site: SlurmrestdSite, wanted: SubmitRequest, *, patience_s: float = 30) -> SubmitOutcome:
    (outcome,) = site.submit((wanted,), deadline_s=time.time() + patience_s)
    return outcome


def jobs_named(bench: RestBench, pilot_id: str) -> list[str]:
    """State of each job of that name, told by squeue and not through our code."""
    argv = ["squeue", "-h", "-t", "all", "--name", pilot_id, "-o", "%T"]
    return containers.execute(sites.login_host(bench.site.name), argv, user=PILOT_USER).split()


def test_a_token_that_slurm_does_not_take_changes_nothing(bench: RestBench) -> None:
    """
    Expired, of another user, and no token of this site: seen by no look, and no pilot made or ended by it.

    Turned red by: RestToken.expired always false, or NotSent and SiteUnseen left out for a token's trouble.
    """
    there = request(bench, "stays", offer=bench.waiting_offer())
    submitted = submit(bench.site, there)
    assert isinstance(submitted, Submitted)
    brief = sites.rest_token(bench.site.name, lifespan_s=1)
    time.sleep(2)
    stranger = sites.rest_token(bench.site.name, user="local")
    for text, told in ((brief, "token expired"), (stranger, "oken"), ("a.b.c", "oken")):
        site = site_with(bench, token_file=token_file(bench, text), user=PILOT_USER)
        sight = site.look((), now_s=time.time())
        assert isinstance(sight, SiteUnseen), sight
        assert told in sight.reason
        wanted = request(bench, "stays")
        assert isinstance(submit(site, wanted), NotSent | Uncertain)
        pilot = KnownPilot(pilot_id=there.pilot_id, batch_id=submitted.batch_id, intended_s=0)
        cancelled = site.cancel((pilot,))
        assert cancelled.sent == ()
        assert told in cancelled.problem
        assert jobs_named(bench, wanted.pilot_id) == []
    assert jobs_named(bench, there.pilot_id) == ["PENDING"]


def test_a_certificate_of_another_authority_is_not_trusted(bench: RestBench) -> None:
    """Turned red by: a context that does not check, or one that trusts more than ca_file."""
    other = {"alpha": "beta", "beta": "gamma", "gamma": "alpha"}[bench.site.name]
    authority = bench.rest.token_file.with_name("other.pem")
    authority.write_bytes(sites.rest_authority(other))
    site = site_with(bench, server=replace(bench.rest.server, authority=authority))
    sight = site.look((), now_s=time.time())
    assert isinstance(sight, SiteUnseen)
    assert "the certificate is not trusted" in sight.reason
    assert isinstance(submit(site, request(bench, "stays")), NotSent)


def test_a_version_that_is_not_there_is_told(bench: RestBench) -> None:
    """Turned red by: a 404 taken for an answer."""
    site = site_with(bench, server=replace(bench.rest.server, prefix="/elsewhere"))
    sight = site.look((), now_s=time.time())
    assert isinstance(sight, SiteUnseen)
    assert "no API version that we speak" in sight.reason


def test_a_submission_without_an_answer_is_uncertain_and_found_once(bench: RestBench) -> None:
    """
    The controller is stuck; then slurmrestd is. Both go on later, and each job is there once, found by its name.

    Turned red by: NotSent for an answer that was lost, or a look that asks ids only.
    """
    assert isinstance(bench.site.look((), now_s=time.time()), SiteSeen)
    first, second = request(bench, "stays"), request(bench, "stays")
    sites.signal_daemon(bench.site.name, "slurmctld", "STOP")
    outcome = submit(bench.site, first, patience_s=20)
    assert isinstance(outcome, Uncertain), outcome
    assert "timed out" in outcome.reason
    sites.signal_daemon(bench.site.name, "slurmctld", "CONT")
    time.sleep(1)

    sites.signal_daemon(bench.site.name, "slurmrestd", "STOP")
    outcome = submit(bench.site, second, patience_s=5)
    assert isinstance(outcome, Uncertain), outcome
    assert "no whole answer" in outcome.reason
    sites.signal_daemon(bench.site.name, "slurmrestd", "CONT")
    eventually(
        bench,
        known(first, second),
        lambda sight: {first.pilot_id, second.pilot_id} <= {record.name for record in sight.live},
    )
    assert [1, 1] == [len(jobs_named(bench, one.pilot_id)) for one in (first, second)]


def test_a_submission_cut_after_it_was_sent_is_uncertain_and_found_once(bench: RestBench) -> None:
    """
    slurmrestd is killed while it waits for the controller.

    Turned red by: NotSent for a connection that ended without an answer.
    """
    assert isinstance(bench.site.look((), now_s=time.time()), SiteSeen)
    wanted = request(bench, "stays")
    sites.signal_daemon(bench.site.name, "slurmctld", "STOP")
    killer = threading.Timer(4, lambda: sites.stop_daemon(bench.site.name, "slurmrestd", kill=True))
    killer.start()
    outcome = submit(bench.site, wanted, patience_s=20)
    killer.join()
    assert isinstance(outcome, Uncertain), outcome
    assert "cut off" in outcome.reason
    sites.signal_daemon(bench.site.name, "slurmctld", "CONT")
    sites.start_daemon(bench.site.name, "slurmrestd")
    eventually(bench, known(wanted), lambda sight: wanted.pilot_id in {record.name for record in sight.live})
    assert len(jobs_named(bench, wanted.pilot_id)) == 1


def test_a_dead_proxy_is_unseen_and_nothing_is_sent(bench: RestBench) -> None:
    """Turned red by: Uncertain where no connection was made."""
    nothing_happens_without(bench, "stunnel4", told="Connection refused")


@pytest.mark.long
def test_a_dead_controller_is_unseen_and_nothing_is_sent(bench: RestBench) -> None:
    """Turned red by: an empty queue read from an answer with errors, or Uncertain for "connect failure"."""
    nothing_happens_without(bench, "slurmctld", told="")


def nothing_happens_without(bench: RestBench, daemon: str, *, told: str) -> None:
    wanted = request(bench, "stays")
    assert isinstance(bench.site.look((), now_s=time.time()), SiteSeen)
    sites.stop_daemon(bench.site.name, daemon)
    sight = bench.site.look((), now_s=time.time())
    assert isinstance(sight, SiteUnseen)
    assert told in sight.reason
    outcome = submit(bench.site, wanted, patience_s=25)
    assert isinstance(outcome, NotSent), outcome
    assert bench.site.cancel(known(wanted)).sent == ()
    sites.start_daemon(bench.site.name, daemon)
    time.sleep(3)
    assert jobs_named(bench, wanted.pilot_id) == []


def test_dead_accounting_leaves_the_queue_seen_and_ends_open(bench: RestBench) -> None:
    """Turned red by: FinalSeen from an answer with errors, which on 22.05 comes with HTTP 200."""
    wanted = request(bench, "stays", offer=bench.waiting_offer())
    assert isinstance(submit(bench.site, wanted), Submitted)
    gone = request(bench, "stays")
    sites.stop_daemon(bench.site.name, "slurmdbd")
    sight = bench.site.look(known(wanted, gone), now_s=time.time())
    assert isinstance(sight, SiteSeen)
    assert wanted.pilot_id in {record.name for record in sight.live}
    assert isinstance(sight.final, FinalUnseen)
    sites.start_daemon(bench.site.name, "slurmdbd")
    eventually(bench, known(wanted, gone), lambda sight: isinstance(sight.final, FinalSeen))


def test_every_version_that_a_site_has_does_the_same(bench: RestBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Submit, see, cancel while it waits, leave alone while it runs, see the end: in each version, without a warning.

    Turned red by: any wrong cell of restversions.DIALECTS.
    """
    for version in VERSIONS[bench.site.name]:
        (dialect,) = (one for one in DIALECTS if one.version == version)
        monkeypatch.setattr(restapi, "DIALECTS", (dialect,))
        site = site_with(bench)
        runs, waits, ends = (
            request(bench, "stays"),
            request(bench, "stays", offer=bench.waiting_offer()),
            request(bench, "fails"),
        )
        outcomes = site.submit((runs, waits, ends), deadline_s=time.time() + 30)
        assert all(isinstance(one, Submitted) for one in outcomes), (version, outcomes)
        asked = tuple(
            KnownPilot(pilot_id=one.pilot_id, batch_id=getattr(one, "batch_id", None), intended_s=int(time.time()) - 9)
            for one in outcomes
        )
        versioned = replace(bench, site=site)
        eventually(versioned, asked, lambda sight, name=runs.pilot_id: state_of(sight, name) == "RUNNING")
        assert site.cancel(asked[:2]).problem == ""
        sight = eventually(versioned, asked, lambda sight: len(ended(sight)) == 2)
        assert {waits.pilot_id: ("CANCELLED", 0), ends.pilot_id: ("FAILED", 7)} == {
            name: (state, code or 0) for name, (state, code) in ended(sight).items()
        }
        assert state_of(sight, runs.pilot_id) == "RUNNING"


def test_a_submission_is_taken_without_a_warning(bench: RestBench) -> None:
    """A field that slurmrestd does not know is only warned of. Turned red by: a key that this version has not."""
    bench.site.api.begin()
    dialect = bench.site.api.dialect()
    assert isinstance(dialect, restversions.Dialect)
    wanted = request(bench, "fails")
    place = Place(user=PILOT_USER, home=PurePosixPath("/tmp"), spool=PurePosixPath("/tmp"))
    said = bench.site.api.ask(
        "POST", restversions.submit_path(dialect), body=restversions.submit_body(dialect, wanted, place)
    )
    assert isinstance(said, Said)
    assert said.data.get("warnings", []) == [], json.dumps(said.data)
    assert resttexts.trouble(said) == ""


def state_of(sight: SiteSeen, name: str) -> str:
    return next((record.state.name for record in sight.live if record.name == name), "")


def ended(sight: SiteSeen) -> dict[str, tuple[str, int | None]]:
    assert isinstance(sight.final, FinalSeen)
    return {record.name: (record.state.name, record.exit_code) for record in sight.final.records}
