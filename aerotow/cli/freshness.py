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
            if sighting.cause == "vanished":
                return f"frozen since {since} ({length})"
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
        "cause": sighting.cause,
        "next_look_s": sighting.next_look_s,
    }


def sight_remedy(sighting: Sighting, *, site: str, now_s: float) -> str:
    """When a site that is not seen is asked again, and what helps meanwhile; empty where nothing is to be said."""
    remedy = {
        "unreachable": "see that the login host answers and its scheduler runs",
        "overloaded": "the site's scheduler is asked too much by all its users together; it is asked less often by us",
        "quota": "make room in the account's home directory",
        "garbled": "run a command at the site by hand and look at what it prints",
        "refused": "look at the account, its key and its token",
        "limit": f"raise sites.{site}.max_calls_per_minute, or make factory.cycle longer",
        "late": "it has one caller at a time; wait, or see what hangs at the site",
        "vanished": "nothing is submitted, cancelled or closed there; if it is true, confirm it",
    }.get(sighting.cause or "", "")
    if sighting.cause == "vanished":
        return f"{remedy} with 'aerotow resume {site}'"
    if sighting.next_look_s is not None and sighting.next_look_s > now_s:
        again = f"next look at {clock_time(sighting.next_look_s, now_s)}, or at once with 'aerotow resume {site}'"
        return f"{remedy}; {again}" if remedy else again
    return remedy
