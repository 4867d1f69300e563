"""The breaker; each comment names a mutation of the code that turns the test red."""

from __future__ import annotations

import pytest
from worlds import BREAKER, NOW_S, outcome, outcomes, record

from factory.breaker import breaker, judge, outcomes_of, trials
from glidein.model import EndReason, PilotPhase

REFUSED = EndReason.REFUSED


def test_failures_in_a_row_open_it_and_say_why() -> None:
    told = outcomes(*(outcome(NOW_S - 10 + n, REFUSED, detail="Invalid account") for n in range(3)))
    state = breaker(told, BREAKER, NOW_S)
    assert ("open", 3, NOW_S - 8, NOW_S - 8 + 300) == (state.mode, state.failures, state.since_s, state.retry_at_s)
    assert "refused: Invalid account" == state.reason


def test_fewer_failures_leave_it_closed() -> None:
    assert "closed" == breaker(outcomes(outcome(NOW_S, REFUSED), outcome(NOW_S, REFUSED)), BREAKER, NOW_S).mode


def test_a_success_between_starts_the_count_anew() -> None:
    told = outcomes(
        outcome(NOW_S - 9, REFUSED),
        outcome(NOW_S - 8, REFUSED),
        outcome(NOW_S - 7, None, joined=True),
        outcome(NOW_S - 6, REFUSED),
    )
    state = breaker(told, BREAKER, NOW_S)
    assert ("closed", 1) == (state.mode, state.failures)


def test_after_the_back_off_it_is_half_open() -> None:
    told = outcomes(*(outcome(NOW_S - 300, REFUSED, pilot_id=f"p{n}") for n in range(3)))
    assert "half_open" == breaker(told, BREAKER, NOW_S).mode
    assert "open" == breaker(told, BREAKER, NOW_S - 1).mode


# Mutation: "2 * backoff_s" loses its 2.
def test_each_failed_probe_doubles_the_back_off_up_to_the_maximum() -> None:
    start = NOW_S - 10_000
    told = [outcome(start, REFUSED, pilot_id=f"p{n}") for n in range(3)]
    pauses = []
    for _ in range(4):
        state = breaker(outcomes(*told), BREAKER, NOW_S)
        assert state.retry_at_s is not None
        pauses.append(state.retry_at_s - told[-1].at_s)
        told.append(outcome(state.retry_at_s, REFUSED, pilot_id=f"p{len(told)}"))
    assert [300, 600, 1000, 1000] == pauses


# Mutation: the branch for failed probes without "outcome.at_s >= retry_at_s".
def test_pilots_that_were_on_their_way_when_it_opened_do_not_lengthen_the_back_off() -> None:
    told = outcomes(*(outcome(NOW_S - 100 + n, EndReason.NOT_JOINED) for n in range(8)))
    assert NOW_S - 98 + 300 == breaker(told, BREAKER, NOW_S).retry_at_s


def test_a_probe_that_joins_closes_it() -> None:
    told = outcomes(
        *(outcome(NOW_S - 900, REFUSED, pilot_id=f"p{n}") for n in range(3)), outcome(NOW_S, None, joined=True)
    )
    assert ("closed", "") == (breaker(told, BREAKER, NOW_S).mode, breaker(told, BREAKER, NOW_S).reason)


@pytest.mark.parametrize(
    ("reason", "joined", "ran_s", "jobs", "expected"),
    [
        (REFUSED, False, None, None, "failure"),
        (EndReason.NOT_JOINED, False, 300, 0, "failure"),
        (EndReason.BAD_BUNDLE, False, 2, 0, "failure"),
        (EndReason.BAD_INPUT, False, 2, 0, "failure"),
        (EndReason.NO_SCRATCH, False, 2, 0, "failure"),
        (EndReason.CONDOR_FAILED, True, 400, 0, "failure"),
        (EndReason.CONDOR_FAILED, True, 4000, 7, "success"),
        (EndReason.FAILED, False, 5, None, "failure"),
        (EndReason.NODE_FAIL, False, 50, None, "failure"),
        (EndReason.NODE_FAIL, True, 500, None, "success"),
        (EndReason.OUT_OF_MEMORY, False, 50, None, "failure"),
        (EndReason.TIMEOUT, False, 7200, None, "failure"),
        (EndReason.TIMEOUT, True, 7200, None, "success"),
        (EndReason.ENDED_SILENTLY, False, 400, None, "failure"),
        (EndReason.ENDED_SILENTLY, True, 40, 0, "failure"),
        (EndReason.ENDED_SILENTLY, True, 40, None, "success"),
        (EndReason.CANCELLED, False, 10, None, "neither"),
        (EndReason.CANCELLED_PENDING, False, None, None, "neither"),
        (EndReason.PREEMPTED, False, 10, None, "neither"),
        (EndReason.PREEMPTED, True, 10, 0, "success"),
        (EndReason.NEVER_APPEARED, False, None, None, "neither"),
        (EndReason.STOPPED, False, 10, None, "neither"),
        (EndReason.IDLE, True, 50, 0, "success"),
        (None, True, None, None, "success"),
        (None, False, None, None, "neither"),
    ],
)
def test_what_an_end_says_of_its_site(
    reason: EndReason | None, joined: bool, ran_s: int | None, jobs: int | None, expected: str
) -> None:
    assert expected == judge(outcome(NOW_S, reason, joined=joined, ran_s=ran_s, jobs=jobs), BREAKER)


