"""The lease's keeper goes on whatever happens to the ledger."""

from __future__ import annotations

import threading
import time
from typing import cast

from accounting.errors import LedgerUnavailable
from accounting.ledger import Ledger
from accounting.model import Lease
from factory.loop import LeaseKeeper


class Moody:
    """A ledger whose first renewals break in a way that nobody has thought of."""

    def __init__(self) -> None:
        self.renewals = 0
        self.renewed = threading.Event()

    def acquire_lease(self, instance: str, holder: str, now_s: float, ttl_s: float) -> Lease:
        return Lease(instance=instance, holder=holder, expires_s=now_s + ttl_s)

    def renew_lease(self, lease: Lease, now_s: float, ttl_s: float) -> Lease:
        self.renewals += 1
        if self.renewals < 3:
            raise OSError(28, "No space left on device")
        self.renewed.set()
        return lease

    def release_lease(self, _lease: Lease) -> None:
        raise LedgerUnavailable(database="x", problem="full", remedy="make room")


def test_the_keeper_survives_what_nobody_thought_of_and_a_release_that_fails() -> None:
    # Mutation: take `except Exception` out of LeaseKeeper._renew, or `except LedgerUnavailable` out of release.
    ledger = Moody()
    keeper = LeaseKeeper(cast(Ledger, ledger), instance="x", holder="me", ttl_s=0.04, clock=time.time)
    assert ledger.renewed.wait(timeout=20)
    keeper.release()
    assert not keeper.lost()
