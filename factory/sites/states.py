"""
The one table from Slurm's words for a job's state to ours.

The words are those that ``squeue -o %T`` and ``sacct -o State`` of 22.05.8, 24.11.5 and 26.05.5 can print (base states
and flags, read from job_state_string() and the libraries' own strings). A word that is not here is UNKNOWN.
"""

from __future__ import annotations

import re

from glidein.model import BatchState

SLURM_STATES: dict[str, BatchState] = {
    # Base states.
    "PENDING": BatchState.PENDING,
    "RUNNING": BatchState.RUNNING,
    "SUSPENDED": BatchState.SUSPENDED,
    "COMPLETED": BatchState.COMPLETED,
    "CANCELLED": BatchState.CANCELLED,
    "FAILED": BatchState.FAILED,
    "TIMEOUT": BatchState.TIMEOUT,
    "NODE_FAIL": BatchState.NODE_FAIL,
    "PREEMPTED": BatchState.PREEMPTED,
    "BOOT_FAIL": BatchState.NODE_FAIL,
    "OUT_OF_MEMORY": BatchState.OUT_OF_MEMORY,
    # Slurm ends a job that cannot meet its --deadline, also one that never started: as if cancelled.
    "DEADLINE": BatchState.CANCELLED,
    # Flags that replace the base state in the text.
    "COMPLETING": BatchState.COMPLETING,
    "STAGE_OUT": BatchState.COMPLETING,
    # Nodes are allocated, and charged for, while they boot.
    "CONFIGURING": BatchState.RUNNING,
    "POWER_UP_NODE": BatchState.RUNNING,
    "RESIZING": BatchState.RUNNING,
    "SIGNALING": BatchState.RUNNING,
    # SIGSTOP: it keeps its cores.
    "STOPPED": BatchState.SUSPENDED,
    # It will wait in the queue again; sacct keeps REQUEUED in the record of the attempt that was given up.
    "REQUEUED": BatchState.PENDING,
    "REQUEUE_FED": BatchState.PENDING,
    "REQUEUE_HOLD": BatchState.PENDING,
    "RESV_DEL_HOLD": BatchState.PENDING,
    "SPECIAL_EXIT": BatchState.PENDING,
    "EXPEDITING": BatchState.PENDING,
    # Known words that do not tell whether the job can still run (or runs at another cluster of a federation).
    "REVOKED": BatchState.UNKNOWN,
    "LAUNCH_FAILED": BatchState.UNKNOWN,
    "RECONFIG_FAIL": BatchState.UNKNOWN,
    "UPDATE_DB": BatchState.UNKNOWN,
}

_AGAIN = frozenset({"REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "EXPEDITING"})
"""Flags that say that the job waits again, whatever became of its last attempt."""
_BY = re.compile(r" by \S+$")


def batch_state(text: str) -> BatchState:
    """
    Read a state as squeue or sacct print it: ``RUNNING``, ``CANCELLED by 2001``, ``CANCELLED+``, ``FAILED,COMPLETING``.

    Flags beside a base state count before it: completing, then waiting again. Words that contradict one another are
    UNKNOWN, like a word that is not in the table.
    """
    words = [word for word in re.split(r"[+,|]", _BY.sub("", text.strip())) if word]
    states = {SLURM_STATES.get(word, BatchState.UNKNOWN) for word in words}
    if not states or BatchState.UNKNOWN in states:
        return BatchState.UNKNOWN
    if BatchState.COMPLETING in states:
        return BatchState.COMPLETING
    if not _AGAIN.isdisjoint(words):
        return BatchState.PENDING
    return states.pop() if len(states) == 1 else BatchState.UNKNOWN


CONDOR_STATES: dict[int, BatchState] = {
    1: BatchState.PENDING,  # Idle
    2: BatchState.RUNNING,
    # In the queue: the job is being ended, its shadow or starter is still there.
    3: BatchState.COMPLETING,
    4: BatchState.COMPLETED,
    # Held: it waits, and will be removed by its own policy; what is charged for nothing is nothing.
    5: BatchState.PENDING,
    6: BatchState.COMPLETING,  # Transferring output
    7: BatchState.SUSPENDED,
}
"""HTCondor's JobStatus of a job in the queue (condor_status.h, proc.h of 25.14); another number is UNKNOWN."""

CONDOR_HOLDS: dict[int, tuple[BatchState, str]] = {
    1: (BatchState.FAILED, "held by a person"),
    3: (BatchState.FAILED, "held by the policy of the job"),
    6: (BatchState.FAILED, "the pilot could not be started"),
    7: (BatchState.FAILED, "its standard input or output failed"),
    12: (BatchState.FAILED, "files could not be transferred back"),
    13: (BatchState.FAILED, "files could not be transferred to the node"),
    14: (BatchState.FAILED, "its directory is gone"),
    16: (BatchState.CANCELLED, "its files never arrived as a whole"),
    21: (BatchState.FAILED, "it asked for what the site has nowhere"),
    26: (BatchState.FAILED, "held by the site's policy"),
    34: (BatchState.OUT_OF_MEMORY, "it used more memory than it asked for"),
    35: (BatchState.FAILED, "the site has no container runtime"),
    46: (BatchState.TIMEOUT, "longer than the site allows a job"),
    47: (BatchState.TIMEOUT, "longer than the site allows an execution"),
    48: (BatchState.FAILED, "its start was refused by the site's prologue"),
}
"""HoldReasonCode of a pilot that was held and then removed: how it ended, and in few words why; others FAILED."""

SPOOLING = 16
"""HoldReasonCode of a job whose files are still to arrive."""


def condor_live_state(status: int | None) -> BatchState:
    """State of a job that is in HTCondor's queue, from its JobStatus."""
    return CONDOR_STATES.get(status, BatchState.UNKNOWN) if status is not None else BatchState.UNKNOWN
