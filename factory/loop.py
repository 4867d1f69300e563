"""The loop: cycles one after another under a lease, and the reading of usage on a clock of its own beside them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from accounting.errors import LeaseHeld, LedgerUnavailable
from accounting.ledger import Ledger
from accounting.model import Lease
from factory.cycle import CycleSummary, World, run_cycle
from factory.garbage import leave_tidy, tidy_up
from factory.observe import Looker

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Pauses of the loop, in seconds."""

    cycle_s: float
    usage_s: float
    lease_s: float
    patience_s: float
    """How long a cycle waits for one round of answers; above every deadline below it."""


class LeaseKeeper:
    """
    Holds the instance's lease and renews it from a thread, so that a long cycle does not lose it.

    :raises LeaseHeld: at start, when another factory acts for this instance.
    """

    def __init__(self, ledger: Ledger, *, instance: str, holder: str, ttl_s: float, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._ttl_s = ttl_s
        self._clock = clock
        self._lease: Lease = _acquire(ledger, instance=instance, holder=holder, now_s=clock(), ttl_s=ttl_s)
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def lease(self) -> Lease | None:
        """The lease if effects are allowed now: not lost, and not expired while this process was stopped."""
        lease = self._lease
        return lease if not self._lost.is_set() and self._clock() < lease.expires_s else None

    def lost(self) -> bool:
        """Whether another factory has taken over."""
        return self._lost.is_set()

    def release(self) -> None:
        """Give the lease back, so that a successor need not wait."""
        self._stop.set()
        self._thread.join(timeout=5)
        if self._lost.is_set():
            return
        try:
            self._ledger.release_lease(self._lease)
        except LedgerUnavailable as error:
            # It runs out by itself; why the loop ends must not be hidden by this.
            log.error("lease.not_released", reason=str(error))

    def _renew(self) -> None:
        while not self._stop.wait(self._ttl_s / 4):
            try:
                self._lease = self._ledger.renew_lease(self._lease, self._clock(), self._ttl_s)
            except LeaseHeld as error:
                log.error("lease.lost", reason=str(error))
                self._lost.set()
                return
            except LedgerUnavailable as error:
                # Keep trying: lease() gives None by itself when the lease runs out.
                log.error("lease.not_renewed", reason=str(error))
            except Exception:
                # Our own fault. A factory without this thread would look on for ever and never act again.
                log.exception("lease.broke")


def _acquire(ledger: Ledger, *, instance: str, holder: str, now_s: float, ttl_s: float) -> Lease:
    """Take the lease; one whose holder was a process of this host that is gone need not run out first."""
    try:
        return ledger.acquire_lease(instance, holder, now_s, ttl_s)
    except LeaseHeld as error:
        if not is_dead_here(error.holder):
            raise
        log.warning("lease.taken_over", dead_holder=error.holder)
        return ledger.acquire_lease(instance, holder, now_s, ttl_s, replacing=error.holder)


def holder_name() -> str:
    """Who we are in the lease: host, space of process ids, process, and its start, which no later process shares."""
    pid = os.getpid()
    return f"{_process_space()}:{pid}:{_start_ticks(pid)}"


def is_dead_here(holder: str) -> bool:
    """Whether a lease's holder was a process of this very host and exists no more. In doubt it lives."""
    space, _, rest = holder.rpartition(":")
    space, _, pid = space.rpartition(":")
    if space != _process_space() or not pid.isdigit() or not rest.isdigit():
        return False
    return _start_ticks(int(pid)) != int(rest)


def _process_space() -> str:
    """Host name and the namespace of process ids: two containers of one name do not see each other's processes."""
    return f"{os.uname().nodename}:{Path('/proc/self/ns/pid').readlink().name}"


def _start_ticks(pid: int) -> int:
    """When a process of this host started, in clock ticks since boot (proc(5), stat field 22); 0: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    # A zombie holds no lease: it runs no code.
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def run_loop(
    world: Callable[[], World],
    ledger: Ledger,
    *,
    holder: str,
    clocks: Clocks,
    read_usage: Callable[[], None],
    stop: threading.Event,
    once: bool = False,
) -> int:
    """
    Run cycles until ``stop`` is set (or one, with ``once``); the exit code.

    ``world`` is called before every cycle, so that a changed configuration takes effect without a restart.

    :raises LeaseHeld: another factory acts for this instance.
    """
    first = world()
    keeper = LeaseKeeper(ledger, instance=first.instance, holder=holder, ttl_s=clocks.lease_s, clock=first.clock)
    looker = Looker(patience_s=clocks.patience_s)
    usage = threading.Thread(target=_usage_clock, args=(read_usage, clocks.usage_s, stop), name="usage", daemon=True)
    failures = 0
    try:
        if not once:
            usage.start()
        while True:
            failures = 0 if _cycle_or_log(world, ledger, looker, keeper) else failures + 1
            if once:
                read_usage()
                return 1 if failures else 0
            if keeper.lost():
                return 1
            tidy_up()
            if stop.wait(clocks.cycle_s):
                return 0
    finally:
        leave_tidy()
        stop.set()
        looker.close()
        keeper.release()


def _cycle_or_log(world: Callable[[], World], ledger: Ledger, looker: Looker, keeper: LeaseKeeper) -> bool:
    """One cycle with its canonical log line; False when it could not be done."""
    made = world()
    started_s = made.clock()
    try:
        done = run_cycle(made, ledger, looker, lease=keeper.lease)
    except (LedgerUnavailable, LeaseHeld) as error:
        log.error("cycle.failed", reason=str(error))
        made.watcher.cycle_failed("ledger" if isinstance(error, LedgerUnavailable) else "lease")
        return False
    except Exception:
        # Our own fault. The next cycle starts from what is observed and from the ledger, as after a crash.
        log.exception("cycle.broke")
        made.watcher.cycle_failed("broke")
        return False
    log_cycle(done, duration_s=made.clock() - started_s)
    return True


def log_cycle(done: CycleSummary, *, duration_s: float) -> None:
    """The one canonical line of a cycle."""
    facts = asdict(done)
    log.info("cycle.finished", duration_s=round(duration_s, 2), **facts)


def _usage_clock(read_usage: Callable[[], None], pause_s: float, stop: threading.Event) -> None:
    """Read usage again and again; whatever happens there, provisioning goes on."""
    while True:
        try:
            read_usage()
        except Exception:
            log.exception("usage.broke")
        if stop.wait(pause_s):
            return
