"""
One Slurm site whose controller is asked through slurmrestd; its files are reached through a shell.

REST carries no files, and a pilot's token must not travel in the batch script or the environment, so the spool
directories go the way of :class:`factory.sites.slurm.SlurmSite`: by ssh to the login host, or, where the factory's host
and the site share a file system, by a shell of our own in the shared directory. The script in the JSON only starts
``pilot.sh`` there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from factory.sites import reservations, resttexts, scripts, slurm
from factory.sites.contract import (
    CancelOutcome,
    Closure,
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    SiteSight,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
    Uncertain,
)
from factory.sites.meter import CallMeter
from factory.sites.restapi import RestApi, RestSettings, Silence
from factory.sites.resttexts import Queue
from factory.sites.restversions import (
    Dialect,
    Place,
    cancel_body,
    cancel_one_path,
    cancel_path,
    final_paths,
    jobs_path,
    partitions_path,
    reservations_path,
    submit_body,
    submit_path,
)
from factory.sites.shell import Shell
from factory.sites.slurm import SlurmSettings, SlurmSite
from factory.sites.texts import Unreadable
from glidein.model import BatchRecord, BatchState

log = structlog.get_logger()

STUCK_S = 3.0
"""A list that took so long met a controller that was stuck, and with it perhaps a submission from before."""
STUCK_PAUSE_S = 2.0
"""Such a submission takes effect within 1 s of the controller's return (measured), so look again after this."""

FILES_MIN_S = 5.0
"""For the remote command of a look, however long slurmrestd took."""


