"""
Laws of the planner, each over any small world.

Each comment names a mutation of the code that turns the test red; each was tried.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import NO, NOW_S, YES, World, crowded_worlds, late_worlds, shuffled, with_intents, worlds

from accounting.model import SiteStop
from factory.caps import is_pending
from factory.model import SitePolicy
from factory.plan import decide, plan
from factory.sites.contract import FinalSeen, SiteSeen, SiteUnseen
from factory.verdict import verdicts, verdicts_of
from glidein.model import Offer, PilotPhase, Shape
from overlay.model import Bucket, DemandAtLeast, DemandSeen, DemandUnseen, SlotsSeen, SlotsUnseen
from tests.tables import pairs_of, table_of

settings.register_profile("planner", max_examples=150, deadline=None)
settings.load_profile("planner")


def _plan(world: World) -> object:
    return plan(world.observation, world.table, world.policy)


def _open_at(world: World) -> Counter[str]:
    return Counter(pilot.offer.site for pilot in world.observation.pilots)


# Mutation: caps._limits without "- site.new" in max_pending.
@given(worlds() | crowded_worlds | late_worlds)
def test_no_cap_is_ever_exceeded(world: World) -> None:
    decided = plan(world.observation, world.table, world.policy)
    after = with_intents(world, decided).observation.pilots
    assert len(decided.order) <= world.policy.max_submits_per_cycle
    if decided.order:
        assert len(after) <= world.policy.max_pilots
    for submit in decided.submits:
        site = next(site for site in world.policy.sites if site.name == submit.site)
        here = [pilot for pilot in after if pilot.offer.site == submit.site]
        shape = next(entry for entry in site.entries if entry.offer.name == submit.shape)
        new = sum(one.count for one in decided.submits if one.site == submit.site)
        assert shape.max_pilots is None or sum(p.offer == shape.offer for p in here) <= shape.max_pilots
        assert new <= max(1, -(-site.max_pilots * world.policy.ramp_percent // 100))
        assert len(here) <= site.max_pilots
        assert sum(map(is_pending, here)) <= site.max_pending


# Mutation: plan._tallies goes over _buckets(observation) without sorted(..., key=size).
@given(worlds() | crowded_worlds | late_worlds, st.randoms(use_true_random=False))
def test_input_order_does_not_matter(world: World, random: Random) -> None:
    assert _plan(world) == _plan(shuffled(world, random))


def _asks_for_nothing_more(world: World) -> None:
    world = replace(world, policy=replace(world.policy, max_submits_per_cycle=1000, ramp_percent=100))
    decided = plan(world.observation, world.table, world.policy)
    again = plan(with_intents(world, decided).observation, world.table, world.policy)
    assert () == again.submits


# Mutation: absorb.supply skips pilots that are only INTENDED.
@given(worlds())
def test_a_world_in_which_nothing_happens_asks_for_nothing_more(world: World) -> None:
    _asks_for_nothing_more(world)


# Mutations: absorb._RANK puts INTENDED first (0); Plan.order is sorted by site. Each shows in 2 of 100 crowded worlds.
@settings(max_examples=600)
@given(crowded_worlds)
def test_a_crowded_world_in_which_nothing_happens_asks_for_nothing_more(world: World) -> None:
    _asks_for_nothing_more(world)


# Mutation: plan._make_up leaves out what is on its way (no absorb).
@settings(max_examples=600)
@given(late_worlds)
def test_a_world_with_late_pilots_in_which_nothing_happens_asks_for_nothing_more(world: World) -> None:
    _asks_for_nothing_more(world)


# Mutation: plan._serve asks for one pilot at least (jobs = max(jobs, 1) before it asks).
@given(worlds() | crowded_worlds | late_worlds)
def test_no_job_left_over_no_pilot(world: World) -> None:
    decision = decide(world.observation, world.table, world.policy)
    assert all(placed.granted == () for placed in decision.placed.values() if placed.rest == 0)
    silent = tuple(
        demand if isinstance(demand, DemandUnseen) else replace(demand, buckets=())
        for demand in world.observation.demands
    )
    assert () == plan(replace(world.observation, demands=silent), world.table, world.policy).submits


# Mutation: Openings.candidates takes sites without asking for a match (found = self._open).
@given(worlds(), st.sampled_from(("unseen", "stopped", "no match")))
def test_adding_a_site_that_cannot_be_used_changes_nothing(world: World, why: str) -> None:
    shape = Shape(cores=64, memory_mib=256_000, disk_mib=100_000, gpus=4, walltime_s=86_400)
    offer = Offer(site="aaron", shape=shape, account="dx1", partition="main")
    seen = world.observation
    match = NO if why == "no match" else YES
    sight = SiteSeen(site="aaron", taken_s=NOW_S, live=(), final=FinalSeen(records=()), reports=())
    with_it = World(
        observation=replace(
            seen,
            sites=(
                *seen.sites,
                SiteUnseen(site="aaron", taken_s=NOW_S, reason="ssh timed out") if why == "unseen" else sight,
            ),
            stops=(*seen.stops, SiteStop(site="aaron", since_s=NOW_S, by="ada", reason="power work"))
            if why == "stopped"
            else seen.stops,
        ),
        table=table_of(
            {
                **pairs_of(world.table),
                **{(bucket, "offer:aaron"): match for bucket, _ in pairs_of(world.table)},
            }
        ),
        policy=replace(
            world.policy, sites=(SitePolicy(offer=offer, max_pilots=99, max_pending=99), *world.policy.sites)
        ),
    )
    before = plan(world.observation, world.table, world.policy)
    after = plan(with_it.observation, with_it.table, with_it.policy)
    assert before == replace(after, breakers=tuple(b for b in after.breakers if b.site != "aaron"))


# Mutation: plan._serve does not subtract what the new pilot takes ("jobs -= taken" gone): every site up to its cap.
@given(worlds() | late_worlds, st.integers(1, 4))
def test_one_idle_job_asks_for_at_most_one_pilot(world: World, cores: int) -> None:
    bucket = Bucket(
        key="ap1/one", ap="ap1", user="ada@pool", group="", jobs=1, first_job="1.0", cores=cores, memory_mib=100,
        disk_mib=1, ad_text="",
    )  # fmt: skip
    demands = (DemandSeen(ap="ap1", taken_s=NOW_S, buckets=(bucket,), running=0),)
    seen = replace(world.observation, demands=demands)
    slots = seen.slots.slots if isinstance(seen.slots, SlotsSeen) else ()
    keys = [e.offer.key for s in world.policy.sites for e in s.entries] + [f"pilot:{s.pilot_id}" for s in slots]
    table = table_of({(bucket.key, key): YES for key in keys})
    decided = plan(seen, table, world.policy)
    assert len(decided.order) <= 1


# Mutation: caps._block leaves out SiteUnseen; and, for cancels, plan._may_cancel without "site in seen".
@settings(max_examples=500)
@given(worlds() | late_worlds)
def test_an_unseen_site_is_left_alone(world: World) -> None:
    unseen = {sight.site for sight in world.observation.sites if isinstance(sight, SiteUnseen)}
    decided = plan(world.observation, world.table, world.policy)
    site_of = {pilot.pilot_id: pilot.offer.site for pilot in world.observation.pilots}
    assert not unseen & {submit.site for submit in decided.submits}
    assert not unseen & {site_of[cancel.pilot_id] for cancel in decided.cancels}
    assert not unseen & {site_of[pilot_id] for pilot_id in decided.surplus}


# Mutations: plan._surplus takes DemandAtLeast for enough; plan._surplus asks nothing of the demands.
@given(worlds() | crowded_worlds | late_worlds, st.sampled_from(("unseen", "at least")))
def test_a_partial_sight_never_scales_down(world: World, kind: str) -> None:
    hidden = (
        DemandUnseen(ap="ap3", taken_s=NOW_S, reason="no answer in 25 s")
        if kind == "unseen"
        else DemandAtLeast(ap="ap3", taken_s=NOW_S, buckets=(), reason="more than 10000 ads")
    )
    seen = replace(world.observation, demands=(*world.observation.demands, hidden))
    decided = plan(seen, world.table, world.policy)
    stopped = {stop.site for stop in seen.stops}
    site_of = {pilot.pilot_id: pilot.offer.site for pilot in seen.pilots}
    assert () == decided.surplus
    assert all(site_of[cancel.pilot_id] in stopped for cancel in decided.cancels)


# Mutation: plan._may_cancel without the phase.
@given(worlds())
def test_only_what_still_waits_is_cancelled(world: World) -> None:
    decided = plan(world.observation, world.table, world.policy)
    by_id = {pilot.pilot_id: pilot for pilot in world.observation.pilots}
    touched = [cancel.pilot_id for cancel in decided.cancels] + list(decided.surplus)
    for pilot_id in touched:
        assert by_id[pilot_id].phase is PilotPhase.PENDING
        assert by_id[pilot_id].cancel_intended_s is None
    assert len(set(decided.surplus)) == len(decided.surplus)


# Mutation: caps._frozen always answers "".
@given(worlds())
def test_slots_unseen_freezes_everything(world: World) -> None:
    blind = replace(world.observation, slots=SlotsUnseen(taken_s=NOW_S, reason="no answer in 25 s"))
    decided = plan(blind, world.table, world.policy)
    assert ((), (), ()) == (decided.submits, decided.cancels, decided.surplus)
    assert decided.frozen


# Mutation: plan._serve records "granted" from "order" (all pilots so far) instead of from this bucket's own.
@given(worlds() | crowded_worlds | late_worlds)
def test_the_numbers_of_verdicts_add_up_to_the_plan(world: World) -> None:
    decision = decide(world.observation, world.table, world.policy)
    granted: Counter[str] = Counter()
    for key, placed in decision.placed.items():
        told = verdicts_of(decision, world.table, world.policy, key)
        assert told == verdicts(world.observation, world.table, world.policy, key)
        assert [site.name for site in world.policy.sites] == [verdict.site for verdict in told]
        granted.update({verdict.site: verdict.granted for verdict in told})
        taken = sum(verdict.absorbed_running + verdict.absorbed_waiting for verdict in told)
        assert taken <= placed.bucket.jobs - placed.rest
    asked = decision.plan.submits
    assert Counter({s.site: n for s in asked if (n := sum(o.count for o in asked if o.site == s.site))}) == +granted
    labels = Counter({f"{s.site}/{s.shape}" if s.shape else s.site: s.count for s in asked})
    assert Counter(decision.plan.order) == labels


# Mutation: verdict._held_back without the loop over binding limits.
@given(worlds() | crowded_worlds | late_worlds)
def test_a_verdict_that_grants_less_than_wanted_says_why(world: World) -> None:
    decision = decide(world.observation, world.table, world.policy)
    for key in decision.placed:
        for verdict in verdicts_of(decision, world.table, world.policy, key):
            assert 0 <= verdict.granted <= verdict.wanted
            codes = {reason.code for reason in verdict.reasons}
            if verdict.granted < verdict.wanted:
                assert codes - {"absorbed", "requirements", "too_large", "too_long"}
            if verdict.wanted == 0:
                assert codes & {"absorbed", "requirements", "too_large", "too_long"}


# Mutation: Stock._able takes all vacancies for matching.
@given(worlds())
def test_no_pilot_is_given_jobs_that_it_does_not_match(world: World) -> None:
    nothing = table_of(dict.fromkeys(pairs_of(world.table), NO))
    decision = decide(world.observation, nothing, world.policy)
    assert () == decision.plan.submits
    assert all(placed.absorbed == () for placed in decision.placed.values())


# Mutation: plan._may_cancel ignores surplus (plan._surplus takes all waiting pilots, also needed ones).
@given(worlds(demand_kinds=("seen",)))
def test_what_is_asked_for_now_is_not_surplus_next(world: World) -> None:
    decided = plan(world.observation, world.table, world.policy)
    then = with_intents(world, decided)
    new = {pilot.pilot_id for pilot in then.observation.pilots} - {p.pilot_id for p in world.observation.pilots}
    waiting = tuple(
        replace(pilot, phase=PilotPhase.PENDING, sent="submitted") if pilot.pilot_id in new else pilot
        for pilot in then.observation.pilots
    )
    # Waiting pilots go before those that nobody sees, so with ghosts about the packing may change.
    assume(not any(p.phase in (PilotPhase.UNKNOWN, PilotPhase.UNCERTAIN, PilotPhase.INTENDED) for p in waiting))
    next_plan = plan(replace(then.observation, pilots=waiting), world.table, world.policy)
    assert not new & set(next_plan.surplus)
