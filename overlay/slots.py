"""
Slots of pilots in the collector, with what is really in use.

A slot counts as busy while a job runs in it. A claimed slot that is idle counts as free: the job that will use it is
still idle in the schedd, and counting both would ask for two pilots. The ad for matching is the partitionable slot's
as if it were empty; what is free of it is for the caller to subtract.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from config.names import split_pilot_id
from overlay.classads import ClassAd, check_bindings, integer, number, parse_ad, text
from overlay.client import Answer, NoAnswer, PoolClient, ask, collector_step
from overlay.errors import AdUnreadable
from overlay.model import Slot, Slots, SlotsSeen, SlotsUnseen

_OF_PILOTS = 'MyType == "Machine" && GlideinPilotId isnt undefined'

_STATE = (
    "Name",
    "MyAddress",
    "State",
    "Activity",
    "SlotType",
    "PartitionableSlot",
    "DynamicSlot",
    "LastHeardFrom",
    "DaemonStartTime",
    "DrainReason",
    "DrainingRequestId",
    "SlotBrokenReason",
    "GlideinPilotId",
    "GlideinSite",
    "GlideinToDie",
    "GlideinToRetire",
    "TotalSlotCpus",
    "TotalSlotMemory",
    "TotalSlotDisk",
    "TotalSlotGPUs",
    "AuthenticatedIdentity",
    "AcctGroup",
    "AccountingGroup",
)

_MATCHED = (
    "MyType",
    "Machine",
    "Arch",
    "Microarch",
    "OpSys",
    "OpSysAndVer",
    "OpSysLongName",
    "OpSysMajorVer",
    "OpSysName",
    "OpSysShortName",
    "OpSysVer",
    "CondorVersion",
    "CondorPlatform",
    "Cpus",
    "Memory",
    "Disk",
    "GPUs",
    "DetectedCpus",
    "DetectedMemory",
    "CpuFamily",
    "CpuModelNumber",
    "FileSystemDomain",
    "UidDomain",
    "HasFileTransfer",
    "HasFileTransferPluginMethods",
    "HasJobDeferral",
    "HasJobTransferPlugins",
    "HasPerFileEncryption",
    "HasReconnect",
    "HasTransferInputRemaps",
    "HasSelfCheckpointTransfers",
    "HasSingularity",
    "HasContainer",
    "HasDocker",
    "HasSIF",
    "HasSandboxImage",
    "HasDockerURL",
    "SingularityVersion",
    "HasUserNamespaces",
    "MappingMethod",
    "GlideinSlurmJobId",
    "GlideinPaused",
    "GlideinDenied",
    "GlideinAllowed",
    "Requirements",
    "Start",
    "WithinResourceLimits",
    "Rank",
)

_TOTALS = (
    ("Cpus", "TotalSlotCpus"),
    ("Memory", "TotalSlotMemory"),
    ("Disk", "TotalSlotDisk"),
    ("GPUs", "TotalSlotGPUs"),
)


def read_slots(client: PoolClient, *, max_age_s: float, now_s: float, attributes: Iterable[str] = ()) -> Slots:
    """
    Ask the collector for the slots of all pilots.

    An ad older than ``max_age_s`` says nothing about its pilot and is left out. ``attributes`` are further names that
    jobs may ask for, such as an operator's own slot attributes.
    """
    check_bindings()
    projection = sorted({*_STATE, *_MATCHED, *attributes})
    answer = ask(
        client,
        [
            collector_step(ads="startd", constraint=_OF_PILOTS, projection=projection),
            collector_step(ads="collector", constraint="true", projection=("Name",)),
        ],
    )
    return slots_of(answer, max_age_s=max_age_s, now_s=now_s)


def slots_of(answer: Answer | NoAnswer, *, max_age_s: float, now_s: float) -> Slots:
    """Read the collector's answer of slot ads and of its own ad, in this order."""
    if isinstance(answer, NoAnswer):
        return SlotsUnseen(taken_s=now_s, reason=answer.reason)
    ads, own = answer.steps
    if not own:
        # A collector always has its own ad; one that shows us none shows us none of the slots either.
        return SlotsUnseen(taken_s=now_s, reason="the collector does not even show its own ad")
    try:
        parsed = [parse_ad(ad, what="slot ad") for ad in ads]
    except AdUnreadable as error:
        return SlotsUnseen(taken_s=now_s, reason=str(error))
    fresh = [ad for ad in parsed if _is_fresh(ad, now_s - max_age_s)]
    return SlotsSeen(taken_s=now_s, slots=_by_pilot(fresh, now_s))


