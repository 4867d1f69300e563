"""
Record what the Slurms of the test-bed really print, as files beside this one: ``slurm-VERSION-CASE.txt``.

Each file names version, command and exit status in its first lines, then holds stdout and stderr. Run by `make record`.
Works as the ordinary user ``local``, so that pilots of somebody else's factory are not in the way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from factory.sites.scripts import SACCT_FIELDS, SQUEUE_FORMAT
from testbed import bed, containers, model, site

HERE = Path(__file__).parent
NONCE = "0123456789abcdef"
USER = model.OTHER_USER
ACCOUNT = "local"

SQUEUE = f"squeue -h -t all -u $(id -u) -o '{NONCE}|{SQUEUE_FORMAT}|{NONCE}'"
SACCT = "sacct -X -D -n -P"


@dataclass
class Recorder:
    """One site."""

    row: model.SlurmSite
    version: str = ""

    def run(self, command: str, *, timeout_s: float = 60) -> tuple[int, str, str]:
        """Run a command as the user, with the environment of our scripts."""
        argv = ["env", "-i", f"HOME=/home/{USER}", f"USER={USER}", "PATH=/usr/bin:/bin", "LC_ALL=C"]
        argv += ["SLURM_TIME_FORMAT=%s", "sh", "-c", f"cd && {command}"]
        done = containers.execute_raw(site.login_host(self.row.name), argv, user=USER, timeout_s=timeout_s)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def record(self, case: str, command: str) -> str:
        """Run a command and write down what it did."""
        status, stdout, stderr = self.run(command)
        text = f"# Slurm {self.version}\n# $ {command}\n# status {status}\n"
        text += f"# stdout\n{stdout}# stderr\n{stderr}"
        (HERE / f"slurm-{self.version}-{case}.txt").write_text(text)
        print(f"{self.row.name}: {case}: status {status}, {len(stdout)} characters", flush=True)
        return stdout

    def submit(self, n: int, options: str, body: str) -> str:
        """A job in the way pilots are submitted; its id."""
        command = f"printf '#!/bin/sh\\n{body}\\n' >job.sh; {self.sbatch(n, options)} job.sh"
        status, stdout, stderr = self.run(command)
        assert status == 0, stderr
        return stdout.strip()

    def sbatch(self, n: int, options: str = "") -> str:
        """The command of a submission."""
        return (
            f"sbatch --parsable --no-requeue --job-name=rec-{self.row.name}-00000001-{n} --output=/dev/null "
            f"--account={ACCOUNT} --partition={self.row.partition} --mem=100M --time=10 {options}"
        )


def record_jobs(to: Recorder) -> None:
    """The queue and accounting with jobs in every state that is quick to reach."""
    to.record("squeue-empty", SQUEUE)
    ids = [
        to.submit(0, "", "sleep 60"),
        to.submit(1, "", "exit 7"),
        to.submit(2, "", "kill -9 $$"),
        to.submit(3, "--time=30-0", "true"),
        to.submit(4, "", "true"),
        to.submit(5, "--hold", "true"),
        to.submit(6, "", "sleep 60"),
        to.submit(7, "--job-name='a|b'", "sleep 2"),
        to.submit(8, '--job-name="two\nlines"', "sleep 2"),
    ]
    time.sleep(3)
    to.run(f"scancel {ids[6]}")
    to.record("squeue-jobs", SQUEUE)
    to.run(f"scancel {ids[3]} {ids[5]}")
    # 22.05 brings new jobs into accounting after 5 s.
    time.sleep(8)
    to.record("squeue-jobs-later", SQUEUE)
    to.record("sacct-jobs", f"{SACCT} -j {','.join(ids[:7])} -o {SACCT_FIELDS}")
    names = ",".join(f"rec-{to.row.name}-00000001-{n}" for n in (0, 1))
    to.record("sacct-names", f"{SACCT} -S now-900 --name {names} -o {SACCT_FIELDS}")
    to.record("sacct-unknown-id", f"{SACCT} -j 999999 -o {SACCT_FIELDS}")
    to.record("scancel-ended", f"scancel --state=PENDING {ids[1]}")
    to.run(f"scancel -u {USER}")


def record_refusals(to: Recorder) -> None:
    """sbatch when it takes a job and when it does not."""
    to.run("printf '#!/bin/sh\\ntrue\\n' >job.sh")
    to.record("sbatch-accepted", f"{to.sbatch(20)} job.sh")
    to.record("sbatch-bad-partition", f"{to.sbatch(21, '--partition=nosuch')} job.sh")
    to.record("sbatch-bad-account", f"{to.sbatch(22, '--account=nosuch')} job.sh")
    to.record("sbatch-bad-qos", f"{to.sbatch(23, '--qos=nosuch')} job.sh")
    to.record("sbatch-bad-option", f"{to.sbatch(24, '--nosuch')} job.sh")
    to.record("sbatch-too-much-memory", f"{to.sbatch(25, '--mem=9999999M')} job.sh")
    to.record("squeue-nosuch-user", SQUEUE.replace("$(id -u)", "nosuch"))


def record_outages(to: Recorder) -> None:
    """The same commands while a daemon is stuck or down; all run again afterwards."""
    name, host = to.row.name, site.login_host(to.row.name)
    sacct = f"{SACCT} -j 1 -o {SACCT_FIELDS}"

    def stuck(daemon: str) -> None:
        site.signal_daemon(name, daemon, "STOP")

    def down(daemon: str) -> None:
        site.stop_daemon(name, daemon)

    outages: list[tuple[Callable[[str], None], str, str, str]] = [
        (stuck, "slurmctld", "squeue-controller-stuck", SQUEUE),
        (stuck, "slurmctld", "sbatch-controller-stuck", f"{to.sbatch(30)} job.sh"),
        (down, "slurmctld", "squeue-controller-dead", SQUEUE),
        (down, "slurmctld", "sbatch-controller-dead", f"{to.sbatch(31)} job.sh"),
        (down, "slurmctld", "scancel-controller-dead", "scancel --state=PENDING --name=nosuch"),
        (down, "slurmdbd", "sacct-dbd-dead", sacct),
        (down, "munged", "squeue-munge-dead", SQUEUE),
        (down, "munged", "sacct-munge-dead", sacct),
        (down, "munged", "sbatch-munge-dead", f"{to.sbatch(32)} job.sh"),
    ]
    try:
        for break_it, daemon, case, command in outages:
            # Somebody else on this test-bed may heal it under our hands; then once more.
            for _ in range(3):
                break_it(daemon)
                to.record(case, command)
                mended = containers.heal(host)
                if daemon in mended:
                    break
    finally:
        containers.heal(host)
    to.run(f"scancel -u {USER}")


def main() -> None:
    """Every site, one after the other."""
    bed.up(lambda text: print(f"  {text}", file=sys.stderr))
    for row in model.SITES:
        if sys.argv[1:] and row.name not in sys.argv[1:]:
            continue
        to = Recorder(row=row)
        to.version = to.run("squeue --version")[1].split()[-1]
        for old in HERE.glob(f"slurm-{row.slurm_series}.*"):
            old.unlink()
        record_jobs(to)
        record_refusals(to)
        record_outages(to)


if __name__ == "__main__":
    main()
