"""What Slurm, HTCondor and our ledger have written down, read with their own tools past every fault's wrapper."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from testbed import containers, model, site
from tests.chaos.checks import BatchRow, BookedPilot, EpochRow, FinishedJob, Sample
from tests.chaos.load import USERS
from tests.system.fleet import Fleet


def batch_rows(fleet: Fleet) -> tuple[BatchRow, ...]:
    """Every pilot of the fleet at every site, from Slurm's accounting, each time that its name was submitted."""
    rows = []
    for row in fleet.sites:
        argv = ["env", "SLURM_TIME_FORMAT=%s", "/usr/bin/sacct", "-X", "-D", "-n", "-P", "-S", "now-12hours", "-E"]
        argv += ["now", "-u", model.PILOT_USER, "-o", "JobIDRaw,State,Submit,Start,End,JobName"]
        for line in containers.execute(site.login_host(row.name), argv, timeout_s=60).splitlines():
            job_id, state, submit, start, end, name = line.split("|", 5)
            if name.startswith(f"{fleet.instance}-"):
                rows.append(
                    BatchRow(
                        site=row.name,
                        job_id=job_id,
                        name=name,
                        state=state,
                        submit_s=int(submit),
                        start_s=int(start) if start.isdigit() else None,
                        end_s=int(end) if end.isdigit() else None,
                    )
                )
    return tuple(rows)


def sample(fleet: Fleet, row: model.SlurmSite, at_s: float) -> Sample | None:
    """One look at a site's controller; None if it does not answer now."""
    argv = ["timeout", "8", "/usr/bin/squeue", "-h", "-u", model.PILOT_USER, "-t", "PD,R", "-o", "%t|%j"]
    done = containers.execute_raw(site.login_host(row.name), argv, timeout_s=30)
    if done.returncode != 0:
        return None
    lines = [line.split("|", 1) for line in done.stdout.decode().splitlines()]
    states = [state for state, name in lines if name.startswith(f"{fleet.instance}-")]
    return Sample(site=row.name, at_s=at_s, pending=states.count("PD"), running=states.count("R"))


def booked_pilots(fleet: Fleet) -> tuple[BookedPilot, ...]:
    """Every pilot of the ledger."""
    return tuple(
        BookedPilot(pilot_id=one["pilot_id"], site=one["site"], batch_id=one["batch_id"], phase=one["phase"])
        for one in fleet.ask("pilots", "--all")
    )


def finished_jobs(fleet: Fleet) -> tuple[FinishedJob, ...]:
    """The final ads of the fleet's jobs at every access point."""
    names = ("ClusterId", "ProcId", "JobStatus", "ExitCode", "CompletionDate")
    return tuple(
        FinishedJob(
            ap=ap,
            job=f"{ad['ClusterId']}.{ad['ProcId']}",
            status=ad["JobStatus"],
            exit_code=ad.get("ExitCode"),
            completed_s=int(ad.get("CompletionDate") or 0),
        )
        for ap in model.APS
        for ad in _history(ap, fleet, names)
    )


def jobs_left(fleet: Fleet) -> tuple[tuple[str, str], ...]:
    """Jobs of the fleet that are still in a queue."""
    found = []
    for ap in model.APS:
        argv = [
            "condor_q",
            "-allusers",
            "-constraint",
            f'FleetName =?= "{fleet.instance}"',
            "-af",
            "ClusterId",
            "ProcId",
        ]
        lines = containers.execute(model.host_named(ap), argv, timeout_s=60).splitlines()
        found += [(ap, ".".join(line.split())) for line in lines]
    return tuple(found)


def holds(fleet: Fleet) -> int:
    """How often jobs of the fleet were held and released, over all."""
    return sum(int(ad.get("NumHolds") or 0) for ap in model.APS for ad in _history(ap, fleet, ("ProcId", "NumHolds")))


def starts(fleet: Fleet) -> int:
    """How often jobs of the fleet were started, over all."""
    ads = [ad for ap in model.APS for ad in _history(ap, fleet, ("ProcId", "NumShadowStarts"))]
    return sum(int(ad.get("NumShadowStarts") or 0) for ad in ads)


def last_done(fleet: Fleet, ap: str) -> list[tuple[str, float]]:
    """Where and when the last jobs of an access point that are done began to run."""
    ads = _history(ap, fleet, ("MachineAttrGlideinSite0", "JobCurrentStartExecutingDate", "JobStatus"), limit=40)
    return [
        (ad.get("MachineAttrGlideinSite0", ""), float(ad.get("JobCurrentStartExecutingDate") or 0))
        for ad in ads
        if ad.get("JobStatus") == 4
    ]


def outputs(run: str) -> dict[tuple[str, str], str]:
    """What every job of the run has printed, by access point and job."""
    found = {}
    for ap, users in USERS.items():
        for user, _ in users:
            script = f'cd /home/{user}/{run} && find . -name "out.*" -exec grep -H "" {{}} +'
            done = containers.execute_raw(model.host_named(ap), ["sh", "-c", script], user="root")
            for line in done.stdout.decode(errors="replace").splitlines():
                name, _, text = line.partition(":")
                found[(ap, name.removeprefix("./out."))] = text
    return found


def epoch_rows() -> tuple[EpochRow, ...]:
    """Every record of every access point's epoch history, whoever's jobs they are."""
    names = ("GlobalJobId", "Owner", "ShadowBday", "EpochWriteDate", "CpusProvisioned", "RequestCpus", "EpochAdType")
    found = []
    for ap in model.APS:
        argv = ["condor_history", "-epochs", "-json", "-attributes", ",".join(names)]
        for ad in _ads(containers.execute(model.host_named(ap), argv, timeout_s=60)):
            if ad.get("EpochAdType", "EPOCH") != "EPOCH" or "ShadowBday" not in ad:
                continue
            found.append(
                EpochRow(
                    ap=ap,
                    job=ad["GlobalJobId"],
                    user=ad["Owner"],
                    start_s=int(ad["ShadowBday"]),
                    end_s=int(ad["EpochWriteDate"]),
                    cores=int(ad.get("CpusProvisioned") or ad.get("RequestCpus") or 1),
                )
            )
    return tuple(found)


def booked_usage(fleet: Fleet) -> tuple[dict[str, int], int]:
    """
    Core seconds of each user that the accounting database has from epoch records, and those from histories alone.

    The second number is what an access point that died hard told of in the final ad only; no epoch record has it.
    """
    rows = fleet.ask("usage", "--by", "user")["payload"]
    booked = {row["user"]: row["core_s"] - row["residual_core_s"] for row in rows}
    return booked, sum(row["residual_core_s"] for row in rows)


def read_since(fleet: Fleet) -> float:
    """Up to when all access points' usage is complete, epoch seconds; 0 while one is not."""
    streams = fleet.ask("usage", "--by", "user")["streams"]
    return min((float(one["read_s"] or 0) if one["complete"] else 0.0 for one in streams), default=0.0)


def _history(ap: str, fleet: Fleet, names: Iterable[str], *, limit: int = 0) -> list[dict[str, Any]]:
    argv = ["condor_history", "-json", "-constraint", f'FleetName =?= "{fleet.instance}"']
    argv += ["-attributes", ",".join(names), *(["-limit", str(limit)] if limit else [])]
    return _ads(containers.execute(model.host_named(ap), argv, timeout_s=60))


def _ads(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    return found
