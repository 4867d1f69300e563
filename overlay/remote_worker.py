"""
One process per request to a schedd of another pool, where pilots are jobs: looks, submits, edits, removes.

Reads a request from stdin, writes lines of JSON to stdout, each at once: what was done stays known if this process is
killed in the middle. A look answers in the words of :mod:`overlay.worker`; a submission tells of each job by itself.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from overlay.classads import ClassAd, ExprTree, Value, htcondor2

Request = dict[str, Any]
Write = Callable[[list[Any]], None]
EMPTY_HISTORY = "it is empty: no job ever left that queue, or the schedd cannot read it"


class _NotInCollector(Exception):
    """The schedd has no ad in its collector, and nobody knows where it was."""


def answer(request: Request, write: Write) -> None:
    """Do what a request says and write what came of it."""
    found, ad = _locate(request)
    write(["address", str(ad["MyAddress"])])
    schedd = htcondor2.Schedd(ad)
    match request["do"]:
        case "look":
            _look(schedd, request, [found] if found is not None else [], write)
        case "submit":
            _submit(schedd, request, write)
        case "put":
            _put(schedd, request, write)
        case "edit":
            matched = schedd.query(constraint=request["constraint"], projection=["ClusterId"])
            if matched:
                schedd.edit(request["constraint"], request["attribute"], request["value"])
            _tell(write, 0, [{"matched": len(matched)}])
            write(["done", 1])
        case "remove":
            result = schedd.act(htcondor2.JobAction.Remove, request["constraint"], request["why"])
            _tell(write, 0, [_plain(result, ["TotalSuccess", "TotalError", "TotalPermissionDenied"])])
            write(["done", 1])
        case "machines":
            ads = htcondor2.Collector(request["collector"]).query(
                htcondor2.AdType.Startd, constraint='SlotType =!= "Dynamic"', projection=request["projection"]
            )
            _tell(write, 0, [_plain(one, request["projection"]) for one in ads])
            write(["done", 1])
        case other:
            raise ValueError(f"nothing is called {other!r}")


def _locate(request: Request) -> tuple[dict[str, Any] | None, ClassAd]:
    """The schedd's ad as its collector has it, if it has, and the ad to reach it by."""
    wanted = ["Name", "MyAddress", "CondorVersion", *request.get("ad_projection", [])]
    reason = "it has no ad there"
    try:
        ads = htcondor2.Collector(request["collector"]).query(
            htcondor2.AdType.Schedd, constraint=f"Name == {json.dumps(request['schedd'])}", projection=wanted
        )
        if ads and "MyAddress" in ads[0]:
            return _plain(ads[0], wanted), ads[0]
    except htcondor2.HTCondorException as error:
        reason = str(error)
    if request.get("address"):
        version = "$CondorVersion: 25.14.1 2026-10-16 $"
        return None, ClassAd({"MyAddress": request["address"], "CondorVersion": version})
    raise _NotInCollector(
        f"collector {request['collector']} does not tell where schedd {request['schedd']} is: {reason}"
    )


def _look(schedd: Any, request: Request, found: list[dict[str, Any]], write: Write) -> None:
    """Steps 0 to 4: the schedd's ad, jobs, history of named ones that are no jobs any more, its problem, the clock."""
    projection, attribute = request["projection"], request["attribute"]
    _tell(write, 0, found)
    # A job's own ServerTime tells the clock, but there may be no job.
    clock = schedd.query(constraint="false", projection=["ServerTime"], opts=htcondor2.QueryOpt.SummaryOnly)
    jobs = [
        _plain(ad, projection)
        for ad in schedd.query(constraint=request["constraint"], projection=projection, limit=request["limit"])
    ]
    _tell(write, 1, jobs)
    there = {job.get(attribute) for job in jobs}
    gone = [name for name in request["names"] if name not in there]
    past: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    if gone:
        constraint = f"{request['constraint']} && stringListMember({attribute}, {json.dumps(','.join(gone))})"
        try:
            past = [_plain(ad, projection) for ad in schedd.history(constraint, projection, len(gone))]
            # A schedd that cannot read its history answers as if it had none: no error, no record.
            if not past and not schedd.history("true", ["ClusterId"], 1):
                problems = [{"problem": EMPTY_HISTORY}]
        except htcondor2.HTCondorException as error:
            problems = [{"problem": str(error)}]
    _tell(write, 2, past)
    _tell(write, 3, problems)
    _tell(write, 4, [_plain(ad, ["ServerTime"]) for ad in clock])
    write(["done", 5])


def _submit(schedd: Any, request: Request, write: Write) -> None:
    """
    Submit each job and send its files, then let all of them go.

    A job whose files did not all arrive stays held, and one that was not let go matches no slot.
    """
    spooled: dict[str, list[str]] = {}
    for job in request["jobs"]:
        name = job["name"]
        if time.time() > request["stop_at_s"]:
            write(["late", name])
            continue
        write(["trying", name])
        try:
            result = schedd.submit(htcondor2.Submit(job["description"]), spool=True)
        except htcondor2.HTCondorException as error:
            write(["problem", name, str(error)])
            continue
        write(["queued", name, str(result.cluster())])
        try:
            schedd.spool(result)
        except htcondor2.HTCondorException as error:
            write(["unspooled", name, str(error)])
            continue
        write(["spooled", name])
        spooled.setdefault(job["inputs"], []).append(name)
    for inputs, names in spooled.items():
        members = f"stringListMember({request['attribute']}, {json.dumps(','.join(names))})"
        try:
            schedd.edit(f"{request['constraint']} && {members}", "TransferInput", json.dumps(inputs))
        except htcondor2.HTCondorException as error:
            for name in names:
                write(["stuck", name, str(error)])
            continue
        for name in names:
            write(["gone", name])
    write(["done", len(request["jobs"])])


def _put(schedd: Any, request: Request, write: Write) -> None:
    """Submit one job that never runs, send its files, and tell where they lie."""
    result = schedd.submit(htcondor2.Submit(request["description"]), spool=True)
    schedd.spool(result)
    ads = schedd.query(constraint=f"ClusterId == {int(result.cluster())}", projection=["ClusterId", "Iwd"])
    _tell(write, 0, [_plain(ad, ["ClusterId", "Iwd"]) for ad in ads])
    write(["done", 1])


def _tell(write: Write, step: int, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        write(["ad", step, json.dumps(row)])
    write(["end", step, len(rows)])


def _plain(ad: Any, names: Iterable[str]) -> dict[str, Any]:
    """The attributes that have a plain value, evaluated; an expression that has none is left out."""
    row: dict[str, Any] = {}
    for name in names:
        value = ad.eval(name) if name in ad else None
        if isinstance(value, bool | int | float | str) and not isinstance(value, ExprTree | Value):
            row[name] = value
    return row


def main(source: TextIO, sink: TextIO) -> int:
    """Read one request, do it, write the answer."""

    def write(line: list[Any]) -> None:
        sink.write(json.dumps(line) + "\n")
        sink.flush()

    request = json.load(source)
    # As in overlay.worker: the kernel's alarm ends this process should its parent be gone.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(request["deadline_s"]) + 5)
    try:
        answer(request, write)
    except (htcondor2.HTCondorException, _NotInCollector) as error:
        write(["failed", type(error).__name__, str(error)])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin, sys.stdout))
