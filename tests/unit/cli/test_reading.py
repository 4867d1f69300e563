"""What an operator reads: status, sites, pilots. Outputs are read aloud: would one know what to do next?"""

from __future__ import annotations

import json

import pytest

from factory.sites.fake import Faults
from glidein.model import PilotPhase
from tests.simulation.world import INSTANCE
from tests.unit.cli.desk import Desk


def test_before_the_first_cycle_it_is_said_that_nothing_is_known(desk: Desk) -> None:
    # Mutation: default a Sighting to "seen" (factory/report.py), and an operator reads zeros as facts.
    text = desk.run("status").stdout
    assert "no cycle of instance sim is recorded yet: is 'aerotow run' running?" in text.splitlines()[0]
    assert "no data yet: the history has never been read" in text
    status = desk.json("status")
    assert {"never"} == {site["state"] for site in status["sites"]}
    assert [None, None] == [ap["jobs_idle"] for ap in status["access_points"]]
    assert status["factory"]["stale"]


def test_an_old_picture_is_called_old_before_all_else(desk: Desk) -> None:
    # Mutation: compare the age with one second more than any (STALE_CYCLES = 10**9), and this is quiet.
    desk.world.cycle()
    assert "" == desk.run("sites").stderr
    desk.world.now_s += 720
    for command in (("sites",), ("pilots",)):
        assert "last cycle 08:00:30 UTC, 12 min ago" in desk.run(*command).stderr
    assert "last cycle 08:00:30 UTC, 12 min ago" in desk.run("status").stdout.splitlines()[0]


def test_status_counts_pilots_by_phase_and_jobs(desk: Desk) -> None:
    desk.world.submit_jobs(20)
    desk.world.cycle()
    alpha, beta = desk.json("status")["sites"]
    assert (3, 2) == (alpha["pilots"]["pending"], beta["pilots"]["pending"])
    desk.world.cycle()
    desk.world.cycle()
    status = desk.json("status")
    assert ["seen", "seen"] == [site["state"] for site in status["sites"]]
    assert 20 == sum(site["busy_cores"] for site in status["sites"])
    assert (5, 20, 20) == tuple(status["collector"][key] for key in ("slots", "cores", "busy_cores"))
    ap = status["access_points"][0]
    assert ("ap1", "seen", 0, 20) == (ap["ap"], ap["state"], ap["jobs_idle"], ap["jobs_running"])


def test_status_says_since_when_a_site_is_unseen_and_why(desk: Desk) -> None:
    # Mutation: take the last of equal cycles for the first (last_s for first_s in factory/report.py).
    desk.world.cycle()
    desk.world.sites["beta"].faults = Faults(unseen="squeue gave no answer in 30 s")
    for _ in range(4):
        desk.world.cycle()
    beta = next(site for site in desk.json("status")["sites"] if site["site"] == "beta")
    assert ("unseen", 1_800_000_060, 1_800_000_030) == (beta["state"], beta["since_s"], beta["seen_s"])
    line = next(line for line in desk.run("status").stdout.splitlines() if line.startswith("beta: "))
    assert "unseen since 08:01:00 (2 min), last seen 08:00:30: squeue gave no answer in 30 s" in line


def test_since_when_survives_a_change_of_the_reason(desk: Desk) -> None:
    # Mutation: take since from the newest recorded cycle only (factory/report.py).
    desk.world.cycle()
    for reason in ("no answer in 30 s", "connection refused", "no answer in 30 s"):
        desk.world.sites["beta"].faults = Faults(unseen=reason)
        desk.world.cycle()
    beta = next(site for site in desk.json("status")["sites"] if site["site"] == "beta")
    assert 1_800_000_060 == beta["since_s"]


def test_an_unseen_ap_has_no_number_of_jobs(desk: Desk) -> None:
    # Mutation: show 0 for an AP that was not seen (factory/report.py).
    desk.world.submit_jobs(3)
    desk.world.ap_unseen = "ap1: no answer in 25 s"
    desk.world.cycle()
    ap = desk.json("status")["access_points"][0]
    assert ("unseen", None, "ap1: no answer in 25 s") == (ap["state"], ap["jobs_idle"], ap["reason"])
    assert "ap1: unseen since" in desk.run("status").stdout


def test_an_unseen_collector_freezes_and_says_so(desk: Desk) -> None:
    desk.world.submit_jobs(3)
    desk.world.slots_unseen = "collector gave no answer in 25 s"
    desk.world.cycle()
    text = desk.run("status").stdout
    assert "nothing is asked for: the pool's slots are not seen: collector gave no answer in 25 s" in text
    assert None is desk.json("status")["collector"]["slots"]
    assert {None} == {site["busy_cores"] for site in desk.json("status")["sites"]}


def test_sites_tells_of_refusals_breaker_and_owner(desk: Desk) -> None:
    desk.world.submit_jobs(40)
    desk.world.sites["alpha"].faults = Faults(refuse="Invalid account or account/partition combination")
    for _ in range(4):
        desk.world.cycle()
    text = desk.run("sites").stdout
    assert "alpha: breaker (owner: factory, from the pilots' ends) open, 5 failed in a row" in text
    assert "alpha: last ends: 5 refused" in text
    assert "Invalid account or account/partition combination" in text
    assert "next probe" in text
    alpha = desk.json("sites")["sites"][0]
    assert ("open", {"refused": 5}) == (alpha["breaker"]["mode"], alpha["ends"])
    assert "Invalid account or account/partition combination" == alpha["last_refusal"]["detail"]


