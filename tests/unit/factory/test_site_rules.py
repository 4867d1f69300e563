"""What the site's own admin keeps out: plan and verdict by example, and the law over any small world."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    batch,
    bucket,
    demand,
    observation,
    policy,
    record,
    seen,
    site_policy,
    slot,
    slots,
    table,
)

from factory.journal import Recorded, from_file, to_file
from factory.model import Observation, Verdict
from factory.plan import decide, plan
from factory.sites.contract import SiteUnseen
from factory.verdict import verdicts
from glidein.model import BatchState, PilotPhase
from glidein.siterules import SiteRules, parse_site_rules

FILE = "/etc/aerotow/site-policy.conf"
TWO = replace(policy(site_policy("alpha"), site_policy("beta")), project_vos=(("bio01", ("bio",)), ("dx1", ("astro",))))


def rules(text: str) -> SiteRules:
    return parse_site_rules(text.encode(), file=FILE)


def world(text: str, **more: object) -> Observation:
    """One idle job of ada in project dx1 of VO astro; alpha's admin has written the text, beta's nothing."""
    base = observation(demands=(demand(bucket()),), **more)
    return replace(base, sites=(replace(seen("alpha"), rules=rules(text)), seen("beta")))


def asked(observed: Observation) -> dict[str, int]:
    return {submit.site: submit.count for submit in plan(observed, table(observed), TWO).submits}


def alpha(observed: Observation) -> Verdict:
    return verdicts(observed, table(observed), TWO, "ap1/a")[0]


def test_a_denied_job_goes_elsewhere_and_the_verdict_names_the_file() -> None:
    # Mutation: plan._place takes sites without asking `closed`.
    assert {"alpha": 1} == asked(world("deny project other\n"))
    for text, why in (
        ("deny project dx1\n", "denies project dx1"),
        ("deny vo astro\n", "denies vo astro"),
        ("deny user ADA\n", "denies user ada"),
        ("allow vo bio\n", "allows only vo bio"),
    ):
        observed = world(text)
        assert {"beta": 1} == asked(observed)
        verdict = alpha(observed)
        assert [("denied", "site", f"the admin of site alpha keeps the job out: {FILE} {why}")] == [
            (reason.code, reason.owner, reason.text) for reason in verdict.reasons
        ]
        assert (1, 0) == (verdict.wanted, verdict.granted)


def test_no_pilot_of_the_site_takes_a_denied_job() -> None:
    # Mutation: plan.decide calls absorb without `closed`; the job would wait for a pilot that refuses it.
    waiting = record("alpha", 1, PilotPhase.PENDING)
    running = record("alpha", 2, PilotPhase.IDLE)
    for pilots, there in (((waiting,), slots()), ((running,), slots(slot(running)))):
        assert {} == asked(world("", pilots=pilots, slots=there))
        assert {"beta": 1} == asked(world("deny project dx1\n", pilots=pilots, slots=there))


def test_pause_and_garbage_close_the_site() -> None:
    paused, broken = world("pause power work\n"), world("deny everybody\n")
    assert {"beta": 1} == asked(paused) == asked(broken)
    (reason,) = alpha(paused).reasons
    assert ("paused", "site") == (reason.code, reason.owner)
    assert f"site alpha is closed: paused by the site's admin in {FILE}: power work" == reason.text
    (reason,) = alpha(broken).reasons
    assert ("paused", "site") == (reason.code, reason.owner)
    assert FILE in reason.text
    assert "line 1 is no rule: 'deny everybody'" in reason.text


def test_a_pause_takes_waiting_pilots_back_and_garbage_does_not() -> None:
    # Mutation: plan._stops asks `closed` in place of `paused`.
    def cancels(text: str) -> int:
        observed = world(text, pilots=(record("alpha", 1, PilotPhase.PENDING), record("alpha", 2, PilotPhase.STARTING)))
        observed = replace(observed, sites=(replace(observed.sites[0], live=(batch("alpha", 1, BatchState.PENDING),)),))
        return len(plan(observed, table(observed), TWO).cancels)

    assert (1, 0, 0) == (cancels("pause power work\n"), cancels("garbage\n"), cancels(""))


def test_the_smaller_cap_wins_and_belongs_to_the_site() -> None:
    jobs = demand(bucket(jobs=40, cores=4))
    there = tuple(record("alpha", n, PilotPhase.ENDING) for n in (1, 2))
    for text, new, words in (
        ("cap max_pilots 3\n", 1, "max_pilots 3, 2 open now"),
        ("cap max_pending 1\n", 1, "max_pending 1, 0 waiting now"),
        ("cap max_cores 15\n", 1, "max_cores 15, 8 in open pilots now, 4 in each new one"),
        ("cap max_pilots 0\n", 0, "max_pilots 0, 2 open now"),
    ):
        observed = replace(world(text, pilots=there), demands=(jobs,))
        assert new == asked(observed).get("alpha", 0)
        told = [reason for reason in alpha(observed).reasons if reason.code == "site_cap"]
        assert [("site", True, True)] == [(one.owner, words in one.text, FILE in one.text) for one in told]
    observed = replace(world("cap max_pilots 1000\n", pilots=there), demands=(jobs,))
    assert [] == [reason for reason in alpha(observed).reasons if reason.code == "site_cap"]


def test_an_unseen_sites_rules_are_not_known_and_its_running_pilots_speak_for_themselves() -> None:
    running = record("alpha", 2, PilotPhase.IDLE)
    observed = world("", pilots=(running,), slots=slots(slot(running)))
    unseen = SiteUnseen(site="alpha", taken_s=0, reason="ssh timed out")
    assert {} == asked(replace(observed, sites=(unseen, observed.sites[1])))


def test_rules_are_part_of_the_written_observation() -> None:
    observed = world("deny vo astro\nallow user ada\ncap max_cores 3\npause x\n")
    decided = Recorded(first_s=0, last_s=1, observation=observed, policy=TWO, plan=plan(observed, table(observed), TWO))
    assert decided == from_file(to_file(decided), name="a file")


lines = st.sampled_from(
    [
        "deny project dx1",
        "deny project dx2",
        "deny vo bio",
        "deny user bob",
        "allow vo astro",
        "allow project dx2",
        "cap max_pilots 2",
        "cap max_cores 9",
        "cap max_pending 0",
        "",
        "pause x",
        "garbage",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(lines, max_size=3).map(lambda made: "".join(f"{line}\n" for line in made)),
    jobs=st.lists(st.tuples(st.sampled_from(["dx1", "dx2", "bio01"]), st.integers(1, 9)), max_size=3),
)
def test_no_new_pilot_of_a_site_is_for_a_job_that_its_admin_keeps_out(text: str, jobs: list[tuple[str, int]]) -> None:
    # Mutation: as above; this holds it for every mixture of rules.
    kinds = [bucket(f"ap1/{n}", group=group, jobs=count) for n, (group, count) in enumerate(jobs)]
    observed = replace(world(text), demands=(demand(*kinds),))
    decision = decide(observed, table(observed), TWO)
    said = rules(text)
    for placed in decision.placed.values():
        granted = sum(one.count for one in placed.granted if one.site == "alpha")
        taken = sum(one.waiting + one.running for one in placed.absorbed if one.site == "alpha")
        vos = {"bio01": ("bio",), "dx1": ("astro",)}.get(placed.bucket.group, ())
        assert not (said.denies(user="ada", project=placed.bucket.group, vos=vos) and granted + taken)
    new = sum(one.count for one in decision.plan.submits if one.site == "alpha")
    assert new <= min(said.max_pilots if said.max_pilots is not None else 99, (said.max_cores or 999) // 4)
    assert not (said.closed and new)
