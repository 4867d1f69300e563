"""``aerotow simulate``: the real decisions in a modelled world; needs neither a pool nor a site nor a database."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import click

from aerotow.cli.app import App
from aerotow.cli.failure import FAILED, USAGE, Failure
from aerotow.cli.log import set_up_log
from aerotow.cli.show import core_hours, json_option, percent, plain, print_json, say, span, table
from aerotow.cli.traces import export, generate, import_swf
from factory.policy import policy_of
from simulation.faultruns import FaultPlan, run_with_faults
from simulation.generate import WORKLOADS
from simulation.model import Result, TraceJob, WorldModel
from simulation.pictures import pictures_of
from simulation.policies import POLICIES
from simulation.report import Summary, summarize
from simulation.run import Setup, simulate
from simulation.scenario import built_in_config, built_in_world, fault_setup, world_for
from simulation.trace import read_trace
from simulation.worldfile import read_world

DAY_S = 86_400


@click.group("simulate")
def group() -> None:
    """
    Try policies and settings in a modelled world.

    Weeks pass in seconds; the same seed gives the same run. What is modelled, and the format of traces, is in
    docs/simulator.md.
    """


@group.command()
@click.option("--workload", type=click.Choice(sorted(WORKLOADS)), default="bursty", show_default=True)
@click.option("--trace", "trace_path", type=click.Path(path_type=Path), help="Jobs from a trace file instead.")
@click.option("--world", "world_path", type=click.Path(path_type=Path), help="How the sites behave (TOML).")
@click.option("--my-sites", is_flag=True, help="Sites, caps and clocks of the operator's file (--config).")
@click.option(
    "--policy",
    "policies",
    type=click.Choice(sorted(POLICIES)),
    multiple=True,
    default=("aerotow",),
    show_default=True,
    help="Who decides; may be given several times, to compare.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--days", type=click.FloatRange(min=0.01), default=3.0, show_default=True, help="Days that jobs come.")
@click.option("--drain-days", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Days to go on then.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for report.json and plots.")
@json_option
@click.pass_context
def run(  # noqa: PLR0913 - one parameter for each option
    ctx: click.Context,
    workload: str,
    trace_path: Path | None,
    world_path: Path | None,
    my_sites: bool,
    policies: tuple[str, ...],
    seed: int,
    days: float,
    drain_days: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """
    One run for each policy, and what it was worth.

    Without options: three built-in sites whose queues change their pace, and bursts of single-core jobs.
    """
    app: App = ctx.obj
    trace = read_trace(trace_path) if trace_path else WORKLOADS[workload](seed, days=days)
    if not trace:
        raise Failure("there are no jobs in the trace", exit_code=USAGE)
    last_s = max(trace[-1].submit_s, 0.0 if trace_path else days * DAY_S)
    setup = _setup(app, trace, world_path, my_sites=my_sites, horizon_s=last_s + drain_days * DAY_S)
    results = [simulate(setup, POLICIES[name](), seed=seed) for name in dict.fromkeys(policies)]
    summaries = [summarize(result) for result in results]
    if out is not None:
        _write(out, results, summaries)
    if as_json:
        print_json(summaries)
    else:
        _print(summaries, out)


@group.command("faults")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="How many runs.")
@click.option("--seed", type=int, default=0, show_default=True, help="The first one's seed.")
@click.option("--cycles", type=click.IntRange(min=1), default=60, show_default=True, help="Cycles with troubles.")
@json_option
@click.pass_context
def faults(ctx: click.Context, seeds: int, seed: int, cycles: int, as_json: bool) -> None:
    """
    The whole loop with faults first, then healed.

    Real cycle, ledger and lease: sights that fail, submissions that are lost, and a factory that is killed and started
    again. Then everything works, and all must come to its end: no pilot lost, none doubled, no job left. A seed with
    findings ends with 1.
    """
    set_up_log("console", level=logging.CRITICAL)
    reports = [
        run_with_faults(fault_setup(number), FaultPlan(cycles=cycles), seed=number) for number in _row(seed, seeds)
    ]
    if as_json:
        print_json(reports)
    else:
        numbers = ("seed", "jobs", "pilots", "troubles", "kills", "cycles to heal")
        table(
            (*numbers, "findings"),
            (
                (one.seed, one.jobs, one.pilots, one.troubles, one.kills, one.healed_after_cycles, len(one.findings))
                for one in reports
            ),
            right=numbers,
        )
        for one in reports:
            for finding in one.findings:
                say(f"seed {one.seed}: {finding}")
    if any(one.findings for one in reports):
        ctx.exit(FAILED)


def _row(first: int, count: int) -> range:
    return range(first, first + count)


def _setup(
    app: App, trace: tuple[TraceJob, ...], world_path: Path | None, *, my_sites: bool, horizon_s: float
) -> Setup:
    """What the runs start from."""
    config = app.config if my_sites else built_in_config()
    if not config.sites:
        raise Failure("no sites: add a table [sites.NAME] to the file, or leave out --my-sites", exit_code=USAGE)
    model: WorldModel | None = None if my_sites else built_in_world()
    if world_path is not None:
        model = read_world(world_path, sites=frozenset(config.sites))
    policy = policy_of(config)
    # The modelled pool has one trust domain.
    policy = replace(policy, slot_facts=replace(policy.slot_facts, trust_domain="pool"))
    return Setup(
        policy=policy,
        world=world_for(config, model),
        trace=trace,
        cycle_s=config.factory.cycle.total_seconds(),
        horizon_s=horizon_s,
    )


def _print(summaries: list[Summary], out: Path | None) -> None:
    """The runs for people."""
    numbers = ("jobs", "unfinished", "mean", "median", "95 %", "pilots", "core hours", "waste", "lost core hours")
    table(
        ("policy", *numbers),
        (
            (
                one.policy,
                one.jobs,
                one.unfinished,
                span(one.turnaround_mean_s),
                span(one.turnaround_median_s),
                span(one.turnaround_p95_s),
                one.pilots,
                core_hours(one.pilot_core_s),
                percent(one.waste),
                core_hours(one.lost_core_s),
            )
            for one in summaries
        ),
        right=numbers,
    )
    of_site = ("submitted", "started", "joined", "cancelled", "median wait", "core hours", "busy core hours")
    table(
        ("policy", "site", *of_site),
        (
            (
                one.policy,
                site.site,
                site.submitted,
                site.started,
                site.joined,
                site.cancelled,
                span(site.wait_median_s),
                core_hours(site.pilot_core_s),
                core_hours(site.busy_core_s),
            )
            for one in summaries
            for site in one.sites
        ),
        right=of_site,
    )
    say("turnaround is from submission to end; waste is the share of pilot core seconds in which no job ran")
    if any(one.unfinished for one in summaries):
        say("jobs that had not ended count as if they had ended with the simulation: their turnaround is longer")
    if out is not None:
        say(f"report.json and plots are in {out}")


def _write(out: Path, results: list[Result], summaries: list[Summary]) -> None:
    """The report as files."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(plain(summaries), indent=2) + "\n", encoding="utf-8")
        for name, text in pictures_of(results).items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{out}: the report cannot be written ({error.strerror}); name another --out") from error


for _command in (export, generate, import_swf):
    group.add_command(_command)
