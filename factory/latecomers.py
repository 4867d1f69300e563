"""
Pilots that have waited so long that nobody counts on them: their jobs are asked for at another site.

They keep their place in the queue, and whichever pilot starts first takes the jobs. A site where one of ours is late
gets none in a late one's place, so a job has at most one pilot that is not late, and one late pilot at each site.
docs/policies.md has what it is worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

from factory.absorb import Vacancy
from factory.model import Observation, Policy
from factory.packing import Stock
from factory.sites.contract import SiteSeen
from glidein.model import Lifetimes, PilotId, PilotPhase
from overlay.model import Bucket, MatchTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Latecomers:
    """Waiting pilots that have waited longer than ``wait_noticed_s``."""

    late: frozenset[PilotId]
    """Those at sites that were seen."""
    unseen: frozenset[PilotId]
    """Those at sites that were not: they may run by now, so nobody is asked for in their place, and nobody called
    surplus on their account."""

    @property
    def all(self) -> frozenset[PilotId]:
        """Whether or not the site was seen."""
        return self.late | self.unseen


def latecomers(observation: Observation, policy: Policy) -> Latecomers:
    """The pilots of an observation that wait too long."""
    seen = {sight.site for sight in observation.sites if isinstance(sight, SiteSeen)}
    overdue = [
        pilot
        for pilot in observation.pilots
        if pilot.phase is PilotPhase.PENDING
        and pilot.cancel_intended_s is None
        and observation.now_s - (pilot.intended_s if pilot.submitted_s is None else pilot.submitted_s)
        > policy.wait_noticed_s
    ]
    return Latecomers(
        late=frozenset(pilot.pilot_id for pilot in overdue if pilot.offer.site in seen),
        unseen=frozenset(pilot.pilot_id for pilot in overdue if pilot.offer.site not in seen),
    )


class Reserve:
    """
    Late pilots that keep their place in the queue: those that would get jobs were no other pilot on its way.

    It is judged site by site. A job may have a late pilot at each: were they counted together, the second site's would
    be called surplus, be cancelled, and be asked for again.
    """

    def __init__(self, late: Iterable[Vacancy], table: MatchTable, lifetimes: Lifetimes) -> None:
        """``late`` as they are before they were given any jobs, and they stay so."""
        self._stock = Stock([copy(vacancy) for vacancy in late], table, lifetimes)
        self.kept: set[PilotId] = set()

    def pour(self, bucket: Bucket, jobs: int, closed: frozenset[str]) -> None:
        """Jobs that no running pilot takes, in the order of the plan; ``closed`` are sites that keep them out."""
        if jobs > 0 and len(self.kept) < len(self._stock.vacancies):
            for vacancy in self._stock.absorb_at_each_site(bucket, jobs, closed):
                self.kept.add(vacancy.pilot_id)