def test_every_end_is_judged() -> None:
    for reason in EndReason:
        for joined in (False, True):
            assert judge(outcome(NOW_S, reason, joined=joined), BREAKER) in ("success", "failure", "neither")


# Mutation: outcomes_of dates every ended pilot by its end.
def test_an_old_pilot_that_ends_well_does_not_close_a_breaker_that_opened_meanwhile() -> None:
    old = record(
        "alpha",
        1,
        PilotPhase.ENDED,
        joined_s=NOW_S - 5000,
        ended_s=NOW_S - 5,
        end_reason=EndReason.IDLE,
        jobs=0,
    )
    failed = tuple(
        record("alpha", n, PilotPhase.ENDED, ended_s=NOW_S - 50, end_reason=REFUSED, detail="no") for n in (2, 3, 4)
    )
    (told,) = outcomes_of((old, *failed))
    assert "open" == breaker(told, BREAKER, NOW_S).mode


def test_a_pilot_that_joined_and_failed_without_a_job_is_dated_by_its_end() -> None:
    broken = record(
        "alpha",
        1,
        PilotPhase.ENDED,
        started_s=NOW_S - 5100,
        joined_s=NOW_S - 5000,
        ended_s=NOW_S - 5,
        end_reason=EndReason.CONDOR_FAILED,
        jobs=0,
    )
    (told,) = outcomes_of((broken, record("alpha", 2, PilotPhase.PENDING)))
    assert [(NOW_S - 5, 5095)] == [(o.at_s, o.ran_s) for o in told.outcomes]


def _state(mode: str, failures: int = 3) -> object:
    told = outcomes(*(outcome(NOW_S - 400, REFUSED, pilot_id=f"p{n}") for n in range(failures)))
    state = breaker(told, BREAKER, NOW_S if mode == "half_open" else NOW_S - 300)
    assert mode == state.mode
    return state


def test_open_lets_nothing_through() -> None:
    assert 0 == trials(_state("open"), BREAKER, ())


# Mutation: half_open answers None.
def test_half_open_lets_one_probe_through_and_none_while_it_is_on_its_way() -> None:
    state = _state("half_open")
    assert 1 == trials(state, BREAKER, ())
    for phase in (
        PilotPhase.INTENDED,
        PilotPhase.UNCERTAIN,
        PilotPhase.PENDING,
        PilotPhase.STARTING,
        PilotPhase.UNKNOWN,
    ):
        assert 0 == trials(state, BREAKER, (record("alpha", 1, phase),))
    assert 1 == trials(state, BREAKER, (record("alpha", 1, PilotPhase.BUSY, joined_s=NOW_S - 900),))


# Mutation: trials answers None whenever the breaker is closed.
def test_a_site_that_has_not_said_yes_gets_no_more_submissions_than_open_the_breaker() -> None:
    fresh = breaker(outcomes(), BREAKER, NOW_S)
    assert 3 == trials(fresh, BREAKER, ())
    assert 1 == trials(_state("closed", failures=2), BREAKER, ())
    assert 2 == trials(fresh, BREAKER, (record("alpha", 1, PilotPhase.UNCERTAIN, sent="uncertain"),))
    assert trials(fresh, BREAKER, (record("alpha", 1, PilotPhase.PENDING),)) is None
    assert 1 == trials(_state("closed", failures=2), BREAKER, (record("alpha", 1, PilotPhase.PENDING),))
