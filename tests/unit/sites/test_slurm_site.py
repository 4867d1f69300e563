"""A Slurm site over our real scripts and a real sh, with commands that say what the test wants."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stubs import CountingShell, Stubs, make_site

from factory.sites import scripts, slurm
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
from factory.sites.exchange import exchange
from factory.sites.shell import Outcome, remote_argv
from factory.sites.slurm import SlurmSite
from glidein.model import BatchState, Offer, Shape

SHAPE = Shape(cores=4, memory_mib=8000, disk_mib=100, walltime_s=3600)
OFFER = Offer(site="alpha", shape=SHAPE, account="grid", partition="main")


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    made = Stubs.make(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("SECRET_OF_THE_LOGIN", "x")
    return made


def pilot(n: int, site: str = "alpha", instance: str = "aero") -> str:
    return f"{instance}-{site}-6b03062e0000-{n}"


def wanted(n: int, offer: Offer = OFFER) -> SubmitRequest:
    return SubmitRequest(pilot_id=pilot(n), offer=offer, files=(("pilot.sh", b"#!/bin/sh\n"), ("token", b"s3cret")))


def known(n: int, batch_id: str | None = None) -> KnownPilot:
    return KnownPilot(pilot_id=pilot(n), batch_id=batch_id, intended_s=int(time.time()) - 60)


def line(n: int, state: str = "RUNNING", name: str | None = None, job_id: int | None = None) -> str:
    return f"NONCE|{job_id or n}|{state}|100|110|N/A|4|main|grid|n1|None|{name or pilot(n)}|NONCE\n"


def row(n: int, state: str = "COMPLETED", name: str | None = None, job_id: int | None = None) -> str:
    return f"{job_id or n}|{state}|0:0|100|110|200|90|60|4|main|grid|n1|None|{name or pilot(n)}\n"


def seen(site: SlurmSite, *pilots: KnownPilot) -> SiteSeen:
    sight = site.look(pilots, now_s=time.time())
    assert isinstance(sight, SiteSeen), sight
    return sight


def unseen(site: SlurmSite, *pilots: KnownPilot) -> str:
    sight = site.look(pilots, now_s=time.time())
    assert isinstance(sight, SiteUnseen), sight
    return sight.reason


class TestLook:
    def test_an_empty_queue_is_seen_and_empty(self, stubs: Stubs) -> None:
        site, _ = make_site(stubs)
        sight = seen(site)
        assert ((), FinalSeen(records=()), ()) == (sight.live, sight.final, sight.spools)
        assert abs(sight.clock_offset_s) < 5

    def test_live_and_final_records_are_told_apart(self, stubs: Stubs) -> None:
        stubs.says("squeue", line(1) + line(2, "COMPLETED"))
        stubs.says("sacct", row(1, "RUNNING") + row(2) + row(3))
        site, _ = make_site(stubs)
        sight = seen(site, known(1, "1"), known(2, "2"), known(3, "3"))
        assert isinstance(sight.final, FinalSeen)
        assert [pilot(1), pilot(2)] == [record.name for record in sight.live]
        assert [pilot(2), pilot(3)] == [record.name for record in sight.final.records]

    def test_only_our_pilots_at_this_site_are_seen(self, stubs: Stubs) -> None:
        foreign = ["other", pilot(4, instance="aerox"), pilot(5, site="beta"), pilot(6) + "x", "aero-alpha-1"]
        stubs.says("squeue", line(1) + "".join(line(7, name=name) for name in foreign))
        for name in (pilot(1), *foreign):
            stubs.spool(name).mkdir(parents=True)
        site, _ = make_site(stubs)
        sight = seen(site)
        assert [pilot(1)] == [record.name for record in sight.live]
        assert (pilot(1),) == sight.spools

    def test_a_job_id_that_is_another_job_now_says_nothing(self, stubs: Stubs) -> None:
        stubs.says("sacct", row(1, name="somebody-else") + row(1, name=pilot(2)))
        site, _ = make_site(stubs)
        assert FinalSeen(records=()) == seen(site, known(1, "1")).final

    def test_an_empty_queue_decides_nothing_about_known_pilots(self, stubs: Stubs) -> None:
        """The row "squeue empty, exit 0, for 20 s" of the fault table: absence is not death, sacct has to say so."""
        pilots = tuple(known(n, str(n)) for n in range(1, 9))
        stubs.says("sacct", "".join(row(n, "RUNNING").replace("|200|", "|Unknown|") for n in range(1, 9)))
        site, _ = make_site(stubs)
        sight = seen(site, *pilots)
        assert sight.live == ()
        assert isinstance(sight.final, FinalSeen)
        assert {BatchState.RUNNING} == {record.state for record in sight.final.records}

    @pytest.mark.parametrize(
        ("out", "err", "status", "words"),
        [
            ("", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", 1, "connect failure"),
            ("", "squeue: error: Invalid user: pilot\n", 0, "Invalid user"),
            ("<html>Bad gateway</html>\n", "", 0, "not an answer"),
            (line(1)[:-10], "", 0, "does not parse"),
        ],
    )
    def test_a_queue_that_cannot_be_believed_is_unseen(
        self, stubs: Stubs, out: str, err: str, status: int, words: str
    ) -> None:
        stubs.says("squeue", out, err, status)
        site, _ = make_site(stubs)
        assert words in unseen(site)

    def test_accounting_that_fails_leaves_the_queue_seen(self, stubs: Stubs) -> None:
        stubs.says("squeue", line(1))
        stubs.says("sacct", "", "sacct: error: Problem talking to the database: Connection refused\n", 1)
        site, _ = make_site(stubs)
        sight = seen(site, known(1, "1"), known(2, "2"))
        assert isinstance(sight.final, FinalUnseen)
        assert "Connection refused" in sight.final.reason
        assert len(sight.live) == 1

    def test_no_cut_of_the_answer_is_seen(self, stubs: Stubs) -> None:
        stubs.says("squeue", line(1))
        site, shell = make_site(stubs)
        whole = len(shell_output(site, shell))
        for cut in range(0, whole - 1, 7):
            shell.cut = cut
            assert unseen(site)

    def test_a_site_without_connection_is_unseen_in_the_words_of_ssh(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        shell.fail = {1: Outcome.NOT_CONNECTED}
        assert unseen(site) == "no connection: ssh: connect to host login port 22: Connection refused"

    def test_a_command_that_hangs_names_itself(self, stubs: Stubs) -> None:
        stubs.says("squeue", first="sleep 30")
        site, _ = make_site(stubs)
        site._settings = replace(site._settings, command_timeout_s=1)
        assert unseen(site) == "no answer in time (in squeue)"

    def test_the_queue_is_asked_again_when_the_controller_was_stuck(self, stubs: Stubs) -> None:
        # A submission that was stuck in the same place takes effect within 1 s of the controller's return.
        stubs.says("squeue", line(1), first="sleep 3.1")
        site, _ = make_site(stubs)
        assert len(seen(site).live) == 1
        assert len(stubs.calls("squeue")) == 2

    def test_noise_before_the_answer_is_no_part_of_it(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        run = shell.inner.run

        def noisy(script):  # type: ignore[no-untyped-def]
            result = run(script)
            return replace(result, stdout=b"Last login: today\n@home\n" + result.stdout, stderr=b"motd: error\n")

        shell.inner.run = noisy  # type: ignore[method-assign]
        assert seen(site).live == ()

    def test_commands_do_not_grow_with_pilots(self, stubs: Stubs) -> None:
        """5000 pilots are one command to the site, and lists that fit into an argument."""
        site, shell = make_site(stubs)
        pilots = [known(n, str(10_000_000 + n) if n % 2 else None) for n in range(5000)]
        seen(site, *pilots)
        assert len(shell.scripts) == 1
        assert len(stubs.calls("squeue")) == 1
        assert len(stubs.calls("sacct")) == 3
        asked = [word for call in stubs.calls("sacct") for word in call]
        assert all(len(word) < 100_000 for word in asked)
        ids = ",".join(asked[asked.index("-j") + 1 : asked.index("-j") + 2]).split(",")
        assert ids == [pilot.batch_id for pilot in pilots if pilot.batch_id]

    def test_names_are_asked_for_since_before_the_oldest_intent(self, stubs: Stubs) -> None:
        site, _ = make_site(stubs)
        old = replace(known(1), intended_s=int(time.time()) - 100_000)
        seen(site, old, known(2))
        (call,) = stubs.calls("sacct")
        since = call[call.index("-S") + 1]
        assert 100_000 < int(since.removeprefix("now-")) < 102_000
        assert f"{pilot(1)},{pilot(2)}" == call[call.index("--name") + 1]


def shell_output(site: SlurmSite, shell: CountingShell) -> bytes:
    site.look((), now_s=time.time())
    return shell.inner.run(shell.scripts[-1]).stdout


class TestSubmit:
    def test_a_pilot_is_submitted_from_its_own_directory(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        (outcome,) = site.submit((wanted(1),), deadline_s=time.time() + 30)
        assert Submitted(pilot_id=pilot(1), batch_id="7") == outcome
        spool = stubs.spool(pilot(1))
        (call,) = stubs.calls("sbatch")
        assert [f"--chdir={spool}", f"--output={spool}/slurm.out", f"{spool}/pilot.sh", str(spool)] == call[-4:]
        assert f"--job-name={pilot(1)}" in call
        assert len(shell.scripts) == 2

    def test_spool_files_are_for_their_owner_alone(self, stubs: Stubs) -> None:
        site, _ = make_site(stubs)
        site.submit((wanted(1),), deadline_s=time.time() + 30)
        spool = stubs.spool(pilot(1))
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (spool, *spool.iterdir())}
        assert {pilot(1): "0o700", "pilot.sh": "0o700", "token": "0o600"} == modes
        assert (spool / "token").read_bytes() == b"s3cret"
        for path in spool.parents[:3]:
            assert oct(path.stat().st_mode & 0o777) == "0o700"
        assert [pilot(1)] == [path.name for path in spool.parent.iterdir()]

    def test_a_secret_is_in_no_argument_and_no_environment(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        site.submit((wanted(1),), deadline_s=time.time() + 30)
        assert not any("s3cret" in word for call in stubs.calls("sbatch") for word in call)
        environment = (stubs.base / "sbatch.env").read_text()
        assert "s3cret" not in environment
        assert "SECRET_OF_THE_LOGIN" not in environment
        assert {"HOME", "USER", "LOGNAME", "PATH"} <= {entry.split("=")[0] for entry in environment.splitlines()}
        assert "s3cret" not in repr(shell.scripts) + repr(wanted(1))

    def test_many_pilots_are_two_commands(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        outcomes = site.submit(tuple(wanted(n) for n in range(40)), deadline_s=time.time() + 60)
        assert all(isinstance(outcome, Submitted) for outcome in outcomes)
        assert [pilot(n) for n in range(40)] == [outcome.pilot_id for outcome in outcomes]
        assert len(shell.scripts) == 2

    def test_a_refusal_is_of_one_pilot(self, stubs: Stubs) -> None:
        refuse = f'case "$*" in *{pilot(2)}*) echo "sbatch: error: Batch job submission failed: No" >&2; exit 1;; esac'
        stubs.says("sbatch", "7\n", first=refuse)
        site, _ = make_site(stubs)
        outcomes = site.submit((wanted(1), wanted(2), wanted(3)), deadline_s=time.time() + 30)
        assert [Submitted, Refused, Submitted] == [type(outcome) for outcome in outcomes]
        assert isinstance(outcomes[1], Refused)
        assert outcomes[1].reason == "Batch job submission failed: No"

    def test_an_upload_that_failed_sent_nothing(self, stubs: Stubs) -> None:
        (stubs.home / ".aerotow").write_text("in the way")
        site, _ = make_site(stubs)
        (outcome,) = site.submit((wanted(1),), deadline_s=time.time() + 30)
        assert isinstance(outcome, NotSent)
        assert outcome.reason.startswith("upload: ")
        assert stubs.calls("sbatch") == []

    @pytest.mark.parametrize("failure", [Outcome.CONNECTION_LOST, Outcome.TIMED_OUT, Outcome.TOO_MUCH])
    def test_an_upload_whose_answer_was_lost_sent_nothing(self, stubs: Stubs, failure: Outcome) -> None:
        site, shell = make_site(stubs)
        shell.fail = {1: failure}
        (outcome,) = site.submit((wanted(1),), deadline_s=time.time() + 30)
        assert isinstance(outcome, NotSent)

    @pytest.mark.parametrize("failure", [Outcome.CONNECTION_LOST, Outcome.TIMED_OUT, Outcome.TOO_MUCH])
    def test_a_submission_whose_answer_was_lost_is_uncertain(self, stubs: Stubs, failure: Outcome) -> None:
        # Dies with NotSent here: the pilot may run, and would be submitted again.
        site, shell = make_site(stubs)
        shell.fail = {2: failure}
        (outcome,) = site.submit((wanted(1),), deadline_s=time.time() + 30)
        assert isinstance(outcome, Uncertain)

    def test_a_connection_lost_in_the_middle_keeps_the_answers_that_came(self, stubs: Stubs) -> None:
        stubs.says("sbatch", "7\n", first=f'case "$*" in *{pilot(2)}*) kill -9 $(ps -o ppid= -p $PPID); sleep 1;; esac')
        site, _ = make_site(stubs)
        outcomes = site.submit((wanted(1), wanted(2), wanted(3)), deadline_s=time.time() + 30)
        assert [Submitted, Uncertain, Uncertain] == [type(outcome) for outcome in outcomes]

    def test_no_sbatch_starts_near_or_past_the_deadline(self, stubs: Stubs) -> None:
        """How many fit in depends on the machine; the first does on any, and all of them on none."""
        stubs.says("sbatch", "7\n", first="sleep 2")
        site, _ = make_site(stubs)
        outcomes = site.submit(tuple(wanted(n) for n in range(8)), deadline_s=time.time() + 8)
        sent = len(stubs.calls("sbatch"))
        assert 1 <= sent <= 3, "each takes 2 s, and the last may not start later than 3 s before the deadline"
        assert [Submitted] * sent + [NotSent] * (8 - sent) == [type(outcome) for outcome in outcomes]

    def test_the_deadline_is_by_our_clock_whatever_the_site_thinks(self, stubs: Stubs) -> None:
        """Our clock is an hour behind the site's; taken as it is, our deadline would have passed there long ago."""
        site, _ = make_site(stubs, now_s=time.time() - 3600)
        (outcome,) = site.submit((wanted(1),), deadline_s=time.time() - 3600 + 30)
        assert isinstance(outcome, Submitted)
        assert site.look((), now_s=0).clock_offset_s > 3500  # type: ignore[union-attr]

    def test_an_sbatch_that_hangs_is_ended_and_uncertain(self, stubs: Stubs) -> None:
        stubs.says("sbatch", "7\n", first="sleep 60")
        site, _ = make_site(stubs)
        (outcome,) = site.submit((wanted(1),), deadline_s=time.time() + 5)
        assert isinstance(outcome, Uncertain)

    def test_a_script_cut_anywhere_submits_no_half_order(self, stubs: Stubs) -> None:
        """The connection ends while the orders are being sent: what runs is whole, the rest does not run."""
        site, shell = make_site(stubs)
        requests = (wanted(1), wanted(12))
        site.submit(requests, deadline_s=time.time() + 3600)
        whole = stubs.calls("sbatch")
        script = shell.scripts[1]
        raw = script.text.encode() + script.data
        (stubs.base / "sbatch.calls").unlink()
        for length in [*range(0, len(raw), 97), *range(len(raw) - 120, len(raw))]:
            exchange(remote_argv(script), data=raw[:length], timeout_s=20, limit_bytes=10_000)
            calls = stubs.calls("sbatch")
            assert all(call in whole for call in calls), length
            (stubs.base / "sbatch.calls").unlink(missing_ok=True)

    def test_an_upload_cut_anywhere_changes_nothing(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        site.submit((wanted(1), wanted(2)), deadline_s=time.time() + 30)
        assert site.forget((pilot(1), pilot(2))) == ""
        script = shell.scripts[0]
        raw = script.text.encode() + script.data
        for length in range(len(script.text), len(raw) - 9000, 257):
            exchange(remote_argv(script), data=raw[:length], timeout_s=20, limit_bytes=10_000)
            assert not stubs.spool(pilot(1)).exists(), length
        assert [] == list(stubs.spool(pilot(1)).parent.iterdir())

    def test_a_second_upload_replaces_what_a_first_one_left(self, stubs: Stubs) -> None:
        site, _ = make_site(stubs)
        site.submit((wanted(1),), deadline_s=time.time() + 30)
        (stubs.spool(pilot(1)) / "stale").write_text("x")
        site.submit((wanted(1),), deadline_s=time.time() + 30)
        assert {"pilot.sh", "token"} == {path.name for path in stubs.spool(pilot(1)).iterdir()}

    def test_nothing_to_submit_is_no_command(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        assert site.submit((), deadline_s=time.time() + 30) == ()
        assert shell.scripts == []


words = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"], codec="utf-8"), min_size=1, max_size=30)


def test_any_option_reaches_sbatch_as_it_is(stubs: Stubs) -> None:
    site, _ = make_site(stubs)

    @settings(deadline=None, max_examples=15)
    @given(words, words)
    def check(account: str, partition: str) -> None:
        (stubs.base / "sbatch.calls").unlink(missing_ok=True)
        offer = replace(OFFER, account=account, partition=partition)
        site.submit((wanted(1, offer),), deadline_s=time.time() + 30)
        (call,) = stubs.calls("sbatch")
        assert f"--account={account}" in call
        assert f"--partition={partition}" in call

    check()


class TestOthers:
    def test_a_cancel_filters_in_the_controller_where_it_can(self, stubs: Stubs) -> None:
        site, shell = make_site(stubs)
        (stubs.base / "scancel.help").write_text("      --ctld    send request directly to slurmctld\n")
        outcome = site.cancel((known(1, "11"), known(2)))
        assert ((pilot(1), pilot(2)), "") == (outcome.sent, outcome.problem)
        by_id, by_name = stubs.calls("scancel")
        assert by_id[:2] == ["--ctld", "--state=PENDING"]
        assert [f"--name={pilot(1)}", "11"] == by_id[-2:]
        assert f"--name={pilot(2)}" == by_name[-1]
        assert len(shell.scripts) == 1

    def test_a_cancel_without_that_option_still_asks_only_for_waiting_ones(self, stubs: Stubs) -> None:
        site, _ = make_site(stubs)
        site.cancel((known(1, "11"),))
        (call,) = stubs.calls("scancel")
        assert "--state=PENDING" in call
        assert "--ctld" not in call

    def test_a_cancel_that_failed_says_why(self, stubs: Stubs) -> None:
        stubs.says("scancel", "", "scancel: error: Unable to contact slurm controller (connect failure)\n", 8)
        site, _ = make_site(stubs)
        outcome = site.cancel((known(1, "11"), known(2, "12")))
        assert ((), "scancel: Unable to contact slurm controller (connect failure)") == (outcome.sent, outcome.problem)

    @pytest.mark.parametrize("name", ["", ".", "..", "../../x", "a b", pilot(1, instance="other"), pilot(1, "beta")])
    def test_only_directories_of_our_own_pilots_are_removed(self, stubs: Stubs, name: str) -> None:
        stubs.spool(pilot(1)).mkdir(parents=True)
        site, shell = make_site(stubs)
        assert site.forget((name,)).startswith("no pilots of aero at alpha")
        assert stubs.spool(pilot(1)).exists()
        assert shell.scripts == []

    def test_the_bundle_is_put_once_a_connection(self, stubs: Stubs) -> None:
        import hashlib

        content = bytes(range(256)) * 4000
        sha256 = hashlib.sha256(content).hexdigest()
        (stubs.base / "bundle").write_bytes(content)
        site, shell = make_site(stubs)
        site._settings = replace(site._settings, bundle_sha256=sha256)
        there = stubs.home / slurm.bundle_name(sha256)
        assert site.prepare() == ""
        assert content == there.read_bytes()
        assert site.prepare() == ""
        assert len(shell.scripts) == 2
        shell.connection = 2
        there.write_bytes(b"spoilt")
        assert site.prepare() == ""
        assert content == there.read_bytes()

    def test_a_bundle_that_is_not_the_one_that_was_meant_is_not_kept(self, stubs: Stubs) -> None:
        (stubs.base / "bundle").write_bytes(b"something else")
        site, _ = make_site(stubs)
        assert "the bundle arrived as sha256 " in site.prepare()
        assert [] == list((stubs.home / ".aerotow/bundles").iterdir())

    def test_a_bundle_that_cannot_be_read_is_named(self, stubs: Stubs) -> None:
        site, _ = make_site(stubs)
        assert "bundle: No such file or directory" in site.prepare()

    def test_slurm_is_found_on_the_path_of_a_login_shell(self, stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        profile = f"echo Welcome\nexport PATH={stubs.base}/bin:/usr/bin:/bin\n"
        (stubs.home / ".bash_profile").write_text(profile)
        stubs.says("squeue", line(1))
        site, _ = make_site(stubs)
        assert len(seen(site).live) == 1

    def test_a_host_without_slurm_is_unseen(self, stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        site, _ = make_site(stubs)
        assert "not found" in unseen(site)


def test_orders_end_with_their_end() -> None:
    for orders in (
        slurm.look_orders((known(1, "1"), known(2)), now_s=time.time(), policy_file="~/p"),
        slurm.submit_orders((wanted(1),), limit_s=1),
        slurm.cancel_orders((known(1),)),
    ):
        assert orders.endswith(b"\nend\n")
    assert scripts.SBATCH_MIN_S < scripts.SBATCH_MAX_S
