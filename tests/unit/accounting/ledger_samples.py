"""Pilots and decisions to test with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from accounting.ledger import Ledger
from accounting.model import JournalBounds, Packed, Part, PilotRecord
from glidein.model import BatchRecord, BatchState, EndReason, EndReport, Offer, PilotPhase, Shape

NOW = 1_800_000_000
CYCLE = "6b49d2000001"
OFFER = Offer(
    site="alpha",
    shape=Shape(cores=4, memory_mib=8000, disk_mib=10240, gpus=1, walltime_s=3600),
    account="aerotow",
    partition="main",
    qos="low",
    slot_attributes=(("HasFuse", "true"), ("Kind", '"fast"')),
)


def intent(n: int = 1, *, site: str = "alpha", instance: str = "demo", **changes: Any) -> PilotRecord:
    """A pilot as the plan asks for it."""
    record = PilotRecord(
        pilot_id=f"{instance}-{site}-{CYCLE}-{n}",
        offer=replace(OFFER, site=site),
        cycle=CYCLE,
        sent="intended",
        phase=PilotPhase.INTENDED,
        intended_s=NOW,
        submit_deadline_s=NOW + 120,
    )
    return replace(record, **changes)


def batch(record: PilotRecord, **changes: Any) -> BatchRecord:
    """A final record of the batch system: 100 s on 4 cores."""
    made = BatchRecord(
        name=record.pilot_id,
        job_id="17",
        state=BatchState.COMPLETED,
        raw_state="COMPLETED",
        exit_code=0,
        start_s=NOW + 10,
        end_s=NOW + 110,
        elapsed_s=100,
        alloc_cpus=4,
        partition="main",
        account="aerotow",
        node="n1",
    )
    return replace(made, **changes)


def ended(record: PilotRecord, **changes: Any) -> PilotRecord:
    """The pilot after a normal life."""
    report = EndReport(
        pilot_id=record.pilot_id,
        reason=EndReason.IDLE,
        exit_code=0,
        start_s=NOW + 10,
        joined_s=NOW + 20,
        end_s=NOW + 109,
        node="n1",
        cores=4,
        memory_mib=8000,
        jobs=3,
    )
    life = replace(
        record,
        sent="submitted",
        phase=PilotPhase.ENDED,
        submitted_s=NOW + 1,
        batch_id="17",
        started_s=NOW + 10,
        joined_s=NOW + 20,
        ended_s=NOW + 110,
        end_reason=EndReason.IDLE,
        jobs=3,
        batch=batch(record),
        report=report,
    )
    return replace(life, **changes)


def packed_of(text: str, *, digest: str, parts: Mapping[str, Part] | None = None) -> Packed:
    """A record whose root is the text and names the parts that no other part names."""
    parts = parts or {}
    below = {name for part in parts.values() for name in part.children}
    return Packed(root=Part(data=text.encode(), children=tuple(sorted(set(parts) - below))), parts=parts, digest=digest)


def commit(ledger: Ledger, *intents: PilotRecord, at_s: float = NOW, **changes: Any) -> None:
    """Write a decision."""
    decision: dict[str, Any] = {
        "instance": "demo",
        "cycle": CYCLE,
        "intents": intents,
        "cancels": (),
        "surplus": (),
        "now_s": at_s,
        "packed": packed_of("{}", digest=str(at_s)),
        "bounds": JournalBounds(entries=10, size_bytes=2**20),
    }
    ledger.commit_plan(**(decision | changes))
