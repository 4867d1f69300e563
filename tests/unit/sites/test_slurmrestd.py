"""
The slurmrestd adapter against a server that misbehaves: every fault has a reason and a remedy, and changes nothing.

What a good slurmrestd says is tried on the three real ones (tests/contract) and on what they said (test_resttexts.py).
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from restserver import VERSION, Asked, RestServer, drip, good, http, make_authority, make_token

from factory.sites.contract import (
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    Refused,
    SiteSeen,
    SiteUnseen,
    SubmitRequest,
    Submitted,
    Uncertain,
)
from factory.sites.restapi import RestSettings
from factory.sites.resthttp import Server
from factory.sites.shell import LocalShell
from factory.sites.slurm import SlurmSettings
from factory.sites.slurmrestd import SlurmrestdSite
from glidein.model import Offer, Shape

PILOT = "tow-alpha-00000001-1"
OFFER = Offer(
    site="alpha",
    shape=Shape(cores=2, memory_mib=200, disk_mib=100, walltime_s=630),
    account="aerotow",
    partition="main",
)
REQUEST = SubmitRequest(
    pilot_id=PILOT, offer=OFFER, files=(("pilot.sh", b"#!/bin/sh\n"), ("token", b"pilots-own-secret\n"))
)
KNOWN = (KnownPilot(pilot_id=PILOT, batch_id="17", intended_s=1),)
QUICK_S = 1.0


class Bench:
    """A site whose slurmrestd is the server of the test, and whose files lie in a shared directory."""

    def __init__(self, directory: Path, *, host: str = "127.0.0.1") -> None:
        self.authority, certificate, key = make_authority(directory, "good", host=host)
        self.server = RestServer(certificate=certificate, key=key)
        self.token_file = directory / "slurm.token"
        self.put_token(make_token())
        self.shared = directory / "shared"
        self.shared.mkdir()
        bundle = directory / "bundle"
        bundle.write_bytes(b"x")
        self.settings = SlurmSettings(
            site="alpha", instance="tow", bundle_path=bundle, bundle_sha256="0" * 64, command_timeout_s=20
        )
        self.rest = RestSettings(
            server=Server.at(f"https://127.0.0.1:{self.server.port}", authority=self.authority, limit_bytes=8 << 20),
            token_file=self.token_file,
            user=None,
            timeout_s=20,
        )

    def put_token(self, text: str, *, mode: int = 0o600) -> None:
        self.token_file.unlink(missing_ok=True)
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(text)
        self.token_file.chmod(mode)

    @property
    def site(self) -> SlurmrestdSite:
        """A site that has seen nothing yet."""
        return SlurmrestdSite(
            self.settings,
            self.rest,
            LocalShell(home=self.shared),
            clock=time.time,
            nonce=lambda: secrets.token_hex(8),
        )

    def look(self, site: SlurmrestdSite | None = None) -> SiteSeen | SiteUnseen:
        return (site or self.site).look(KNOWN, now_s=time.time())

    def submit(self, site: SlurmrestdSite | None = None, patience_s: float = 60) -> object:
        (outcome,) = (site or self.site).submit((REQUEST,), deadline_s=time.time() + patience_s)
        return outcome


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.server.close()


def expired(bench: Bench) -> None:
    bench.put_token(make_token(life_s=-300))


def refused_22(bench: Bench) -> None:
    error = {"error_number": -1, "error": "Unspecified error", "source": "slurm_load_ctl_conf"}
    bench.server.answer = lambda asked: http({"errors": [error]}, status=500)


def refused_24(bench: Bench) -> None:
    error = {"error_number": 1007, "error": "Protocol authentication error"}
    bench.server.answer = lambda asked: http({"errors": [error], "pings": []}, status=511)


def no_token_taken(bench: Bench) -> None:
    bench.server.answer = lambda asked: http(b"Authentication failure", status=401, kind="text/plain")


def readable_by_others(bench: Bench) -> None:
    bench.put_token(make_token(), mode=0o640)


def token_missing(bench: Bench) -> None:
    bench.token_file.unlink()


def token_is_none(bench: Bench) -> None:
    bench.put_token("<html>")


def token_names_nobody(bench: Bench) -> None:
    bench.put_token(make_token(user=None))


def wrong_version(bench: Bench) -> None:
    bench.server.answer = lambda asked: http(b"Unable find requested URL.", status=404, kind="text/plain")


def other_authority(bench: Bench) -> None:
    other, _, _ = make_authority(bench.token_file.parent, "other")
    bench.rest = replace(bench.rest, server=replace(bench.rest.server, authority=other))


def no_authority(bench: Bench) -> None:
    bench.rest = replace(bench.rest, server=replace(bench.rest.server, authority=Path("/nonexistent/ca.pem")))


def other_host(bench: Bench) -> None:
    authority, certificate, key = make_authority(bench.token_file.parent, "elsewhere", host="slurm.example.org")
    bench.server.certificate, bench.server.key = certificate, key
    bench.rest = replace(bench.rest, server=replace(bench.rest.server, authority=authority))


def plain_http(bench: Bench) -> None:
    bench.server.tls = False


def nobody_listens(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    bench.rest = replace(bench.rest, server=replace(bench.rest.server, port=port))


def html_page(bench: Bench) -> None:
    page = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>"
    bench.server.answer = lambda asked: http(page, status=502, kind="text/html; charset=utf-8")


def login_page(bench: Bench) -> None:
    bench.server.answer = lambda asked: http(b"<html><title>Please log in</title>", kind="text/html")


def redirect(bench: Bench) -> None:
    more = "Location: https://elsewhere.example.org/\r\n"
    bench.server.answer = lambda asked: http(b"", status=302, kind="text/plain", more=more)


def empty_json(bench: Bench) -> None:
    bench.server.answer = lambda asked: http({})


def nothing(bench: Bench) -> None:
    bench.server.answer = lambda asked: http(b"")


def ten_megabytes(bench: Bench) -> None:
    bench.server.answer = lambda asked: http({"jobs": [], "padding": "x" * (10 << 20), "errors": []})


def ten_megabytes_without_length(bench: Bench) -> None:
    def answer(asked: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n"
        for _ in range(160):
            yield b"[" * 65536

    bench.server.answer = answer


def impatient(bench: Bench) -> None:
    bench.rest = replace(bench.rest, timeout_s=QUICK_S)


def never_ends(bench: Bench) -> None:
    def answer(asked: Asked) -> Iterator[bytes]:
        yield b'HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n{"jobs": ['
        yield from drip(b" ")

    impatient(bench)
    bench.server.answer = answer


def heads_never_end(bench: Bench) -> None:
    def answer(asked: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 X\r\nX-Padding: "
        yield from drip(b"x")

    impatient(bench)
    bench.server.answer = answer


def says_nothing(bench: Bench) -> None:
    def answer(asked: Asked) -> Iterator[bytes]:
        time.sleep(15)
        yield b""

    impatient(bench)
    bench.server.answer = answer


def cut(bench: Bench) -> None:
    bench.server.answer = lambda asked: iter(())


def cut_within(bench: Bench) -> None:
    def answer(asked: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        yield b'{"jobs": [], "errors": []}'

    bench.server.answer = answer


FAULTS = {
    expired: ("token expired 5 min ago by our clock", "renew it"),
    refused_22: ("Unspecified error", "token expired or not taken, or Slurm itself is down"),
    refused_24: ("Protocol authentication error", "Slurm does not take the token"),
    no_token_taken: ("HTTP 401, Authentication failure", "ask the site"),
    readable_by_others: ("others can read it", "chmod 600"),
    token_missing: ("No such file or directory", "put the site's token there"),
    token_is_none: ("that is no token", "write what 'scontrol token' prints"),
    token_names_nobody: ("it names no user", "set rest_user"),
    wrong_version: ("no API version that we speak (v0.0.45 to v0.0.38", "check the path in 'rest'"),
    other_authority: ("the certificate is not trusted", "ca_file must name the authority"),
    no_authority: ("No such file or directory", "ca_file must be a readable PEM file"),
    other_host: ("the certificate is not trusted", "'rest' the host that it is for"),
    plain_http: ("no TLS", "the address of the TLS side"),
    nobody_listens: ("no connection: Connection refused", "is slurmrestd, or the TLS proxy before it, running"),
    html_page: ("an HTML page (502 Bad Gateway), HTTP 502", "check 'rest'"),
    login_page: ("an HTML page (Please log in), HTTP 200", "check 'rest'"),
    redirect: ("a redirect to https://elsewhere.example.org/", "write the last address into 'rest'"),
    empty_json: ("empty JSON", "check 'rest'"),
    nothing: ("nothing at all, no JSON", "check 'rest'"),
    ten_megabytes: ("the answer is too long", "raise rest_limit, or ask the site for PrivateData=jobs"),
    ten_megabytes_without_length: ("the answer is too long", "raise rest_limit"),
    never_ends: ("no whole answer in 1 s", "slurmrestd or its proxy hangs"),
    heads_never_end: ("no whole answer in 1 s", "slurmrestd or its proxy hangs"),
    says_nothing: ("no whole answer in 1 s", "slurmrestd or its proxy hangs"),
    cut: ("the answer was cut off", "is slurmrestd running behind its proxy?"),
    cut_within: ("the answer was cut off: 74 bytes are missing", "is slurmrestd running behind its proxy?"),
}
"""What goes wrong with every request, and what is said of it."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_has_a_reason_and_a_remedy_and_changes_nothing(bench: Bench, fault) -> None:
    """
    Turned red by: leaving out any branch of resttexts.read_reply, trouble or no_reply; a client that follows
    redirects, does not check certificates, has no byte limit, or takes its time-out anew with every byte.
    """
    fault(bench)
    began_s = time.monotonic()
    sight = bench.look()
    assert isinstance(sight, SiteUnseen), sight
    reason, remedy = FAULTS[fault]
    assert reason in sight.reason
    assert remedy in sight.reason
    outcome = bench.submit()
    assert isinstance(outcome, NotSent), outcome
    assert remedy in outcome.reason
    cancelled = bench.site.cancel(KNOWN)
    assert cancelled.sent == ()
    assert remedy in cancelled.problem
    assert bench.server.asked_to_change() == []
    assert time.monotonic() - began_s < 12


