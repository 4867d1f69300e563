"""A site's description from the site itself, and each arranged mistake found with its remedy."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from testbed import containers, model
from tests.system.fleet import FACTORY, Fleet, new_fleet

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed")]

BETA = model.SITES[1]


def check(fleet: Fleet, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and findings by what was looked at."""
    argv = ["aerotow", "--config", fleet.config, "site", "check", "beta", "--json", "--wait", "60", *options]
    done = containers.execute_raw(FACTORY, argv, user=model.FACTORY_USER, timeout_s=200)
    assert done.stdout, done.stderr.decode()
    return done.returncode, {one["what"]: one for one in json.loads(done.stdout)["findings"]}


def test_what_a_site_says_of_itself_is_a_site_file_that_passes_its_check() -> None:
    fleet = new_fleet(sites=(BETA,))
    text = fleet.command("site", "probe", f"pilot@login.{BETA.name}")
    assert "Slurm 24.11" in text
    assert "batch (default): UP, up to 04:00:00, 1 nodes of up to 16 cores and 32000 MiB" in text
    main = (containers.read_file(FACTORY, fleet.config) or b"").decode()
    containers.write_file(FACTORY, fleet.config, main[: main.index("[sites.beta]")].encode(), owner="aerotow:aerotow")
    directory = f"{fleet.directory}/sites.d"
    containers.execute(FACTORY, ["mkdir", "-p", directory], user=model.FACTORY_USER)
    containers.write_file(FACTORY, f"{directory}/beta.toml", text.encode(), owner="aerotow:aerotow")
    fleet.command("config", "check")
    code, findings = check(fleet)
    assert {} == {what: one for what, one in findings.items() if one["verdict"] != "good"}
    assert 0 == code
    assert "reaches the collector" in findings["network"]["text"]


@pytest.mark.long
def test_a_canary_of_a_site_that_is_well_joins() -> None:
    fleet = new_fleet(sites=(BETA,))
    code, findings = check(fleet, "--canary")
    assert (0, "good") == (code, findings["canary"]["verdict"])
    assert "joined the pool" in findings["canary"]["text"]
    # Nothing of the check stays at the site.
    left = containers.execute(model.host_named("login.beta"), ["sh", "-c", "ls /home/pilot/.aerotow/check*/pilots"])
    assert "check" not in left.replace("/home/pilot/.aerotow/check", "")


@dataclass(frozen=True)
class Mistake:
    change: dict[str, str]
    what: str
    words: str
    remedy: str


MISTAKES = {
    "account": Mistake({'account = "grid"': 'account = "other"'}, "account", "may not charge account 'other'", "grid"),
    "partition": Mistake(
        {'partition = "batch"': 'partition = "nowhere"'},
        "partition",
        "no partition 'nowhere'",
        "backfill, batch, urgent",
    ),
    "walltime": Mistake({'walltime = "0-01:00:00"': 'walltime = "5:00:00"'}, "walltime", "longer than", "04:00:00"),
    "memory": Mistake({'memory = "16000 MiB"': 'memory = "64 GiB"'}, "memory", "more than any node", "32000 MiB"),
    "port": Mistake({"cm.pool:9618": "cm.pool:9619"}, "port", "refuses the connection", "pool.collector"),
    "scratch": Mistake(
        {'partition = "batch"': 'partition = "batch"\nscratch = "/nonexistent"'}, "scratch", "no directory", "scratch"
    ),
    "disk": Mistake({'partition = "batch"': 'partition = "batch"\ndisk = "90000 GiB"'}, "scratch", "MiB free", "disk"),
    "bundle": Mistake({'sha256 = "': f'sha256 = "{"0" * 64}"  # '}, "bundle", "has sha256", "bundle.sha256"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_with_its_remedy(name: str) -> None:
    mistake = MISTAKES[name]
    fleet = new_fleet(sites=(BETA,), changes=mistake.change)
    code, findings = check(fleet)
    assert 1 == code
    found = findings[mistake.what]
    assert "bad" == found["verdict"], findings
    assert mistake.words in found["text"]
    assert mistake.remedy in found["remedy"]


def route(*words: str) -> None:
    """Change the routes of beta's compute node: in its network namespace, from the machine that it is on."""
    container = containers.find(model.host_named("n1.beta"))
    assert container is not None
    pid = str(container.attrs["State"]["Pid"])
    subprocess.run(["nsenter", "-t", pid, "-n", "ip", "route", *words], check=True)


def test_no_way_out_of_the_compute_nodes_is_found() -> None:
    fleet = new_fleet(sites=(BETA,))
    address = dict(model.host_named("cm").addresses)[model.POOL_NETWORK]

    route("add", "unreachable", address)
    try:
        code, findings = check(fleet)
    finally:
        route("del", "unreachable", address)
    assert 1 == code
    assert "has no way to cm.pool:9618" in findings["network"]["text"]
    assert "outward" in findings["network"]["remedy"]


def test_a_key_that_the_collector_does_not_know_is_found_by_the_canary() -> None:
    fleet = new_fleet(sites=(BETA,), changes={'join_timeout = "2 min"': 'join_timeout = "20 s"'})
    secrets = f"{fleet.directory}/secrets"
    script = (
        f"cp -r /etc/aerotow/secrets {secrets} && head -c 64 /dev/urandom >{secrets}/keys.d/pilot-beta && "
        f"sed -i 's,^secrets_dir.*,secrets_dir = \"{secrets}\",' {fleet.config}"
    )
    containers.execute(FACTORY, ["sh", "-c", script], user=model.FACTORY_USER)
    code, findings = check(fleet, "--canary")
    assert 1 == code
    assert "not_joined" in findings["canary"]["text"]
    assert "pilot-beta" in findings["canary"]["remedy"]
    containers.execute(FACTORY, ["rm", f"{secrets}/keys.d/pilot-beta"], user=model.FACTORY_USER)
    _, findings = check(fleet)
    assert "aerotow token key pilot-beta" in findings["key"]["remedy"]


def test_a_clock_ten_minutes_off_is_found() -> None:
    fleet = new_fleet(sites=(BETA,))
    login = model.host_named("login.beta")
    # Containers share the machine's clock, so what tells the time there is made to lie.
    lie = b'#!/bin/sh\nexec /usr/bin/date -d "+600 seconds" "$@"\n'
    containers.write_file(login, "/usr/local/bin/date", lie, mode=0o755)
    try:
        code, findings = check(fleet)
    finally:
        containers.execute(login, ["rm", "/usr/local/bin/date"], user="root")
    assert 1 == code
    assert "the clock of the login host is +" in findings["clock"]["text"]
    assert "NTP" in findings["clock"]["remedy"]
    # Deadlines are the site's own, so the check's job ran all the same.
    assert "good" == findings["network"]["verdict"]
