"""What every command starts from: the operator's file, the ledger and the clock, each opened when first used."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from accounting.books import Books
from accounting.ledger import Ledger
from aerotow.cli.failure import USAGE, Failure
from config.load import load_config
from config.model import Config

if TYPE_CHECKING:
    from overlay.job import JobSight
    from overlay.model import Slots

DEFAULT_CONFIG = Path("/etc/aerotow/aerotow.toml")


JobFinder = Callable[[Config, str, int, int, float], "JobSight"]
"""Asks an AP (by its name in the configuration) for cluster and proc, now."""


def ask_for_job(config: Config, ap: str, cluster: int, proc: int, now_s: float) -> JobSight:
    """Ask the real AP, in a process with a deadline."""
    # HTCondor's bindings take a quarter of a second to import, and most commands do without.
    from factory.wiring import make_pool
    from overlay.client import Ap
    from overlay.job import find_job

    pool = make_pool(config)
    return find_job(pool.client, Ap(name=ap, schedd=pool.schedds[ap]), cluster=cluster, proc=proc, now_s=now_s)


SlotsLooker = Callable[[Config, float], "Slots"]
"""Asks the collector for the slots of pilots, now."""


def look_at_slots(config: Config, now_s: float) -> Slots:
    """Ask the real collector, in a process with a deadline."""
    from factory.wiring import make_pool

    return make_pool(config).slots(now_s=now_s)


@dataclass(kw_only=True)
class App:
    """The context object of click."""

    config_path: Path
    clock: Callable[[], float] = field(default=time.time)
    find_job: JobFinder = field(default=ask_for_job)
    see_slots: SlotsLooker = field(default=look_at_slots)

    @cached_property
    def config(self) -> Config:
        """The operator's file, read once per command."""
        return load_config(self.config_path)

    @cached_property
    def books(self) -> Books:
        """The database, made or migrated when it is first used; a SQLite file's directory is made, 0700."""
        instance = self.config.instance
        if instance.database is None:
            try:
                instance.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise Failure(
                    f"instance.state_dir: {instance.state_dir} cannot be made ({error.strerror}); "
                    "make it for the user that runs aerotow, or name another in the file"
                ) from error
        return Books(instance.database_url)

    @property
    def ledger(self) -> Ledger:
        """Pilots, decisions and stops."""
        return self.books.ledger

    def now_s(self) -> float:
        """Epoch seconds."""
        return self.clock()


pass_app = click.make_pass_decorator(App)


def known(name: str, names: Iterable[str], *, what: str, where: str) -> str:
    """The name if it is one of ``names``; else the command ends and says what may have been meant."""
    all_names = sorted(names)
    if name in all_names:
        return name
    near = difflib.get_close_matches(name, all_names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"there {'is' if len(all_names) == 1 else 'are'}: "
    if not near:
        hint += ", ".join(all_names) if all_names else "none"
    raise Failure(f"no {what} '{name}' in {where}; {hint}", exit_code=USAGE)
