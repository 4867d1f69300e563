"""What was used: payload by any keys, pilots by site, and the payload's sums beside HTCondor's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Select, Subquery, case, func, literal, select, union_all
from sqlalchemy.orm import Session

from accounting.engine import reading
from accounting.model import PilotUsageRow, UsageKey, UsageRow
from accounting.orm import AttemptRow, FinalRow, PilotRow, ResidualRow, RunningRow, StreamRow
from accounting.pilots import ENDED

DAY_S = 86_400
RUNNING_DAY = "running"
"""The day of what has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Comparison:
    """One user's sums at one AP beside HTCondor's history, in core seconds."""

    user: str
    jobs: int
    """Finished jobs, those in the history."""
    attempts: int
    """Their attempts."""
    epochs_core_s: int
    """Sum over the epoch records of finished jobs, each second once."""
    residual_core_s: int
    """What no epoch record tells of."""
    history_core_s: int
    """RemoteWallClockTime times CpusProvisioned of the final ads."""
    twice_core_s: int
    """Told of by two epoch records of one run and counted once; history may hold it twice."""
    unfinished_core_s: int
    """Ended attempts of jobs that are still in the queue; in no other column."""

    @property
    def difference_core_s(self) -> int:
        """What the database has above (below) the history; within 1 s times cores for each attempt when all is well."""
        return self.epochs_core_s + self.residual_core_s - self.history_core_s


def usage(
    engine: Engine,
    by: tuple[UsageKey, ...] = ("user",),
    *,
    since_s: float | None = None,
    until_s: float | None = None,
    vo_of_project: Mapping[str, str] | None = None,
) -> tuple[UsageRow, ...]:
    """
    Usage of payload attempts that ended in [since, until), one row for each group, sorted by key.

    What runs is counted up to its AP's last reading and shown in columns of its own, unless ``until_s`` is before
    that reading. A project that is in no VO has the VO "".
    """
    vos = vo_of_project or {}
    with reading(engine) as session:
        rows = {row.key: row for row in _ended(session, _ended_table(vos), by, since_s=since_s, until_s=until_s)}
        for key, running, running_core_s in _running(session, _running_table(vos), by, until_s=until_s):
            row = rows.get(key) or _empty(key)
            rows[key] = replace(row, running=running, running_core_s=running_core_s)
    return tuple(rows[key] for key in sorted(rows))


def pilot_usage(
    engine: Engine, *, since_s: float | None = None, until_s: float | None = None, now_s: float
) -> tuple[PilotUsageRow, ...]:
    """
    What pilots that ended in [since, until) cost, one row for each site, sorted.

    Their payload is that of these pilots, whenever it ended; a pilot whose cost is not known yet is counted as
    unaccounted, and neither its cost nor its payload is in the sums. ``now_s`` stands for an open end.
    """
    until = now_s if until_s is None else until_s
    period = (PilotRow.ended_s >= int(since_s or 0), PilotRow.ended_s < _after(until, open_end=until_s is None))
    has_cost = PilotRow.charged_core_s.is_not(None)
    cost = (
        select(
            PilotRow.site,
            func.count().label("pilots"),
            func.coalesce(func.sum(PilotRow.charged_core_s), 0).label("core_s"),
            func.sum(case((has_cost, 0), else_=1)).label("unaccounted"),
        )
        .where(PilotRow.phase == ENDED, *period)
        .group_by(PilotRow.site)
    )
    payload = (
        select(PilotRow.site, func.sum(AttemptRow.counted_s * AttemptRow.cores).label("core_s"))
        .join(AttemptRow, AttemptRow.pilot_id == PilotRow.pilot_id)
        .where(PilotRow.phase == ENDED, has_cost, *period)
        .group_by(PilotRow.site)
    )
    running = (
        select(PilotRow.site, func.count().label("running"))
        .where(PilotRow.phase != ENDED, PilotRow.started_s.is_not(None))
        .group_by(PilotRow.site)
    )
    with reading(engine) as session:
        costs = {row.site: row for row in session.execute(cost)}
        payloads = {row.site: int(row.core_s) for row in session.execute(payload)}
        runs = {row.site: int(row.running) for row in session.execute(running)}
    return tuple(
        PilotUsageRow(
            site=site,
            pilots=int(costs[site].pilots) if site in costs else 0,
            running=runs.get(site, 0),
            pilot_core_s=int(costs[site].core_s) if site in costs else 0,
            payload_core_s=payloads.get(site, 0),
            unaccounted=int(costs[site].unaccounted) if site in costs else 0,
        )
        for site in sorted({*costs, *runs})
    )


