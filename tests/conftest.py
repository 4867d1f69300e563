"""Two halves of the suite run side by side, each on a test-bed of its own: most of their time is waiting."""

from __future__ import annotations

import os

from hypothesis import settings

# Here and not in contract/: with xdist the controller reads only this file, and it is the one that prints.
from tests.contract.matrix import pytest_runtest_logreport, pytest_terminal_summary

__all__ = ["pytest_runtest_logreport", "pytest_terminal_summary"]

# A busy machine is no failure. CI repeats the same examples, so that what fails there fails again for whoever looks.
settings.register_profile("suite", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("suite")

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")

# Before testbed.model is imported, which reads these once. The first half uses the test-bed that people use too.
if WORKER != "gw0":
    os.environ.setdefault("AEROTOW_TESTBED_NAME", f"bed{WORKER.removeprefix('gw')}")
    os.environ.setdefault("AEROTOW_TESTBED_SUBNET", f"10.{100 + int(WORKER.removeprefix('gw'))}")
