"""
The one rule about lifetime, rendered for both sides.

The pilot's START expression and the slot ad that the factory matches against come from here, so that what the factory
promises a job is what the pilot then accepts.
"""

from __future__ import annotations

from glidein.model import Lifetimes, Shape
from glidein.siterules import rules_expression

STOP_BEFORE_END_S = 30
"""A pilot starts to stop this long before Slurm's time limit, so that it can still hand its jobs back and report."""

MEMORY_RESERVE_MIB = 128
"""
Memory of a pilot that is not offered to jobs.

Measured with HTCondor 25.14.1: master 19, startd 20, shared_port 18, procd 4 MiB, and about 15 MiB for each starter.
"""

CCB_MARK = "CCBID="
"""
What the address of a slot contains when the pool can reach it from outside.

A pilot that starts while the CCB is down advertises an address without it for about five minutes: it is matched and
cannot be reached (tried with 25.14.1).
"""


def slot_memory_mib(shape: Shape) -> int:
    """Memory that the slot of a pilot of this shape offers."""
    return max(1, shape.memory_mib - MEMORY_RESERVE_MIB)


def to_die_s(*, start_s: int, walltime_s: int) -> int:
    """Epoch second at which a pilot that started at ``start_s`` stops by itself."""
    return start_s + walltime_s - STOP_BEFORE_END_S


def promised_life_s(*, walltime_s: int, lifetimes: Lifetimes) -> int:
    """Seconds that a pilot which has not started is sure to work: its walltime, less the longest time to join."""
    return to_die_s(start_s=0, walltime_s=walltime_s) - lifetimes.join_timeout_s


def to_retire_s(*, start_s: int, walltime_s: int, lifetimes: Lifetimes) -> int:
    """Epoch second from which the pilot takes no job at all."""
    return to_die_s(start_s=start_s, walltime_s=walltime_s) - lifetimes.retire_margin_s


def start_expression(lifetimes: Lifetimes) -> str:
    """
    Say which jobs a pilot takes, in ClassAd text over GlideinToDie, GlideinToRetire and MyAddress of the slot.

    And over what the site's own admin lets in: :func:`glidein.siterules.rules_expression`.

    A job that declares no AllowedExecuteDuration is taken to need ``default_job_runtime_s``. HTCondor evaluates START
    at match, at claim and before each reuse of a claim, so ``time()`` is right each time.
    """
    terms = (
        "time() < GlideinToRetire",
        f"(TARGET.AllowedExecuteDuration ?: {lifetimes.default_job_runtime_s}) + {lifetimes.retire_margin_s}"
        " < GlideinToDie - time()",
        f'(MY.MyAddress is undefined || regexp("{CCB_MARK}", MY.MyAddress))',
        rules_expression(),
    )
    return " && ".join(f"({term})" for term in terms)
