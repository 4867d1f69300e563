"""
HTCondor's words and ours: the submit description of a pilot, and what its job ads say. Pure.

An ad is a mapping of plain values here; only :mod:`overlay` knows HTCondor's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from config.condortext import classad_string
from factory.sites.contract import NotSent, Refused, SubmitOutcome, Submitted, Uncertain
from factory.sites.states import CONDOR_HOLDS, SPOOLING, condor_live_state
from factory.sites.texts import essence
from glidein.model import BatchRecord, BatchState, Offer, PilotId

PILOT, INSTANCE, SITE = "AerotowPilot", "AerotowInstance", "AerotowSite"
BUNDLE, DEADLINE, FORGOTTEN = "AerotowBundle", "AerotowDeadline", "AerotowForgotten"
REPORT = "ChirpAerotowEnd"
"""The pilot's end report; HTCondor lets a job set attributes of this prefix (CHIRP_DELAYED_UPDATE_PREFIX)."""
POLICY = "AerotowSitePolicy"
"""Attribute of the schedd's ad with what the site's admin lets run there; its owner is who configures the schedd."""

HELD_FOR_S = 120
"""A held pilot is shown this long, then it is removed and counts as failed."""
LATE_S = 300
"""A pilot whose files did not arrive is removed this long after the submission's deadline."""
TEXT_MAX = 2000
"""Characters of a string in an ad that are read; a site's own words have no bound."""
COUNT_MAX = 2**53
"""No time, size or number of a job is larger, and a database takes it."""
OVERRUN_S = 600
"""HTCondor has no time limit; the pilot ends itself, and is removed if it has not by then."""
KEPT_S = 86_400
"""A pilot that ended stays in the queue until the factory has taken note, at most this long; then in the history."""

PROJECTION = (
    *("ClusterId", "ProcId", "JobStatus", "LastJobStatus", PILOT, BUNDLE, FORGOTTEN, REPORT, "Iwd", "TransferInput"),
    *("HoldReason", "HoldReasonCode", "LastHoldReason", "LastHoldReasonCode", "RemoveReason", "LastRejMatchReason"),
    *("ExitCode", "ExitBySignal", "ExitSignal", "QDate", "JobStartDate", "JobCurrentStartDate", "CompletionDate"),
    *("EnteredCurrentStatus", "CpusProvisioned", "RequestCpus", "AcctGroup", "BatchQueue", "NumShadowStarts"),
    *("RemoteHost", "LastRemoteHost", "StageInFinish", INSTANCE, SITE),
)

START = "start.sh"
START_SCRIPT = r"""#!/bin/sh
# Runs aerotow's pilot in HTCondor's sandbox and puts its end report into the job's ad, where one query finds it.
here=$(pwd)
sh ./pilot.sh "$here" &
pilot=$!
trap 'kill -TERM $pilot 2>/dev/null' TERM INT
while :; do
    wait $pilot
    status=$?
    # A signal ends the wait; the pilot, not yet waited for, is still there.
    [ $status -gt 128 ] && kill -0 $pilot 2>/dev/null || break
done
trap '' TERM INT
[ -f end.json ] || exit $status
chirp=
for one in "$(condor_config_val LIBEXEC 2>/dev/null)/condor_chirp" "$_CONDOR_BIN/../libexec/condor/condor_chirp" \
    /usr/libexec/condor/condor_chirp; do
    [ -z "$chirp" ] && [ -x "$one" ] && chirp=$one
done
if [ -z "$chirp" ]; then
    # The site shows its jobs no HTCondor; the pilots' own has one.
    mkdir tree && tar -xzf ./*.tar.gz -C tree 2>/dev/null
    for one in tree/libexec/condor_chirp tree/*/libexec/condor/condor_chirp tree/*/libexec/condor_chirp; do
        [ -z "$chirp" ] && [ -x "$one" ] && chirp=$one
    done
fi
# 993 characters are what HTCondor takes.
text=$(head -c 900 end.json | tr -c ' -~' ' ' | sed 's/[\\"]/\\&/g' | cut -c 1-980)
[ -z "$chirp" ] || "$chirp" set_job_attr_delayed ChirpAerotowEnd "\"$text\"" || echo "start: no report" >&2
rm -rf tree
exit $status
"""


