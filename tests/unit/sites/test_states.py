"""Slurm's words for states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.sites.states import SLURM_STATES, batch_state
from glidein.model import BatchState

PRINTED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "COMPLETING",
    "CONFIGURING",
    "DEADLINE",
    "EXPEDITING",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "POWER_UP_NODE",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESIZING",
    "RESV_DEL_HOLD",
    "REVOKED",
    "RUNNING",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
    "TIMEOUT",
    "UPDATE_DB",
}
"""Strings of state in libslurmfull of 22.05.8, 24.11.5 and 26.05.5."""


def test_every_word_that_the_three_versions_print_is_in_the_table() -> None:
    assert set(SLURM_STATES) == PRINTED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CANCELLED by 2001", BatchState.CANCELLED),
        ("CANCELLED", BatchState.CANCELLED),
        ("CANCELLED+", BatchState.CANCELLED),
        (" RUNNING ", BatchState.RUNNING),
        ("FAILED,COMPLETING", BatchState.COMPLETING),
        ("COMPLETED+REQUEUED", BatchState.PENDING),
        ("RUNNING,PENDING", BatchState.UNKNOWN),
        ("RUNNING,COMPLETED", BatchState.UNKNOWN),
        ("RUNNING,WHATEVER", BatchState.UNKNOWN),
        ("running", BatchState.UNKNOWN),
        ("CANCEL", BatchState.UNKNOWN),
        ("", BatchState.UNKNOWN),
    ],
)
def test_a_state_is_read_or_unknown(text: str, expected: BatchState) -> None:
    assert expected is batch_state(text)


@given(st.text())
def test_a_word_that_is_not_in_the_table_is_unknown(text: str) -> None:
    # Dies with `.get(word, BatchState.FAILED)` in batch_state: an unknown word would end a pilot.
    if not any(word in text for word in SLURM_STATES):
        assert batch_state(text) is BatchState.UNKNOWN


@given(st.lists(st.sampled_from(sorted(SLURM_STATES)), min_size=1, max_size=4), st.sampled_from("+,|"))
def test_a_state_is_final_only_if_all_its_words_are(words: list[str], joint: str) -> None:
    # Dies without the check for COMPLETING: a job that still holds its node would be called ended.
    if batch_state(joint.join(words)).is_final:
        assert all(SLURM_STATES[word].is_final for word in words)
