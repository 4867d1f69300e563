"""One factory acts for an instance; of two that start at once, one does."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from accounting.errors import LeaseHeld, LeaseLost
from accounting.ledger import Ledger
from accounting.model import Lease

NOW = 1_800_000_000.5

RACER = """
import sys, time
from accounting.engine import open_database
from accounting.errors import LeaseHeld
from accounting.ledger import Ledger
ledger = Ledger(open_database(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
won = 0
for turn in range(20):
    try:
        ledger.acquire_lease("demo", sys.argv[2], now_s=turn * 100.0, ttl_s=50)
        won |= 1 << turn
    except LeaseHeld:
        pass
    print("turn", flush=True)
    sys.stdin.readline()
print(won, flush=True)
"""


# Mutation that turns it red: take the lease whoever holds it (drop the expires_s condition).
def test_lease_is_refused_with_the_holders_name_until_it_expires(ledger: Ledger) -> None:
    held = ledger.acquire_lease("demo", "host1:17", NOW, 60)
    assert held == Lease(instance="demo", holder="host1:17", expires_s=NOW + 60)
    assert ledger.lease("demo") == held

    with pytest.raises(LeaseHeld, match=r"host1:17 acts for it until 2027-01-15T08:01:00\+00:00") as raised:
        ledger.acquire_lease("demo", "host2:18", NOW + 59.9, 60)
    assert (raised.value.holder, raised.value.until_s) == ("host1:17", NOW + 60)
    assert ledger.lease("demo") == held
    with pytest.raises(LeaseHeld):
        ledger.acquire_lease("demo", "host1:17", NOW + 1, 60)

    assert ledger.acquire_lease("other", "host2:18", NOW, 60).holder == "host2:18"
    assert ledger.acquire_lease("demo", "host2:18", NOW + 60, 60).holder == "host2:18"


# Mutation that turns it red: renew without looking at the holder.
def test_renewal_finds_out_that_another_took_over(ledger: Ledger) -> None:
    mine = ledger.acquire_lease("demo", "a", NOW, 60)
    mine = ledger.renew_lease(mine, NOW + 30, 60)
    assert mine.expires_s == NOW + 90
    mine = ledger.renew_lease(mine, NOW + 200, 60)  # Expired, and nobody took it.

    theirs = ledger.acquire_lease("demo", "b", NOW + 300, 60)
    with pytest.raises(LeaseLost, match="b acts"):
        ledger.renew_lease(mine, NOW + 301, 60)
    ledger.release_lease(mine)
    assert ledger.lease("demo") == theirs


def test_lease_that_was_given_back_is_free_at_once(ledger: Ledger) -> None:
    mine = ledger.acquire_lease("demo", "a", NOW, 60)
    ledger.release_lease(mine)
    assert ledger.lease("demo") is None
    with pytest.raises(LeaseLost, match="nobody"):
        ledger.renew_lease(mine, NOW + 1, 60)
    assert ledger.acquire_lease("demo", "b", NOW + 1, 60).holder == "b"


# Mutation that turns it red: let `replacing` take any lease.
def test_lease_of_a_holder_known_to_be_dead_can_be_taken_by_name(ledger: Ledger) -> None:
    ledger.acquire_lease("demo", "host1:17", NOW, 60)
    with pytest.raises(LeaseHeld):
        ledger.acquire_lease("demo", "host1:18", NOW + 1, 60, replacing="host1:16")

    assert ledger.acquire_lease("demo", "host1:18", NOW + 1, 60, replacing="host1:17").holder == "host1:18"
    with pytest.raises(LeaseHeld):
        ledger.acquire_lease("demo", "host1:19", NOW + 2, 60, replacing="host1:17")


# Mutation that turns it red: read the lease in one transaction and write it in another (the threads then collide).
def test_of_many_threads_that_want_the_lease_one_gets_it(ledger: Ledger) -> None:
    def attempt(holder: int) -> bool:
        try:
            ledger.acquire_lease("demo", str(holder), NOW, 60)
        except LeaseHeld:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


# Mutation that turns it red: BEGIN instead of BEGIN IMMEDIATE and no lock before the read.
def test_of_two_processes_that_start_at_once_one_wins_every_time(url: str, ledger: Ledger) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    try:
        for _ in range(21):
            for racer in racers:
                assert racer.stdout is not None
                assert racer.stdout.readline().strip() in ("ready", "turn")
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write("go\n")
                racer.stdin.flush()
        won = [int(racer.stdout.readline()) for racer in racers if racer.stdout is not None]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert won[0] & won[1] == 0
    assert won[0] | won[1] == (1 << 20) - 1
