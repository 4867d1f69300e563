"""
Python's collector of garbage, kept out of the decision.

What matching keeps of 10,000 kinds of jobs takes 0.2 s to go through, and the collector went through it in the middle
of about every second decision (benchmarks/README.md). So the loop collects in the pause, and what is left is frozen:
the collector looks only at what is new, until the next pause.
"""

from __future__ import annotations

import gc


def tidy_up() -> None:
    """Collect garbage while nobody waits, and let the collector leave what stays alone until the next time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def leave_tidy() -> None:
    """Give the collector back what was kept from it."""
    gc.unfreeze()
