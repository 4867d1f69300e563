"""
The factory's numbers for Prometheus, of the last cycle and of all since it started.

What the last cycle saw is told as of that cycle, never as of now: ``aerotow_last_cycle_timestamp_seconds`` says when
that was, and what it did not see has no number but a "not seen".
"""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from factory.errors import MetricsNotServed
from factory.model import Observation
from factory.report import races
from factory.sites.contract import SiteSeen, SiteUnseen
from factory.sites.meter import CallMeter
from factory.watch import CycleReport, Failed
from glidein.model import PilotPhase
from overlay.model import DemandAtLeast, DemandUnseen, SlotsUnseen

K = TypeVar("K", bound=tuple[str, ...])

STEP_BUCKETS_S = (0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 180.0)


class Metrics(Collector):
    """Keeps the numbers and gives them to whoever scrapes; ``meters`` are the calls to each site."""

    def __init__(self, *, meters: Callable[[], Mapping[str, CallMeter]], started_s: float) -> None:
        self._meters = meters
        self._started_s = started_s
        self._lock = threading.Lock()
        self._last: CycleReport | None = None
        self._seen_s: dict[tuple[str, str], float] = {}
        self.registry = CollectorRegistry()
        self._steps = Histogram(
            "aerotow_cycle_step_seconds",
            "time of a cycle by step; 'all' is the whole cycle",
            ("step",),
            buckets=STEP_BUCKETS_S,
            registry=self.registry,
        )
        self._cycles = self._counter("cycles", "cycles by how they went: done, ledger, lease, broke", "result")
        self._submits = self._counter(
            "submissions", "pilots asked for: submitted, refused, uncertain, not_sent", "site", "outcome"
        )
        self._cancels = self._counter("cancels", "cancels of waiting pilots that were sent", "site")
        self._races = self._counter("cancel_races", "pilots that had started when such a cancel came", "site")
        self._ended = self._counter("pilots_ended", "pilots by how they ended", "site", "reason")
        self._frozen = self._counter("freezes", "looks that were not believed because most pilots vanished", "site")
        for why in ("done", "ledger", "lease", "broke"):
            self._cycles.labels(why)
        self.registry.register(self)

    def cycle_done(self, report: CycleReport) -> None:
        """Take the numbers of a cycle."""
        for step, seconds in report.steps:
            self._steps.labels(step).observe(seconds)
        self._steps.labels("all").observe(sum(seconds for _, seconds in report.steps))
        self._cycles.labels("done").inc()
        for outcome in report.submissions:
            self._submits.labels(report.site_of.get(outcome.pilot_id, ""), outcome.kind).inc()
        for cancel in report.cancels:
            self._cancels.labels(cancel.site).inc(len(cancel.sent))
        for pilot in report.ended:
            self._ended.labels(pilot.offer.site, "" if pilot.end_reason is None else pilot.end_reason.value).inc()
            self._races.labels(pilot.offer.site).inc(races((pilot,)))
        for sight in report.observation.sites:
            if isinstance(sight, SiteUnseen) and sight.cause == "vanished":
                self._frozen.labels(sight.site).inc()
        with self._lock:
            self._last = report
            for kind, name, seen, _ in _sights(report.observation):
                if seen:
                    self._seen_s[kind, name] = report.observation.now_s

    def cycle_failed(self, why: Failed) -> None:
        """Count it."""
        self._cycles.labels(why).inc()

    def text(self) -> str:
        """What a scrape gets."""
        return generate_latest(self.registry).decode()

    def collect(self) -> Iterator[Metric]:
        """The numbers of the last cycle, and the calls until now."""
        started = GaugeMetricFamily("aerotow_started_timestamp_seconds", "when this factory started")
        started.add_metric((), self._started_s)
        yield started
        yield from _call_metrics(self._meters())
        with self._lock:
            last, seen_s = self._last, dict(self._seen_s)
        if last is None:
            return
        yield _gauge("last_cycle_timestamp_seconds", "when the last whole cycle began", {(): last.observation.now_s})
        yield from _sight_metrics(last, seen_s)
        yield from _pilot_metrics(last)
        idle = {
            (demand.ap,): float(sum(bucket.jobs for bucket in demand.buckets))
            for demand in last.observation.demands
            if not isinstance(demand, DemandUnseen)
        }
        yield _gauge("jobs_idle", "idle jobs of an access point that was seen; at least", idle, "ap")
        wanted = {(one.site,): float(one.count) for one in last.plan.submits}
        yield _gauge("pilots_wanted", "new pilots that the last plan asked for", wanted, "site")
        yield _gauge("frozen", "1 when nothing at all may be asked for", {(): float(bool(last.plan.frozen))})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"aerotow_{name}", text, labels, registry=self.registry)


