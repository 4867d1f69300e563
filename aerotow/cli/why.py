"""``aerotow why JOB``: where a job is, and if it waits, what it waits for at every site."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click

from accounting.model import PilotRecord
from aerotow.cli.app import App, known
from aerotow.cli.failure import FAILED, PARTLY, USAGE, Failure
from aerotow.cli.freshness import freshness_json, picture_of, warn_when_old
from aerotow.cli.pilots import life_left_s, life_words, node_of, pilot_table
from aerotow.cli.show import ago, clock_time, counted, json_option, memory, plain, print_json, say, span, warn
from aerotow.cli.waiting import cause, headline, site_waits, wait_words
from config.model import Config
from factory.cause import Cause
from factory.explain import Explanation, explain
from factory.matching import match_observation
from factory.model import Reason, Verdict
from factory.picture import Picture
from factory.policy import policy_of
from overlay.job import JobAbsent, JobFound, JobHeldBack, JobSight, JobStatus, JobUnseen
from overlay.model import EpochRecord

_JOB = re.compile(r"^(?:(?P<ap>[^#\s]+)#)?(?P<cluster>\d{1,9})(?:\.(?P<proc>\d{1,9}))?(?:#\d+)?$")
_TAKERS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JobName:
    """A job as somebody typed it; ``ap`` is None when they named none."""

    ap: str | None
    cluster: int
    proc: int

    def at(self, ap: str) -> str:
        """The whole name at an access point."""
        return f"{ap}#{self.cluster}.{self.proc}"


@click.command()
@click.argument("job")
@json_option
@click.pass_context
def why(ctx: click.Context, job: str, as_json: bool) -> None:
    """
    Where a job is, and why it waits.

    JOB is ap1#12.0, or 12.0 where that is the only one.

    \b
    idle       what happens at every site, and which pilots will take such jobs
    running    where, in which pilot, and how long that one lives
    held       the reason
    ended      its attempts, from the usage ledger
    """
    app: App = ctx.obj
    name = parse_job(job, app.config)
    aps = (name.ap,) if name.ap is not None else tuple(sorted(app.config.access_points))
    sights = ask_aps(app, aps, name)
    attempts = app.books.attempts(cluster=name.cluster, proc=name.proc, ap=name.ap)
    sight = choose(name, sights, attempts, app.now_s())
    past = tuple(one for one in attempts if one.ap == sight.ap)
    picture = picture_of(app)
    told = explained(app, sight, picture)
    reason = cause(app, sight, told, picture, app.now_s()) if isinstance(sight, JobFound) else None
    if as_json:
        print_json(_json(app, sight, told, past, picture) | _cause_json(app, told, reason))
    else:
        if reason is not None and isinstance(sight, JobFound):
            say(headline(name.at(sight.ap), sight, reason))
            say()
        Page(app=app, picture=picture, now_s=app.now_s()).print(sight, told, past)
    if isinstance(sight, JobUnseen):
        ctx.exit(PARTLY if past else FAILED)
    if isinstance(sight, JobAbsent) and not past:
        ctx.exit(FAILED)


def parse_job(text: str, config: Config) -> JobName:
    """Read a job's name: AP#CLUSTER.PROC, CLUSTER.PROC, or the GlobalJobId that HTCondor gives it."""
    found = _JOB.match(text)
    if found is None:
        raise Failure(f"'{text}' is no job; write ap1#12.0 or 12.0", exit_code=USAGE)
    ap = found["ap"]
    by_schedd = {one.schedd: name for name, one in config.access_points.items()}
    if ap is not None and ap in by_schedd:
        ap = by_schedd[ap]
    if ap is not None:
        known(ap, config.access_points, what="access point", where="the configuration")
    return JobName(ap=ap, cluster=int(found["cluster"]), proc=int(found["proc"] or 0))


def ask_aps(app: App, aps: tuple[str, ...], name: JobName) -> tuple[JobSight, ...]:
    """Ask access points for the job, side by side; each question has a deadline."""

    def ask(ap: str) -> JobSight:
        return app.find_job(app.config, ap, name.cluster, name.proc, app.now_s())

    with ThreadPoolExecutor(max_workers=len(aps)) as threads:
        return tuple(threads.map(ask, aps))


