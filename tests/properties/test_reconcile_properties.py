"""
Laws of reconciling, over any answer of the sites.

Each comment names a mutation of the code that turns the test red; each was tried.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import NOW_S, World, worlds

from factory.model import Reconciled
from factory.reconcile import reconcile
from factory.sites.contract import FinalSeen, FinalUnseen, SiteSeen, SiteSight
from glidein.model import BatchRecord, BatchState, EndReason, EndReport, PilotPhase

settings.register_profile("reconcile", max_examples=100, deadline=None)
settings.load_profile("reconcile")


@st.composite
def records(draw: st.DrawFn, name: str) -> BatchRecord:
    state = draw(st.sampled_from(BatchState))
    return BatchRecord(
        name=name,
        job_id=str(draw(st.integers(1, 5))),
        state=state,
        raw_state=state.name,
        start_s=draw(st.none() | st.just(NOW_S - 100)),
        end_s=draw(st.none() | st.just(NOW_S - 10)),
    )


@st.composite
def looks(draw: st.DrawFn) -> tuple[World, tuple[SiteSight, ...]]:
    """A world, and what its seen sites say of its pilots and of strangers."""
    world = draw(worlds())
    sights: list[SiteSight] = []
    for sight in world.observation.sites:
        if not isinstance(sight, SiteSeen):
            sights.append(sight)
            continue
        names = [p.pilot_id for p in world.observation.pilots if p.offer.site == sight.site]
        names += [f"tow-{sight.site}-6b49d0ffffff-1", f"other-{sight.site}-6b49d0ffffff-1", "interactive"]
        some = st.lists(st.sampled_from(names).flatmap(records), max_size=4)
        final = draw(st.none() | some)
        sights.append(
            replace(
                sight,
                live=tuple(draw(some)),
                final=FinalUnseen(reason="slurmdbd is down") if final is None else FinalSeen(records=tuple(final)),
                reports=tuple(
                    EndReport(
                        pilot_id=name,
                        reason=draw(st.sampled_from((EndReason.IDLE, EndReason.NOT_JOINED, EndReason.STOPPED))),
                        exit_code=0,
                        start_s=NOW_S - 90,
                        joined_s=None,
                        end_s=NOW_S - 9,
                        node="n1",
                        cores=1,
                        memory_mib=1000,
                        jobs=0,
                    )
                    for name in names[:-3]
                    if draw(st.booleans())
                ),
            )
        )
    return world, tuple(sights)


def looked(world: World, sights: tuple[SiteSight, ...]) -> Reconciled:
    seen = world.observation
    return reconcile(
        pilots=seen.pilots, sights=sights, slots=seen.slots, now_s=NOW_S, instance="tow", policy=world.policy
    )


# Mutation: an ended pilot gets no ended_s where its batch record has none.
@given(looks())
def test_no_pilot_is_lost_and_every_end_has_a_time_and_a_reason(look: tuple[World, tuple[SiteSight, ...]]) -> None:
    world, sights = look
    found = looked(world, sights)
    assert {p.pilot_id for p in world.observation.pilots} == {p.pilot_id for p in found.pilots}
    for pilot in (*found.pilots, *found.adopted):
        ended = pilot.phase is PilotPhase.ENDED
        assert ended == (pilot.end_reason is not None) == (pilot.ended_s is not None)
    assert not {p.pilot_id for p in found.pilots} & {p.pilot_id for p in found.adopted}
    assert all(pilot.phase is not PilotPhase.ENDED for pilot in found.adopted)


# Mutation: _view takes no final records for "none known" (final = {} where it was not seen).
@given(looks())
def test_a_pilot_ends_only_on_somebodys_word(look: tuple[World, tuple[SiteSight, ...]]) -> None:
    world, sights = look
    final_names = {
        record.name
        for sight in sights
        if isinstance(sight, SiteSeen)
        for record in (*sight.live, *(sight.final.records if isinstance(sight.final, FinalSeen) else ()))
        if record.state.is_final
    }
    clean = {s.site for s in sights if isinstance(s, SiteSeen) and isinstance(s.final, FinalSeen)}
    for pilot in looked(world, sights).pilots:
        if pilot.end_reason is EndReason.NEVER_APPEARED:
            assert pilot.offer.site in clean
        elif pilot.end_reason is not None:
            assert pilot.pilot_id in final_names


# Mutation: reconcile treats a site that was not seen as one that showed nothing.
@given(looks())
def test_pilots_of_unseen_sites_keep_their_phase(look: tuple[World, tuple[SiteSight, ...]]) -> None:
    world, sights = look
    seen = {sight.site for sight in sights if isinstance(sight, SiteSeen)}
    before = {pilot.pilot_id: pilot for pilot in world.observation.pilots}
    for pilot in looked(world, sights).pilots:
        if pilot.offer.site not in seen:
            was = before[pilot.pilot_id]
            assert was == replace(pilot, joined_s=was.joined_s, slot_seen_s=was.slot_seen_s)


# Mutation: _one without its last keys (of two records of one name the first that comes).
@given(looks(), st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_matter(look: tuple[World, tuple[SiteSight, ...]], random: Random) -> None:
    world, sights = look
    mixed = tuple(
        replace(sight, live=tuple(random.sample(sight.live, len(sight.live)))) if isinstance(sight, SiteSeen) else sight
        for sight in random.sample(sights, len(sights))
    )
    before, after = looked(world, sights), looked(world, mixed)
    assert [p.phase for p in before.pilots] == [p.phase for p in after.pilots]
    assert [p.batch_id for p in before.pilots] == [p.batch_id for p in after.pilots]