def test_pilots_are_listed_with_slurm_ids_and_reasons(desk: Desk) -> None:
    for site in desk.world.sites.values():
        site.room = 0
    desk.world.submit_jobs(1)
    desk.world.cycle()
    desk.world.cycle()
    (pilot,) = desk.json("pilots")
    assert ("pending", "alpha", "1") == (pilot["phase"], pilot["site"], pilot["batch_id"])
    line = desk.run("pilots").stdout.splitlines()[2].split()
    # Waits 30 s, in the scheduler's words why.
    assert [pilot["pilot_id"], "pending", "alpha", "1", "30", "s"] == line[:6]


def test_ids_are_whole_when_piped(desk: Desk) -> None:
    # Mutation: let rich take its default of 80 columns (aerotow/cli/show.py), and ids are cut.
    desk.world.submit_jobs(20)
    desk.world.cycle()
    text = desk.run("pilots").stdout
    assert [] == [pilot["pilot_id"] for pilot in desk.json("pilots") if f"{pilot['pilot_id']} " not in text]
    assert "…" not in text


def test_ended_pilots_are_shown_when_asked_for(desk: Desk) -> None:
    desk.world.submit_jobs(1)
    desk.world.run_until("it has ended", lambda: bool(desk.world.jobs[0].done) and not desk.world.live_pilots())
    desk.world.cycle()
    assert "no open pilots (--all shows ended ones)" in desk.run("pilots").stdout
    (pilot,) = desk.json("pilots", "--all")
    assert ("ended", "idle", 1) == (pilot["phase"], pilot["end_reason"], pilot["jobs"])
    assert [pilot] == desk.json("pilots", "--since", "1 h")
    assert [] == desk.json("pilots", "--since", "2027-02-01")


def test_one_pilot_with_its_events(desk: Desk) -> None:
    desk.world.submit_jobs(1)
    for _ in range(3):
        desk.world.cycle()
    (pilot,) = desk.json("pilots")
    shown = desk.json("pilot", pilot["pilot_id"])
    assert ["intended", "pending", "starting", "busy"] == [event["phase"] for event in shown["events"]] or [
        "intended",
        "pending",
        "busy",
    ] == [event["phase"] for event in shown["events"]]
    text = desk.run("pilot", pilot["pilot_id"]).stdout
    for expected in ("4 cores, 8000 MiB, 2.0 h", "life left", "Slurm job", "joined the pool", "submitted: 1"):
        assert expected in text


def test_a_pilot_that_is_not_there_says_what_may_have_been_meant(desk: Desk) -> None:
    desk.world.submit_jobs(1)
    desk.world.cycle()
    pilot_id = desk.world.ledger.open_pilots(INSTANCE)[0].pilot_id
    assert f"did you mean '{pilot_id}'?" in desk.run("pilot", f"{pilot_id}0", code=1).stderr
    assert f"is the Slurm job of {pilot_id} at alpha" in desk.run("pilot", "1", code=2).stderr
    assert "'aerotow pilots --all' lists them" in desk.run("pilot", "nonsense", code=2).stderr


def test_a_mistyped_site_is_named(desk: Desk) -> None:
    result = desk.run("pilots", "--site", "alhpa", code=2)
    assert "did you mean 'alpha'?" in result.stderr
    assert "" == result.stdout


def test_control_characters_of_others_do_not_reach_the_terminal(desk: Desk) -> None:
    desk.world.submit_jobs(1)
    desk.world.sites["alpha"].faults = Faults(refuse="\x1b[2Jgone")
    desk.world.sites["beta"].faults = Faults(refuse="\x1b[2Jgone")
    desk.world.cycle()
    desk.world.cycle()
    for command in (("sites",), ("pilots", "--all"), ("status",)):
        assert "\x1b" not in desk.run(*command).output


@pytest.mark.parametrize("command", ["status", "sites", "pilots", "usage"])
def test_reading_changes_nothing(desk: Desk, command: str) -> None:
    desk.world.submit_jobs(3)
    desk.world.cycle()
    before = desk.world.ledger.pilots(INSTANCE), desk.world.ledger.journal_list(INSTANCE)
    desk.run(command)
    assert before == (desk.world.ledger.pilots(INSTANCE), desk.world.ledger.journal_list(INSTANCE))


def test_a_removed_site_is_shown_while_it_has_pilots(desk: Desk) -> None:
    desk.world.submit_jobs(20, runtime_s=900)
    desk.world.cycle()
    path = desk.app.config_path
    path.write_text(path.read_text().split("[sites.beta]")[0])
    names = {site["site"]: site["configured"] for site in desk.json("status")["sites"]}
    assert {"alpha": True, "beta": False} == names
    assert "beta: has left the configuration; it is watched until its pilots have ended" in desk.run("sites").stdout


def test_json_has_only_plain_values(desk: Desk) -> None:
    desk.world.submit_jobs(3)
    desk.world.cycle()
    for command in ("status", "sites", "pilots", "usage"):
        text = desk.run(command, "--json").stdout
        assert json.loads(text) == json.loads(json.dumps(json.loads(text)))
    assert "pending" == desk.json("pilots")[0]["phase"] == PilotPhase.PENDING.name.lower()
