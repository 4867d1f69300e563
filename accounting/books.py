"""The whole database behind one door, for those who show it: the ledger, the payload's usage, and reports of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from sqlalchemy import Engine, select

from accounting.engine import open_database, reading
from accounting.finished import finished_jobs
from accounting.ingest import Usage
from accounting.ledger import Ledger
from accounting.model import FinishedJob, PilotUsageRow, StreamState, UsageKey, UsageRow
from accounting.orm import AttemptRow
from accounting.usage import Comparison, compare, pilot_usage, usage
from overlay.model import EpochRecord

_ATTEMPTS_MAX = 1000
"""Attempts of one job number that are read; a job that is started more often has another problem."""


class Books:
    """
    Ledger and usage of one database.

    :raises LedgerUnavailable: it cannot be opened.
    :raises SchemaTooNew: a newer aerotow has migrated it.
    """

    def __init__(self, url: str) -> None:
        self._engine: Engine = open_database(url)
        self.ledger = Ledger(self._engine)
        self.payload = Usage(self._engine)

    def usage(
        self,
        by: tuple[UsageKey, ...],
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        vo_of_project: Mapping[str, str] | None = None,
    ) -> tuple[UsageRow, ...]:
        """See :func:`accounting.usage.usage`."""
        return usage(self._engine, by, since_s=since_s, until_s=until_s, vo_of_project=vo_of_project)

    def pilot_usage(
        self, *, since_s: float | None = None, until_s: float | None = None, now_s: float
    ) -> tuple[PilotUsageRow, ...]:
        """See :func:`accounting.usage.pilot_usage`."""
        return pilot_usage(self._engine, since_s=since_s, until_s=until_s, now_s=now_s)

    def finished_jobs(
        self, *, since_s: float | None = None, until_s: float | None = None, limit: int
    ) -> tuple[FinishedJob, ...]:
        """See :func:`accounting.finished.finished_jobs`."""
        return finished_jobs(self._engine, since_s=since_s, until_s=until_s, limit=limit)

    def compare(self, ap: str) -> tuple[Comparison, ...]:
        """See :func:`accounting.usage.compare`."""
        return compare(self._engine, ap)

    def stream_states(self) -> tuple[StreamState, ...]:
        """How far each AP's history has been read."""
        return self.payload.stream_states()

    def attempts(self, *, cluster: int, proc: int, ap: str | None = None) -> tuple[EpochRecord, ...]:
        """Attempts of the jobs of this number, at one AP or at all, by AP and start."""
        query = select(AttemptRow).where(AttemptRow.cluster == cluster, AttemptRow.proc == proc)
        if ap is not None:
            query = query.where(AttemptRow.ap == ap)
        query = query.order_by(AttemptRow.ap, AttemptRow.start_s, AttemptRow.run_instance_id).limit(_ATTEMPTS_MAX)
        with reading(self._engine) as session:
            return tuple(_epoch_of(row) for row in session.scalars(query))


def _epoch_of(row: AttemptRow) -> EpochRecord:
    """The record that a row was made from; only the project is called otherwise there."""
    columns = {field.name: "project" if field.name == "group" else field.name for field in fields(EpochRecord)}
    return EpochRecord(**{name: getattr(row, column) for name, column in columns.items()})
