"""
For every law of the planner a change of the code that its property must notice.

`make mutants` makes each in a copy of the tree, runs that one property there, and demands that it fails.
"""

from __future__ import annotations

from tests.spoil import Change, Mutation

PLAN = "factory/plan.py"
CAPS = "factory/caps.py"
ABSORB = "factory/absorb.py"
OPENINGS = "factory/openings.py"
PACKING = "factory/packing.py"
VERDICT = "factory/verdict.py"
LATE = "factory/latecomers.py"

LAWS = "test_plan_properties"
STEADY = "test_steady_properties"
SLOW = "test_late_properties"


def of(name: str, module: str, test: str, *changes: Change) -> Mutation:
    """A mutation in one line."""
    return Mutation(name=name, module=module, test=f"test_{test}", changes=changes)


NEEDED_TOO = (PLAN, "if pilot.pilot_id not in needed | spared and", "if pilot.pilot_id not in spared and")
WHERE_OURS_ARE_LATE = (
    PLAN,
    "granted=tally.moved, closed=means.fast(one.closed))",
    "granted=tally.moved, closed=one.closed)",
)
ALL_SITES_TOGETHER = (
    LATE,
    "for vacancy in self._stock.absorb_at_each_site(bucket, jobs, closed):",
    "for vacancy, _ in self._stock.absorb(bucket, jobs, closed):",
)
NEVER_ENOUGH = (PLAN, "        jobs -= taken\n        count, taken_before", "        count, taken_before")