def only_at_submission(answer):
    """A server that is good until something is submitted."""
    return lambda asked: answer(asked) if asked.method == "POST" else good(asked)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (cut, Uncertain),
        (cut_within, Uncertain),
        (html_page, Uncertain),
        (login_page, Uncertain),
        (empty_json, Uncertain),
        (nothing, Uncertain),
        (ten_megabytes, Uncertain),
        (refused_22, Uncertain),
        (refused_24, Uncertain),
        (no_token_taken, NotSent),
        (wrong_version, NotSent),
        (redirect, NotSent),
    ],
)
def test_a_submission_is_not_sent_only_where_there_surely_is_no_job(bench: Bench, fault, kind) -> None:
    """Turned red by: NotSent in the place of Uncertain, or the reverse, in parse_submit or _submit_one."""
    fault(bench)
    bench.server.answer = only_at_submission(bench.server.answer)
    outcome = bench.submit()
    assert isinstance(outcome, kind), outcome
    assert len(bench.server.asked_to_change()) == 1


def test_a_submission_that_gets_no_answer_in_time_is_uncertain(bench: Bench) -> None:
    """Turned red by: a deadline of the submission that is not the one it was given."""
    says_nothing(bench)
    bench.server.answer = only_at_submission(bench.server.answer)
    began_s = time.monotonic()
    outcome = bench.submit(patience_s=5)
    assert isinstance(outcome, Uncertain), outcome
    assert time.monotonic() - began_s < 12


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (500, {"error_number": 2000, "error": "Invalid partition name specified"}, Refused),
        (400, {"error_code": 9001, "error": "Failure during parsing"}, Refused),
        (502, {"error_number": 1800, "error": "Unable to contact slurm controller (connect failure)"}, NotSent),
        (500, {"error_code": 1800, "error": "Unable to contact slurm controller (connect failure)"}, NotSent),
        (504, {"error_number": 5004, "error": "Socket timed out on send/recv operation"}, Uncertain),
        (500, {"error_code": 5005, "error": "Zero Bytes were transmitted or received"}, Uncertain),
    ],
)
def test_slurms_own_numbers_decide_what_became_of_a_submission(bench: Bench, status, error, kind) -> None:
    """The errors are those of the three real ones. Turned red by: taking the status of HTTP for the meaning."""
    bench.server.answer = only_at_submission(lambda asked: http({"errors": [error]}, status=status))
    outcome = bench.submit()
    assert isinstance(outcome, kind), outcome
    assert error["error"] in outcome.reason


