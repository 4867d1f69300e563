"""What a look at the sites and the pool says of the pilots: the ledger's records brought up to date, and strays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from accounting.model import PilotRecord
from config.names import split_pilot_id
from factory.absorb import slots_by_pilot
from factory.model import Drift, Policy, Reconciled, SitePolicy
from factory.sites.contract import FinalSeen, FinalUnseen, SiteSeen, SiteSight
from glidein.model import BatchRecord, BatchState, EndReason, EndReport, Offer, PilotPhase, Shape
from glidein.phase import Evidence, pilot_phase
from glidein.start import slot_memory_mib
from overlay.model import Slot, Slots, SlotsSeen

MEMORY_TOLERANCE = 0.1
"""A slot with this much less memory than its offer is still as planned: Slurm and HTCondor round in their own ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _SiteView:
    """One seen site, by pilot id."""

    taken_s: float
    live: Mapping[str, tuple[BatchRecord, ...]]
    final: Mapping[str, tuple[BatchRecord, ...]] | None
    """None: the scheduler's accounting was not seen."""
    reports: Mapping[str, EndReport]


def reconcile(
    pilots: tuple[PilotRecord, ...],
    sights: tuple[SiteSight, ...],
    slots: Slots,
    *,
    now_s: float,
    instance: str,
    policy: Policy,
) -> Reconciled:
    """
    Bring the records of open pilots up to date, and find live jobs under our name that the ledger does not hold open.

    A pilot at a site that was not seen keeps its record; only that its slot was seen may be added.
    """
    views = {sight.site: _view(sight) for sight in sights if isinstance(sight, SiteSeen)}
    slot_of = slots_by_pilot(slots)
    updated = []
    for pilot in sorted(pilots, key=lambda pilot: pilot.pilot_id):
        slot = slot_of.get(pilot.pilot_id)
        seen = pilot if slot is None else _with_slot(pilot, slot, slots.taken_s)
        view = views.get(pilot.offer.site)
        updated.append(seen if view is None else _updated(seen, view, slots, slot, now_s))
    strays = _strays(pilots, views, slots, slot_of, now_s=now_s, instance=instance, policy=policy)
    return Reconciled(
        pilots=tuple(updated),
        adopted=strays,
        drift=tuple(drift for pilot in (*updated, *strays) for drift in _drift(pilot, slot_of.get(pilot.pilot_id))),
        alarms=_alarms(updated, sights, views),
    )


def _view(sight: SiteSeen) -> _SiteView:
    """A seen site's answer by pilot id."""
    final = _by_name(sight.final.records) if isinstance(sight.final, FinalSeen) else None
    reports = {report.pilot_id: report for report in sorted(sight.reports, key=lambda report: report.end_s)}
    return _SiteView(taken_s=sight.taken_s, live=_by_name(sight.live), final=final, reports=reports)


def _by_name(records: Iterable[BatchRecord]) -> dict[str, tuple[BatchRecord, ...]]:
    """Batch records by job name."""
    found: dict[str, tuple[BatchRecord, ...]] = {}
    for record in records:
        found[record.name] = (*found.get(record.name, ()), record)
    return found


def _one(records: tuple[BatchRecord, ...], batch_id: str | None) -> BatchRecord | None:
    """The record of a pilot: that of its job id, else one that is not over, else the latest."""
    return max(
        records,
        key=lambda r: (
            r.job_id == batch_id,
            not r.state.is_final,
            r.submit_s or 0,
            len(r.job_id),
            r.job_id,
            r.state.value,
        ),
        default=None,
    )


