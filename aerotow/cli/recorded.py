"""A recorded cycle by the moment that somebody names, for the commands that look back."""

from __future__ import annotations

from aerotow.cli.app import App
from aerotow.cli.failure import Failure
from aerotow.cli.show import clock_time, counted
from aerotow.cli.times import moment
from factory.journal import Recorded, read_record


def recorded_at(app: App, at: str | None) -> Recorded:
    """
    The cycle that was in force at a moment, or the last one.

    :raises Failure: no such cycle is recorded.
    """
    instance = app.config.instance.name
    if at is None:
        record = app.ledger.journal_latest(instance)
        if record is None:
            raise Failure(f"no cycle of instance {instance} is recorded; start the factory with 'aerotow run'")
        return read_record(record)
    now_s = app.now_s()
    at_s = moment(at, now_s, option="--at")
    record = app.ledger.journal_at(instance, at_s)
    if record is None:
        spans = app.ledger.journal_list(instance, limit=1_000_000)
        oldest = (
            f"the oldest recorded one is of {clock_time(spans[-1].first_s, now_s)}" if spans else "none is recorded"
        )
        raise Failure(f"no cycle of instance {instance} was in force at {clock_time(at_s, now_s)}; {oldest}")
    return read_record(record)


def cycle_words(recorded: Recorded, now_s: float) -> str:
    """Which cycle it is, for people."""
    held = (
        ""
        if recorded.count == 1
        else f", and {counted(recorded.count - 1, 'equal one')} until {clock_time(recorded.last_s, now_s)}"
    )
    return f"cycle {recorded.observation.cycle} of {clock_time(recorded.first_s, now_s)}{held}"


def cycle_json(recorded: Recorded) -> dict[str, object]:
    """The same for scripts."""
    return {
        "name": recorded.observation.cycle,
        "first_s": int(recorded.first_s),
        "last_s": int(recorded.last_s),
        "count": recorded.count,
    }
