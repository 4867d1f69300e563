"""
Time from condor_submit to running on a cold site, split into its parts, with the floor measured beside it.

Runs on the test-bed, which it brings up: ``python -m benchmarks.cold_start --repeat 20``. The floor is what nobody can
beat with the same pilot: sbatch by hand, on the login host, with the job idle already. Factory and floor take turns, so
a noisy machine hits both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from testbed import bed as federation
from testbed import model
from tests.system.conftest import Bed, SiteHandle
from tests.system.fleet import Fleet, new_fleet, wait_until
from tests.system.hand import AP, USER, Hand, new_hand, take_back

PARTS = (
    "next cycle begins",
    "seen, planned, intended",
    "submitted",
    "Slurm starts the pilot",
    "the pilot starts its EP",
    "EP joins, is matched, job runs",
)
"""What lies between two moments; the first moment is that of condor_submit."""

CLOCK = "#!/bin/sh\ndate +%s.%N\n"
"""The payload says itself when it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The moments of one job through the factory, in epoch seconds."""

    site: str
    moments: tuple[float, ...]

    @property
    def parts(self) -> tuple[float, ...]:
        """Seconds of each of PARTS."""
        return tuple(after - before for before, after in pairwise(self.moments))

    @property
    def total(self) -> float:
        """From condor_submit to the payload's first line."""
        return self.moments[-1] - self.moments[0]


def through_factory(bed: Bed, fleet: Fleet, hand: Hand, site: str) -> Run:
    """One job for one site at which no pilot is."""
    before = {pilot["pilot_id"] for pilot in fleet.ask("pilots", "--all")}
    name = f"cold-{time.time_ns()}"
    submitted_s = time.time()
    where = f'TARGET.FleetName == "{fleet.instance}" && TARGET.GlideinSite == "{site}"'
    cluster = queue(bed, name, where)
    runs_s = when_it_ran(bed, name)
    hand.clusters.append(cluster)
    look = f"condor_status -startd -constraint 'FleetName == \"{fleet.instance}\"' -af DaemonStartTime"
    ep_started_s = int(bed.as_user(AP, USER, look).split()[0])
    wait_until("the pilot is shown", lambda: len(new_pilots(fleet, before)) == 1)
    (pilot_id,) = new_pilots(fleet, before)
    committed = [event for event in fleet.events("plan.committed") if pilot_id in event["pilots"]]
    sent = [event for event in fleet.events("pilot.submitted") if event["pilot_id"] == pilot_id]
    fleet.wait_ended()
    (cycle,) = [event for event in fleet.events("cycle.finished") if event["cycle"] == committed[0]["cycle"]]
    ended = next(pilot for pilot in fleet.ask("pilots", "--all") if pilot["pilot_id"] == pilot_id)
    moments = (
        submitted_s,
        stamp(cycle) - float(cycle["duration_s"]),
        stamp(committed[0]),
        stamp(sent[0]),
        # Slurm and HTCondor give whole seconds, cut off.
        ended["started_s"] + 0.5,
        ep_started_s + 0.5,
        runs_s,
    )
    return Run(site=site, moments=moments)


def new_pilots(fleet: Fleet, before: set[str]) -> set[str]:
    """Pilots that were not there before."""
    return {pilot["pilot_id"] for pilot in fleet.ask("pilots", "--all")} - before


def floor(bed: Bed, hand: Hand, site: str) -> float:
    """Seconds from sbatch by hand to the payload's first line, the job being idle before."""
    name = f"floor-{time.time_ns()}"
    row = bed.sites[site].row
    cluster = queue(bed, name, f'TARGET.GlideinPilotId == "{hand.next_id(site)}"')
    hand.clusters.append(cluster)
    pilot_id, command = hand.lay_out(site, cores=row.pilot_cores, idle_s=2)
    began_s = time.time()
    hand.sbatch(pilot_id, command)
    took_s = when_it_ran(bed, name) - began_s
    wait_until("the pilot has left", lambda: hand.ended(pilot_id))
    return took_s


def queue(bed: Bed, name: str, where: str) -> int:
    """condor_submit of one job that prints the time."""
    text = (
        f"executable = {name}.sh\noutput = {name}.out\nlog = {name}.log\nshould_transfer_files = yes\n"
        f"request_cpus = 1\nrequest_memory = 128\nrequest_disk = 10M\nallowed_execute_duration = 60\n"
        f"requirements = {where}\nqueue\n"
    )
    owner = f"{USER}:{USER}"
    bed.write(AP, f"/home/{USER}/{name}.sh", CLOCK, mode=0o755, owner=owner)
    bed.write(AP, f"/home/{USER}/{name}.sub", text, owner=owner)
    return int(bed.as_user(AP, USER, f"condor_submit -terse {name}.sub").split(".")[0])


def when_it_ran(bed: Bed, name: str) -> float:
    """What the payload printed."""
    found: list[float] = []

    def look() -> bool:
        raw = bed.read(AP, f"/home/{USER}/{name}.out")
        if raw and raw.strip():
            found.append(float(raw))
        return bool(found)

    wait_until("the job has run", look, timeout_s=180)
    return found[0]


def stamp(event: dict[str, Any]) -> float:
    """The time of a log event."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def table(runs: Sequence[Run], floors: Sequence[float]) -> str:
    """Medians, as Markdown."""
    total, ground = statistics.median(run.total for run in runs), statistics.median(floors)
    lines = ["| part | median s | range | share |", "|---|---|---|---|"]
    for index, part in enumerate(PARTS):
        values = [run.parts[index] for run in runs]
        middle = statistics.median(values)
        lines.append(f"| {part} | {middle:.1f} | {min(values):.1f} to {max(values):.1f} | {middle / total:.0%} |")
    spread = f"{min(run.total for run in runs):.1f} to {max(run.total for run in runs):.1f}"
    lines.append(f"| **submit to running** | **{total:.1f}** | {spread} | |")
    lines.append(f"| floor: sbatch by hand to running | {ground:.1f} | {min(floors):.1f} to {max(floors):.1f} | |")
    lines.append(f"| **times the floor** | **{total / ground:.2f}** | | |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--cycle", default="2 s", help="the factory's cycle; the demo has 2 s, production 60 s")
    arguments = parser.parse_args()
    federation.up(print)
    bed = Bed(sites={row.name: SiteHandle(row=row) for row in model.SITES})
    fleet = new_fleet(
        changes={'cycle = "2 s"': f'cycle = "{arguments.cycle}"', 'idle_timeout = "30 s"': 'idle_timeout = "12 s"'}
    )
    hand = new_hand(bed)
    runs: list[Run] = []
    floors: list[float] = []
    try:
        fleet.start()
        wait_until("the bundle is at every site", lambda: len(fleet.events("cycle.finished")) >= 2)
        for turn in range(arguments.repeat):
            site = model.SITES[turn % len(model.SITES)].name
            runs.append(through_factory(bed, fleet, hand, site))
            floors.append(floor(bed, hand, site))
            print(f"{turn + 1:3} {site:6} {runs[-1].total:5.1f} s, floor {floors[-1]:4.1f} s", flush=True)
    finally:
        fleet.stop()
        take_back(hand)
    print()
    print(table(runs, floors))


if __name__ == "__main__":
    main()