def _updated(pilot: PilotRecord, view: _SiteView, slots: Slots, slot: Slot | None, now_s: float) -> PilotRecord:
    """One pilot of a seen site."""
    live = _one(view.live.get(pilot.pilot_id, ()), pilot.batch_id)
    final: BatchRecord | Literal["unseen"] | None
    final = "unseen" if view.final is None else _one(view.final.get(pilot.pilot_id, ()), pilot.batch_id)
    report = view.reports.get(pilot.pilot_id, pilot.report)
    evidence = Evidence(
        prior=pilot.phase,
        sent=pilot.sent,
        # The look must have begun after the deadline: what it did not find may have come into being just after it.
        past_deadline=min(now_s, view.taken_s) > pilot.submit_deadline_s,
        age_s=now_s - (pilot.intended_s if pilot.submitted_s is None else pilot.submitted_s),
        live=live,
        final=final,
        slot=_slot_word(slots, slot, now_s),
        report=report,
    )
    phase, end_reason = pilot_phase(evidence)
    if end_reason is EndReason.CANCELLED_PENDING and pilot.started_s is not None:
        # It had run, and was cancelled where its site had put it back: it did not wait all its life.
        end_reason = EndReason.REQUEUED
    record = live
    if isinstance(final, BatchRecord) and (live is None or phase is PilotPhase.ENDED):
        record = final
    seen = pilot if record is None else _with_batch(pilot, record, now_s)
    if report is not None:
        seen = replace(
            seen,
            report=report,
            started_s=report.start_s if seen.started_s is None else seen.started_s,
            joined_s=report.joined_s if seen.joined_s is None else seen.joined_s,
        )
    seen = replace(seen, phase=phase)
    if end_reason is None:
        return seen
    ended_s = record.end_s if record is not None else None
    if ended_s is None:
        ended_s = int(now_s) if report is None else report.end_s
    detail = (report.detail if report else "") or (record.reason if record else "") or pilot.detail
    return replace(
        seen, end_reason=end_reason, ended_s=ended_s, jobs=report.jobs if report else pilot.jobs, detail=detail
    )


def _with_batch(pilot: PilotRecord, record: BatchRecord, now_s: float) -> PilotRecord:
    """What the batch system's record adds: that it was submitted, whatever became of the answer, and how it stands."""
    submitted_s = pilot.submitted_s
    if submitted_s is None:
        submitted_s = int(now_s) if record.submit_s is None else record.submit_s
    # The start of a job that waits is the scheduler's estimate; of one cancelled while it waited there is none.
    started = record.state not in (BatchState.PENDING, BatchState.UNKNOWN)
    return replace(
        pilot,
        sent="submitted",
        batch_id=record.job_id,
        submitted_s=submitted_s,
        batch_reason=record.reason if record.state is BatchState.PENDING else "",
        started_s=record.start_s if started and record.start_s is not None else pilot.started_s,
        batch=record,
    )


def _with_slot(pilot: PilotRecord, slot: Slot, taken_s: float) -> PilotRecord:
    """Note that the slot was seen; a pilot has joined once its slot takes jobs or runs one."""
    joined = slot.accepting or slot.running_jobs > 0 or slot.busy_cores > 0
    joined_s = int(taken_s) if pilot.joined_s is None and joined else pilot.joined_s
    return replace(pilot, joined_s=joined_s, slot_seen_s=int(taken_s))


def _slot_word(slots: Slots, slot: Slot | None, now_s: float) -> Literal["none", "idle", "busy", "leaving", "unseen"]:
    """What the collector says of the pilot."""
    if not isinstance(slots, SlotsSeen):
        return "unseen"
    if slot is None:
        return "none"
    if not slot.accepting or (slot.to_die_s is not None and slot.to_die_s <= now_s):
        return "leaving"
    return "busy" if slot.busy_cores > 0 else "idle"


def _strays(
    pilots: tuple[PilotRecord, ...],
    views: Mapping[str, _SiteView],
    slots: Slots,
    slot_of: Mapping[str, Slot],
    *,
    now_s: float,
    instance: str,
    policy: Policy,
) -> tuple[PilotRecord, ...]:
    """
    Live jobs under our name that are not among the open pilots, as records.

    Jobs that are over, which ``squeue -t all`` lists for a while, are mostly pilots that the ledger closed. Two sites
    may be two partitions of one cluster and see the same jobs: the site is the one in the name.
    """
    known = {pilot.pilot_id for pilot in pilots}
    sites = {site.name: site for site in policy.sites}
    strays = []
    for site, view in sorted(views.items()):
        for name, records in sorted(view.live.items()):
            parts = split_pilot_id(name)
            if name in known or parts is None or parts[:2] != (instance, site):
                continue
            if all(record.state.is_final for record in records):
                continue
            record = _one(records, None)
            assert record is not None
            stray = _stray(record, cycle=parts[2], offer=_offer_of(site, record, sites.get(site)), now_s=now_s)
            slot = slot_of.get(name)
            seen = stray if slot is None else _with_slot(stray, slot, slots.taken_s)
            strays.append(_updated(seen, view, slots, slot, now_s))
    return tuple(strays)


