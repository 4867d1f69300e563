"""Pilots between their rows and their records, and the changes that a row may go through."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from accounting.model import PilotRecord, Sent
from accounting.orm import PilotEventRow, PilotRow
from config.names import split_pilot_id
from glidein.model import BatchRecord, BatchState, EndReason, EndReport, Offer, PilotId, PilotPhase, Shape

ENDED = PilotPhase.ENDED.name.lower()
CHUNK = 500
"""Values in one IN list: SQLite's limit on variables was 999 until 3.32."""

REFUTABLE = frozenset({EndReason.NEVER_APPEARED, EndReason.REFUSED})
"""Ends that the factory concluded from seeing nothing; a pilot that is seen after all is open again."""

NEVER_RAN = frozenset({EndReason.NEVER_APPEARED, EndReason.REFUSED, EndReason.CANCELLED_PENDING})
"""Ends that cost nothing, whether or not the batch system has a record."""

_SENT: dict[str, Sent] = {"intended": "intended", "uncertain": "uncertain", "submitted": "submitted"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PilotEvent:
    """One change of a pilot's phase, or a cancel sent; ``at_s`` in epoch seconds."""

    at_s: float
    pilot_id: PilotId
    phase: PilotPhase
    detail: str


def instance_of(pilot_id: PilotId) -> str:
    """The instance in a pilot's name; ValueError for a name that is not ours, which is our own bug."""
    parts = split_pilot_id(pilot_id)
    if parts is None:
        raise ValueError(f"{pilot_id!r} is no pilot id")
    return parts[0]


def charged_core_s(record: PilotRecord) -> int | None:
    """
    Core seconds that the site charged for an ended pilot; None while its final batch record has not been read.

    Elapsed seconds times allocated CPUs, as sacct has them (ElapsedRaw, AllocCPUS).
    """
    if record.phase is not PilotPhase.ENDED:
        return None
    batch = record.batch
    if batch is not None and batch.state.is_final and batch.elapsed_s is not None and batch.alloc_cpus is not None:
        return batch.elapsed_s * batch.alloc_cpus
    return 0 if record.end_reason in NEVER_RAN else None


def new_row(record: PilotRecord) -> PilotRow:
    """The row of a pilot that the ledger does not have yet."""
    offer = record.offer
    row = PilotRow(
        pilot_id=record.pilot_id,
        instance=instance_of(record.pilot_id),
        cycle=record.cycle,
        site=offer.site,
        account=offer.account,
        partition=offer.partition,
        qos=offer.qos,
        shape=offer.name,
        cores=offer.shape.cores,
        memory_mib=offer.shape.memory_mib,
        disk_mib=offer.shape.disk_mib,
        gpus=offer.shape.gpus,
        walltime_s=offer.shape.walltime_s,
        slot_attributes=json.dumps(offer.slot_attributes),
        intended_s=record.intended_s,
        surplus_since_s=record.surplus_since_s,
        cancel_intended_s=record.cancel_intended_s,
        asked_for=record.asked_for,
        barren_since_s=record.barren_since_s,
    )
    write_life(row, record)
    return row


def write_life(row: PilotRow, record: PilotRecord) -> None:
    """
    Put what was observed of a pilot into its row.

    What the factory decided (surplus, barren, cancel) stays: it is written with decisions only.
    """
    row.sent = record.sent
    row.phase = record.phase.name.lower()
    row.submit_deadline_s = record.submit_deadline_s
    row.submitted_s = record.submitted_s
    row.batch_id = record.batch_id
    row.batch_reason = record.batch_reason
    row.started_s = record.started_s
    row.joined_s = record.joined_s
    row.slot_seen_s = record.slot_seen_s
    row.ended_s = record.ended_s
    row.end_reason = None if record.end_reason is None else record.end_reason.value
    row.detail = record.detail
    row.jobs = record.jobs
    row.batch = None if record.batch is None else _batch_json(record.batch)
    row.report = None if record.report is None else _report_json(record.report)
    row.charged_core_s = charged_core_s(record)


def fill_in(row: PilotRow, record: PilotRecord) -> None:
    """
    Add to an ended pilot what came later: the final batch record, the end report.

    Its phase and what it has already stay: a sight from before its end must not bring it back.
    """
    if row.report is None and record.report is not None:
        row.report = _report_json(record.report)
        row.jobs = record.report.jobs if row.jobs is None else row.jobs
        row.end_reason = record.end_reason.value if record.end_reason is not None else row.end_reason
    charged = charged_core_s(record)
    if record.batch is not None and charged is not None and (row.charged_core_s is None or row.batch is None):
        row.batch = _batch_json(record.batch)
        row.charged_core_s = charged


def record_of(row: PilotRow) -> PilotRecord:
    """The pilot as a plain value."""
    return PilotRecord(
        pilot_id=row.pilot_id,
        offer=Offer(
            site=row.site,
            shape=Shape(
                cores=row.cores,
                memory_mib=row.memory_mib,
                disk_mib=row.disk_mib,
                gpus=row.gpus,
                walltime_s=row.walltime_s,
            ),
            account=row.account,
            partition=row.partition,
            qos=row.qos,
            slot_attributes=tuple((name, value) for name, value in json.loads(row.slot_attributes)),
            name=row.shape,
        ),
        cycle=row.cycle,
        sent=_SENT[row.sent],
        phase=PilotPhase[row.phase.upper()],
        intended_s=row.intended_s,
        submit_deadline_s=row.submit_deadline_s,
        submitted_s=row.submitted_s,
        batch_id=row.batch_id,
        batch_reason=row.batch_reason,
        started_s=row.started_s,
        joined_s=row.joined_s,
        slot_seen_s=row.slot_seen_s,
        surplus_since_s=row.surplus_since_s,
        cancel_intended_s=row.cancel_intended_s,
        ended_s=row.ended_s,
        end_reason=None if row.end_reason is None else EndReason(row.end_reason),
        detail=row.detail,
        jobs=row.jobs,
        batch=None if row.batch is None else _batch_of(row.batch),
        report=None if row.report is None else _report_of(row.report),
        asked_for=row.asked_for,
        barren_since_s=row.barren_since_s,
    )


def rows_of(session: Session, pilot_ids: Iterable[PilotId]) -> dict[PilotId, PilotRow]:
    """The rows of those of the pilots that the ledger has, locked against other writers."""
    wanted = sorted(set(pilot_ids))
    found: dict[PilotId, PilotRow] = {}
    for first in range(0, len(wanted), CHUNK):
        chunk = wanted[first : first + CHUNK]
        query = select(PilotRow).where(PilotRow.pilot_id.in_(chunk)).order_by(PilotRow.pilot_id).with_for_update()
        found |= {row.pilot_id: row for row in session.scalars(query)}
    return found


def note(session: Session, row: PilotRow, *, at_s: float, detail: str = "") -> None:
    """Append an event with the row's present phase."""
    session.add(PilotEventRow(pilot_id=row.pilot_id, at_s=at_s, phase=row.phase, detail=detail))


def event_of(row: PilotEventRow) -> PilotEvent:
    """The event as a plain value."""
    return PilotEvent(at_s=row.at_s, pilot_id=row.pilot_id, phase=PilotPhase[row.phase.upper()], detail=row.detail)


def _batch_json(record: BatchRecord) -> str:
    return json.dumps(asdict(record) | {"state": record.state.value}, sort_keys=True)


def _batch_of(text: str) -> BatchRecord:
    values = json.loads(text)
    return BatchRecord(**(values | {"state": BatchState(values["state"])}))


def _report_json(report: EndReport) -> str:
    return json.dumps(asdict(report) | {"reason": report.reason.value}, sort_keys=True)


def _report_of(text: str) -> EndReport:
    values = json.loads(text)
    return EndReport(**(values | {"reason": EndReason(values["reason"])}))
