"""The site's own admin is named where his word decides."""

from __future__ import annotations

from glidein.siterules import parse_site_rules
from tests.unit.cli.desk import Desk, bucket, found

FILE = "~/.aerotow/site-policy.conf"


def write(desk: Desk, text: str) -> None:
    desk.world.sites["alpha"].rules = parse_site_rules(text.encode(), file=FILE)
    desk.world.submit_jobs(1)
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket())


def test_a_denial_is_the_sites_and_names_its_file(desk: Desk) -> None:
    # Mutation: verdict._verdict without the denial.
    write(desk, "deny vo astro\ncap max_pilots 3\n")
    told = desk.run("why", "ap1#12.0").output
    assert f"the admin of site alpha keeps the job out: {FILE} denies vo astro [site]" in told
    assert f"rules of the site's admin in {FILE} (owner: the site): deny vo astro; cap max_pilots 3" in (
        desk.run("sites").output
    )
    (alpha,) = [one for one in desk.json("sites")["sites"] if one["site"] == "alpha"]
    assert (FILE, [{"kind": "vo", "name": "astro"}], 3) == (
        alpha["rules"]["file"],
        alpha["rules"]["deny"],
        alpha["rules"]["max_pilots"],
    )
    assert 0 == alpha["pilots"]["open"]


def test_a_pause_and_a_broken_file_are_said(desk: Desk) -> None:
    write(desk, "pause power work\n")
    assert "closed by the site" in desk.run("sites").output
    assert f"closed (owner: the site): paused by the site's admin in {FILE}: power work" in desk.run("sites").output
    write(desk, "deny everybody\n")
    assert "line 1 is no rule" in desk.run("sites").output