class SlurmrestdSite(SlurmSite):
    """A Slurm cluster behind slurmrestd; ``shell`` is where its spool directories are."""

    def __init__(
        self,
        settings: SlurmSettings,
        rest: RestSettings,
        shell: Shell,
        *,
        clock: Callable[[], float],
        nonce: Callable[[], str],
        meter: CallMeter | None = None,
    ) -> None:
        super().__init__(settings, shell, clock=clock, nonce=nonce, meter=meter)
        self._api = RestApi(rest, clock=clock, meter=self._meter)
        self.raced = 0
        """Pilots that a cancel of ours hit although they had started meanwhile; only v0.0.38 has no better way."""

    @property
    def api(self) -> RestApi:
        """The REST side."""
        return self._api

    def look(self, known: tuple[KnownPilot, ...], *, now_s: float) -> SiteSight:
        """The queue, accounting for the known pilots, and one remote command for spool directories and end reports."""
        self._api.begin()
        queue = self._queue()
        if isinstance(queue, Unreadable):
            return SiteUnseen(site=self.name, taken_s=now_s, reason=queue.reason)
        ours = tuple(record for record in queue.records if self._is_ours(record.name))
        final = self._final(known, ours, queue)
        closed = self._closed_times(now_s)
        orders = slurm.file_orders(known, policy_file=self._settings.policy_file)
        result, answer = self._run(scripts.LOOK, orders, timeout_s=max(self._api.left_s, FILES_MIN_S))
        problem = slurm.incomplete(result, answer)
        if problem:
            return SiteUnseen(site=self.name, taken_s=now_s, reason=f"spool directories: {problem}")
        return self._sight(answer, live=ours, final=final, closed=closed, now_s=now_s)

    def submit(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> tuple[SubmitOutcome, ...]:
        """
        Upload the spool directories, then submit each; one outcome for each request, in their order.

        Nothing is sent when less than the time of a submission is left until the deadline. What slurmrestd has read by
        then it may still carry out: there is nobody at its end who would look at a clock.
        """
        if not requests:
            return ()
        self._api.begin()
        token, dialect = self._api.token(), self._api.dialect()
        for missing in (token, dialect):
            if isinstance(missing, Unreadable):
                return tuple(NotSent(pilot_id=one.pilot_id, reason=missing.reason) for one in requests)
        assert not isinstance(token, Unreadable)
        assert not isinstance(dialect, Unreadable)
        problem = self._upload(requests, deadline_s=deadline_s)
        places = problem or self._learn_places()
        if isinstance(places, str):
            return tuple(NotSent(pilot_id=one.pilot_id, reason=places) for one in requests)
        outcomes: list[SubmitOutcome] = []
        for request in requests:
            place = replace(places, user=self._api.user(token), spool=places.spool / request.pilot_id)
            outcomes.append(self._submit_one(request, dialect, place, deadline_s=deadline_s))
        return tuple(outcomes)

    def cancel(self, pilots: tuple[KnownPilot, ...]) -> CancelOutcome:
        """
        Cancel those that still wait.

        Since v0.0.40 the controller looks at the state itself. Before, we look and then cancel one by one; a pilot that
        starts in between is hit, counted in :attr:`raced` and said in the log.
        """
        if not pilots:
            return CancelOutcome(site=self.name, sent=())
        self._api.begin()
        token, queue = self._api.token(), self._queue()
        if isinstance(queue, Unreadable) or isinstance(token, Unreadable):
            reason = queue.reason if isinstance(queue, Unreadable) else getattr(token, "reason", "")
            return CancelOutcome(site=self.name, sent=(), problem=f"cancel: {reason}")
        dialect = self._api.dialect()
        if isinstance(dialect, Unreadable):
            return CancelOutcome(site=self.name, sent=(), problem=f"cancel: {dialect.reason}")
        wanted = {pilot.pilot_id: pilot.batch_id for pilot in pilots}
        waiting = {
            record.job_id: record.name
            for record in queue.records
            if record.state is BatchState.PENDING and wanted.get(record.name, "") in (None, record.job_id)
        }
        if dialect.cancels_by_state:
            reached, problem = self._cancel_by_state(dialect, tuple(waiting), user=self._api.user(token))
        else:
            reached, problem = self._cancel_each(dialect, tuple(waiting))
        failed = {name for job_id, name in waiting.items() if job_id not in reached}
        sent = tuple(pilot.pilot_id for pilot in pilots if pilot.pilot_id not in failed)
        return CancelOutcome(site=self.name, sent=sent, problem=problem)

    def _queue(self) -> Queue | Unreadable:
        """What the controller knows of our user's jobs; asked twice when it took suspiciously long."""
        began_s = time.monotonic()
        queue = self._queue_once()
        if not isinstance(queue, Unreadable) and time.monotonic() - began_s >= STUCK_S:
            time.sleep(STUCK_PAUSE_S)
            queue = self._queue_once()
        return queue

    def _queue_once(self) -> Queue | Unreadable:
        token = self._api.token()
        if isinstance(token, Unreadable):
            return token
        dialect = self._api.dialect()
        if isinstance(dialect, Unreadable):
            return dialect
        said = self._api.ask("GET", jobs_path(dialect))
        if isinstance(said, Unreadable):
            return said
        queue = resttexts.parse_queue(said, user=self._api.user(token))
        return Unreadable(reason=self._api.explain(queue.reason)) if isinstance(queue, Unreadable) else queue

    def _final(
        self, known: tuple[KnownPilot, ...], live: tuple[BatchRecord, ...], queue: Queue
    ) -> FinalSeen | FinalUnseen:
        """What accounting says of the known pilots that are not live; one unreadable part makes all of it unseen."""
        still_live = {record.name for record in live if not record.state.is_final}
        gone = [pilot for pilot in known if pilot.pilot_id not in still_live]
        if not gone:
            return FinalSeen(records=())
        token, dialect = self._api.token(), self._api.dialect()
        if isinstance(token, Unreadable):
            return FinalUnseen(reason=token.reason)
        if isinstance(dialect, Unreadable):
            return FinalUnseen(reason=dialect.reason)
        since_s = int(min(pilot.intended_s for pilot in gone)) - slurm.SINCE_SLACK_S
        paths = final_paths(
            dialect,
            ids=[pilot.batch_id for pilot in gone if pilot.batch_id is not None],
            names=[pilot.pilot_id for pilot in gone if pilot.batch_id is None],
            since_s=max(since_s, 0),
        )
        wanted = slurm.not_live(known, live)
        records: list[BatchRecord] = []
        for path in paths:
            said = self._api.ask("GET", path)
            if isinstance(said, Unreadable):
                return FinalUnseen(reason=said.reason)
            read = resttexts.parse_final(said, user=self._api.user(token), exit_codes=dialect.accounts_exit_codes)
            if isinstance(read, Unreadable):
                return FinalUnseen(reason=self._api.explain(read.reason))
            records += (one for one in read if slurm.is_of(one, wanted))
        return FinalSeen(records=tuple(sorted(resttexts.with_codes(tuple(records), queue))))

    def _closed_times(self, now_s: float) -> tuple[Closure, ...] | Unreadable:
        """When reservations close each partition: one request, and another where there are any."""
        token, dialect = self._api.token(), self._api.dialect()
        for missing in (token, dialect):
            if isinstance(missing, Unreadable):
                return missing
        assert not isinstance(token, Unreadable)
        assert not isinstance(dialect, Unreadable)
        said = self._api.ask("GET", reservations_path(dialect))
        found = said if isinstance(said, Unreadable) else resttexts.parse_reservations(said)
        if isinstance(found, Unreadable):
            return found
        if not found:
            return ()
        said = self._api.ask("GET", partitions_path(dialect))
        nodes = said if isinstance(said, Unreadable) else resttexts.parse_partitions(said)
        if isinstance(nodes, Unreadable):
            return nodes
        user = self._api.user(token)
        return reservations.closures(found, nodes, user=user, account=self._settings.account, now_s=now_s)

    def _submit_one(
        self, request: SubmitRequest, dialect: Dialect, place: Place, *, deadline_s: float
    ) -> SubmitOutcome:
        """Send one submission, if there is time for it."""
        left_s = deadline_s - self._clock()
        if left_s < scripts.SBATCH_MIN_S:
            return NotSent(pilot_id=request.pilot_id, reason="the deadline passed before it could be sent")
        self._api.begin(min(left_s, scripts.SBATCH_MAX_S))
        reply = self._api.send("POST", submit_path(dialect), body=submit_body(dialect, request, place))
        if isinstance(reply, Silence):
            made = Uncertain if reply.sent else NotSent
            return made(pilot_id=request.pilot_id, reason=reply.reason)
        outcome = resttexts.parse_submit(request.pilot_id, reply)
        if isinstance(outcome, NotSent | Uncertain):
            return type(outcome)(pilot_id=outcome.pilot_id, reason=self._api.explain(outcome.reason))
        return outcome

    def _cancel_by_state(self, dialect: Dialect, job_ids: tuple[str, ...], *, user: str) -> tuple[tuple[str, ...], str]:
        """One request; the controller takes those of them that wait at that moment."""
        if not job_ids:
            return (), ""
        said = self._api.ask("DELETE", cancel_path(dialect), body=cancel_body(job_ids, user=user))
        if isinstance(said, Unreadable):
            return (), f"cancel: {said.reason}"
        return resttexts.parse_cancel(said, job_ids)

    def _cancel_each(self, dialect: Dialect, job_ids: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        """One request for each, then a look at how many had started meanwhile."""
        reached: list[str] = []
        problems: list[str] = []
        for job_id in job_ids:
            said = self._api.ask("DELETE", cancel_one_path(dialect, job_id))
            if isinstance(said, Unreadable):
                # The others would meet the same fault, each with a deadline of its own.
                problems.append(f"cancel: {said.reason}")
                break
            done, problem = resttexts.parse_cancel(said, (job_id,))
            reached += done
            problems += [problem] if problem else []
        after = self._queue_once() if reached else None
        if isinstance(after, Queue):
            hit = [record.name for record in after.records if record.job_id in reached and record.node]
            self.raced += len(hit)
            if hit:
                log.warning("cancel.hit_started_pilots", site=self.name, pilots=hit, so_far=self.raced)
        return tuple(reached), "; ".join(dict.fromkeys(problems))
