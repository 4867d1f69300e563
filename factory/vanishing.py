"""
An answer in which most of a site's pilots are missing at once is not believed at once.

Seen in the field: a scheduler that starts anew and says "no jobs" with status 0, and a planner that then asks for all
of them again. So such an answer counts as no sight of the site (law 1), which keeps it from submitting, cancelling and
closing, until as many looks in a row say the same, or an operator does. A pilot that accounting, the queue or its own
end report says has ended is not missing: its end is confirmed. Except one that somebody cancelled and it was not us:
if that hits most pilots at once, someone at the site may not want us there, and asking for new ones at once is rude.

What is then believed is only the answer: a pilot that squeue and sacct both do not know stays open as UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog

from accounting.model import PilotRecord
from factory.model import VanishPolicy
from factory.sites.contract import FinalSeen, SiteSeen, SiteSight, SiteUnseen
from glidein.model import BatchState, PilotId, PilotPhase

log = structlog.get_logger()

_LIVING = frozenset({PilotPhase.PENDING, PilotPhase.STARTING, PilotPhase.IDLE, PilotPhase.BUSY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What is remembered of one site between looks; forgotten with the process, which only begins to doubt anew."""

    since_s: float
    looks: int
    """Whole looks in a row that said the same; 0: nothing is in doubt."""
    missing: frozenset[PilotId]
    believed: frozenset[PilotId]
    """Missing pilots of earlier answers that were believed; they are not counted again."""


def examine(
    sight: SiteSeen,
    pilots: Iterable[PilotRecord],
    prior: Doubt | None,
    policy: VanishPolicy,
    *,
    word_s: float | None,
) -> tuple[SiteSight, Doubt | None]:
    """
    The sight, or that it is not believed, and what to remember of it.

    ``pilots`` are the site's open ones as the last look left them; ``word_s`` is when an operator said to believe.
    """
    believed = frozenset() if prior is None else prior.believed
    living = {
        pilot.pilot_id: pilot
        for pilot in pilots
        if pilot.offer.site == sight.site and pilot.phase in _LIVING and pilot.sent == "submitted"
    }
    believed &= living.keys()
    counted = {name: pilot for name, pilot in living.items() if name not in believed}
    absent, cancelled = _missing(sight, counted)
    missing = absent | cancelled
    if len(missing) < policy.at_least or len(missing) < policy.share * len(counted):
        return sight, _calm(sight, believed)
    since_s, looks = sight.taken_s, 0
    if prior is not None and prior.looks and prior.missing <= missing:
        since_s, looks = prior.since_s, prior.looks
    # Half a look confirms nothing.
    looks = max(1, looks + isinstance(sight.final, FinalSeen))
    if looks >= policy.looks and isinstance(sight.final, FinalSeen):
        return sight, _calm(sight, believed | missing)
    if word_s is not None and word_s >= since_s:
        return sight, _calm(sight, believed | missing)
    unseen = SiteUnseen(
        site=sight.site,
        taken_s=sight.taken_s,
        cause="vanished",
        reason=_words(absent, cancelled, len(counted), looks=looks, policy=policy),
    )
    return unseen, Doubt(since_s=since_s, looks=looks, missing=frozenset(missing), believed=believed)


class Doubts:
    """What is remembered of all sites between the looks of one process."""

    def __init__(self) -> None:
        self._of: dict[str, Doubt] = {}

    def examine(
        self,
        sights: Iterable[SiteSight],
        pilots: tuple[PilotRecord, ...],
        policy: VanishPolicy,
        *,
        words: Mapping[str, float],
    ) -> tuple[SiteSight, ...]:
        """Each sight, or that it is not believed; a site that was not seen changes nothing of what is remembered."""
        examined: list[SiteSight] = []
        for sight in sights:
            if isinstance(sight, SiteUnseen):
                examined.append(sight)
                continue
            site = sight.site
            prior = self._of.pop(site, None)
            told, doubt = examine(sight, pilots, prior, policy, word_s=words.get(site))
            if doubt is not None:
                self._of[site] = doubt
            if isinstance(told, SiteUnseen):
                log.warning("site.frozen", site=site, reason=told.reason)
            elif prior is not None and prior.looks:
                log.warning("site.thawed", site=site)
            examined.append(told)
        return tuple(examined)


def _calm(sight: SiteSeen, believed: frozenset[PilotId]) -> Doubt | None:
    """Nothing is in doubt now."""
    if not believed:
        return None
    return Doubt(since_s=sight.taken_s, looks=0, missing=frozenset(), believed=believed)


def _missing(sight: SiteSeen, living: Mapping[PilotId, PilotRecord]) -> tuple[frozenset[PilotId], frozenset[PilotId]]:
    """Those that nothing in the answer speaks of, and those that somebody else cancelled."""
    final = sight.final.records if isinstance(sight.final, FinalSeen) else ()
    alive = {record.name for record in sight.live if not record.state.is_final}
    ended = {record.name: record.state for record in (*sight.live, *final) if record.state.is_final}
    reported = {report.pilot_id for report in sight.reports}
    gone = living.keys() - alive
    absent = frozenset(name for name in gone if name not in ended and name not in reported)
    cancelled = frozenset(
        name
        for name in gone - absent
        if ended.get(name) is BatchState.CANCELLED and living[name].cancel_intended_s is None
    )
    return absent, cancelled


def _words(
    absent: frozenset[PilotId], cancelled: frozenset[PilotId], counted: int, *, looks: int, policy: VanishPolicy
) -> str:
    """What is missing, in numbers, and how it goes on."""
    parts = [f"{len(absent)} have vanished"] if absent else []
    parts += [f"{len(cancelled)} were cancelled by somebody else"] if cancelled else []
    return (
        f"frozen: of {counted} living pilots {' and '.join(parts)} in one look; "
        f"confirmed by {looks} of {policy.looks} looks in a row"
    )
