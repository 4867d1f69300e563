"""How long jobs usually run, by who runs them and of what size: from attempts that came to their end."""

from __future__ import annotations

import math
from collections import defaultdict

from sqlalchemy import Engine, or_, select

from accounting.engine import reading
from accounting.orm import AttemptRow

ROWS_MAX = 20_000
"""The newest attempts that are read; what is older says little of today's jobs."""
SAMPLE_MIN = 20
"""Attempts of one sort without which nothing is said of it."""
QUANTILE = 0.9
"""Nine of ten jobs of the sort were quicker: whoever mixes short and long jobs is taken for one with long jobs."""

Sort = tuple[str, str, str, int]
"""Access point, owner, project and cores: what jobs of one sort have in common."""


def usual_run_times(engine: Engine, *, since_s: float) -> dict[Sort, int]:
    """
    Wall seconds of a usual job of each sort that has enough attempts since then.

    An attempt that was cut off says only that the job takes longer, so it is left out.
    """
    query = (
        select(
            AttemptRow.ap,
            AttemptRow.owner,
            AttemptRow.project,
            AttemptRow.cores,
            AttemptRow.start_s,
            AttemptRow.end_s,
        )
        .where(AttemptRow.end_s >= int(since_s), AttemptRow.counted == 1)
        .where(or_(AttemptRow.exit_code.is_not(None), AttemptRow.exit_signal.is_not(None)))
        .order_by(AttemptRow.end_s.desc())
        .limit(ROWS_MAX)
    )
    found: dict[Sort, list[int]] = defaultdict(list)
    with reading(engine) as session:
        for row in session.execute(query):
            found[row.ap, row.owner, row.project, row.cores].append(max(1, row.end_s - row.start_s))
    return {sort: _quantile(times) for sort, times in found.items() if len(times) >= SAMPLE_MIN}


def _quantile(times: list[int]) -> int:
    """The least of the times that QUANTILE of them do not exceed."""
    return sorted(times)[math.ceil(QUANTILE * len(times)) - 1]