def _by_pilot(ads: Sequence[ClassAd], now_s: float) -> tuple[Slot, ...]:
    """One slot for each pilot that has a readable partitionable slot."""
    dynamic: dict[str, list[ClassAd]] = defaultdict(list)
    whole: dict[str, ClassAd] = {}
    for ad in ads:
        pilot_id = text(ad, "GlideinPilotId")
        if pilot_id is None:
            continue
        if text(ad, "SlotType") == "Dynamic":
            dynamic[pilot_id].append(ad)
        elif text(ad, "SlotType") == "Partitionable":
            known = whole.get(pilot_id)
            # A pilot id stands for one startd. Should two say it, the one that was heard last is described.
            if known is None or (number(ad, "LastHeardFrom") or 0) > (number(known, "LastHeardFrom") or 0):
                whole[pilot_id] = ad
    slots = (_slot(pilot_id, ad, dynamic[pilot_id], now_s) for pilot_id, ad in sorted(whole.items()))
    return tuple(slot for slot in slots if slot is not None)


def _slot(pilot_id: str, ad: ClassAd, dynamic: Sequence[ClassAd], now_s: float) -> Slot | None:
    """Read one pilot's slots; None when the ad does not bear out what it says of itself."""
    site = text(ad, "GlideinSite")
    name = text(ad, "Name")
    parts = split_pilot_id(pilot_id)
    if site is None or name is None or (parts is not None and parts[1] != site):
        return None
    busy = [slot for slot in dynamic if _runs_a_job(slot) or _is_broken(slot)]
    return Slot(
        pilot_id=pilot_id,
        site=site,
        name=name,
        cores=_whole(number(ad, "TotalSlotCpus")),
        memory_mib=_whole(number(ad, "TotalSlotMemory")),
        disk_mib=_whole(number(ad, "TotalSlotDisk"), per=1024),
        busy_cores=sum(_whole(number(slot, "Cpus")) for slot in busy),
        busy_memory_mib=sum(_whole(number(slot, "Memory")) for slot in busy),
        busy_disk_mib=sum(_whole(number(slot, "Disk"), per=1024) for slot in busy),
        running_jobs=sum(_runs_a_job(slot) for slot in dynamic),
        to_die_s=integer(ad, "GlideinToDie"),
        started_s=integer(ad, "DaemonStartTime"),
        accepting=_accepts(ad, now_s),
        ad_text=_as_if_empty(ad),
        gpus=_whole(number(ad, "TotalSlotGPUs")),
        busy_gpus=sum(_whole(number(slot, "GPUs")) for slot in busy),
        busy_groups=_groups(slot for slot in dynamic if _runs_a_job(slot)),
    )


def _groups(running: Iterable[ClassAd]) -> tuple[tuple[str, int], ...]:
    """
    Cores by project.

    Pilots publish the job's AcctGroup (``STARTD_JOB_ATTRS``); one from before they did shows only what the negotiator
    counts by: ``PROJECT.USER``.
    """
    cores: dict[str, int] = defaultdict(int)
    for slot in running:
        group = text(slot, "AcctGroup") or (text(slot, "AccountingGroup") or "").partition("@")[0].rpartition(".")[0]
        cores[group] += _whole(number(slot, "Cpus"))
    return tuple(sorted(cores.items()))


def _runs_a_job(slot: ClassAd) -> bool:
    return text(slot, "State") in ("Claimed", "Preempting") and text(slot, "Activity") != "Idle"


def _is_broken(slot: ClassAd) -> bool:
    """Whether something was left behind in the slot, so that the startd gives its part to nobody (since 24.5)."""
    return text(slot, "SlotBrokenReason") is not None


def _accepts(ad: ClassAd, now_s: float) -> bool:
    """
    Whether the pilot takes jobs: it does not drain, is not past its retirement, and can be reached.

    A pilot that started while CCB was down advertises an address without CCBID for about five minutes: it is matched
    and cannot be reached (25.14.1, tried).
    """
    retire_s = number(ad, "GlideinToRetire")
    draining = text(ad, "State") == "Drained" or text(ad, "DrainingRequestId") is not None
    reachable = "CCBID=" in (text(ad, "MyAddress") or "")
    return reachable and not draining and (retire_s is None or now_s < retire_s)


def _as_if_empty(ad: ClassAd) -> str:
    """Text of the partitionable slot's ad with its totals in place of what is left, without what changes hourly."""
    left_out = {"LastHeardFrom", "State", "Activity"}
    values = {name: str(ad.lookup(name)) for name in ad if name not in left_out}
    for left, total in _TOTALS:
        if total in values:
            values[left] = str(_whole(number(ad, total)))
    values["State"] = '"Unclaimed"'
    values["Activity"] = '"Idle"'
    names = sorted(values, key=str.lower)
    return "[ " + "; ".join(f"{name} = {values[name]}" for name in names) + " ]"


def _is_fresh(ad: ClassAd, oldest_s: float) -> bool:
    heard = number(ad, "LastHeardFrom")
    return heard is not None and heard >= oldest_s


def _whole(value: float | None, *, per: int = 1) -> int:
    """A resource as a whole number, rounded down; nothing where there is none."""
    return 0 if value is None or not math.isfinite(value) else max(0, math.floor(value / per))