def test_nothing_is_sent_after_the_deadline(bench: Bench) -> None:
    """Turned red by: no look at the clock in _submit_one or _upload."""
    assert isinstance(bench.submit(patience_s=1), NotSent)
    assert bench.server.asked_to_change() == []


def test_a_good_server_is_seen_and_its_version_found_once(bench: Bench) -> None:
    """Turned red by: asking for the version at every call."""
    site = bench.site
    sight = bench.look(site)
    assert isinstance(sight, SiteSeen), sight
    assert isinstance(sight.final, FinalSeen)
    probes = [one.path for one in bench.server.asked if one.path.endswith("/ping")]
    assert [f"/slurm/v0.0.{number}/ping" for number in (45, 44, 43, 42)] == probes
    bench.look(site)
    assert probes == [one.path for one in bench.server.asked if one.path.endswith("/ping")]


def test_after_an_upgrade_the_version_is_found_anew(bench: Bench) -> None:
    """Turned red by: keeping the version after HTTP 404."""
    site = bench.site
    assert isinstance(bench.look(site), SiteSeen)

    def upgraded(asked: Asked) -> Iterator[bytes]:
        if VERSION in asked.path:
            return http(b"Unable to find requested URL endpoint.", status=404, kind="text/plain")
        return good(replace(asked, path=asked.path.replace("v0.0.45", VERSION)))

    bench.server.answer = upgraded
    assert isinstance(bench.look(site), SiteUnseen)
    assert isinstance(bench.look(site), SiteSeen)


