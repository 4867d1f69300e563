"""
``aerotow demo``: from nothing to a verified result.

Everything shown comes from commands that any user or operator can type; the results are checked against the inputs and
against HTCondor's and Slurm's own records.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from testbed import bed, containers, load, model, tower
from testbed.engine import Say
from testbed.errors import LoadFailed

_FACTORY = model.factory_host()
LIVE_PAUSE_S = 5.0
LOAD_MAX_S = 900.0
IDLE_MAX_S = 300.0


def run(say: Say) -> int:
    """The whole demo; 0 when every job that can run has run and every checksum is right."""
    began = time.monotonic()
    say("== A federation on this machine: one pool, two access points, three real Slurm sites")
    bed.up(say)
    tower.start_factory()
    say(f"   up after {time.monotonic() - began:.0f} s; the factory runs\n")

    seed = secrets.randbits(32)
    name = f"demo-{int(time.time())}"
    say(f"== Ordinary users submit, with the files of examples/ (seed {seed})")
    batches = submit_all(name, Random(seed), say)
    waited = tuple(one for one in batches if one.batch.runs)

    say("\n== Live, from the public read commands")
    ran = watch(lambda: load.left_in_queue(waited) == 0, say, timeout_s=LOAD_MAX_S)
    if not ran:
        say(f"!! after {LOAD_MAX_S:.0f} s jobs are still in the queue; 'aerotow status' says what is wrong")
    problems = [problem for one in waited for problem in load.verify(one)]
    for problem in problems[:20]:
        say(f"!! {problem}")

    tell(batches, say)
    say("\n== Pilots leave when nothing waits")
    left = watch(lambda: all(pilot["phase"] == "ended" for pilot in ask("pilots", "--all")), say, timeout_s=IDLE_MAX_S)
    account(waited, say)
    good = ran and left and not problems
    jobs = sum(len(one.batch.steps) for one in waited)
    say(
        f"\n{'All is well' if good else 'Something is wrong'}: {jobs} jobs, {jobs - len(problems)} with the right"
        f" checksum, {time.monotonic() - began:.0f} s in all."
    )
    what_next(batches, say)
    return 0 if good else 1


def ask(*command: str) -> Any:
    """What an aerotow read command says as JSON, on the factory's host."""
    text = containers.execute(_FACTORY, ["aerotow", *command, "--json"], user=model.FACTORY_USER)
    return json.loads(text)


def show(say: Say, *command: str) -> None:
    """Run an aerotow command as one would and show what it prints."""
    say(f"\n$ aerotow {' '.join(command)}")
    done = containers.execute_raw(_FACTORY, ["aerotow", *command], user=model.FACTORY_USER)
    say((done.stdout + done.stderr).decode().rstrip())


def submit_all(name: str, random: Random, say: Say) -> tuple[load.SubmittedBatch, ...]:
    """Submit every batch as its user."""
    done = []
    for batch in load.mixed_load(random):
        one = load.submit(batch, run=name, random=random)
        done.append(one)
        command = "condor_submit_dag" if batch.is_dag else f"condor_submit {' '.join(batch.settings)}"
        say(f"   {batch.user}@{batch.ap}$ {command} {batch.file}   # cluster {one.cluster}")
    return tuple(done)


def watch(done: Callable[[], bool], say: Say, *, timeout_s: float) -> bool:
    """Print a line of the pool's state now and then until it is done; False when that did not come in time."""
    end = time.monotonic() + timeout_s
    began = time.monotonic()
    shown = ""
    while True:
        line = live_line()
        if line != shown:
            say(f"   {time.monotonic() - began:4.0f} s  {line}")
            shown = line
        if done():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(LIVE_PAUSE_S)


def live_line() -> str:
    """Queue, and pilots by phase and site, as ``aerotow status`` and ``aerotow pilots`` tell."""
    status = ask("status")
    idle = sum(ap["jobs_idle"] or 0 for ap in status["access_points"])
    pilots = [pilot for pilot in ask("pilots") if pilot["phase"] != "ended"]
    cores = sum(pilot["cores"] for pilot in pilots if pilot["phase"] in ("idle", "busy"))
    parts = []
    for row in model.SITES:
        phases = Counter(pilot["phase"] for pilot in pilots if pilot["site"] == row.name)
        words = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items())) or "none"
        parts.append(f"{row.name}: {words}")
    return f"{idle:3} jobs idle | {cores:3} cores in the pool | {' | '.join(parts)}"


