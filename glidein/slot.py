"""
The slot that an offer will become, as ClassAd text: what the factory matches jobs against before there is a pilot.

What is promised here was compared with a real slot ad of HTCondor 25.14.1 (tests/recorded/slot-25.14.1.txt). What only
the node knows (its operating system's release, processor features) is left out: a job that asks for it matches a site
only where the operator has named it in ``slot_attributes``.
"""

from __future__ import annotations

from collections.abc import Mapping

from config.condortext import classad_string, classad_text
from glidein.epconfig import PoolFacts
from glidein.model import Lifetimes, Offer
from glidein.siterules import NO_RULES, published_rules
from glidein.start import CCB_MARK, promised_life_s, slot_memory_mib, start_expression

ABILITIES: dict[str, str] = {
    "HasCommonFilesTransfer": "2",
    "HasFileTransfer": "true",
    "HasFileTransferPluginMethods": '"data,dav,davs,file,ftp,http,https,s3,gs"',
    "HasIOProxy": "true",
    "HasJICLocalConfig": "true",
    "HasJICLocalStdin": "true",
    "HasJobDeferral": "true",
    "HasJobNetworking": "true",
    "HasJobTransferPlugins": "true",
    "HasOsUser": "true",
    "HasPerFileEncryption": "true",
    "HasReconnect": "true",
    "HasSelfCheckpointTransfers": "true",
    "HasTDP": "true",
    "HasTransferInputRemaps": "true",
    "HasVM": "false",
}
"""What a starter of 25.14.1 with our configuration and bundle says it can do, on every node."""

WITHIN_RESOURCE_LIMITS = (
    "MY.Cpus > 0 && TARGET.RequestCpus <= MY.Cpus"
    " && MY.Memory > 0 && TARGET.RequestMemory <= MY.Memory"
    " && MY.Disk > 0 && TARGET.RequestDisk <= MY.Disk"
    " && (TARGET.RequestGPUs is undefined || MY.GPUs >= TARGET.RequestGPUs)"
)
"""
The slot's own limits. 25.14.1 leaves ``Cpus >= RequestCpus`` out of a job's Requirements when it asks for one core,
and the disk clause for any slot of 25.12 or later, so only this expression holds them. The real one also subtracts
common files that the slot has already; a new slot has none.
"""

EXACT = ("Arch", "OpSys", "GPUs", "PartitionableSlot", "HasFileTransfer", "GlideinSite", "UidDomain")
AT_LEAST = ("TotalSlotCpus", "TotalSlotMemory", "TotalSlotDisk", "GlideinToDie")


def offer_ad_text(*, offer: Offer, lifetimes: Lifetimes, pool: PoolFacts, condor_version: str, now_s: int) -> str:
    """
    Render the slot ad of a pilot of this offer that would start at epoch second ``now_s``.

    ``condor_version`` is the bundle's own ``$CondorVersion: … $`` text.
    """
    shape = offer.shape
    memory_mib = str(slot_memory_mib(shape))
    disk_kib = str(shape.disk_mib * 1024)
    cores = str(shape.cores)
    die_s = now_s + promised_life_s(walltime_s=shape.walltime_s, lifetimes=lifetimes)
    retire_s = die_s - lifetimes.retire_margin_s
    attributes = {
        "MyType": '"Machine"',
        "TargetType": '"Job"',
        "Name": classad_string(f"slot1@offer-{offer.site}"),
        "Machine": classad_string(f"offer-{offer.site}"),
        "MyAddress": classad_string(f"<0.0.0.0:0?{CCB_MARK}offer>"),
        "SlotID": "1",
        "SlotType": '"Partitionable"',
        "SlotTypeID": "1",
        "PartitionableSlot": "true",
        "State": '"Unclaimed"',
        "Activity": '"Idle"',
        "Cpus": cores,
        "TotalCpus": cores,
        "TotalSlotCpus": cores,
        "Memory": memory_mib,
        "TotalMemory": memory_mib,
        "TotalSlotMemory": memory_mib,
        "Disk": disk_kib,
        "TotalDisk": disk_kib,
        "TotalSlotDisk": disk_kib,
        "GPUs": str(shape.gpus),
        "TotalGPUs": str(shape.gpus),
        "TotalSlotGPUs": str(shape.gpus),
        "Arch": '"X86_64"',
        "OpSys": '"LINUX"',
        "CondorVersion": classad_string(condor_version),
        "UidDomain": classad_string(pool.trust_domain),
        "FileSystemDomain": classad_string(f"offer-{offer.site}"),
        **ABILITIES,
        "GlideinSite": classad_string(offer.site),
        "GlideinToDie": str(die_s),
        "GlideinToRetire": str(retire_s),
        "MaxJobRetirementTime": "0",
        "Rank": "0.0",
        "SlotWeight": "Cpus",
        # The factory asks the site's rules themselves (factory.caps): a verdict can then name the file and the rule.
        **published_rules(NO_RULES, {}),
        **dict(offer.slot_attributes),
        "Start": start_expression(lifetimes),
        "WithinResourceLimits": WITHIN_RESOURCE_LIMITS,
        "Requirements": "Start && WithinResourceLimits",
    }
    return classad_text(attributes)


def template_drift(*, promised: Mapping[str, object], arrived: Mapping[str, object]) -> tuple[str, ...]:
    """
    Say where a slot that arrived brings less than its offer promised; both are evaluated attributes of the two ads.

    Empty when the promise was kept. More memory or disk than promised is no drift, another operating system is.
    """
    worse = [
        f"{name}: promised {promised[name]!r}, got {arrived.get(name)!r}"
        for name in EXACT
        if name in promised and promised[name] != arrived.get(name)
    ]
    for name in AT_LEAST:
        wanted, got = promised.get(name), arrived.get(name)
        if isinstance(wanted, int | float) and not (isinstance(got, int | float) and got >= wanted):
            worse.append(f"{name}: promised {wanted!r}, got {got!r}")
    return tuple(worse)