def test_a_renewed_token_is_used_at_once(bench: Bench) -> None:
    """Turned red by: reading the token's file once."""
    site = bench.site
    expired(bench)
    assert isinstance(bench.look(site), SiteUnseen)
    renewed = make_token(secret="renewed")
    bench.put_token(f"SLURM_JWT={renewed}\n")
    assert isinstance(bench.look(site), SiteSeen)
    assert {renewed} == {one.headers["x-slurm-user-token"] for one in bench.server.asked}
    assert {"pilot"} == {one.headers["x-slurm-user-name"] for one in bench.server.asked}


def test_the_configured_user_is_asked_for_where_the_token_names_none(bench: Bench) -> None:
    """Turned red by: leaving rest_user out."""
    token_names_nobody(bench)
    bench.rest = replace(bench.rest, user="tow")
    assert isinstance(bench.look(), SiteSeen)
    assert {"tow"} == {one.headers["x-slurm-user-name"] for one in bench.server.asked}


def test_a_token_that_is_near_its_end_is_said_to_be(bench: Bench) -> None:
    """On 22.05 a token that expired by the site's clock looks like an outage. Turned red by: no explain()."""
    bench.put_token(make_token(life_s=50))
    refused_22(bench)
    sight = bench.look()
    assert isinstance(sight, SiteUnseen)
    assert re.search(r"by our clock it is valid for (49|50) s: renew it, .* if this lasts", sight.reason)


def test_dead_accounting_leaves_the_queue_seen(bench: Bench) -> None:
    """Turned red by: an unseen site in the place of unseen ends."""
    error = {"error_number": 7000, "error": "Unable to connect to database"}
    bench.server.answer = lambda asked: (
        http({"errors": [error]}, status=502) if "slurmdb" in asked.path else good(asked)
    )
    sight = bench.look()
    assert isinstance(sight, SiteSeen)
    assert isinstance(sight.final, FinalUnseen)
    assert "Unable to connect to database" in sight.final.reason


def test_errors_beside_an_empty_list_are_no_empty_queue(bench: Bench) -> None:
    """22.05's JSON of a dead controller. Turned red by: reading ``jobs`` before ``errors``."""
    error = {"error_number": 1800, "error": "Unable to contact slurm controller (connect failure)"}
    bench.server.answer = lambda asked: good(asked) if "ping" in asked.path else http({"jobs": [], "errors": [error]})
    assert isinstance(bench.look(), SiteUnseen)


def test_no_secret_leaves_but_in_the_header_and_the_spool_file(bench: Bench) -> None:
    """Turned red by: the pilot's token, or Slurm's, in the script, the environment or a path."""
    site = bench.site
    outcome = bench.submit(site)
    assert isinstance(outcome, Submitted)
    assert outcome.batch_id == "17"
    (asked,) = bench.server.asked_to_change()
    assert b"pilots-own-secret" not in asked.body
    token = bench.token_file.read_text()
    for one in bench.server.asked:
        assert token.encode() not in one.body
        assert token not in one.path
        assert token == one.headers["x-slurm-user-token"]
    assert token not in repr((site.api, bench.rest, site.api.token()))
    spool = bench.shared / ".aerotow/tow/pilots" / PILOT
    assert (spool / "token").read_bytes() == b"pilots-own-secret\n"
    assert (spool / "token").stat().st_mode & 0o777 == 0o600


