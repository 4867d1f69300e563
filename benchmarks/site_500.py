"""
What a site is asked in one cycle, and where the cycle's time goes, with 5, 50 and 500 pilots at one real Slurm.

Runs on the test-bed, which it brings up: ``python -m benchmarks.site_500 --site beta``. The pilots are real jobs that
wait, submitted through the adapter over ssh; the cycle, its ledger (a SQLite file) and its plan are the product's own.
Only the pool is in memory: a queue that wants more pilots than there may be, so that each of them is planned with.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import itertools
import pstats
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from accounting.engine import open_database
from accounting.ledger import Ledger
from accounting.model import JournalBounds
from factory.crash import never
from factory.cycle import World, run_cycle
from factory.matching import match_observation
from factory.model import BreakerPolicy, Policy, SitePolicy
from factory.observe import Looker, known_at
from factory.sites import scripts
from factory.sites.contract import SiteSeen, Submitted
from factory.sites.slurm import look_orders
from factory.watch import CycleReport, Failed
from glidein.model import Lifetimes
from overlay.model import Bucket, Demand, DemandSeen, Slots, SlotsSeen
from tests.contract.benches import INSTANCE, SlurmBench, request, slurm_bench

COUNTS = (5, 50, 500)
AT_ONCE = 50
"""Submissions in one call, as a cycle makes them at most by default."""
JOB = Bucket(
    key="ap1/one",
    ap="ap1",
    user="alice@pool",
    group="dp001",
    jobs=5000,
    first_job="1.0",
    cores=1,
    memory_mib=50,
    disk_mib=10,
    runtime_s=60,
    ad_text="[ Requirements = true ]",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The median cycle with so many pilots; seconds."""

    pilots: int
    calls: int
    commands: tuple[tuple[str, int], ...]
    wall_s: float
    ours_s: float
    """Processor time of this process."""
    ssh_s: float
    """Processor time of the ssh clients that it started."""
    steps: tuple[tuple[str, float], ...]


class Pool:
    """A collector without slots, and an access point with more idle jobs than pilots may be."""

    def slots(self, *, now_s: float) -> Slots:
        """None."""
        return SlotsSeen(taken_s=now_s, slots=())

    def demand(self, ap: str, *, now_s: float) -> Demand:
        """Always the same."""
        return DemandSeen(ap=ap, taken_s=now_s, buckets=(JOB,), running=0)


class Watch:
    """Keeps the last report."""

    report: CycleReport | None = None

    def cycle_done(self, report: CycleReport) -> None:
        """Keep it."""
        self.report = report

    def cycle_failed(self, why: Failed) -> None:
        """A measurement with a failed cycle is none."""
        raise AssertionError(why)


def world_of(bench: SlurmBench, watch: Watch, pilots: int) -> World:
    """What the cycle works with; no more pilots than there are."""
    offer = bench.waiting_offer()
    return World(
        instance=INSTANCE,
        policy=Policy(
            sites=(SitePolicy(offer=offer, max_pilots=pilots, max_pending=pilots),),
            max_pilots=10_000,
            max_submits_per_cycle=0,
            lifetimes=Lifetimes(join_timeout_s=300, idle_timeout_s=600, default_job_runtime_s=600),
            breaker=BreakerPolicy(failures=5, fizzle_s=60, backoff_s=300, backoff_max_s=3600),
            surplus_after_s=10**6,
            ads_max_age_s=300,
        ),
        sites={bench.site.name: bench.site},
        aps=("ap1",),
        pool=Pool(),
        match=match_observation,
        render=lambda pilot: (),
        clock=time.time,
        nonce=lambda: 1,
        crash=never,
        submit_patience_s=60,
        journal=JournalBounds(entries=5, size_bytes=2**28),
        watcher=watch,
    )


def submit(bench: SlurmBench, count: int) -> None:
    """Real jobs that wait, with names of ours."""
    while count > 0:
        some = min(count, AT_ONCE)
        wanted = tuple(request(bench, "stays", offer=bench.waiting_offer()) for _ in range(some))
        outcomes = bench.site.submit(wanted, deadline_s=time.time() + 300)
        bad = [one for one in outcomes if not isinstance(one, Submitted)]
        assert not bad, bad[0]
        count -= some


