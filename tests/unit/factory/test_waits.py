"""How long pilots may still wait: by example, by law, and never from too little."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from worlds import NOW_S, record

from factory.waits import MEDIAN_MIN, Q95_MIN, Wait, forecast, waits_of
from glidein.model import PilotPhase


def started(*seconds: int) -> list[Wait]:
    return [Wait(seconds=one, started=True) for one in seconds]


def test_waits_are_from_submission_to_start_or_to_the_last_look() -> None:
    # Mutation: take a pilot that still waits for one that started now.
    pilots = (
        record("alpha", 1, PilotPhase.ENDED, submitted_s=100, started_s=160, ended_s=500),
        record("alpha", 2, PilotPhase.PENDING, submitted_s=NOW_S - 50),
        record("alpha", 3, PilotPhase.ENDED, submitted_s=100, started_s=None, ended_s=130),
        record("alpha", 4, PilotPhase.INTENDED, submitted_s=None),
    )
    assert [(30, False), (50, False), (60, True)] == [
        (one.seconds, one.started) for one in waits_of(pilots, now_s=NOW_S)
    ]


def test_too_few_starts_say_nothing() -> None:
    # Mutation: MEDIAN_MIN = 4.
    assert None is forecast(started(1, 2, 3, 4), waited_s=0).q50_s
    assert 3 == forecast(started(1, 2, 3, 4, 5), waited_s=0).q50_s
    assert None is forecast(started(*range(Q95_MIN - 1)), waited_s=0).q95_s
    assert 56 == forecast(started(*range(1, Q95_MIN + 1)), waited_s=0).q95_s - 1  # type: ignore[operator]


def test_only_pilots_that_waited_as_long_are_evidence() -> None:
    # Mutation: keep the short waits in; the rest of a long wait would be told as nothing.
    waits = started(*[5] * 50, 100, 200, 300, 400, 500)
    told = forecast(waits, waited_s=60)
    assert (5, 300 - 60) == (told.starts, told.q50_s)
    assert None is forecast(waits, waited_s=150).q50_s


def test_pilots_that_never_started_count_as_longer_than_seen() -> None:
    # Mutation: leave out waits that did not end in a start: a queue that starts one in ten would look quick.
    waits = [*started(10, 20, 30, 40, 50), *(Wait(seconds=35, started=False) for _ in range(3))]
    assert 40 == forecast(waits, waited_s=0).q50_s
    stuck = [*started(10, 20, 30, 40, 50), *(Wait(seconds=1000, started=False) for _ in range(20))]
    assert None is forecast(stuck, waited_s=0).q50_s


@given(st.lists(st.integers(0, 10_000), min_size=MEDIAN_MIN, max_size=200), st.randoms(use_true_random=False))
def test_without_censoring_it_is_the_plain_quantile(seconds: list[int], random: Random) -> None:
    shuffled = random.sample(seconds, len(seconds))
    assert sorted(seconds)[(len(seconds) + 1) // 2 - 1] == forecast(started(*shuffled), waited_s=0).q50_s
