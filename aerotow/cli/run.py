"""``aerotow run``: the loop itself."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Literal

import click
import structlog

from aerotow.cli.app import App
from aerotow.cli.failure import FAILED, USAGE, Failure
from aerotow.cli.log import set_up_log
from factory.crash import CRASH_POINTS, Crash, kill_at, never
from factory.errors import MetricsNotServed
from factory.loop import holder_name, run_loop
from factory.metrics import Metrics, serve
from factory.usage import read_usage
from factory.wiring import Worldmaker, clocks_of, make_pool


@click.command()
@click.option("--once", is_flag=True, help="One cycle and one reading of usage, then end.")
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default=None,
    help="Of the log on stderr [default: console on a terminal, else json].",
)
@click.option("--crash-at", hidden=True, help="POINT[:VISITS]: kill this process there, for tests.")
@click.pass_context
def run(ctx: click.Context, once: bool, log_format: Literal["console", "json"] | None, crash_at: str | None) -> None:
    """
    The factory's loop.

    Watches the queues and keeps the sites supplied with pilots, until SIGTERM or SIGINT.
    A signal ends it after the current cycle; a second one at once, which is safe too.
    Only one factory acts for an instance: a second one ends with 1 and names the first.
    """
    app: App = ctx.obj
    crash = never if crash_at is None else crash_of(crash_at)
    config, ledger = app.config, app.ledger
    set_up_log(log_format or ("console" if sys.stderr.isatty() else "json"))
    maker = Worldmaker(app.config_path, ledger=ledger, crash=crash)
    stop = threading.Event()
    _end_on_signals(stop)
    stop_serving = _serve_metrics(maker, config.metrics.listen)

    def usage() -> None:
        read_usage(
            make_pool(maker.config), app.books.payload, aps=tuple(sorted(maker.config.access_points)), clock=app.clock
        )

    try:
        code = run_loop(
            maker,
            ledger,
            holder=holder_name(),
            clocks=clocks_of(config),
            read_usage=usage,
            stop=stop,
            once=once,
        )
    finally:
        stop_serving()
        maker.close()
    if code:
        why = "the cycle failed" if once else "another factory has taken the lease over"
        raise Failure(f"{why}; the log above says more", exit_code=FAILED)


def _serve_metrics(maker: Worldmaker, listen: str | None) -> Callable[[], None]:
    """Serve the factory's numbers where the operator wants them; gives how to end that."""
    if listen is None:
        return lambda: None
    metrics = Metrics(meters=lambda: dict(maker.meters), started_s=time.time())
    try:
        close = serve(metrics, listen)
    except MetricsNotServed as error:
        raise Failure(str(error), exit_code=FAILED) from error
    maker.watcher = metrics
    structlog.get_logger().info("metrics.served", listen=listen)
    return close


def crash_of(text: str) -> Crash:
    """The crash that ``POINT[:VISITS]`` asks for."""
    point, _, visits = text.partition(":")
    if point not in CRASH_POINTS or (visits and not visits.isdigit()):
        raise Failure(
            f"--crash-at {text!r}: write POINT or POINT:VISITS; points are {', '.join(CRASH_POINTS)}", exit_code=USAGE
        )
    return kill_at(point, visits=int(visits or 1))


def _end_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM and SIGINT end the loop after the current cycle, and a second one end the process."""

    def end(number: int, _frame: FrameType | None) -> None:
        structlog.get_logger().info("run.stopping", signal=signal.Signals(number).name)
        stop.set()
        # The next one takes its ordinary effect: a crash at any point is survived.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
