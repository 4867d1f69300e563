"""Reservations of the three real Slurms, by their commands and through their slurmrestd."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benches import rest_bench

from factory.sites.contract import Closure, SiteSeen
from factory.sites.slurm import SlurmSite

pytestmark = pytest.mark.system

NAME = "contractmaint"


@contextlib.contextmanager
def reserved(site: str, start_s: int, *more: str) -> Iterator[None]:
    """A reservation as the site's admin makes one, for an hour from then on."""
    from testbed import containers
    from testbed import site as sites

    login = sites.login_host(site)
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start_s))
    argv = ["scontrol", "create", "reservation", f"ReservationName={NAME}", f"StartTime={start}", "Duration=60"]
    containers.execute(login, ["env", "TZ=UTC", *argv, "Users=root", *more])
    try:
        yield
    finally:
        containers.execute(login, ["scontrol", "delete", f"ReservationName={NAME}"])


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_a_maintenance_of_all_nodes_is_seen_by_both_ways_and_one_of_a_part_is_none(name: str) -> None:
    # Mutation: leave "reservations" out of slurm.look_orders, or _closed_times out of SlurmrestdSite.look.
    start_s = int(time.time()) + 3600
    with tempfile.TemporaryDirectory() as directory, rest_bench(name, Path(directory)) as bench:
        ways = (bench.site, SlurmSite(bench.settings, bench.shell, clock=time.time, nonce=lambda: "c0ffee"))
        wanted = {Closure(partition=bench.offer.partition, start_s=start_s, end_s=start_s + 3600, why=_WHY)}
        with reserved(name, start_s, "Nodes=ALL", "Flags=MAINT,IGNORE_JOBS"):
            for way in ways:
                assert wanted <= closed(way)
        with reserved(name, start_s, "Nodes=n1", "CoreCnt=1"):
            for way in ways:
                assert set() == closed(way)
        for way in ways:
            assert set() == closed(way)


_WHY = f"reservation {NAME} (MAINT)"


def closed(site: SlurmSite) -> set[Closure]:
    sight = site.look((), now_s=time.time())
    assert isinstance(sight, SiteSeen), sight
    assert "" == sight.closures_unseen
    return set(sight.closures)
