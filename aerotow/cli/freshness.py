"""Say first how old the picture is: every other number stands on it."""

from __future__ import annotations

from aerotow.cli.app import App
from aerotow.cli.show import ago, clock_time, warn
from factory.picture import Picture, take_picture
from factory.policy import policy_of
from factory.report import Freshness, Sighting


def picture_of(app: App) -> Picture:
    """The recorded picture for the file in force."""
    config = app.config
    return take_picture(
        app.ledger,
        instance=config.instance.name,
        policy=policy_of(config),
        aps=config.access_points,
        cycle_time_s=config.factory.cycle.total_seconds(),
        now_s=app.now_s(),
    )


def warn_when_old(fresh: Freshness, *, instance: str, now_s: float) -> None:
    """One line on stderr, before all else, when no factory seems to work."""
    if fresh.stale:
        warn(age_line(fresh, instance=instance, now_s=now_s))


def age_line(fresh: Freshness, *, instance: str, now_s: float) -> str:
    """How old the picture is, and what to look at when that is too old."""
    if fresh.last_cycle_s is None:
        return f"no cycle of instance {instance} is recorded yet: is 'aerotow run' running?"
    when = f"last cycle {clock_time(fresh.last_cycle_s, now_s)} UTC, {ago(fresh.last_cycle_s, now_s)} ago"
    if not fresh.stale:
        return when
    if fresh.lease is not None and fresh.lease_valid:
        return f"{when}: {fresh.lease.holder} holds the lease but finishes no cycle; look at its log"
    return f"{when}: is 'aerotow run' running?"


def sight_words(sighting: Sighting, now_s: float) -> str:
    """Whether something is seen, and if not since when."""
    match sighting.sight:
        case "seen":
            return "seen"
        case "at_least":
            return "seen in part"
        case "never":
            return "not looked at yet"
        case "unseen":
            since = clock_time(sighting.unseen_since_s, now_s)
            length = ago(sighting.unseen_since_s, now_s)
            if sighting.seen_s is None:
                return f"unseen since {since} or longer ({length})"
            return f"unseen since {since} ({length})"


def freshness_json(fresh: Freshness) -> dict[str, object]:
    """How old the picture is, for scripts."""
    return {
        "last_cycle": fresh.cycle,
        "last_cycle_s": None if fresh.last_cycle_s is None else int(fresh.last_cycle_s),
        "stale": fresh.stale,
        "lease_holder": None if fresh.lease is None else fresh.lease.holder,
        "lease_expires_s": None if fresh.lease is None else int(fresh.lease.expires_s),
        "lease_valid": fresh.lease_valid,
    }


def sighting_json(sighting: Sighting) -> dict[str, object]:
    """Whether something is seen and since when not, for scripts."""
    return {
        "state": sighting.sight,
        "since_s": None if sighting.unseen_since_s is None else int(sighting.unseen_since_s),
        "seen_s": None if sighting.seen_s is None else int(sighting.seen_s),
        "reason": sighting.reason,
    }