def _stray(record: BatchRecord, *, cycle: str, offer: Offer, now_s: float) -> PilotRecord:
    """A record as if the ledger had held it since the submission."""
    submitted_s = int(now_s) if record.submit_s is None else record.submit_s
    return PilotRecord(
        pilot_id=record.name,
        offer=offer,
        cycle=cycle,
        sent="submitted",
        phase=PilotPhase.UNKNOWN,
        intended_s=submitted_s,
        submit_deadline_s=submitted_s,
        submitted_s=submitted_s,
        batch_id=record.job_id,
        detail="adopted: found at the site under our name",
    )


def _offer_of(site: str, record: BatchRecord, policy: SitePolicy | None) -> Offer:
    """The offer that a stray pilot was most likely asked for with: of several the one with its cores and partition."""
    if policy is None:
        return _least_offer(site, record)
    offers = [entry.offer for entry in policy.entries]
    alike = [offer for offer in offers if (offer.shape.cores, offer.partition) == (record.alloc_cpus, record.partition)]
    return (alike or offers)[0]


def _least_offer(site: str, record: BatchRecord) -> Offer:
    """
    The offer of a stray pilot of a site that is not configured: the cores it was given and nothing that is not known.

    Without memory and walltime no job is expected to run there.
    """
    shape = Shape(cores=record.alloc_cpus or 1, memory_mib=0, disk_mib=0, walltime_s=0)
    return Offer(site=site, shape=shape, account=record.account, partition=record.partition)


def _drift(pilot: PilotRecord, slot: Slot | None) -> tuple[Drift, ...]:
    """Where the slot that arrived is not what the plan assumed of it (law 9)."""
    shape = pilot.offer.shape
    if slot is None or shape.walltime_s == 0:
        return ()
    memory_mib = slot_memory_mib(shape)
    off = (
        ("cores", shape.cores, slot.cores, slot.cores != shape.cores),
        ("memory_mib", memory_mib, slot.memory_mib, slot.memory_mib < memory_mib * (1 - MEMORY_TOLERANCE)),
        ("disk_mib", shape.disk_mib, slot.disk_mib, slot.disk_mib < shape.disk_mib * (1 - MEMORY_TOLERANCE)),
    )
    return tuple(
        Drift(pilot_id=pilot.pilot_id, attribute=name, assumed=assumed, found=found)
        for name, assumed, found, drifted in off
        if drifted
    )


def _alarms(
    pilots: Iterable[PilotRecord], sights: Iterable[SiteSight], views: Mapping[str, _SiteView]
) -> tuple[str, ...]:
    """Twins, pilots lost from sight, accounting that is not seen, and end reports that cannot be read."""
    alarms = []
    for pilot in pilots:
        lives = views[pilot.offer.site].live.get(pilot.pilot_id, ()) if pilot.offer.site in views else ()
        if len({record.job_id for record in lives if not record.state.is_final}) > 1:
            ids = ", ".join(sorted(record.job_id for record in lives))
            alarms.append(f"site {pilot.offer.site}: more than one job is named {pilot.pilot_id}: {ids}")
        if pilot.phase is PilotPhase.UNKNOWN and pilot.sent == "submitted" and pilot.offer.site in views:
            alarms.append(
                f"site {pilot.offer.site}: pilot {pilot.pilot_id} (job {pilot.batch_id}) is in no state that is known: "
                "the site neither shows it alive nor says that it ended"
            )
    for sight in sights:
        if isinstance(sight, SiteSeen) and isinstance(sight.final, FinalUnseen):
            alarms.append(
                f"site {sight.site}: pilots that ended stay open, its accounting cannot be asked: {sight.final.reason}"
            )
        if isinstance(sight, SiteSeen):
            alarms.extend(
                f"site {sight.site}: the end report of pilot {pilot_id} cannot be read"
                for pilot_id in sight.unreadable_reports
            )
    return tuple(sorted(alarms))