def compare(engine: Engine, ap: str) -> tuple[Comparison, ...]:
    """Each user's sums at an AP beside its history, sorted by user."""
    whole_s = case((AttemptRow.end_s > AttemptRow.start_s, AttemptRow.end_s - AttemptRow.start_s), else_=0)
    finished = FinalRow.global_job_id.is_not(None)
    core_s = AttemptRow.counted_s * AttemptRow.cores
    epochs = (
        select(
            func.coalesce(FinalRow.owner, AttemptRow.owner).label("owner"),
            func.sum(case((finished, AttemptRow.counted), else_=0)).label("attempts"),
            func.sum(case((finished, core_s), else_=0)).label("core_s"),
            func.sum(case((finished, (whole_s - AttemptRow.counted_s) * AttemptRow.cores), else_=0)).label("twice"),
            func.sum(case((finished, 0), else_=core_s)).label("unfinished"),
        )
        .outerjoin(FinalRow, (FinalRow.ap == AttemptRow.ap) & (FinalRow.global_job_id == AttemptRow.global_job_id))
        .where(AttemptRow.ap == ap)
        .group_by(func.coalesce(FinalRow.owner, AttemptRow.owner))
    )
    finals = (
        select(FinalRow.owner, func.count().label("jobs"), func.sum(FinalRow.wall_s * FinalRow.cores).label("core_s"))
        .where(FinalRow.ap == ap)
        .group_by(FinalRow.owner)
    )
    residuals = (
        select(ResidualRow.owner, func.sum(ResidualRow.wall_s * ResidualRow.cores).label("core_s"))
        .where(ResidualRow.ap == ap)
        .group_by(ResidualRow.owner)
    )
    with reading(engine) as session:
        told = {row.owner: row for row in session.execute(epochs)}
        final = {row.owner: row for row in session.execute(finals)}
        missing = {row.owner: int(row.core_s) for row in session.execute(residuals)}
    return tuple(
        Comparison(
            user=user,
            jobs=int(final[user].jobs) if user in final else 0,
            attempts=int(told[user].attempts) if user in told else 0,
            epochs_core_s=int(told[user].core_s) if user in told else 0,
            residual_core_s=missing.get(user, 0),
            history_core_s=round(final[user].core_s) if user in final else 0,
            twice_core_s=int(told[user].twice) if user in told else 0,
            unfinished_core_s=int(told[user].unfinished) if user in told else 0,
        )
        for user in sorted({*told, *final})
    )


def _empty(key: tuple[str, ...]) -> UsageRow:
    return UsageRow(
        key=key,
        attempts=0,
        jobs=0,
        wall_s=0,
        core_s=0,
        cpu_s=0.0,
        residual_core_s=0,
        running=0,
        running_core_s=0,
    )


def _after(until_s: float, *, open_end: bool) -> int:
    """First second that is outside; an open end lets in what ended this very second."""
    return int(until_s) + 1 if open_end else int(until_s)


def _vo(project: Any, vos: Mapping[str, str]) -> Any:
    return case(dict(vos), value=project, else_="") if vos else literal("")


