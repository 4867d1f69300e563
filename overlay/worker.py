"""
One process per question to HTCondor: reads a request from stdin, asks, writes the ads to stdout, ends.

htcondor2 holds Python's GIL for a whole query, so a slow daemon would freeze every thread of the factory; a process
can be killed. The answer says positively that it is complete: each step ends with its count, the whole with ``done``;
anything else, an exit code of 0 included, is no answer.

The request is ``{"deadline_s": 25, "collector": "cm:9618", "steps": [...]}``; the answer is lines of JSON:
``["ad", step, "[ ... ]"]``, ``["end", step, count]``, ``["address", "<...>"]``, ``["done", steps]`` or
``["failed", kind, text]``.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable
from typing import Any, TextIO

from overlay.classads import ClassAd, ad_line, htcondor2

Step = dict[str, Any]

_SCHEDD_PROJECTION = ["Name", "MyAddress", "CondorVersion", "RecentDaemonCoreDutyCycle", "CurbMatchmaking"]


class _NotInCollector(Exception):
    """The schedd has no ad in the collector."""


class Busy(Exception):
    """The schedd says that it is busy, and was asked not long ago."""


def answer(request: dict[str, Any], write: Callable[[list[Any]], None]) -> None:
    """Take the steps of a request one after the other and write what they gave."""
    schedd: Any = None
    for number, step in enumerate(request["steps"]):
        if step["kind"] == "collector":
            ads = _ask_collector(request["collector"], step)
        else:
            if schedd is None:
                location = _locate(request)
                write(["address", str(location["MyAddress"])])
                schedd = htcondor2.Schedd(location)
            ads = _ask_schedd(schedd, step)
        for ad in ads:
            write(["ad", number, ad_line(ad)])
        write(["end", number, len(ads)])
    write(["done", len(request["steps"])])


def _ask_collector(collector: str, step: Step) -> list[ClassAd]:
    ad_type = {"startd": htcondor2.AdType.Startd, "collector": htcondor2.AdType.Collector}[step["ads"]]
    return htcondor2.Collector(collector).query(ad_type, constraint=step["constraint"], projection=step["projection"])


def _locate(request: dict[str, Any]) -> ClassAd:
    """
    Find a schedd by its ad, or at the address where it was last seen.

    A collector that was restarted has no ad of a schedd that goes on working, for two or three update intervals.
    """
    name = json.dumps(request["schedd"])
    reason = "it has no ad in the collector"
    try:
        found = htcondor2.Collector(request["collector"]).query(
            htcondor2.AdType.Schedd, constraint=f"Name == {name}", projection=_SCHEDD_PROJECTION
        )
        if found and "MyAddress" in found[0]:
            spare(found[0], request.get("spare_above"))
            return found[0]
    except htcondor2.HTCondorException as error:
        reason = f"the collector says: {error}"
    if request.get("address"):
        version = "$CondorVersion: 25.14.1 2026-10-16 $"
        return ClassAd({"MyAddress": request["address"], "CondorVersion": version})
    raise _NotInCollector(f"schedd {request['schedd']} cannot be found: {reason}")


def spare(ad: ClassAd, duty_max: float | None) -> None:
    """
    Leave a busy schedd alone; ``duty_max`` is None when it is to be asked whatever it does.

    :raises Busy: it is past its duty cycle, or lets itself be curbed.
    """
    if duty_max is None:
        return
    duty = ad.eval("RecentDaemonCoreDutyCycle") if "RecentDaemonCoreDutyCycle" in ad else None
    if isinstance(duty, float | int) and duty > duty_max:
        raise Busy(f"the schedd is busy: RecentDaemonCoreDutyCycle is {duty:.2f}, above {duty_max}; asked less often")
    if "CurbMatchmaking" in ad and ad.eval("CurbMatchmaking") is True:
        raise Busy("the schedd is busy: CurbMatchmaking is true, so it gets no matches now; asked less often")


def _ask_schedd(schedd: Any, step: Step) -> list[ClassAd]:
    match step["kind"]:
        case "jobs":
            option = {
                "plain": htcondor2.QueryOpt.Default,
                "group": htcondor2.QueryOpt.GroupBy,
                "summary": htcondor2.QueryOpt.SummaryOnly,
                "clusters": htcondor2.QueryOpt.IncludeClusterAd,
            }[step["option"]]
            ads = schedd.query(
                constraint=step["constraint"], projection=step["projection"], limit=step["limit"], opts=option
            )
        case "epochs":
            ads = schedd.jobEpochHistory(
                constraint=step["constraint"],
                projection=step["projection"],
                match=step["limit"],
                since=step["since"],
                ad_type="EPOCH",
            )
        case "history":
            ads = schedd.history(
                constraint=step["constraint"],
                projection=step["projection"],
                match=step["limit"],
                since=step["since"],
            )
        case other:
            raise ValueError(f"no step is called {other!r}")
    found: list[ClassAd] = ads
    return found


def main(source: TextIO, sink: TextIO) -> int:
    """Read one request, write one answer."""

    def write(line: list[Any]) -> None:
        sink.write(json.dumps(line) + "\n")

    request = json.load(source)
    # The parent kills this process at its deadline. Should the parent be gone, the kernel's alarm ends it: SIGALRM
    # keeps its default action, because a handler in Python would never run while htcondor2 holds the GIL.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(request["deadline_s"]) + 5)
    try:
        answer(request, write)
    except (htcondor2.HTCondorException, _NotInCollector, Busy) as error:
        write(["failed", type(error).__name__, str(error)])
        return 1
    finally:
        sink.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin, sys.stdout))