def serve(metrics: Metrics, listen: str) -> Callable[[], None]:
    """
    Serve the numbers at ``listen`` (``address:port``) from a thread of its own; gives how to end that.

    :raises MetricsNotServed: the address cannot be listened at.
    """
    address, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=address.strip("[]"), registry=metrics.registry)
    except OSError as error:
        raise MetricsNotServed(listen=listen, problem=error.strerror or str(error)) from error

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)

    return close


def _gauge(name: str, text: str, values: Mapping[K, float], *labels: str) -> GaugeMetricFamily:
    """One family of numbers that go up and down."""
    family = GaugeMetricFamily(f"aerotow_{name}", text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _call_metrics(meters: Mapping[str, CallMeter]) -> Iterator[Metric]:
    """What each site was asked."""
    calls = CounterMetricFamily("aerotow_site_calls", "remote commands and REST requests", labels=("site",))
    kept = CounterMetricFamily("aerotow_site_calls_not_made", "calls that the site's limit forbade", labels=("site",))
    commands = CounterMetricFamily(
        "aerotow_scheduler_commands", "commands run at the site's scheduler", labels=("site", "command")
    )
    recent: dict[tuple[str, ...], float] = {}
    for site, meter in sorted(meters.items()):
        now = meter.calls()
        calls.add_metric((site,), now.calls)
        kept.add_metric((site,), now.not_made)
        recent[(site,)] = now.last_minute
        for command, count in now.commands:
            commands.add_metric((site, command), count)
    yield calls
    yield kept
    yield commands
    yield _gauge("site_calls_last_minute", "calls in the last 60 s", recent, "site")
    yield _gauge("calls_last_minute", "calls to all sites in the last 60 s", {(): sum(recent.values())})


def _sights(observation: Observation) -> Iterator[tuple[str, str, bool, bool]]:
    """Kind, name, whether it was seen, whether as a whole."""
    for site in observation.sites:
        yield "site", site.site, isinstance(site, SiteSeen), isinstance(site, SiteSeen)
    for demand in observation.demands:
        seen = not isinstance(demand, DemandUnseen)
        yield "ap", demand.ap, seen, seen and not isinstance(demand, DemandAtLeast)
    seen = not isinstance(observation.slots, SlotsUnseen)
    yield "collector", "", seen, seen


def _sight_metrics(last: CycleReport, seen_s: Mapping[tuple[str, str], float]) -> Iterator[Metric]:
    """What was seen, and since when not."""
    sights = tuple(_sights(last.observation))
    labels = ("kind", "name")
    seen = {(kind, name): float(is_seen) for kind, name, is_seen, _ in sights}
    yield _gauge("seen", "1 when the last cycle saw it", seen, *labels)
    whole = {(kind, name): float(is_whole) for kind, name, _, is_whole in sights}
    yield _gauge("seen_whole", "1 when it saw all of it", whole, *labels)
    when = {key: seen_s[key] for key in seen if key in seen_s}
    yield _gauge("last_seen_timestamp_seconds", "when it was last seen; absent: never by this process", when, *labels)
    unseen = [sight for sight in last.observation.sites if isinstance(sight, SiteUnseen)]
    yield _gauge("site_unseen", "1, with the meaning", {(one.site, one.cause): 1.0 for one in unseen}, "site", "cause")
    frozen = {(one.site,): 0.0 for one in last.observation.sites}
    frozen |= {(one.site,): 1.0 for one in unseen if one.cause == "vanished"}
    yield _gauge("site_frozen", "1 while an answer without most of the pilots is not believed", frozen, "site")
    pauses = {(one.site,): float(one.next_look_s) for one in unseen if one.next_look_s is not None}
    yield _gauge("site_next_look_timestamp_seconds", "when a site that fails is asked again", pauses, "site")


def _pilot_metrics(last: CycleReport) -> Iterator[Metric]:
    """Pilots and breakers; a configured site without pilots has zeros, because the ledger knows that."""
    phases = [phase.name.lower() for phase in PilotPhase if phase is not PilotPhase.ENDED]
    tally = Tally((pilot.offer.site, pilot.phase.name.lower()) for pilot in last.observation.pilots)
    sites = {*last.sites, *(site for site, _ in tally)}
    pilots = {(site, phase): float(tally[site, phase]) for site in sites for phase in phases}
    yield _gauge("pilots", "open pilots", pilots, "site", "phase")
    modes = ("closed", "open", "half_open")
    states = {(one.site, mode): float(one.mode == mode) for one in last.plan.breakers for mode in modes}
    yield _gauge("breaker", "1 at the mode that the site's breaker is in", states, "site", "mode")