def _ended_table(vos: Mapping[str, str]) -> Subquery:
    """Attempts and residuals in one shape, with every key as a column."""
    ended = select(
        AttemptRow.ap.label("ap"),
        AttemptRow.global_job_id.label("job"),
        AttemptRow.owner.label("user"),
        AttemptRow.project.label("project"),
        _vo(AttemptRow.project, vos).label("vo"),
        AttemptRow.site.label("site"),
        AttemptRow.end_s.label("end_s"),
        (AttemptRow.end_s // DAY_S).label("day"),
        AttemptRow.counted.label("attempts"),
        AttemptRow.counted_s.label("wall_s"),
        (AttemptRow.counted_s * AttemptRow.cores).label("core_s"),
        AttemptRow.counted_cpu_s.label("cpu_s"),
        literal(0).label("residual_core_s"),
    )
    residual_core_s = ResidualRow.wall_s * ResidualRow.cores
    residuals: Select[Any] = (
        select(
            ResidualRow.ap,
            ResidualRow.global_job_id,
            ResidualRow.owner,
            ResidualRow.project,
            _vo(ResidualRow.project, vos),
            literal(""),
            ResidualRow.end_s,
            ResidualRow.end_s // DAY_S,
            literal(0),
            ResidualRow.wall_s,
            residual_core_s,
            literal(0.0),
            residual_core_s,
        )
        # While a hole is open the epoch records in it are still to come: nothing is known to be missing there.
        .join(StreamRow, StreamRow.ap == ResidualRow.ap)
        .where(StreamRow.hole_top_s.is_(None) | (ResidualRow.end_s <= StreamRow.mark_s))
    )
    return union_all(ended, residuals).subquery()


def _running_table(vos: Mapping[str, str]) -> Subquery:
    """Running jobs with the same keys."""
    return select(
        RunningRow.ap.label("ap"),
        RunningRow.owner.label("user"),
        RunningRow.project.label("project"),
        _vo(RunningRow.project, vos).label("vo"),
        RunningRow.site.label("site"),
        literal(RUNNING_DAY).label("day"),
        RunningRow.seen_s.label("seen_s"),
        (RunningRow.seen_s - RunningRow.start_s).label("wall_s"),
        RunningRow.cores.label("cores"),
    ).subquery()


def _ended(
    session: Session, table: Subquery, by: tuple[UsageKey, ...], *, since_s: float | None, until_s: float | None
) -> list[UsageRow]:
    """Sums of what ended, by group."""
    keys = [table.c[key] for key in by]
    query = select(
        *keys,
        func.sum(table.c.attempts).label("n_attempts"),
        func.count((table.c.ap + "/" + table.c.job).distinct()).label("n_jobs"),
        func.sum(table.c.wall_s).label("sum_wall_s"),
        func.sum(table.c.core_s).label("sum_core_s"),
        func.sum(table.c.cpu_s).label("sum_cpu_s"),
        func.sum(table.c.residual_core_s).label("sum_residual_core_s"),
    ).group_by(*keys)
    if since_s is not None:
        query = query.where(table.c.end_s >= int(since_s))
    if until_s is not None:
        query = query.where(table.c.end_s < int(until_s))
    return [
        UsageRow(
            key=_key(by, tuple(row)),
            attempts=int(row.n_attempts),
            jobs=int(row.n_jobs),
            wall_s=int(row.sum_wall_s),
            core_s=int(row.sum_core_s),
            cpu_s=float(row.sum_cpu_s),
            residual_core_s=int(row.sum_residual_core_s),
            running=0,
            running_core_s=0,
        )
        for row in session.execute(query)
        if row.n_jobs
    ]


def _running(
    session: Session, table: Subquery, by: tuple[UsageKey, ...], *, until_s: float | None
) -> list[tuple[tuple[str, ...], int, int]]:
    """What runs, by group: its number and its core seconds until it was seen."""
    keys = [table.c[key] for key in by]
    wall_s = case((table.c.wall_s > 0, table.c.wall_s), else_=0)
    query = select(*keys, func.count().label("n"), func.sum(wall_s * table.c.cores).label("core_s")).group_by(*keys)
    if until_s is not None:
        query = query.where(table.c.seen_s <= until_s)
    return [(_key(by, tuple(row)), int(row.n), int(row.core_s)) for row in session.execute(query) if row.n]


def _key(by: tuple[UsageKey, ...], values: tuple[Any, ...]) -> tuple[str, ...]:
    """The group's values as text; a day is its UTC date."""
    return tuple(
        datetime.fromtimestamp(value * DAY_S, tz=UTC).date().isoformat()
        if key == "day" and not isinstance(value, str)
        else str(value)
        for key, value in zip(by, values, strict=False)
    )
