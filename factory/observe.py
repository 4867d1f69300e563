"""
Look at everything once, supply before demand.

A job that starts between the two looks is then counted as demand no longer, while its slot still counts as free:
the error is one pilot too few for one cycle, never one too many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, TypeVar

import structlog

from accounting.model import PilotRecord
from factory.model import PatiencePolicy, VanishPolicy
from factory.patience import Patience
from factory.sites.causes import with_cause
from factory.sites.contract import KnownPilot, Site, SiteSight, SiteUnseen
from factory.vanishing import Doubts
from overlay.model import Demand, DemandUnseen, Slots, SlotsUnseen

log = structlog.get_logger()

T = TypeVar("T")


class Pool(Protocol):
    """What the loop asks of the HTCondor side; every answer has a type for "could not look"."""

    def slots(self, *, now_s: float) -> Slots:
        """All pilots' slots in the collector."""
        ...

    def demand(self, ap: str, *, now_s: float) -> Demand:
        """What waits at one access point."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sights:
    """One look at the world."""

    sites: tuple[SiteSight, ...]
    slots: Slots
    demands: tuple[Demand, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How carefully the sites are asked and believed."""

    vanish: VanishPolicy
    patience: PatiencePolicy
    words: Mapping[str, float] = field(default_factory=dict)
    """When an operator last said to look at a site now and to believe it; epoch seconds."""


class Looker:
    """
    Keeps one thread per site, so that a site that hangs past its own deadline holds up nobody else.

    A site whose last call has not come back is unseen and is not called again before it has.
    """

    def __init__(self, *, patience_s: float, random: Random | None = None) -> None:
        self._patience_s = patience_s
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="look")
        self._under_way: dict[str, Future[SiteSight]] = {}
        self._doubts = Doubts()
        self._patience = Patience(Random() if random is None else random)  # noqa: S311 - jitter, no secret

    def look(
        self,
        *,
        sites: Mapping[str, Site],
        pool: Pool,
        aps: tuple[str, ...],
        pilots: tuple[PilotRecord, ...],
        clock: Callable[[], float],
        care: Care,
    ) -> Sights:
        """Ask all sites and the collector side by side, then all access points side by side."""
        slots_answer = self._threads.submit(pool.slots, now_s=clock())
        paused: dict[str, SiteUnseen] = {}
        for name, site in sites.items():
            if name in self._under_way:
                continue
            pause = self._patience.paused(name, now_s=clock(), words=care.words)
            if pause is not None:
                paused[name] = pause
            else:
                self._under_way[name] = self._threads.submit(site.look, known_at(name, pilots), now_s=clock())
        wait({self._under_way[name] for name in sites if name not in paused}, timeout=self._patience_s)
        wait({slots_answer}, timeout=self._patience_s)
        looks = [paused.get(name) or self._learnt(name, clock(), care.patience) for name in sorted(sites)]
        sights = self._doubts.examine(looks, pilots, care.vanish, words=care.words)
        slots = _answer(slots_answer, lambda why: SlotsUnseen(taken_s=clock(), reason=why))
        demand_answers = {ap: self._threads.submit(pool.demand, ap, now_s=clock()) for ap in sorted(aps)}
        wait(demand_answers.values(), timeout=self._patience_s)
        demands = tuple(_demand(ap, answer, clock()) for ap, answer in demand_answers.items())
        return Sights(sites=sights, slots=slots, demands=demands)

    def busy(self, site: str) -> bool:
        """Whether the site's last call has not come back: it has one caller at a time."""
        return site in self._under_way

    def hold_off(self, site: str, reason: str, *, now_s: float, patience: PatiencePolicy) -> None:
        """Something else than a look was told by the site that it is asked too much: leave it alone for a while."""
        self._patience.learn(SiteUnseen(site=site, taken_s=now_s, reason=reason, cause="overloaded"), patience)

    def close(self) -> None:
        """Wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _learnt(self, name: str, now_s: float, patience: PatiencePolicy) -> SiteSight:
        """The site's answer with its meaning; one that failed is remembered."""
        return self._patience.learn(with_cause(self._sight(name, now_s)), patience)

    def _sight(self, name: str, now_s: float) -> SiteSight:
        """The site's answer; the call stays under way when it has not come back."""
        future = self._under_way[name]
        if future.done():
            del self._under_way[name]
        return _answer(future, lambda why: SiteUnseen(site=name, taken_s=now_s, reason=why))


def known_at(site: str, pilots: tuple[PilotRecord, ...]) -> tuple[KnownPilot, ...]:
    """The pilots that the ledger holds open at a site."""
    return tuple(
        KnownPilot(pilot_id=pilot.pilot_id, batch_id=pilot.batch_id, intended_s=pilot.intended_s)
        for pilot in sorted(pilots, key=lambda pilot: pilot.pilot_id)
        if pilot.offer.site == site
    )


def _demand(ap: str, answer: Future[Demand], now_s: float) -> Demand:
    """The access point's answer, or that there was none."""
    return _answer(answer, lambda why: DemandUnseen(ap=ap, taken_s=now_s, reason=why))


def _answer(future: Future[T], unseen: Callable[[str], T]) -> T:
    """A call's result; one that is late or broke is an answer of its own type: no thread ends a cycle."""
    if not future.done():
        return unseen("no answer within the cycle's patience")
    error = future.exception()
    if error is not None:
        log.error("look.broke", exc_info=error)
        return unseen(f"our own fault: {type(error).__name__}: {error}")
    return future.result()