def measure(bench: SlurmBench, ledger: Ledger, looker: Looker, pilots: int, *, repeat: int) -> Row:
    """The median of some cycles after one that takes notice of the pilots."""
    watch = Watch()
    world = world_of(bench, watch, pilots)
    lease = ledger.acquire_lease(INSTANCE, "benchmark", time.time(), 3600)
    rows: list[Row] = []
    for number in range(repeat + 1):
        before, ours_s, ssh_s = bench.site.meter.calls(), time.process_time(), _children_s()
        began_s = time.monotonic()
        run_cycle(replace(world, nonce=itertools.count(number).__next__), ledger, looker, lease=lambda: lease)
        wall_s = time.monotonic() - began_s
        after, report = bench.site.meter.calls(), watch.report
        assert report is not None
        assert all(isinstance(sight, SiteSeen) for sight in report.observation.sites), report.observation.sites
        assert pilots == len(report.observation.pilots), len(report.observation.pilots)
        asked = dict(before.commands)
        if number:
            rows.append(
                Row(
                    pilots=pilots,
                    calls=after.calls - before.calls,
                    commands=tuple(
                        (name, n - asked.get(name, 0)) for name, n in after.commands if n > asked.get(name, 0)
                    ),
                    wall_s=wall_s,
                    ours_s=time.process_time() - ours_s,
                    ssh_s=_children_s() - ssh_s,
                    steps=report.steps,
                )
            )
    ledger.release_lease(lease)
    return sorted(rows, key=lambda row: row.wall_s)[len(rows) // 2]


def profile(bench: SlurmBench, ledger: Ledger, looker: Looker, pilots: int) -> str:
    """The ten places where one more cycle spends most of its time; waiting for the site is ``lock.acquire``."""
    world = replace(world_of(bench, Watch(), pilots), nonce=lambda: 999)
    lease = ledger.acquire_lease(INSTANCE, "benchmark", time.time(), 3600)
    profiler, text = cProfile.Profile(), io.StringIO()
    profiler.runcall(run_cycle, world, ledger, looker, lease=lambda: lease)
    ledger.release_lease(lease)
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(10)
    return text.getvalue()


def _children_s() -> float:
    """Processor time of processes that have ended and were ours."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rows: list[Row], squeue_s: float) -> str:
    """The rows as Markdown."""
    steps = [name for name, _ in rows[0].steps]
    head = ["pilots", "calls", "scheduler commands", "cycle s", "our CPU s", "ssh's CPU s", *steps]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows:
        commands = ", ".join(f"{n} {name}" for name, n in row.commands)
        taken = [f"{seconds:.3f}" for _, seconds in row.steps]
        numbers = [f"{row.wall_s:.3f}", f"{row.ours_s:.3f}", f"{row.ssh_s:.3f}", *taken]
        lines.append(" | ".join([str(row.pilots), str(row.calls), commands, *numbers]))
    text = "\n".join(f"| {line} |" for line in lines)
    return f"{text}\n\nthe remote command of the last look alone, nothing read from its answer: {squeue_s:.3f} s"


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--site", default="beta")
    options.add_argument("--repeat", type=int, default=7)
    options.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="s5.") as directory, slurm_bench(chosen.site, Path(directory)) as bench:
        assert bench.site.prepare() == ""
        ledger = Ledger(open_database(f"sqlite:///{directory}/ledger.db"))
        looker = Looker(patience_s=60)
        rows, there = [], 0
        for count in chosen.counts:
            submit(bench, count - there)
            there = count
            rows.append(measure(bench, ledger, looker, count, repeat=chosen.repeat))
            print(f"{count} pilots: {rows[-1].wall_s:.3f} s", flush=True)
        shown = profile(bench, ledger, looker, there)
        known = known_at(bench.site.name, ledger.open_pilots(INSTANCE))
        orders = look_orders(known, now_s=time.time(), policy_file=bench.settings.policy_file)
        taken = []
        for _ in range(chosen.repeat):
            began_s = time.monotonic()
            bench.site._run(scripts.LOOK, orders)
            taken.append(time.monotonic() - began_s)
        looker.close()
        print(table(rows, statistics.median(taken)))
        print(shown)


if __name__ == "__main__":
    main()