def ours(instance: str, site: str, *, user: str) -> str:
    """The constraint for everything of ours; ``user`` is HTCondor's name of the token's owner, where it is known."""
    terms = [f"{INSTANCE} =?= {classad_string(instance)}", f"{SITE} =?= {classad_string(site)}"]
    if user:
        terms.append(f"User =?= {classad_string(user)}")
    return f"({' && '.join(terms)})"


def named(pilots: Iterable[PilotId]) -> str:
    """The constraint for pilots by name."""
    return f"stringListMember({PILOT}, {classad_string(','.join(pilots))})"


def bundle_file(sha256: str) -> str:
    """Name of the bundle's file, in the schedd's spool and in a pilot's sandbox."""
    return f"{sha256}.tar.gz"


def pilot_description(
    pilot_id: PilotId,
    offer: Offer,
    *,
    directory: Path,
    files: Iterable[str],
    deadline_s: int,
    common: Mapping[str, str],
) -> dict[str, str]:
    """
    The submit description of one pilot, whose files lie in ``directory``.

    ``gate`` in Requirements: it matches no slot before the bundle is among its input files, which is the last thing
    that a submission does. NumShadowStarts: what has been given to a node once never runs again.
    """
    shape = offer.shape
    gate = f"regexp({classad_string(common['sha256'])}, MY.TransferInput)"
    remove = (
        "(JobStatus == 1 && NumShadowStarts >= 1)",
        f"(JobStatus == 5 && HoldReasonCode =!= {SPOOLING} && time() - EnteredCurrentStatus > {HELD_FOR_S})",
        f"(JobStatus == 5 && HoldReasonCode =?= {SPOOLING} && time() > {DEADLINE} + {LATE_S})",
        f"(JobStatus == 1 && !{gate} && time() > {DEADLINE} + {LATE_S})",
        f"(JobStatus == 2 && time() - JobCurrentStartDate > {shape.walltime_s + OVERRUN_S})",
    )
    return {
        "universe": "vanilla",
        "executable": str(directory / START),
        "transfer_executable": "true",
        "initialdir": str(directory),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": ",".join(files),
        "transfer_output_files": '""',
        "output": "pilot.out",
        "error": "pilot.err",
        "batch_name": pilot_id,
        "requirements": f"{gate} && (NumShadowStarts ?: 0) == 0",
        "request_cpus": str(shape.cores),
        "request_memory": f"{shape.memory_mib} MB",
        "request_disk": f"{shape.disk_mib} MB",
        **({"request_gpus": str(shape.gpus)} if shape.gpus else {}),
        "kill_sig": "SIGTERM",
        "job_max_vacate_time": "30",
        "want_graceful_removal": "true",
        "accounting_group": offer.account,
        "notification": "never",
        "leave_in_queue": f"JobStatus == 4 && {FORGOTTEN} =!= true && time() - CompletionDate < {KEPT_S}",
        "periodic_remove": " || ".join(remove),
        "My.BatchQueue": classad_string(offer.partition),
        f"My.{PILOT}": classad_string(pilot_id),
        f"My.{INSTANCE}": classad_string(common["instance"]),
        f"My.{SITE}": classad_string(common["site"]),
        f"My.{DEADLINE}": str(deadline_s),
    }


