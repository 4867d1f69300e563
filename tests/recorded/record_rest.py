"""
Record what the slurmrestds of the test-bed really answer: ``rest-VERSION-CASE.txt``, one file for each case.

Each file names version, request, status and content type in its first lines, then holds the body; JSON without the
white space that Slurm puts into it. Part of `make record`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from factory.sites import restversions
from factory.sites.contract import SubmitRequest
from factory.sites.resthttp import Method, Reply, Request, Server, call
from factory.sites.restversions import DIALECTS, Dialect, Place
from glidein.model import Offer, Shape
from testbed import bed, containers, model, site

HERE = Path(__file__).parent
USER = model.OTHER_USER
PLACE = Place(user=USER, home=PurePosixPath("/tmp"), spool=PurePosixPath("/tmp"))


@dataclass
class RestRecorder:
    """One site's slurmrestd, in the newest version that we speak."""

    row: model.SlurmSite
    server: Server
    dialect: Dialect
    token: str
    version: str

    def record(self, case: str, method: Method, path: str, body: bytes | None = None, token: str | None = None) -> str:
        """Ask, and write down the answer; its text."""
        headers = [("X-SLURM-USER-NAME", USER)]
        headers += [("X-SLURM-USER-TOKEN", self.token if token is None else token)] if token != "" else []
        headers += [("Content-Type", "application/json")] if body is not None else []
        asked = Request(method=method, path=path, headers=tuple(headers), body=body)
        reply = call(self.server, asked, timeout_s=30)
        assert isinstance(reply, Reply), reply
        text = reply.body.decode()
        with contextlib.suppress(ValueError):
            text = json.dumps(json.loads(text), separators=(",", ":"))
        head = f"# Slurm {self.version}, API {self.dialect.version}\n# {method} {path}\n"
        head += f"# status {reply.status}\n# type {reply.content_type}\n"
        (HERE / f"rest-{self.version}-{case}.txt").write_text(head + text + "\n")
        print(f"{self.row.name}: rest-{case}: HTTP {reply.status}, {len(text)} characters", flush=True)
        return text

    def submission(self, n: int, script: str, **changes: object) -> bytes:
        """A job as we submit it, with a script of its own."""
        shape = Shape(cores=1, memory_mib=100, disk_mib=1, walltime_s=600)
        offer = Offer(site=self.row.name, shape=shape, account="local", partition=self.row.partition)
        request = SubmitRequest(pilot_id=f"rec-{self.row.name}-00000002-{n}", offer=offer, files=())
        body = json.loads(restversions.submit_body(self.dialect, request, PLACE))
        (body["job"] if self.dialect.script_inside else body)["script"] = f"#!/bin/sh\n{script}\n"
        body["job"] |= {"standard_output": "/dev/null"} | changes
        return json.dumps(body).encode()

    def submit(self, n: int, script: str, **changes: object) -> str:
        """Submit without a record; the job's id."""
        path = restversions.submit_path(self.dialect)
        headers = (
            ("X-SLURM-USER-NAME", USER),
            ("X-SLURM-USER-TOKEN", self.token),
            ("Content-Type", "application/json"),
        )
        asked = Request(method="POST", path=path, headers=headers, body=self.submission(n, script, **changes))
        reply = call(self.server, asked, timeout_s=30)
        assert isinstance(reply, Reply), reply
        return str(json.loads(reply.body)["job_id"])


def record_jobs(to: RestRecorder) -> None:
    """Queue and accounting with jobs in every state that is quick to reach."""
    dialect, queue = to.dialect, restversions.jobs_path(to.dialect)
    runs = to.submit(0, "sleep 60")
    fails, killed = to.submit(1, "exit 7"), to.submit(2, "kill -9 $$")
    waits, leaves = (to.submit(n, "true", time_limit=43200) for n in (3, 4))
    time.sleep(3)
    if dialect.cancels_by_state:
        wanted = restversions.cancel_body((runs, leaves, "999999"), user=USER)
        to.record("cancel", "DELETE", restversions.cancel_path(dialect), wanted)
    else:
        to.record("cancel", "DELETE", restversions.cancel_one_path(dialect, leaves))
    to.record("cancel-unknown", "DELETE", restversions.cancel_one_path(dialect, "999999"))
    to.record("cancel-ended", "DELETE", restversions.cancel_one_path(dialect, fails))
    to.record("queue", "GET", queue)
    # 22.05 brings new jobs into accounting after 5 s.
    time.sleep(8)
    ids = (runs, fails, killed, waits, leaves)
    to.record("final", "GET", restversions.final_paths(dialect, ids=ids, names=(), since_s=0)[0])
    names = tuple(f"rec-{to.row.name}-00000002-{n}" for n in (1, 9))
    since_s = int(time.time()) - 900
    to.record("final-names", "GET", restversions.final_paths(dialect, ids=(), names=names, since_s=since_s)[0])
    to.record("final-unknown", "GET", restversions.final_paths(dialect, ids=("999999",), names=(), since_s=0)[0])
    for one in (runs, waits):
        to.record("cancel-one", "DELETE", restversions.cancel_one_path(dialect, one))


