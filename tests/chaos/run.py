"""
Chaos on the whole test-bed: load, faults by a seeded schedule, then peace, and a look into everybody's books.

``python -m tests.chaos.run --seconds 1800 --seed 1``; exit code 0 if every check holds.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed import bed, containers, model, site, tower
from tests.chaos import checks, faults, records
from tests.chaos.checks import Caps, Recovery, Sample
from tests.chaos.load import Load
from tests.chaos.report import Result, as_text
from tests.chaos.schedule import Kind, Pace, Planned, schedule
from tests.system.fleet import FACTORY, Fleet, new_fleet, remove_all_jobs

CAPS = {
    "alpha": Caps(max_pilots=3, max_pending=2),
    "beta": Caps(max_pilots=2, max_pending=2),
    "gamma": Caps(max_pilots=2, max_pending=2),
}
"""Below what the load asks for, so that they bind."""
SEEN_BOUND_S = 90.0
WORKS_BOUND_S = 240.0
DRAIN_S = 420.0
LOOK_EVERY_S = 4.0
SAMPLE_EVERY_S = 15.0
OWNER = f"{model.FACTORY_USER}:{model.FACTORY_USER}"
QUICK = """
[breaker]
backoff = "15 s"
backoff_max = "30 s"
"""


@dataclass(slots=True, kw_only=True)
class Happened:
    """One fault as it went; times as ``time.time()``."""

    planned: Planned
    hit: faults.Hit
    injected_s: float
    healed_s: float | None = None
    seen_s: float | None = None
    works_s: float | None = None
    problem: str = ""

    @property
    def pending(self) -> bool:
        """Whether it is over and not yet recovered from."""
        return self.healed_s is not None and (self.seen_s is None or self.works_s is None)


@dataclass(slots=True, kw_only=True)
class Run:
    """A run under way."""

    fleet: Fleet
    load: Load
    say: Callable[[str], None]
    began_s: float = 0.0
    happened: list[Happened] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    """When the factory was found dead although nobody had killed it."""
    stop: threading.Event = field(default_factory=threading.Event)

    def factory_is_hit(self) -> bool:
        """Whether a fault of the factory itself is under way."""
        return any(one.hit.where == "factory" and one.healed_s is None for one in list(self.happened))

    def at(self, moment_s: float) -> float:
        """Seconds since the start."""
        return moment_s - self.began_s


def prepare() -> Fleet:
    """A factory of its own: one site behind slurmrestd, small caps, small file systems that can be filled."""
    directory = f"{tower.STATE_DIR}/chaos-rest"
    login = site.login_host(faults.REST_SITE).fqdn
    containers.execute(FACTORY, ["mkdir", "-p", directory], user=model.FACTORY_USER)
    for name, content in (
        ("token", site.rest_token(faults.REST_SITE).encode()),
        ("pem", site.rest_authority(faults.REST_SITE)),
    ):
        containers.write_file(FACTORY, f"{directory}/{name}", content, mode=0o600, owner=OWNER)
    scratch_login = f'login = "{model.PILOT_USER}@{site.login_host(faults.SCRATCH_SITE).fqdn}"'
    rest_login = f'login = "{model.PILOT_USER}@{login}"'
    fleet = new_fleet(
        changes={
            "max_pilots = 6\nmax_pending = 6": "max_pilots = 3\nmax_pending = 2",
            "max_pilots = 4\nmax_pending = 4": "max_pilots = 2\nmax_pending = 2",
            scratch_login: f'{scratch_login}\nscratch = "{faults.SCRATCH}"\ndisk = "200 MiB"',
            rest_login: f'{rest_login}\nrest = "https://{login}:{model.REST_PORT}"\n'
            f'token_file = "{directory}/token"\nca_file = "{directory}/pem"',
        },
        extra=QUICK,
    )
    config = containers.read_file(FACTORY, fleet.config) or b""
    options = f"size={faults.STATE_MIB}m,mode=700,uid=2000,gid=2000"
    faults.inside(FACTORY, "-m", "mount", "-t", "tmpfs", "-o", options, "chaos", fleet.directory)
    containers.write_file(FACTORY, fleet.config, config, owner=OWNER)
    for host in model.hosts():
        faults.prepare_scratch(host)
    return fleet


def remove(fleet: Fleet) -> None:
    """Leave the test-bed as it was."""
    if fleet.running():
        fleet.kill()
    remove_all_jobs(fleet)
    for row in fleet.sites:
        argv = ["sh", "-c", f"/usr/bin/squeue -h -u {model.PILOT_USER} -o %A | xargs -r /usr/bin/scancel"]
        containers.execute_raw(site.login_host(row.name), argv)
    for host in model.hosts():
        faults.remove_scratch(host)
    faults.inside(FACTORY, "-m", "sh", "-c", f"umount -l {fleet.directory}; true")


def run_chaos(
    *,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    kinds: Iterable[Kind] | None = None,
    pace: Pace | None = None,
    keep_log: Path | None = None,
    patience: float = 1,
) -> Result:
    """Do all of it; the test-bed is up already. ``patience`` lengthens the bounds of recovery on a busy machine."""
    plan = schedule(faults.kinds() if kinds is None else kinds, seed=seed, seconds=seconds, pace=pace)
    # What an earlier run that was killed has left broken.
    faults.mend_hosts()
    fleet = prepare()
    run = Run(fleet=fleet, load=Load(fleet=fleet, seed=seed), say=say)
    try:
        fleet.start()
        run.load.start()
        _wait("a job is done at every site", lambda: _works_everywhere(fleet), timeout_s=240)
        run.began_s = time.time()
        say(f"{fleet.instance}: {len(plan)} faults in {seconds:.0f} s, seed {seed}")
        watchers = [threading.Thread(target=task, args=(run,), daemon=True) for task in (_watch, _sample)]
        for watcher in watchers:
            watcher.start()
        _do_all(run, plan)
        # Load goes on until what the last fault had hit works again, or has had its time.
        _wait_quietly(lambda: not any(one.pending for one in run.happened), timeout_s=WORKS_BOUND_S * patience)
        run.stop.set()
        for watcher in watchers:
            watcher.join(timeout=120)
        faults.mend_all(fleet)
        run.load.stop()
        drained = _drain(run)
        return _judge(run, seed=seed, seconds=seconds, drained=drained, patience=patience)
    finally:
        run.stop.set()
        if keep_log is not None:
            keep_log.write_text(fleet.log())
        faults.mend_all(fleet)
        run.load.stop()
        remove(fleet)


def _do_all(run: Run, plan: Iterable[Planned]) -> None:
    with ThreadPoolExecutor(max_workers=4) as threads:
        running: list[Future[None]] = []
        for planned in plan:
            time.sleep(max(0.0, run.began_s + planned.at_s - time.time()))
            running.append(threads.submit(_do, run, planned))
        for done in running:
            done.result()


def _do(run: Run, planned: Planned) -> None:
    """One fault, from its beginning to its end."""
    what = faults.fault(planned, run.fleet)
    one = Happened(planned=planned, hit=what.hit, injected_s=time.time())
    run.happened.append(one)
    try:
        what.inject()
    except Exception as error:
        one.problem = f"not injected: {error}"
    time.sleep(max(0.0, one.injected_s + planned.duration_s - time.time()))
    try:
        what.heal()
    except Exception as error:
        one.problem += f" not healed: {error}"
    one.healed_s = time.time()
    run.say(
        f"{run.at(one.injected_s):6.0f} s  {planned.title}  for {one.healed_s - one.injected_s:.0f} s {one.problem}"
    )


def _watch(run: Run) -> None:
    """See when what was hit is seen and works again; start a factory that is dead, as an init system would."""
    while not run.stop.wait(LOOK_EVERY_S):
        try:
            if not run.factory_is_hit():
                _keep_running(run)
            waiting = [one for one in run.happened if one.pending]
            if waiting and not run.factory_is_hit():
                _note_seen(run, [one for one in waiting if one.seen_s is None])
                _note_works(run, [one for one in waiting if one.works_s is None])
        except Exception as error:
            run.say(f"       (no look: {str(error).splitlines()[0][:120]})")


def _keep_running(run: Run) -> None:
    if run.fleet.running() or run.factory_is_hit():
        return
    # A fault that has just begun may be what killed it.
    time.sleep(1)
    if run.fleet.running() or run.factory_is_hit() or run.stop.is_set():
        return
    tail = "\n".join(run.fleet.log().splitlines()[-12:])
    run.restarts.append(f"at {run.at(time.time()):.0f} s; the end of its log:\n{tail}")
    run.say(f"{run.at(time.time()):6.0f} s  the factory was found dead; started")
    run.fleet.start()


def _note_seen(run: Run, waiting: list[Happened]) -> None:
    if not waiting:
        return
    page = run.fleet.ask("status")
    now_s = time.time()
    for one in waiting:
        at_s = _sight_s(page, one.hit)
        if at_s is not None and one.healed_s is not None and at_s >= int(one.healed_s):
            one.seen_s = now_s


def _sight_s(page: dict[str, Any], hit: faults.Hit) -> float | None:
    """When the factory last saw what was hit; None while it does not."""
    match hit.where:
        case "site":
            part = next(line for line in page["sites"] if line["site"] == hit.name)
        case "ap":
            part = next(line for line in page["access_points"] if line["ap"] == hit.name)
        case "collector" | "factory":
            part = page["collector"]
    return float(part["seen_s"]) if part["state"] == "seen" and part["seen_s"] is not None else None


def _note_works(run: Run, waiting: list[Happened]) -> None:
    if not waiting:
        return
    done = {ap: records.last_done(run.fleet, ap) for ap in model.APS}
    now_s = time.time()
    for one in waiting:
        asked = [one.hit.name] if one.hit.where == "ap" else model.APS
        for ap in asked:
            for where, began_s in done[ap]:
                there = one.hit.where != "site" or where == one.hit.name
                if there and one.healed_s is not None and began_s > one.healed_s and one.works_s is None:
                    one.works_s = now_s


def _sample(run: Run) -> None:
    while not run.stop.wait(SAMPLE_EVERY_S):
        for row in run.fleet.sites:
            try:
                found = records.sample(run.fleet, row, time.time())
            except Exception:
                continue
            if found is not None:
                run.samples.append(found)


def _works_everywhere(fleet: Fleet) -> bool:
    places = {where for ap in model.APS for where, _ in records.last_done(fleet, ap)}
    return {row.name for row in fleet.sites} <= places


def _drain(run: Run) -> bool:
    """Wait until no job and no pilot is left, and all books are closed."""
    fleet = run.fleet

    def closed() -> bool:
        if not fleet.running():
            fleet.start()
        if records.jobs_left(fleet) or fleet.squeue():
            return False
        return all(pilot.phase == "ended" for pilot in records.booked_pilots(fleet))

    if not _wait_quietly(closed, timeout_s=DRAIN_S):
        return False
    empty_s = time.time()
    return _wait_quietly(lambda: records.read_since(fleet) > empty_s + 2, timeout_s=120)


def _judge(run: Run, *, seed: int, seconds: float, drained: bool, patience: float) -> Result:
    fleet = run.fleet
    rows, booked = records.batch_rows(fleet), records.booked_pilots(fleet)
    finished, left = records.finished_jobs(fleet), records.jobs_left(fleet)
    printed, epochs = records.outputs(run.load.run), records.epoch_rows()
    used, residual_core_s = records.booked_usage(fleet)
    crashes = [(one.hit.name, one.injected_s) for one in run.happened if one.planned.kind == "schedd-kill"]
    recoveries = tuple(_recovery(run, one) for one in run.happened)
    return Result(
        instance=fleet.instance,
        seed=seed,
        seconds=seconds,
        versions=(
            *(f"Slurm {row.slurm_series} ({row.name})" for row in model.SITES),
            f"HTCondor {model.CONDOR_SERIES}",
        ),
        happened=tuple(zip((one.planned for one in run.happened), recoveries, strict=True)),
        facts={
            "pilots in Slurm's records": len(rows),
            "jobs confirmed by the access points": len(run.load.wanted),
            "jobs in the histories": len(finished),
            "job starts": records.starts(fleet),
            "jobs that a killed schedd finished again": len(checks.told_again(finished, crashes)),
            "holds, released again": records.holds(fleet),
            "submissions that an access point did not take": run.load.refused,
            "looks at squeue": len(run.samples),
            "core seconds by epoch records, all users": sum(checks.used_core_s(epochs).values()),
            "core seconds known from final ads only": residual_core_s,
        },
        verdicts={
            "drained to empty": () if drained else (f"jobs left {left}, pilots left {fleet.squeue()}",),
            "no pilot doubled": checks.doubled_pilots(rows),
            "no pilot lost": checks.lost_pilots(rows, booked),
            "every job done once": checks.jobs_not_done_once(run.load.wanted, finished, printed, left, crashes),
            "caps held": checks.caps_broken(rows, run.samples, CAPS),
            "usage complete": checks.usage_differences(epochs, used),
            "recovered in time": checks.slow_recoveries(
                recoveries, seen_bound_s=SEEN_BOUND_S * patience, works_bound_s=WORKS_BOUND_S * patience
            ),
            "all faults injected and healed": tuple(
                f"{one.planned.title}: {one.problem}" for one in run.happened if one.problem
            ),
            "the factory never died by itself": tuple(run.restarts),
        },
    )


def _recovery(run: Run, one: Happened) -> Recovery:
    healed_s = one.healed_s or one.injected_s
    until_s = max(one.works_s or time.time(), one.seen_s or 0)
    others = [other.healed_s for other in run.happened if other.healed_s is not None and other.injected_s <= until_s]
    return Recovery(
        fault=one.planned.title,
        injected_s=run.at(one.injected_s),
        healed_s=run.at(healed_s),
        counted_from_s=run.at(max([healed_s, *(moment_s for moment_s in others if moment_s < until_s)])),
        seen_s=None if one.seen_s is None else run.at(one.seen_s),
        works_s=None if one.works_s is None else run.at(one.works_s),
    )


def _wait(what: str, check: Callable[[], bool], *, timeout_s: float) -> None:
    if not _wait_quietly(check, timeout_s=timeout_s):
        raise AssertionError(f"after {timeout_s:.0f} s still not: {what}")


def _wait_quietly(check: Callable[[], bool], *, timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            if check():
                return True
        except Exception:
            pass
        if time.monotonic() > end_s:
            return False
        time.sleep(3)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same faults")
    parser.add_argument("--only", default="", help="kinds of faults, comma separated; default all")
    parser.add_argument("--report", type=Path, help="write the report to this file too")
    parser.add_argument("--keep-log", type=Path, help="write the factory's log to this file")
    asked = parser.parse_args(argv)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    # An end from outside is still an end with everything mended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bed.up(say)
    tower.stop_factory()
    only = set(filter(None, asked.only.split(",")))
    kinds = tuple(kind for kind in faults.kinds() if not only or kind.name in only)
    result = run_chaos(seed=asked.seed, seconds=asked.seconds, say=say, kinds=kinds, keep_log=asked.keep_log)
    text = as_text(result)
    print(text)
    if asked.report is not None:
        asked.report.write_text(text)
        asked.report.with_suffix(".json").write_text(json.dumps(result.facts))
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