MUTATIONS = (
    of(
        "max_pending forgets what this cycle asks for",
        LAWS,
        "no_cap_is_ever_exceeded",
        (
            CAPS,
            "site.policy.max_pending - site.pending - site.new",
            "site.policy.max_pending - site.pending",
        ),
    ),
    of(
        "the total forgets what this cycle asks for",
        LAWS,
        "no_cap_is_ever_exceeded",
        (OPENINGS, "        self._left -= 1\n", ""),
    ),
    of(
        "buckets in the order of the answers",
        LAWS,
        "input_order_does_not_matter",
        (PLAN, "for bucket in sorted(_buckets(observation), key=size)", "for bucket in _buckets(observation)"),
    ),
    of(
        "a pilot that is only intended is no supply",
        LAWS,
        "a_world_in_which_nothing_happens_asks_for_nothing_more",
        (
            ABSORB,
            "if pilot.phase in (PilotPhase.ENDED, PilotPhase.ENDING) or",
            "if pilot.phase in (PilotPhase.ENDED, PilotPhase.ENDING, PilotPhase.INTENDED) or",
        ),
    ),
    of(
        "an intended pilot gets jobs before those that run",
        LAWS,
        "a_crowded_world_in_which_nothing_happens_asks_for_nothing_more",
        (ABSORB, "PilotPhase.INTENDED: 3", "PilotPhase.INTENDED: 0"),
    ),
    of(
        "one pilot at least",
        LAWS,
        "no_job_left_over_no_pilot",
        (PLAN, "    while jobs > 0:\n        asked", "    jobs = max(jobs, 1)\n    while jobs > 0:\n        asked"),
    ),
    of(
        "offers that do not match",
        LAWS,
        "adding_a_site_that_cannot_be_used_changes_nothing",
        (OPENINGS, "found = self._bits.of(self._table.rows.get(bucket.key, 0)) & self._open", "found = self._open"),
    ),
    of("every site up to its cap", LAWS, "one_idle_job_asks_for_at_most_one_pilot", NEVER_ENOUGH),
    of(
        "an unseen site is as good as any",
        LAWS,
        "an_unseen_site_is_left_alone",
        (
            CAPS,
            'return Reason(code="site_unseen", text=f"site {state.site} is not seen: {why}", owner="site")',
            "pass",
        ),
    ),
    of(
        "surplus at an unseen site",
        LAWS,
        "an_unseen_site_is_left_alone",
        (
            PLAN,
            "        if pilot.phase is PilotPhase.PENDING\n        and pilot.offer.site in seen\n",
            "        if pilot.phase is PilotPhase.PENDING\n",
        ),
    ),
    of(
        "hidden demand is no demand",
        LAWS,
        "a_partial_sight_never_scales_down",
        (
            PLAN,
            "if not observation.demands or not all(isinstance(demand, DemandSeen) for",
            "if False and not all(True for",
        ),
    ),
    of(
        "what runs is taken back",
        LAWS,
        "only_what_still_waits_is_cancelled",
        (
            PLAN,
            "        if pilot.phase is PilotPhase.PENDING\n        and pilot.offer.site in seen\n",
            "        if pilot.offer.site in seen\n",
        ),
    ),
    of(
        "nobody looked at the slots, and it goes on",
        LAWS,
        "slots_unseen_freezes_everything",
        (CAPS, "if isinstance(slots, SlotsUnseen) else", "if False and isinstance(slots, SlotsUnseen) else"),
    ),
    of(
        "a grant too many in the verdict",
        LAWS,
        "the_numbers_of_verdicts_add_up_to_the_plan",
        (
            PLAN,
            "granted[offer.site, offer.name] = (count + 1, taken_before + taken)",
            "granted[offer.site, offer.name] = (means.openings.asked, taken_before + taken)",
        ),
    ),
    of(
        "a limit that binds is not told",
        LAWS,
        "a_verdict_that_grants_less_than_wanted_says_why",
        (VERDICT, "for limit in binding(site, shape, room):", "for limit in ():"),
    ),
    of(
        "every pilot takes every job",
        LAWS,
        "no_pilot_is_given_jobs_that_it_does_not_match",
        (
            PACKING,
            "return self._matching(places, self._table.rows.get(bucket.key, 0)) if places else 0",
            "return places",
        ),
    ),
    of("what is needed is surplus", LAWS, "what_is_asked_for_now_is_not_surplus_next", NEEDED_TOO),
    of(
        "what waits is no supply",
        STEADY,
        "under_constant_load_nothing_is_asked_for_after_the_first_cycles_and_nothing_cancelled",
        (
            ABSORB,
            "if pilot.phase in (PilotPhase.ENDED, PilotPhase.ENDING) or",
            "if pilot.phase in (PilotPhase.ENDED, PilotPhase.ENDING, PilotPhase.PENDING) or",
        ),
    ),
    of(
        "what is needed is surplus",
        STEADY,
        "no_pilot_is_asked_for_where_one_was_cancelled_that_would_have_done",
        NEEDED_TOO,
    ),
    of(
        "what is needed is surplus",
        STEADY,
        "while_pilots_start_and_as_many_jobs_come_none_that_was_asked_for_is_cancelled",
        NEEDED_TOO,
    ),
    of("every site up to its cap", STEADY, "no_more_is_asked_for_than_the_need_rounded_up_to_shapes", NEVER_ENOUGH),
    of("every site up to its cap", STEADY, "each_new_pilot_takes_a_job_that_nothing_else_takes", NEVER_ENOUGH),
    of(
        "asked for where ours are late",
        SLOW,
        "one_job_has_one_pilot_that_is_not_late_and_one_late_at_each_site_at_most",
        WHERE_OURS_ARE_LATE,
    ),
    of(
        "late pilots of all sites are judged together",
        SLOW,
        "under_constant_load_each_site_is_asked_once_and_nobody_is_cancelled",
        ALL_SITES_TOGETHER,
    ),
    of(
        "late pilots of all sites are judged together",
        SLOW,
        "what_was_cancelled_is_not_asked_for_again_under_constant_load",
        ALL_SITES_TOGETHER,
    ),
    of(
        "turns count only jobs that have no pilot",
        SLOW,
        "late_pilots_change_neither_turns_nor_packing",
        (
            PLAN,
            "turns.served(turn.bucket, turn.jobs - failed)",
            "turns.served(turn.bucket, turn.jobs - failed - sum(tally.late.values()))",
        ),
    ),
    of(
        "jobs that are covered are asked for again",
        SLOW,
        "each_job_of_a_late_pilot_is_covered_asked_for_or_left_once",
        (PLAN, "            left -= taken\n            tally.covered[", "            tally.covered["),
    ),
    of(
        "what is on its way is asked for again",
        LAWS,
        "a_world_with_late_pilots_in_which_nothing_happens_asks_for_nothing_more",
        (
            PLAN,
            "for vacancy, taken in means.stock.absorb(tally.bucket, left, one.closed):",
            "for vacancy, taken in ():",
        ),
    ),
)
