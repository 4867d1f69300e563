"""``aerotow simulate generate|export|import-swf``: where traces come from; each is printed, to be kept in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from aerotow.cli.app import App
from aerotow.cli.failure import Failure
from aerotow.cli.show import counted, warn
from aerotow.cli.times import moment
from simulation.export import trace_of
from simulation.generate import WORKLOADS
from simulation.model import TraceJob
from simulation.swf import read_swf
from simulation.trace import trace_lines

EXPORT_MAX = 1_000_000


@click.command("generate")
@click.argument("workload", type=click.Choice(sorted(WORKLOADS)))
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--days", type=click.FloatRange(min=0.01), default=3.0, show_default=True)
def generate(workload: str, seed: int, days: float) -> None:
    """Print a generated trace, as a beginning for one of your own."""
    _print(WORKLOADS[workload](seed, days=days))


@click.command("export")
@click.option("--since", help="Jobs that ended since: '7 d', 2026-11-01 or 2026-11-01T12:00 (UTC).")
@click.option("--until", help="Jobs that ended before, written the same way.")
@click.pass_context
def export(ctx: click.Context, since: str | None, until: str | None) -> None:
    """
    Print a trace of the jobs that the database knows to have ended.

    Submission, run time, cores, memory, owner and project are the jobs' own. What they declared, their Requirements
    and their disk are not in the database.
    """
    app: App = ctx.obj
    now_s = app.now_s()
    jobs = app.books.finished_jobs(
        since_s=None if since is None else moment(since, now_s, option="--since"),
        until_s=None if until is None else moment(until, now_s, option="--until"),
        limit=EXPORT_MAX,
    )
    if not jobs:
        raise Failure("the database has no ended jobs in this time; 'aerotow usage' shows what it has")
    if len(jobs) == EXPORT_MAX:
        warn(f"only the first {EXPORT_MAX} jobs: name a shorter time with --since and --until")
    _print(trace_of(jobs))


@click.command("import-swf")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--max-cores", type=click.IntRange(min=1), help="Leave out jobs with more cores: no pilot holds them.")
def import_swf(path: Path, max_cores: int | None) -> None:
    """
    Print a trace made from a file in the Standard Workload Format.

    Such logs are at https://www.cs.huji.ac.il/labs/parallel/workload/. What is left out is told on stderr.
    """
    read = read_swf(path, max_cores=max_cores)
    for reason, number in read.left_out:
        warn(f"left out: {counted(number, 'line')}: {reason}")
    if not read.jobs:
        raise Failure(f"{path}: no job is left")
    _print(read.jobs)


def _print(jobs: Iterable[TraceJob]) -> None:
    for line in trace_lines(jobs):
        click.echo(line)