def tell(batches: tuple[load.SubmittedBatch, ...], say: Say) -> None:
    """What ran where, and why one job never will."""
    say("\n== What ran where (condor_history, MachineAttrGlideinSite0)")
    for one in batches:
        if not one.batch.runs:
            continue
        field = "DAGManJobId" if one.batch.is_dag else "ClusterId"
        ads = load.history_ads(one.batch.ap, f"{field} =?= {one.cluster}", ("MachineAttrGlideinSite0",))
        where = Counter(str(ad.get("MachineAttrGlideinSite0", "nowhere")) for ad in ads)
        counts = ", ".join(f"{site} {count}" for site, count in sorted(where.items()))
        say(f"   {one.batch.name:10} {one.batch.user:6} {len(ads):3} jobs: {counts}")
    impossible = next(one for one in batches if not one.batch.runs)
    show(say, "why", f"{impossible.batch.ap}#{impossible.cluster}.0")
    first_start(batches, say)


def first_start(batches: tuple[load.SubmittedBatch, ...], say: Say) -> None:
    """From the first condor_submit to the first job that runs, in its parts."""
    say("\n== From the first submit to the first run")
    submitted_s = min(one.submitted_s for one in batches)
    pilots = [pilot for pilot in ask("pilots", "--all") if (pilot["intended_s"] or 0) >= int(submitted_s)]
    starts = [
        float(str(ad["JobStartDate"]))
        for one in batches
        if one.batch.runs and not one.batch.is_dag
        for ad in load.history_ads(one.batch.ap, f"ClusterId == {one.cluster}", ("JobStartDate",))
        if "JobStartDate" in ad
    ]
    if not pilots or not starts:
        say("   pilots of an earlier run took the first jobs")
        return
    moments = [("submitted", submitted_s)]
    for word, key in (
        ("first pilot intended", "intended_s"),
        ("first sbatch answered", "submitted_s"),
        ("first pilot started by Slurm", "started_s"),
        ("first pilot seen in the pool", "joined_s"),
    ):
        known = [pilot[key] for pilot in pilots if pilot[key] is not None]
        if known:
            moments.append((word, float(min(known))))
    moments.append(("first job runs", min(starts)))
    for word, at_s in sorted(moments, key=lambda moment: moment[1]):
        say(f"   +{max(0.0, at_s - submitted_s):5.1f} s  {word}")


def account(batches: tuple[load.SubmittedBatch, ...], say: Say) -> None:
    """Usage, efficiency, and the database beside HTCondor's own history."""
    wait_for_usage(batches)
    began_s = min(one.submitted_s for one in batches)
    since = datetime.fromtimestamp(began_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    show(say, "usage", "--by", "user,project,site", "--since", since)
    say("\n== The database beside HTCondor's history (core seconds; the residual is what no epoch record told of)")
    say(f"   {'user':8} {'epochs':>9} {'residual':>9} {'history':>9} {'attempts':>9}")
    rows = {row["user"]: row for row in ask("usage", "--by", "user", "--since", since)["payload"]}
    wall = history_wall(began_s)
    for user in sorted(rows):
        row = rows[user]
        epochs = row["core_s"] - row["residual_core_s"]
        say(f"   {user:8} {epochs:9} {row['residual_core_s']:9} {wall.get(user, 0):9.0f} {row['attempts']:9}")


def history_wall(since_s: float) -> dict[str, float]:
    """Core seconds by user as the access points' own condor_history has them, of jobs queued since then."""
    total: dict[str, float] = defaultdict(float)
    for ap in model.APS:
        attributes = ("Owner", "RemoteWallClockTime", "CpusProvisioned", "RequestCpus")
        for ad in load.history_ads(ap, f"JobUniverse == 5 && QDate >= {int(since_s)}", attributes):
            cores = ad.get("CpusProvisioned", ad.get("RequestCpus", 1))
            total[str(ad["Owner"])] += float(str(ad.get("RemoteWallClockTime", 0))) * int(str(cores))
    return total


def wait_for_usage(batches: tuple[load.SubmittedBatch, ...]) -> None:
    """Wait until every access point's history has been read after its last job ended."""
    now_s = time.time()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        streams = {stream["ap"]: stream["read_s"] or 0 for stream in ask("usage")["streams"]}
        if all(streams.get(one.batch.ap, 0) > now_s for one in batches):
            return
        time.sleep(1)
    raise LoadFailed(batch="usage", problem="the histories were not read within a minute; see 'aerotow status'")


def what_next(batches: tuple[load.SubmittedBatch, ...], say: Say) -> None:
    """Commands to type next; the federation stays up."""
    impossible = next(one for one in batches if not one.batch.runs)
    ap, login = (model.host_named(name).container for name in ("ap1", "login.alpha"))
    enter = f"docker exec -it -u {model.FACTORY_USER} {_FACTORY.container}"
    say("\nThe federation stays up. Try:")
    for command in (
        f"{enter} aerotow status",
        f"{enter} aerotow sites",
        f"{enter} aerotow why {impossible.batch.ap}#{impossible.cluster}.0",
        f"docker exec -it -u alice -w /home/alice {ap} bash   # and then condor_submit, condor_q",
        f"docker exec -it {login} sacct -X -u pilot           # the same pilots in the site's own books",
        "make demo-down                                       # removes it all",
    ):
        say(f"   {command}")
