"""One table from the words of a failure to its meaning, for every transport and scheduler."""

from __future__ import annotations

import re
from dataclasses import replace

from factory.sites.contract import Cause, SiteSight, SiteUnseen
from factory.sites.meter import NOT_ASKED

_WORDS: tuple[tuple[Cause, str], ...] = (
    ("limit", rf"^(\w[\w ]*: )?{NOT_ASKED}\b"),
    ("late", r"within the cycle's patience"),
    # Slurm's own words for "too much": RateLimit of slurmctld, its time-out on a socket, a full table of threads.
    (
        "overloaded",
        r"socket timed out|timed out on send/recv|rate.?limit|resource temporarily unavailable|too many"
        r"|try again later|HTTP 429|HTTP 503|backing off|server is busy|max(imum)? ?(threads|connections)",
    ),
    ("quota", r"quota|no space left|file too large|read-only file system"),
    ("garbled", r"no answer of ours"),
    (
        "refused",
        r"permission denied|token|authenti|host key|not trusted|certificate|HTTP 40[13]|invalid user|access denied"
        r"|authori[sz]|credential",
    ),
    (
        "unreachable",
        r"no connection|connection lost|no answer|unable to contact|connection refused|connect failure|no route"
        r"|unreachable|timed out|resolve|network|reset by peer|broken pipe|slurmctld|slurmdbd|HTTP 50[24]",
    ),
    (
        "garbled",
        r"cut short|missing|longer than|more than|not parse|HTML|JSON|redirect|API version|unreadable|not a line"
        r"|does not|cannot be read",
    ),
)
"""The first that fits decides; a rate limit of ours or of the site's is the gravest to overlook."""


def cause_of(reason: str) -> Cause:
    """What a failure means; ``unknown`` when no word of it is known."""
    return next((cause for cause, words in _WORDS if re.search(words, reason, re.IGNORECASE)), "unknown")


def with_cause(sight: SiteSight) -> SiteSight:
    """The sight with its meaning, where the adapter has not told it."""
    if isinstance(sight, SiteUnseen) and sight.cause == "unknown":
        return replace(sight, cause=cause_of(sight.reason))
    return sight
