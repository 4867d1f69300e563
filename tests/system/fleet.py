"""
A factory of its own for one system test: own instance, own ledger, on the test-bed's factory host.

Pilots are counted in Slurm's own records by job name, never in our database.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testbed import containers, model, tower

FACTORY = model.factory_host()

FAST = {
    'usage_interval = "10 s"': 'usage_interval = "5 s"',
    'idle_timeout = "30 s"': 'idle_timeout = "15 s"',
    # A submission whose answer was lost is given up after four times this.
    'lease = "30 s"': 'lease = "8 s"\ncommand_timeout = "15 s"',
}


PATIENCE = 3
"""How much longer than on a quiet machine anything may take; it costs nothing where all is well."""


def wait_until(what: str, check: Callable[[], bool], *, timeout_s: float = 120, pause_s: float = 1) -> None:
    """Poll until the check is true; an AssertionError names what did not come. ``timeout_s`` is for a quiet machine."""
    end = time.monotonic() + timeout_s * PATIENCE
    while not check():
        assert time.monotonic() < end, f"after {timeout_s * PATIENCE:.0f} s still not: {what}"
        time.sleep(pause_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """One row of sacct for a pilot."""

    site: str
    job_id: str
    name: str
    state: str
    reason: str
    start: str
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A factory on the test-bed under an instance name that nobody else uses."""

    instance: str
    directory: str
    sites: tuple[model.SlurmSite, ...] = model.SITES

    @property
    def config(self) -> str:
        """Path of its configuration on the factory's host."""
        return f"{self.directory}/aerotow.toml"

    def start(self, *options: str) -> None:
        """Start ``aerotow run`` and return at once."""
        script = 'cd "$1" && shift && { echo $$ >pid; exec aerotow "$@" >>log 2>&1; }'
        argv = ["sh", "-c", f"setsid sh -c '{script}' run \"$@\" </dev/null >/dev/null 2>&1 &", "start"]
        containers.execute(
            FACTORY, [*argv, self.directory, "--config", self.config, "run", *options], user=model.FACTORY_USER
        )

    def running(self) -> bool:
        """Whether the process is there."""
        script = f'p=$(cat {self.directory}/pid 2>/dev/null) && kill -0 "$p" 2>/dev/null'
        return containers.execute_raw(FACTORY, ["sh", "-c", script], user=model.FACTORY_USER).returncode == 0

    def signal(self, name: str) -> None:
        """Send the process a signal."""
        containers.execute_raw(
            FACTORY, ["sh", "-c", f"kill -{name} $(cat {self.directory}/pid)"], user=model.FACTORY_USER
        )

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal("KILL")
        wait_until("the factory is dead", lambda: not self.running(), timeout_s=10, pause_s=0.1)

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self.signal("TERM")
        wait_until("the factory has stopped", lambda: not self.running(), timeout_s=60, pause_s=0.3)

    def command(self, *argv: str) -> str:
        """Run an aerotow command with this configuration; what it prints."""
        done = containers.execute_raw(
            FACTORY, ["aerotow", "--config", self.config, *argv], user=model.FACTORY_USER, timeout_s=120
        )
        text = done.stdout.decode()
        assert done.returncode == 0, f"aerotow {' '.join(argv)}: {done.returncode}\n{text}\n{done.stderr.decode()}"
        return text

    def ask(self, *argv: str) -> Any:
        """Run a read command with --json and give what it says."""
        return json.loads(self.command(*argv, "--json"))

    def log(self) -> str:
        """Everything the factory has logged."""
        return (containers.read_file(FACTORY, f"{self.directory}/log") or b"").decode(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log events of one name."""
        found = []
        for line in self.log().splitlines():
            if name in line and line.startswith("{"):
                event = json.loads(line)
                if event.get("event") == name:
                    found.append(event)
        return found

    def sacct(self) -> list[BatchJob]:
        """Every batch job of this instance at every site, from Slurm's accounting."""
        return [job for row in self.sites for job in sacct_of(row, self.instance)]

    def squeue(self) -> list[BatchJob]:
        """Every batch job of this instance that pends or runs, from Slurm's controllers."""
        return [job for row in self.sites for job in squeue_of(row, self.instance)]

    def assert_no_pilot_doubled(self) -> None:
        """No name twice in Slurm's own records."""
        names = Counter(job.name for job in self.sacct())
        assert {} == {name: count for name, count in names.items() if count > 1}

    def assert_no_pilot_lost(self) -> None:
        """Every batch job is in the ledger, and nothing there is open that Slurm has ended."""
        known = {pilot["pilot_id"]: pilot for pilot in self.ask("pilots", "--all")}
        ours = {job.name: job for job in self.sacct()}
        assert set() == set(ours) - set(known)
        ended = {name for name, job in ours.items() if not job.state.startswith(("PENDING", "RUNNING", "COMPLETING"))}
        assert {} == {name: known[name]["phase"] for name in ended if known[name]["phase"] != "ended"}

    def wait_empty(self, *, timeout_s: float = 180) -> None:
        """Wait until no pilot pends or runs at any site."""
        wait_until("no pilot is left at any site", lambda: not self.squeue(), timeout_s=timeout_s, pause_s=2)

    def wait_ended(self, *, timeout_s: float = 180) -> None:
        """Wait until no pilot is left at any site and the ledger, which hears of it later, has every pilot's end."""
        self.wait_empty(timeout_s=timeout_s)
        wait_until(
            "the ledger has every pilot's end",
            lambda: all(pilot["phase"] == "ended" for pilot in self.ask("pilots", "--all")),
            timeout_s=120,
        )


def new_fleet(
    *, changes: dict[str, str] | None = None, extra: str = "", sites: tuple[model.SlurmSite, ...] = model.SITES
) -> Fleet:
    """Lay out a factory with the test-bed's configuration, quick clocks, and the changes of a test."""
    instance = f"t{secrets.token_hex(4)}"
    directory = f"{tower.STATE_DIR}/{instance}"
    bundle = containers.execute(FACTORY, ["sha256sum", tower.BUNDLE_FILE]).split()[0]
    text = tower.config_text(bundle_sha256=bundle, extra=extra, sites=sites)
    text = text.replace('name = "bed"', f'name = "{instance}"')
    text = text.replace(f'state_dir = "{tower.STATE_DIR}"', f'state_dir = "{directory}"')
    # Jobs of this test run in pilots of this test only, whatever else is in the pool.
    text = text.replace("max_pilots =", f'slot_attributes = {{ FleetName = "{instance}" }}\nmax_pilots =')
    for old, new in {**FAST, **(changes or {})}.items():
        assert old in text, f"the test-bed's configuration has no {old!r}"
        text = text.replace(old, new)
    containers.execute(FACTORY, ["mkdir", "-p", directory], user=model.FACTORY_USER)
    fleet = Fleet(instance=instance, directory=directory, sites=sites)
    containers.write_file(FACTORY, fleet.config, text.encode(), owner=f"{model.FACTORY_USER}:{model.FACTORY_USER}")
    return fleet


def give_keys_that_the_collector_does_not_know(fleet: Fleet) -> None:
    """A secrets directory of its own with other signing keys; the READ tokens are the good ones."""
    script = """
        set -eu; umask 077
        mkdir -p "$1/secrets/keys.d"
        cp -r /etc/aerotow/secrets/tokens.d "$1/secrets/"
        for key in /etc/aerotow/secrets/keys.d/pilot-*; do
            head -c 64 /dev/urandom >"$1/secrets/keys.d/${key##*/}"
        done
        sed -i "s#secrets_dir = .*#secrets_dir = \\"$1/secrets\\"#" "$1/aerotow.toml"
    """
    containers.execute(FACTORY, ["sh", "-c", script, "keys", fleet.directory], user=model.FACTORY_USER)


def let_no_pilot_join(fleet: Fleet) -> None:
    """Its pilots wait 15 s in vain for the collector; three of them open the breaker."""
    give_keys_that_the_collector_does_not_know(fleet)
    text = (containers.read_file(FACTORY, fleet.config) or b"").decode()
    assert 'join_timeout = "2 min"' in text
    text = (
        text.replace('join_timeout = "2 min"', 'join_timeout = "15 s"')
        + '\n[breaker]\nfailures = 3\nbackoff = "10 min"\n'
    )
    owner = f"{model.FACTORY_USER}:{model.FACTORY_USER}"
    containers.write_file(FACTORY, fleet.config, text.encode(), owner=owner)


def assert_pilots_leave_and_the_breaker_opens(fleet: Fleet, site: str) -> None:
    """Of a fleet of which no pilot joins, with many jobs for this site."""

    def breaker() -> dict[str, Any]:
        found = next(line for line in fleet.ask("sites")["sites"] if line["site"] == site)["breaker"]
        return found or {"mode": "unknown"}

    wait_until("the breaker is open", lambda: breaker()["mode"] == "open", timeout_s=180)
    fleet.wait_ended(timeout_s=120)
    ended = fleet.ask("pilots", "--all")
    assert {"not_joined"} == {pilot["end_reason"] for pilot in ended}
    assert {21} == {pilot["batch"]["exit_code"] for pilot in ended if pilot["batch"] and pilot["batch"]["exit_code"]}
    assert 3 <= len(ended) <= 8
    assert "not joined" in breaker()["reason"]


def sacct_of(row: model.SlurmSite, instance: str) -> list[BatchJob]:
    """One site's records from its accounting, every one of them (-D), whole (-P)."""
    command = "sacct -X -D -n -P -S now-6hours -E now -u pilot -o JobIDRaw,State,Reason,Start,End,JobName"
    rows = []
    for line in on_login(row, command).splitlines():
        job_id, state, reason, start, end, name = line.split("|", 5)
        if name.startswith(f"{instance}-"):
            rows.append(
                BatchJob(site=row.name, job_id=job_id, name=name, state=state, reason=reason, start=start, end=end)
            )
    return rows


def squeue_of(row: model.SlurmSite, instance: str) -> list[BatchJob]:
    """One site's pending and running jobs from its controller."""
    rows = []
    for line in on_login(row, "squeue -h -u pilot -o '%A|%T|%r|%S|%e|%j'").splitlines():
        job_id, state, reason, start, end, name = line.split("|", 5)
        if name.startswith(f"{instance}-"):
            rows.append(
                BatchJob(site=row.name, job_id=job_id, name=name, state=state, reason=reason, start=start, end=end)
            )
    return rows


def on_login(row: model.SlurmSite, command: str, *, user: str = "pilot") -> str:
    """Run a shell command on a site's login host."""
    host = model.host_named(f"login.{row.name}")
    return containers.execute(host, ["bash", "-c", command], user=user)


def submit_jobs(
    fleet: Fleet,
    count: int,
    *,
    ap: str = "ap1",
    user: str = "alice",
    project: str = "dp001",
    seconds: int = 3,
    where: str = "",
    more: str = "",
) -> int:
    """Queue plain sleep jobs as an ordinary user, for this fleet's pilots, at sites for which ``where`` holds."""
    requirements = f'TARGET.FleetName == "{fleet.instance}"' + (f" && ({where})" if where else "")
    text = f"""
executable = /bin/sleep
arguments = {seconds}
transfer_executable = false
should_transfer_files = YES
request_cpus = 1
request_memory = 256MB
request_disk = 50MB
allowed_execute_duration = 600
accounting_group = {project}
requirements = {requirements}
My.FleetName = "{fleet.instance}"
{more}
queue {count}
"""
    host = model.host_named(ap)
    command = f"cd /home/{user} && condor_submit -terse /dev/stdin"
    answer = containers.execute(host, ["sh", "-c", command], user=user, stdin=text.encode())
    return int(answer.split(".")[0])


def jobs_left(*clusters: int, ap: str = "ap1") -> int:
    """Jobs of these clusters still in the queue."""
    terms = " || ".join(f"ClusterId == {cluster}" for cluster in clusters)
    answer = containers.execute(
        model.host_named(ap), ["condor_q", "-allusers", "-constraint", terms, "-af", "ClusterId", "ProcId"]
    )
    return len(answer.splitlines())


def history(*clusters: int, ap: str = "ap1") -> list[dict[str, Any]]:
    """The final ads of these clusters' jobs, from HTCondor's own history."""
    terms = " || ".join(f"ClusterId == {cluster}" for cluster in clusters)
    argv = ["condor_history", "-json", "-constraint", terms]
    attributes = (
        "ClusterId,ProcId,JobStatus,ExitCode,ExitBySignal,NumShadowStarts,RemoteWallClockTime,MachineAttrGlideinSite0"
    )
    text = containers.execute(model.host_named(ap), [*argv, "-attributes", attributes]).strip()
    found: list[dict[str, Any]] = json.loads(text) if text else []
    return found


def assert_all_done(clusters: dict[int, int], *, ap: str = "ap1") -> None:
    """Every job of every cluster completed with exit code 0, in HTCondor's own history."""
    ads = history(*clusters, ap=ap)
    assert sum(clusters.values()) == len(ads)
    assert [] == [ad for ad in ads if ad.get("JobStatus") != 4 or ad.get("ExitCode") != 0]


def remove_all_jobs(fleet: Fleet) -> None:
    """Take everything out of the queues that was submitted for this fleet."""
    for ap in model.APS:
        containers.execute_raw(
            model.host_named(ap), ["condor_rm", "-constraint", f'FleetName =?= "{fleet.instance}"'], user="root"
        )


def remove_jobs(*clusters: int, ap: str = "ap1") -> None:
    """Take jobs out of the queue again."""
    for cluster in clusters:
        containers.execute_raw(model.host_named(ap), ["condor_rm", str(cluster)], user="root")