def bundle_description(*, sha256: str, directory: Path, account: str, common: Mapping[str, str]) -> dict[str, str]:
    """The job that only keeps the bundle in the schedd's spool: it matches no slot."""
    return {
        "universe": "vanilla",
        "executable": "/bin/true",
        "transfer_executable": "false",
        "initialdir": str(directory),
        "should_transfer_files": "YES",
        "transfer_input_files": bundle_file(sha256),
        "batch_name": f"aerotow-bundle-{common['instance']}",
        "requirements": "false",
        "request_cpus": "1",
        "request_memory": "1 MB",
        "request_disk": "1 MB",
        **({"accounting_group": account} if account else {}),
        "notification": "never",
        "periodic_remove": f"JobStatus == 5 && time() - QDate > {KEPT_S}",
        f"My.{BUNDLE}": classad_string(sha256),
        f"My.{INSTANCE}": classad_string(common["instance"]),
        f"My.{SITE}": classad_string(common["site"]),
    }


def outcome(pilot_id: PilotId, told: tuple[tuple[str, str], ...], *, problem: str) -> SubmitOutcome:
    """What became of one submission, from the words that came back of it."""
    words = dict(told)
    batch_id = words.get("queued", "")
    if "gone" in words and re.fullmatch(r"[0-9]{1,12}", batch_id):
        return Submitted(pilot_id=pilot_id, batch_id=batch_id)
    for word, what in (("unspooled", "its files did not arrive"), ("stuck", "it could not be let go")):
        if word in words:
            return Uncertain(pilot_id=pilot_id, reason=f"{what}: {essence(words[word])}")
    if "problem" in words:
        return _problem_outcome(pilot_id, words["problem"])
    if "late" in words:
        return NotSent(pilot_id=pilot_id, reason="the deadline passed before it could be submitted")
    if "trying" not in words:
        return NotSent(pilot_id=pilot_id, reason=essence(problem or "it was not tried"))
    return Uncertain(pilot_id=pilot_id, reason=essence(problem or "the answer says nothing of it"))


def _problem_outcome(pilot_id: PilotId, text: str) -> SubmitOutcome:
    """
    Sort the text of a failed submission.

    ``SCHEDD:`` begins the schedd's own words at the end of a transaction that it rolled back (25.14, measured).
    What fails before the transaction is closed leaves no job either.
    """
    if "SCHEDD:" in text:
        return Refused(pilot_id=pilot_id, reason=essence(re.sub(r"^.*?SCHEDD:[0-9]+:", "", text, flags=re.DOTALL)))
    if text.startswith(("Failed to connect", "Failed to create")):
        return NotSent(pilot_id=pilot_id, reason=essence(text))
    return Uncertain(pilot_id=pilot_id, reason=essence(text))


def oddity(ad: Mapping[str, object], *, instance: str, site: str) -> str:
    """
    Why an ad cannot be an answer to what was asked for, or empty.

    Every job has its number and status, and no other instance or site fulfils the constraint: whoever answers with such
    a thing has not understood or not heeded the question, so that nothing else it says counts.
    """
    if (ad.get(INSTANCE), ad.get(SITE)) != (instance, site):
        return f"a job that was not asked for, of instance {_shown(ad, INSTANCE)} and site {_shown(ad, SITE)}"
    for name, least in (("ClusterId", 1), ("JobStatus", 0)):
        number = count_of(ad, name)
        if number is None or number < least or number != ad[name]:
            return f"a job whose {name} is {_shown(ad, name)}"
    return ""


def _shown(ad: Mapping[str, object], name: str) -> str:
    return essence(repr(ad[name])[:100]) if name in ad else "missing"


def live_record(ad: Mapping[str, object]) -> BatchRecord:
    """The record of a job that is in the queue and has not ended."""
    status = count_of(ad, "JobStatus")
    started = status in (2, 6, 7)
    return BatchRecord(
        name=_text(ad, PILOT),
        job_id=str(count_of(ad, "ClusterId") or 0),
        state=condor_live_state(status),
        raw_state=f"JobStatus {status}",
        reason=_waiting_reason(ad, status),
        submit_s=count_of(ad, "QDate"),
        start_s=(count_of(ad, "JobCurrentStartDate") or None) if started else None,
        alloc_cpus=count_of(ad, "CpusProvisioned" if started and "CpusProvisioned" in ad else "RequestCpus"),
        partition=_text(ad, "BatchQueue"),
        account=_text(ad, "AcctGroup"),
        node=_text(ad, "RemoteHost").rpartition("@")[2],
    )