def choose(name: JobName, sights: tuple[JobSight, ...], attempts: tuple[EpochRecord, ...], now_s: float) -> JobSight:
    """
    The one job that was meant.

    :raises Failure: there are several; the text lists them.
    """
    if name.ap is not None:
        return sights[0]
    ran_at = {one.ap for one in attempts}
    candidates = [sight for sight in sights if isinstance(sight, JobFound | JobHeldBack) or sight.ap in ran_at]
    unseen = [sight for sight in sights if isinstance(sight, JobUnseen)]
    if len(candidates) > 1:
        lines = "\n".join(f"  {name.at(sight.ap)}  {_candidate(sight, attempts, now_s)}" for sight in candidates)
        raise Failure(
            f"{name.cluster}.{name.proc} is the name of {len(candidates)} jobs; give one of these:\n{lines}",
            exit_code=USAGE,
        )
    for sight in unseen:
        warn(f"{sight.ap} could not be asked and may have such a job too: {sight.reason}")
    return (candidates or unseen or list(sights))[0]


def explained(app: App, sight: JobSight, picture: Picture) -> Explanation | None:
    """The verdicts on an idle job; None where there is nothing to explain, or no cycle to explain it from."""
    if not isinstance(sight, JobFound) or sight.bucket is None or picture.last is None or not sight.is_for_pilots:
        return None
    return explain(
        sight.bucket,
        picture.last,
        policy=policy_of(app.config),
        pilots=picture.pilots,
        match=match_observation,
    )


def verdict_words(verdict: Verdict) -> list[str]:
    """What one site means for the job, first what helps it, then what does not."""
    words = []
    if verdict.absorbed_running:
        words.append(f"{counted(verdict.absorbed_running, 'job')} like it for pilots that run there")
    if verdict.absorbed_waiting:
        words.append(f"{counted(verdict.absorbed_waiting, 'job')} like it for pilots that start or wait there")
    if verdict.granted:
        words.append(f"{counted(verdict.granted, 'new pilot')} asked for")
    misfit = next((reason for reason in verdict.reasons if reason.code == "requirements" and reason.failed), None)
    for reason in verdict.reasons:
        # A job that is too large fails a requirement that says the same with both values.
        if reason.code == "absorbed" or (misfit is not None and reason.code == "too_large"):
            continue
        words += misfit_words(reason) if reason is misfit else [f"{reason.text} [{reason.owner}]"]
    if not words:
        words.append("nothing to ask for: such jobs are taken elsewhere")
    return words