def record_refusals(to: RestRecorder) -> None:
    """What a submission may be answered."""
    path = restversions.submit_path(to.dialect)
    to.record("submit-accepted", "POST", path, to.submission(20, "true"))
    to.record("submit-waits", "POST", path, to.submission(26, "true", time_limit=43200))
    to.record("submit-bad-partition", "POST", path, to.submission(21, "true", partition="nosuch"))
    to.record("submit-bad-account", "POST", path, to.submission(22, "true", account="nosuch"))
    to.record("submit-bad-qos", "POST", path, to.submission(23, "true", qos="nosuch"))
    to.record("submit-too-much-memory", "POST", path, to.submission(24, "true", memory_per_node=9999999))
    to.record("submit-bad-json", "POST", path, b'{"job":')
    to.record("no-such-version", "GET", "/slurm/v0.0.99/jobs")
    for case, token in (("no-token", ""), ("bad-token", "a.b.c")):
        to.record(f"queue-{case}", "GET", restversions.jobs_path(to.dialect), token=token)
        final = restversions.final_paths(to.dialect, ids=("1",), names=(), since_s=0)[0]
        to.record(f"final-{case}", "GET", final, token=token)
        to.record(f"submit-{case}", "POST", path, to.submission(25, "true"), token=token)


def record_outages(to: RestRecorder) -> None:
    """The same while a daemon is stuck or down; all run again afterwards."""
    name, host = to.row.name, site.login_host(to.row.name)
    queue, submit = restversions.jobs_path(to.dialect), restversions.submit_path(to.dialect)
    final = restversions.final_paths(to.dialect, ids=("1",), names=(), since_s=0)[0]
    outages: list[tuple[Callable[[], None], str, tuple[str, ...]]] = [
        (lambda: site.signal_daemon(name, "slurmctld", "STOP"), "controller-stuck", ("queue", "submit")),
        (lambda: site.stop_daemon(name, "slurmctld"), "controller-dead", ("queue", "submit", "cancel")),
        (lambda: site.stop_daemon(name, "slurmdbd"), "dbd-dead", ("final",)),
    ]
    try:
        for break_it, case, what in outages:
            break_it()
            for one in what:
                match one:
                    case "queue":
                        to.record(f"queue-{case}", "GET", queue)
                    case "submit":
                        to.record(f"submit-{case}", "POST", submit, to.submission(30, "true"))
                    case "cancel":
                        to.record(f"cancel-{case}", "DELETE", restversions.cancel_one_path(to.dialect, "1"))
                    case _:
                        to.record(f"final-{case}", "GET", final)
            containers.heal(host)
    finally:
        containers.heal(host)


def record_site(row: model.SlurmSite) -> None:
    """All cases of one site."""
    version = containers.execute(site.login_host(row.name), ["squeue", "--version"]).split()[-1]
    for old in HERE.glob(f"rest-{row.slurm_series}.*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as directory:
        authority = Path(directory) / "ca.pem"
        authority.write_bytes(site.rest_authority(row.name))
        server = Server.at(site.rest_address(row.name), authority=authority, limit_bytes=64 << 20)
        token = site.rest_token(row.name, user=USER)
        headers = (("X-SLURM-USER-NAME", USER), ("X-SLURM-USER-TOKEN", token))
        for dialect in DIALECTS:
            asked = Request(method="GET", path=restversions.ping_path(dialect), headers=headers)
            reply = call(server, asked, timeout_s=30)
            if isinstance(reply, Reply) and reply.status == 200:
                break
        to = RestRecorder(row=row, server=server, dialect=dialect, token=token, version=version)
        record_jobs(to)
        record_refusals(to)
        record_outages(to)


def main() -> None:
    """Every site, or those that are named, one after the other."""
    bed.up(lambda text: print(f"  {text}", file=sys.stderr))
    for row in model.SITES:
        if not sys.argv[1:] or row.name in sys.argv[1:]:
            record_site(row)


if __name__ == "__main__":
    main()
