"""
Where a pilot's secret must not be: anywhere at a site but in its own 0600 files.

The needle is the token's signature, the third part of the JWT: it is what proves the pilot's identity.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from testbed import containers, model
from tests.system.fleet import Fleet, new_fleet, on_login, remove_jobs, squeue_of, submit_jobs, wait_until
from tests.system.test_factory import clean_up

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed")]

PROCESSES = """
for p in /proc/[0-9]*; do
    tr '\\0' '\\n' <$p/environ 2>/dev/null
    tr '\\0' ' ' <$p/cmdline 2>/dev/null
    echo
done
"""
READABLE_FILES = (
    "find /var/spool /var/lib/slurm /var/log /run /tmp -xdev -type f -readable -size -2M -exec cat {} + 2>/dev/null"
)


def host_texts(row: model.SlurmSite, user: str) -> dict[str, str]:
    """What a user can read of processes and of Slurm's directories, on every host of a site."""
    found = {}
    for host in model.site_hosts(row):
        for name, script in (("processes", PROCESSES), ("files", READABLE_FILES)):
            done = containers.execute_raw(host, ["sh", "-c", script], user=user)
            found[f"{host.name}: {name} as {user}"] = done.stdout.decode(errors="replace")
    return found


def slurm_texts(row: model.SlurmSite, job_ids: list[str]) -> dict[str, str]:
    """What Slurm itself tells of jobs, to the pilot account, the widest view that a site's user has."""
    found = {}
    for job_id in job_ids:
        for command in (
            f"scontrol -dd show job {job_id}",
            f"scontrol write batch_script {job_id} - || true",
            f"sacct -B -j {job_id} || true",
            f"sacct -P -j {job_id} -o ALL || true",
            f"squeue -j {job_id} -o %all || true",
        ):
            found[f"login.{row.name}: {command}"] = on_login(row, command)
    return found


def places_of(needles: set[str], texts: dict[str, str]) -> set[str]:
    """Names of the texts that hold a needle."""
    return {name for name, text in texts.items() if any(needle in text for needle in needles)}


def tokens_at(row: model.SlurmSite, fleet: Fleet) -> set[str]:
    """Every token of this instance in the pilot account's home."""
    command = f"cat ~/.aerotow/{fleet.instance}/pilots/*/token 2>/dev/null || true"
    return {line.strip() for line in on_login(row, command).splitlines() if line.count(".") == 2}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    made = new_fleet(changes={'idle_timeout = "15 s"': 'idle_timeout = "10 min"'})
    yield made
    clean_up(made)


@pytest.mark.timeout(900)
def test_a_pilots_secret_is_nowhere_but_in_its_own_files(fleet: Fleet) -> None:
    clusters = [submit_jobs(fleet, 1, seconds=240, where=f'TARGET.GlideinSite == "{row.name}"') for row in fleet.sites]
    for row in fleet.sites:
        # A partition that is down keeps the first pilot waiting, so that its token is still in the home.
        on_login(row, f"scontrol update PartitionName={row.partition} State=DOWN", user="root")
    needles: dict[str, set[str]] = {}
    try:
        fleet.start()
        wait_until(
            "a pilot waits at each site", lambda: {j.site for j in fleet.squeue()} == {r.name for r in fleet.sites}
        )
        for row in fleet.sites:
            wait_until(f"token at {row.name}", lambda row=row: bool(tokens_at(row, fleet)), timeout_s=30)
            needles[row.name] = {token.rpartition(".")[2] for token in tokens_at(row, fleet)}
            modes = on_login(row, f"stat -c '%a %U %n' ~/.aerotow/{fleet.instance}/pilots/*/token")
            assert {"600 pilot"} == {" ".join(line.split()[:2]) for line in modes.splitlines()}
            ids = [job.job_id for job in squeue_of(row, fleet.instance)]
            texts = {**slurm_texts(row, ids), **host_texts(row, "pilot"), **host_texts(row, "local")}
            home = containers.execute_raw(
                model.host_named(f"login.{row.name}"),
                ["sh", "-c", f"cat /home/pilot/.aerotow/{fleet.instance}/pilots/*/token"],
                user="local",
            )
            assert home.returncode != 0
            # The check finds a secret that is planted, in each of the ways, before it is believed.
            assert planted(row, next(iter(needles[row.name]))) == 3
            assert set() == places_of(needles[row.name], texts)
    finally:
        for row in fleet.sites:
            on_login(row, f"scontrol update PartitionName={row.partition} State=UP", user="root")
    wait_until(
        "all pilots have joined",
        lambda: len([p for p in fleet.ask("pilots") if p["phase"] in ("idle", "busy")]) >= len(fleet.sites),
        timeout_s=120,
    )
    time.sleep(5)
    for row in fleet.sites:
        assert set() == tokens_at(row, fleet), "a pilot that has joined removes its token from the home"
        ids = [job.job_id for job in squeue_of(row, fleet.instance)]
        texts = {**slurm_texts(row, ids), **host_texts(row, "local")}
        texts["processes as pilot"] = "\n".join(
            text for name, text in host_texts(row, "pilot").items() if "processes" in name
        )
        assert set() == places_of(needles[row.name], texts)
        for node in (host for host in model.site_hosts(row) if host.role is model.Role.NODE):
            listing = containers.execute(
                node, ["sh", "-c", "stat -c %a /tmp/atw.*/tokens.d/* 2>/dev/null || true"], user="root"
            )
            assert set(listing.split()) <= {"600"}
    remove_jobs(*clusters)


def planted(row: model.SlurmSite, needle: str) -> int:
    """Plant the needle in a batch script, a job comment and an environment; in how many of them it is found."""
    login = model.host_named(f"login.{row.name}")
    script = f"#!/bin/sh\n# {needle}\nsleep 1\n"
    argv = ["sbatch", "--parsable", "--hold", "-A", row.account, "-p", row.partition, "-D", "/home/pilot"]
    job = containers.execute(login, argv, user="pilot", stdin=script.encode()).strip().split(";")[0]
    on_login(row, f"scontrol update JobId={job} Comment={needle}")
    containers.execute(login, ["sh", "-c", f"PLANTED={needle} setsid sleep 20 >/dev/null 2>&1 &"], user="pilot")
    texts = slurm_texts(row, [job])
    found = 0
    found += any("batch_script" in name for name in places_of({needle}, texts))
    found += any("show job" in name for name in places_of({needle}, texts))
    found += bool(places_of({needle}, {k: v for k, v in host_texts(row, "pilot").items() if "processes" in k}))
    on_login(row, f"scancel {job}; pkill -f '^sleep 20$' || true")
    return found


def test_no_site_host_has_htcondor_of_its_own(bed) -> None:
    for row in model.SITES:
        for host in model.site_hosts(row):
            done = containers.execute_raw(
                host, ["sh", "-c", "dpkg -l | grep -i htcondor; dpkg -l | grep ' condor'; command -v condor_master"]
            )
            assert b"" == done.stdout