def test_what_is_submitted_is_the_offer(bench: Bench) -> None:
    """Turned red by: a walltime rounded down, another directory, a job that Slurm may requeue."""
    assert isinstance(bench.submit(), Submitted)
    (asked,) = bench.server.asked_to_change()
    job = json.loads(asked.body)["job"]
    spool = str(bench.shared / ".aerotow/tow/pilots" / PILOT)
    assert (PILOT, "aerotow", "main", 2, 200, 11, False) == (
        job["name"],
        job["account"],
        job["partition"],
        job["cpus_per_task"],
        job["memory_per_node"],
        job["time_limit"],
        job["requeue"],
    )
    assert spool == job["current_working_directory"]
    assert f"exec {spool}/pilot.sh {spool}\n" in job["script"]
    assert job["environment"] == [
        f"HOME={bench.shared}",
        "USER=pilot",
        "LOGNAME=pilot",
        "PATH=/usr/local/bin:/usr/bin:/bin",
    ]


def test_a_shared_directory_carries_the_files(bench: Bench) -> None:
    """Turned red by: a local shell that ignores its home."""
    site = bench.site
    assert isinstance(bench.submit(site), Submitted)
    sight = bench.look(site)
    assert isinstance(sight, SiteSeen)
    assert (PILOT,) == sight.spools
    assert site.forget((PILOT,)) == ""
    assert not (bench.shared / ".aerotow/tow/pilots" / PILOT).exists()


def test_the_number_of_requests_does_not_grow_with_the_pilots(bench: Bench) -> None:
    """Turned red by: a request for each pilot in a look or in a cancel."""
    site = bench.site
    counts = []
    bench.look(site)
    for many in (5, 200):
        before = site.api.calls
        known = tuple(
            KnownPilot(pilot_id=f"tow-alpha-00000001-{n}", batch_id=str(n), intended_s=1) for n in range(many)
        )
        assert isinstance(site.look(known, now_s=time.time()), SiteSeen)
        assert site.cancel(known).problem == ""
        counts.append(site.api.calls - before)
    assert counts[0] == counts[1]


def test_a_pilot_that_started_under_an_old_cancel_is_counted(bench: Bench) -> None:
    """
    v0.0.38 cancels whatever the job does by then: one of two had started between our look and our cancel.

    Turned red by: no look after the cancels, or counting those that never had a node.
    """
    cancelled: set[str] = set()

    def job(number: int) -> dict[str, object]:
        hit = str(number) in cancelled
        return {
            "job_id": number,
            "name": f"tow-alpha-00000001-{number}",
            "user_name": "pilot",
            "job_state": "CANCELLED" if hit else "PENDING",
            "nodes": "n1" if hit and number == 1 else "",
        }

    def answer(asked: Asked) -> Iterator[bytes]:
        if "v0.0.38" not in asked.path:
            return http(b"Unable find requested URL.", status=404, kind="text/plain")
        if asked.method == "DELETE":
            cancelled.add(asked.path.rpartition("/")[2])
            return http({"errors": []})
        return http({"jobs": [job(1), job(2)], "errors": []})

    bench.server.answer = answer
    site = bench.site
    known = tuple(KnownPilot(pilot_id=f"tow-alpha-00000001-{n}", batch_id=str(n), intended_s=1) for n in (1, 2))
    outcome = site.cancel(known)
    assert ("", tuple(pilot.pilot_id for pilot in known)) == (outcome.problem, outcome.sent)
    assert {"1", "2"} == cancelled
    assert site.raced == 1


def test_the_controller_itself_is_asked_to_leave_started_pilots_alone(bench: Bench) -> None:
    """Turned red by: a cancel without ``job_state``, or one request for each pilot."""
    jobs = [
        {"job_id": n, "name": f"tow-alpha-00000001-{n}", "user_name": "pilot", "job_state": [state]}
        for n, state in ((1, "PENDING"), (2, "RUNNING"), (3, "PENDING"))
    ]
    bench.server.answer = lambda asked: (
        http({"jobs": jobs, "errors": []}) if asked.path.endswith("/jobs") else good(asked)
    )
    known = tuple(KnownPilot(pilot_id=f"tow-alpha-00000001-{n}", batch_id=str(n), intended_s=1) for n in (1, 2, 3))
    assert bench.site.cancel(known).problem == ""
    (asked,) = bench.server.asked_to_change()
    assert f"/slurm/{VERSION}/jobs/" == asked.path
    assert {"jobs": ["1", "3"], "job_state": ["PENDING"], "user_name": "pilot"} == json.loads(asked.body)
