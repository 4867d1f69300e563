"""
One Slurm site on this very machine, whose daemons are asked by pyslurm: a library where others run commands.

Everything but the queue, accounting, submitting and cancelling is :class:`factory.sites.slurm.SlurmSite` with a shell
of our own. pyslurm is imported in a process for each request (:mod:`factory.sites.pyslurmworker`), never here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from factory.sites import pyslurmtexts, scripts, slurm
from factory.sites.contract import (
    CancelOutcome,
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    SiteSight,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
)
from factory.sites.exchange import Exchange, exchange
from factory.sites.meter import CallMeter
from factory.sites.pyslurmtexts import Told
from factory.sites.shell import Shell
from factory.sites.slurm import SlurmSettings, SlurmSite
from factory.sites.texts import Unreadable
from glidein.model import BatchRecord, BatchState

log = structlog.get_logger()

GRACE_S = 2.0
"""The process ends itself at its deadline; after this much more it is killed."""
LIMIT_BYTES = 16 * 1024 * 1024


def worker_command(*, home: Path | None = None) -> tuple[str, ...]:
    """The process that has pyslurm, with our packages on its path and nothing of the current directory."""
    inherited = os.environ.get("PYTHONPATH")
    packages = str(pyslurmtexts.packages_dir())
    path = f"{packages}{os.pathsep}{inherited}" if inherited else packages
    where = ("env", f"PYTHONPATH={path}", *(() if home is None else (f"HOME={home}",)))
    return (*where, sys.executable, "-P", "-m", "factory.sites.pyslurmworker")


class PyslurmSite(SlurmSite):
    """A Slurm cluster through libslurm; ``command`` is the process that has pyslurm."""

    def __init__(
        self,
        settings: SlurmSettings,
        shell: Shell,
        *,
        command: tuple[str, ...],
        clock: Callable[[], float],
        nonce: Callable[[], str],
        meter: CallMeter | None = None,
    ) -> None:
        super().__init__(settings, shell, clock=clock, nonce=nonce, meter=meter)
        self._command = command
        self.raced = 0
        """Pilots that a cancel of ours hit although they had started meanwhile; pyslurm has no better way."""

    def look(self, known: tuple[KnownPilot, ...], *, now_s: float) -> SiteSight:
        """The queue and accounting by one process, and one command for spools, reports and reservations."""
        timeout_s = self._settings.command_timeout_s
        told = self._ask(
            pyslurmtexts.look_request(known, now_s=now_s, slack_s=slurm.SINCE_SLACK_S, timeout_s=timeout_s),
            timeout_s=timeout_s,
            commands=("squeue", "sacct") if known else ("squeue",),
        )
        live = pyslurmtexts.live_records(told)
        if isinstance(live, Unreadable):
            return SiteUnseen(site=self.name, taken_s=now_s, reason=live.reason)
        ours = tuple(sorted(record for record in live if self._is_ours(record.name)))
        orders = b"reservations\n" + slurm.file_orders(known, policy_file=self._settings.policy_file)
        result, answer = self._run(scripts.LOOK, orders)
        problem = slurm.incomplete(result, answer)
        if problem:
            return SiteUnseen(site=self.name, taken_s=now_s, reason=f"spool directories: {problem}")
        closed = slurm.closed_times(answer, account=self._settings.account, now_s=now_s)
        return self._sight(answer, live=ours, final=_final(told, known, ours), closed=closed, now_s=now_s)

    def submit(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> tuple[SubmitOutcome, ...]:
        """
        Upload the spool directories, then submit each by one process; one outcome for each request, in their order.

        The process looks at the clock before each, and is ended when one of them takes too long.
        """
        if not requests:
            return ()
        problem = self._upload(requests, deadline_s=deadline_s)
        places = problem or self._learn_places()
        if isinstance(places, str):
            return tuple(NotSent(pilot_id=one.pilot_id, reason=places) for one in requests)
        told = self._ask(
            pyslurmtexts.submit_request(requests, places, limit_s=deadline_s),
            timeout_s=max(deadline_s - self._clock(), 1.0),
            commands=("sbatch",) * len(requests),
        )
        return tuple(pyslurmtexts.submit_outcome(one.pilot_id, told) for one in requests)

    def cancel(self, pilots: tuple[KnownPilot, ...]) -> CancelOutcome:
        """
        Cancel those that wait: look, cancel each, look again.

        One that starts in between is hit; it is counted in :attr:`raced` and said in the log.
        """
        if not pilots:
            return CancelOutcome(site=self.name, sent=())
        timeout_s = self._settings.command_timeout_s
        told = self._ask(
            pyslurmtexts.cancel_request(pilots, timeout_s=timeout_s), timeout_s=timeout_s, commands=("squeue", "squeue")
        )
        asked = pyslurmtexts.asked_to_end(told)
        self._meter.note(("scancel",) * len(asked))
        after = pyslurmtexts.live_records(told)
        if isinstance(after, Unreadable):
            sent = {name for name, words in asked.values() if not words}
            return CancelOutcome(
                site=self.name,
                sent=tuple(one.pilot_id for one in pilots if one.pilot_id in sent),
                problem=f"cancel: {after.reason}",
            )
        self._count_races(tuple(record for record in after if record.job_id in asked and record.node))
        still = {record.job_id for record in after if record.job_id in asked and record.state is BatchState.PENDING}
        failed = {asked[job_id][0] for job_id in still}
        words = sorted({asked[job_id][1] or "it still waits" for job_id in still})
        sent_to = tuple(pilot.pilot_id for pilot in pilots if pilot.pilot_id not in failed)
        return CancelOutcome(site=self.name, sent=sent_to, problem="; ".join(f"cancel: {word}" for word in words))

    def _count_races(self, hit: tuple[BatchRecord, ...]) -> None:
        self.raced += len(hit)
        if hit:
            names = [record.name for record in hit]
            log.warning("cancel.hit_started_pilots", site=self.name, pilots=names, so_far=self.raced)

    def _ask(self, request: bytes, *, timeout_s: float, commands: tuple[str, ...]) -> Told:
        """One process, if the site's calls per minute allow it."""
        too_much = self._meter.admit()
        if too_much:
            return Told(lines=(), problem=too_much, dead=True)
        self._meter.note(commands)
        answer: Exchange = exchange(
            list(self._command), data=request, timeout_s=timeout_s + GRACE_S, limit_bytes=LIMIT_BYTES
        )
        return pyslurmtexts.read(answer)


def _final(told: Told, known: tuple[KnownPilot, ...], live: tuple[BatchRecord, ...]) -> FinalSeen | FinalUnseen:
    """What accounting says of the known pilots that are not live."""
    records = pyslurmtexts.final_records(told)
    if isinstance(records, Unreadable):
        return FinalUnseen(reason=records.reason)
    wanted = slurm.not_live(known, live)
    return FinalSeen(records=tuple(sorted(record for record in records if slurm.is_of(record, wanted))))