def misfit_words(reason: Reason) -> list[str]:
    """One line for each requirement that fails, with its values; the slot's side of what the job asks is left out."""
    told: set[str] = set()
    words = []
    for failed in sorted(reason.failed, key=lambda one: one.owner):
        names = {name for name, _ in failed.values}
        if names and names <= told:
            continue
        told |= names
        whose = "the job requires" if failed.owner == "job" else "the site's pilots require"
        values = " and ".join(f"{name} is {value}" for name, value in failed.values)
        words.append(f"{whose} {failed.text}" + (f", and {values}" if values else ""))
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer on the terminal."""

    app: App
    picture: Picture
    now_s: float

    def print(self, sight: JobSight, told: Explanation | None, past: tuple[EpochRecord, ...]) -> None:
        """The whole answer."""
        match sight:
            case JobFound():
                self._found(sight, told)
            case JobHeldBack():
                say(
                    f"{sight.ap}#{sight.cluster}.{sight.proc}: not made yet. The AP makes the jobs of cluster "
                    f"{sight.cluster} bit by bit (max_materialize or max_idle in the submit file): "
                    f"{sight.next_proc} of {sight.size} so far."
                )
            case JobAbsent():
                self._absent(sight, past)
            case JobUnseen():
                say(f"{sight.ap}#{sight.cluster}.{sight.proc}: {sight.ap} could not be asked: {sight.reason}")
        if past:
            self._attempts(past)

    def _found(self, job: JobFound, told: Explanation | None) -> None:
        """A job that is in its queue."""
        name = f"{job.ap}#{job.cluster}.{job.proc}"
        size = counted(job.cores or 1, "core") + ("" if job.memory_mib is None else f", {memory(job.memory_mib)}")
        project = f", project {job.group}" if job.group else ""
        since = f" since {clock_time(job.since_s, self.now_s)} ({ago(job.since_s, self.now_s)})"
        say(f"{name}: {_status_words(job)}{since}")
        say(
            f"of {job.user}{project}; asks for {size}; attempt {max(1, job.starts)}"
            if job.starts
            else f"of {job.user}{project}; asks for {size}; never started yet"
        )
        if job.last_vacate_reason and job.status is JobStatus.IDLE:
            say(f"its last attempt was given up: {job.last_vacate_reason}")
        match job.status:
            case JobStatus.IDLE:
                self._idle(job, told)
            case JobStatus.RUNNING | JobStatus.TRANSFERRING_OUTPUT | JobStatus.SUSPENDED:
                self._running(job)
            case JobStatus.HELD:
                say(f"hold reason: {job.hold_reason or 'none given'}")
                say(f"mend that, then: condor_release {job.cluster}.{job.proc} (on {job.ap}, as its owner)")
            case JobStatus.REMOVED | JobStatus.COMPLETED:
                say("it is leaving the queue")

    def _idle(self, job: JobFound, told: Explanation | None) -> None:
        """A job that waits."""
        if not job.is_for_pilots:
            say(f"its universe ({job.universe}) runs at {job.ap} itself; no pilot can take it: ask {job.ap}'s operator")
            return
        instance = self.app.config.instance.name
        warn_when_old(self.picture.fresh, instance=instance, now_s=self.now_s)
        if told is None:
            say(f"no cycle of instance {instance} is recorded, so nothing can be said of the sites")
            return
        say()
        say(
            f"by the cycle of {clock_time(told.as_of_s, self.now_s)} ({ago(told.as_of_s, self.now_s)} ago)"
            + (
                f", {counted(told.bucket.jobs, 'idle job')} of this kind:"
                if told.counted
                else ", which did not count this job (it came or changed since);"
            )
        )
        if not told.counted:
            say("the next cycle would decide for it alone:")
        if not told.verdicts:
            say("no site is configured; add a table [sites.NAME] to the file")
        for verdict in told.verdicts:
            words = verdict_words(verdict)
            say(f"  {verdict.site}: {words[0]}")
            for more in words[1:]:
                say(f"  {' ' * len(verdict.site)}  {more}")
        if told.verdicts and told.runs_nowhere:
            say()
            say("No configured site can ever run this job as it is. Ask for less with condor_qedit, or submit it anew.")
        if told.takers:
            say()
            say("pilots there:")
            pilot_table(list(told.takers[:_TAKERS_SHOWN]), self.now_s)
            if len(told.takers) > _TAKERS_SHOWN:
                say(f"and {len(told.takers) - _TAKERS_SHOWN} more ('aerotow pilots' lists all)")
            for wait in site_waits(self.app, told, self.now_s):
                say(wait_words(wait, self.now_s))

    def _running(self, job: JobFound) -> None:
        """A job that runs."""
        pilot = running_pilot(self.app, job)
        if pilot is None:
            say(f"on {job.remote_host or 'an unknown host'}, which is no pilot in the ledger of this instance")
            return
        where = [f"site {pilot.offer.site}", f"pilot {pilot.pilot_id}"]
        where += [f"node {node_of(pilot)}"] if node_of(pilot) else []
        where += [f"Slurm job {pilot.batch_id}"] if pilot.batch_id else []
        say("at " + ", ".join(where))
        left = life_words(pilot, self.now_s)
        say(f"the pilot stops by itself in {left}" if left else "how long the pilot lives is not known yet")

    def _absent(self, job: JobAbsent, past: tuple[EpochRecord, ...]) -> None:
        """A job that is not in the queue."""
        name = f"{job.ap}#{job.cluster}.{job.proc}"
        if not past:
            where = job.ap if len(self.app.config.access_points) == 1 else f"{job.ap} (nor any other AP that was asked)"
            say(f"{name}: not in the queue of {where}, and the usage ledger knows no attempt of it.")
            say("A job that never ran leaves none; one that ended a moment ago is read within the next minutes.")
            return
        last = past[-1]
        say(f"{name}: has left the queue of {job.ap}; {_end_words(last)}")

    def _attempts(self, past: tuple[EpochRecord, ...]) -> None:
        """What the usage ledger knows of it."""
        say()
        say(f"{counted(len(past), 'attempt')} in the usage ledger:")
        for number, one in enumerate(past, start=1):
            say(
                f"  {number}: {clock_time(one.start_s, self.now_s)} to {clock_time(one.end_s, self.now_s)} "
                f"({span(one.end_s - one.start_s)}), {counted(one.cores, 'core')} "
                f"at {one.site or one.remote_host or 'unknown'}"
                + (f", pilot {one.pilot_id}" if one.pilot_id else "")
                + f": {_end_words(one)}"
            )


def running_pilot(app: App, job: JobFound) -> PilotRecord | None:
    """The pilot in which a job runs, if the ledger knows it."""
    return app.ledger.pilot(job.pilot_id) if job.pilot_id else None


def _status_words(job: JobFound) -> str:
    """A status for people."""
    return job.status.name.lower().replace("_", " ")


def _end_words(one: EpochRecord) -> str:
    """How an attempt ended."""
    if one.vacate_code is not None:
        return f"given up and queued again (vacate reason {one.vacate_code})"
    if one.exit_signal:
        return f"killed by signal {one.exit_signal}"
    if one.exit_code is not None:
        return f"ended with exit code {one.exit_code}"
    return "ended without an exit code"


def _candidate(sight: JobSight, attempts: tuple[EpochRecord, ...], now_s: float) -> str:
    """One of several jobs of the same number."""
    match sight:
        case JobFound():
            return f"{_status_words(sight)}, of {sight.user}, queued {ago(sight.queued_s, now_s)} ago"
        case JobHeldBack():
            return "not made yet (late materialisation)"
        case _:
            last = max((one for one in attempts if one.ap == sight.ap), key=lambda one: one.end_s)
            return f"of {last.owner}, last attempt ended {ago(last.end_s, now_s)} ago"


def _json(
    app: App, sight: JobSight, told: Explanation | None, past: tuple[EpochRecord, ...], picture: Picture
) -> dict[str, object]:
    """The answer for scripts."""
    now_s = app.now_s()
    pilot = running_pilot(app, sight) if isinstance(sight, JobFound) else None
    job = plain(sight)
    job.pop("bucket", None)
    return {
        "now_s": int(now_s),
        "factory": freshness_json(picture.fresh),
        "job": job,
        "bucket": None
        if told is None
        else {"key": told.bucket.key, "jobs": told.bucket.jobs, "counted": told.counted, "as_of_s": int(told.as_of_s)},
        "runs_nowhere": None if told is None else told.runs_nowhere,
        "verdicts": None if told is None else plain(told.verdicts),
        "takers": [] if told is None else [_taker(one, now_s) for one in told.takers],
        "pilot": None if pilot is None else _taker(pilot, now_s),
        "attempts": plain(past),
    }


def _cause_json(app: App, told: Explanation | None, reason: Cause | None) -> dict[str, object]:
    """Why it waits, and how long its pilots may still wait, for scripts."""
    return {
        "cause": None if reason is None else plain(reason),
        "expected": [] if told is None else [plain(wait) for wait in site_waits(app, told, app.now_s())],
    }


def _taker(one: PilotRecord, now_s: float) -> dict[str, object]:
    """A pilot in few words for scripts."""
    return {
        "pilot_id": one.pilot_id,
        "site": one.offer.site,
        "phase": one.phase.name.lower(),
        "batch_id": one.batch_id,
        "batch_reason": one.batch_reason,
        "submitted_s": one.submitted_s,
        "node": node_of(one),
        "life_left_s": life_left_s(one, now_s),
    }
