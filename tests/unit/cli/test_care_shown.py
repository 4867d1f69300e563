"""What the factory does out of care is said, with its reason and what ends it."""

from __future__ import annotations

from dataclasses import replace

from factory.report import races
from factory.sites.fake import Faults
from glidein.model import EndReason, PilotPhase
from tests.unit.cli.desk import Desk
from tests.unit.factory.worlds import record


def test_a_site_that_fails_says_what_it_means_and_when_it_is_asked_again(desk: Desk) -> None:
    # Mutation: sight_remedy() always empty (aerotow/cli/freshness.py).
    desk.world.sites["beta"].faults = Faults(unseen="Socket timed out on send/recv operation")
    for _ in range(3):
        desk.world.cycle()
    beta = next(site for site in desk.json("sites")["sites"] if site["site"] == "beta")
    assert ("unseen", "overloaded") == (beta["state"], beta["cause"])
    assert beta["next_look_s"] > desk.world.now_s
    for command in ("sites", "status"):
        text = desk.run(command).stdout
        assert "the site's scheduler is asked too much by all its users together" in text
        assert "next look at " in text
        assert "or at once with 'aerotow resume beta'" in text


def test_a_frozen_site_says_so_and_how_it_is_confirmed(desk: Desk) -> None:
    # Mutation: no "vanished" in sight_words() (aerotow/cli/freshness.py).
    desk.world.submit_jobs(40, runtime_s=3000)
    for _ in range(6):
        desk.world.cycle()
    alpha = desk.world.sites["alpha"]
    assert len([job for job in alpha.jobs.values() if not job.state.is_final]) >= 4
    alpha.faults = Faults(squeue_text="")
    desk.world.cycle()
    for command in ("sites", "status"):
        text = desk.run(command).stdout
        assert "frozen since " in text
        assert "living pilots" in text
        assert "confirm it with 'aerotow resume alpha'" in text
    desk.run("resume", "alpha")
    desk.world.cycle()
    assert "frozen since" not in desk.run("sites").stdout


def test_pilots_that_a_cancel_hit_too_late_are_counted() -> None:
    # Mutation: races() counts cancelled pilots that nobody here wanted to cancel.
    ended = {"phase": PilotPhase.ENDED, "cancel_intended_s": 5}
    hit = record("alpha", 1, end_reason=EndReason.CANCELLED, **ended)  # type: ignore[arg-type]
    waited = replace(hit, end_reason=EndReason.CANCELLED_PENDING)
    by_others = replace(hit, cancel_intended_s=None)
    assert 1 == races((hit, waited, by_others))