def _waiting_reason(ad: Mapping[str, object], status: int | None) -> str:
    if status == 5:
        code = count_of(ad, "HoldReasonCode")
        if code == SPOOLING:
            return "its files are arriving"
        meaning = CONDOR_HOLDS.get(code or 0, (BatchState.FAILED, f"held, code {code}"))[1]
        return essence(f"held: {meaning}: {_text(ad, 'HoldReason')}")
    if status == 1:
        return essence(_text(ad, "LastRejMatchReason") or "waits for a slot")
    return essence(_text(ad, "RemoveReason") or "being removed") if status == 3 else ""


def final_record(ad: Mapping[str, object]) -> BatchRecord:
    """The record of a job that has ended: completed and still in the queue, or in the history."""
    status = count_of(ad, "JobStatus")
    start_s = count_of(ad, "JobCurrentStartDate") or count_of(ad, "JobStartDate") or None
    end_s = count_of(ad, "CompletionDate") or count_of(ad, "EnteredCurrentStatus")
    state, reason = _ending(ad, status)
    by_signal = ad.get("ExitBySignal") is True
    exited = status == 4
    return BatchRecord(
        name=_text(ad, PILOT),
        job_id=str(count_of(ad, "ClusterId") or 0),
        state=state,
        raw_state=f"JobStatus {status}",
        reason=reason,
        exit_code=(0 if by_signal else count_of(ad, "ExitCode")) if exited else None,
        exit_signal=((count_of(ad, "ExitSignal") or 0) if by_signal else 0) if exited else None,
        submit_s=count_of(ad, "QDate"),
        start_s=start_s,
        end_s=end_s,
        elapsed_s=end_s - start_s if start_s is not None and end_s is not None else None,
        alloc_cpus=count_of(ad, "CpusProvisioned" if "CpusProvisioned" in ad else "RequestCpus"),
        partition=_text(ad, "BatchQueue"),
        account=_text(ad, "AcctGroup"),
        node=_text(ad, "LastRemoteHost").rpartition("@")[2],
    )


def _ending(ad: Mapping[str, object], status: int | None) -> tuple[BatchState, str]:
    """How a job ended and why. A job in the history is completed (4) or removed (3); all else is unknown."""
    if status == 4:
        failed = ad.get("ExitBySignal") is True or count_of(ad, "ExitCode") != 0
        return BatchState.FAILED if failed else BatchState.COMPLETED, ""
    if status != 3:
        return BatchState.UNKNOWN, ""
    reason = _text(ad, "RemoveReason")
    if "PeriodicRemove" not in reason:
        return BatchState.CANCELLED, essence(reason or "removed")
    match count_of(ad, "LastJobStatus"):
        case 5:
            code = count_of(ad, "LastHoldReasonCode") or count_of(ad, "HoldReasonCode") or 0
            state, meaning = CONDOR_HOLDS.get(code, (BatchState.FAILED, f"held, code {code}"))
            words = _text(ad, "LastHoldReason") or _text(ad, "HoldReason")
            return state, essence(f"held: {meaning}: {words}")
        case 1 if (count_of(ad, "NumShadowStarts") or 0) >= 1:
            return BatchState.PREEMPTED, "the site took its slot; a pilot runs only once"
        case 2:
            return BatchState.TIMEOUT, "it ran past its walltime"
        case _:
            return BatchState.CANCELLED, essence(reason)


def _text(ad: Mapping[str, object], name: str) -> str:
    """A string of the site's own making, as long as a line may be."""
    value = ad.get(name)
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def count_of(ad: Mapping[str, object], name: str) -> int | None:
    """A number that can be a count or a time; infinite, negative and absurd ones are none."""
    value = ad.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < COUNT_MAX:
        return None
    return int(value)
