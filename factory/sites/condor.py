"""
A site that runs HTCondor: pilots are vanilla jobs in its schedd, which is reached with a token and nothing else.

A submission has three steps, and a job that did not get through all of them never runs: the job is queued, held by the
schedd until its files arrive; its files are spooled; and only then the path of the bundle is put among its input files,
for which its Requirements ask. The bundle itself lies once in the schedd's spool, as the file of a job that never runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from factory.sites import condortexts, texts
from factory.sites.condortexts import BUNDLE, FORGOTTEN, PILOT, POLICY, REPORT, START, START_SCRIPT
from factory.sites.contract import (
    CancelOutcome,
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    SiteSeen,
    SiteSight,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
)
from factory.sites.meter import CallMeter
from factory.sites.texts import Unreadable
from glidein.model import BatchRecord, EndReport, PilotId
from glidein.siterules import NO_RULES, SiteRules, parse_site_rules
from overlay import remote as schedds
from overlay.client import NoAnswer
from overlay.remote import Ad, Job, Looked, Query, Remote

MACHINE_SIZES = ("TotalSlotCpus", "TotalSlotMemory")
SUBMIT_MIN_S = 3.0
"""With less than this until the deadline no submission is begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CondorSettings:
    """What such a site needs to know of the configuration; times in seconds."""

    site: str
    instance: str
    account: str
    bundle_path: Path
    bundle_sha256: str
    command_timeout_s: float
    transfer_timeout_s: float = 600.0
    """For the bundle, tens of megabytes over a slow line."""


class CondorSite:
    """An HTCondor pool; implements :class:`factory.sites.contract.Site`. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        settings: CondorSettings,
        remote: Remote,
        *,
        clock: Callable[[], float],
        meter: CallMeter | None = None,
    ) -> None:
        self._meter = CallMeter() if meter is None else meter
        self._settings = settings
        self._remote = remote
        self._clock = clock
        self._rules: SiteRules | None = None
        """As the schedd's ad last said; its collector may be gone while the schedd works on."""
        self._bundle_dir: str | None = None
        """Where the schedd keeps the bundle, as the last look or upload told."""
        self._stale: tuple[str, ...] = ()
        """ClusterIds of bundles that no pilot waits for any more."""

    @property
    def name(self) -> str:
        """The site's name in the configuration."""
        return self._settings.site

    @property
    def meter(self) -> CallMeter:
        """What the site is asked; one process at its schedd is one call."""
        return self._meter

    def look(self, known: tuple[KnownPilot, ...], *, now_s: float) -> SiteSight:
        """Jobs, final records of the known pilots that are not live, and end reports: one process, four requests."""
        began_s = self._clock()
        too_much = self._admit("condor_status", "condor_q", *(["condor_history"] if known else []))
        if too_much:
            return SiteUnseen(site=self.name, taken_s=now_s, reason=too_much)
        looked = schedds.look(
            self._remote,
            Query(
                constraint=self._ours(),
                projection=condortexts.PROJECTION,
                attribute=PILOT,
                names=tuple(pilot.pilot_id for pilot in known),
                ad_projection=(POLICY,),
            ),
            timeout_s=self._settings.command_timeout_s,
            now_s=began_s,
        )
        if isinstance(looked, NoAnswer):
            return SiteUnseen(site=self.name, taken_s=now_s, reason=looked.reason)
        odd = self._oddity(looked.jobs)
        if odd:
            return SiteUnseen(site=self.name, taken_s=now_s, cause="garbled", reason=f"the schedd answers with {odd}")
        if looked.schedd is not None:
            self._rules = read_rules(looked.schedd, schedd=self._remote.schedd)
        if self._rules is None:
            return SiteUnseen(site=self.name, taken_s=now_s, reason="its collector does not tell the admin's rules")
        sha256 = self._settings.bundle_sha256
        found = bundle_dir(looked.jobs, sha256=sha256)
        # One that we have just put is held for a moment more.
        arriving = any(ad.get(BUNDLE) == sha256 for ad in looked.jobs)
        self._bundle_dir = found or (self._bundle_dir if arriving else None)
        self._stale = stale_bundles(looked.jobs, sha256=self._settings.bundle_sha256)
        offset_s = 0.0 if looked.clock_s is None else looked.clock_s - self._clock()
        return self._sight(looked, self._rules, known, now_s=now_s, offset_s=offset_s)

    def prepare(self) -> str:
        """Put the bundle into the schedd's spool if it is not there; the problem, or empty."""
        if self._bundle_dir is not None:
            return self._remove_stale()
        too_much = self._admit("condor_status", "condor_q") or self._admit("condor_submit")
        if too_much:
            return f"bundle: {too_much}"
        sha256 = self._settings.bundle_sha256
        directory = self._fresh_directory("bundle")
        try:
            (directory / condortexts.bundle_file(sha256)).symlink_to(self._settings.bundle_path)
            found = self._bundle_there()
            if found is None:
                found = schedds.put(
                    self._remote,
                    condortexts.bundle_description(
                        sha256=sha256, directory=directory, account=self._settings.account, common=self._common()
                    ),
                    timeout_s=self._settings.transfer_timeout_s,
                    now_s=self._clock(),
                )
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if isinstance(found, NoAnswer):
            return f"bundle: {found.reason}"
        self._bundle_dir = found
        return ""

    def _remove_stale(self) -> str:
        """Take bundles of former days out of the schedd's spool; that it fails keeps nobody from submitting."""
        if self._stale and not self._admit("condor_rm"):
            clusters = " || ".join(f"ClusterId == {cluster}" for cluster in self._stale)
            schedds.remove(
                self._remote,
                constraint=f"{self._ours()} && {BUNDLE} isnt undefined && ({clusters})",
                why="aerotow: another bundle is in use",
                timeout_s=self._settings.command_timeout_s,
                now_s=self._clock(),
            )
            self._stale = ()
        return ""

    def submit(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> tuple[SubmitOutcome, ...]:
        """
        Queue each, spool its files, then let all go; one outcome for each request, in their order.

        What is queued is there under its name. A job that arrives after the deadline is one whose submitter is gone:
        nobody spools its files, so it stays held until it removes itself.
        """
        if not requests:
            return ()
        problem = self.prepare()
        left_s = deadline_s - self._clock()
        if not problem and left_s < SUBMIT_MIN_S:
            problem = "the deadline had passed"
        problem = problem or self._admit("condor_submit")
        if problem:
            return tuple(NotSent(pilot_id=request.pilot_id, reason=problem) for request in requests)
        directory = self._fresh_directory("pilots")
        try:
            jobs = [self._job(request, directory / request.pilot_id, deadline_s=deadline_s) for request in requests]
            told = schedds.submit(
                self._remote,
                jobs,
                constraint=self._ours(),
                attribute=PILOT,
                stop_at_s=deadline_s - SUBMIT_MIN_S,
                timeout_s=left_s,
                now_s=self._clock(),
            )
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return tuple(
            condortexts.outcome(request.pilot_id, told.words.get(request.pilot_id, ()), problem=told.problem)
            for request in requests
        )

    def cancel(self, pilots: tuple[KnownPilot, ...]) -> CancelOutcome:
        """Remove those that are idle or held when the schedd looks at them: it filters itself, so there is no race."""
        if not pilots:
            return CancelOutcome(site=self.name, sent=())
        too_much = self._admit("condor_rm")
        if too_much:
            return CancelOutcome(site=self.name, sent=(), problem=too_much)
        names = tuple(pilot.pilot_id for pilot in pilots)
        failed = schedds.remove(
            self._remote,
            constraint=f"{self._ours()} && (JobStatus == 1 || JobStatus == 5) && {condortexts.named(names)}",
            why="aerotow: no idle job needs this pilot",
            timeout_s=self._settings.command_timeout_s,
            now_s=self._clock(),
        )
        if failed is not None:
            return CancelOutcome(site=self.name, sent=(), problem=f"condor_rm: {failed.reason}")
        return CancelOutcome(site=self.name, sent=names)

    def forget(self, pilots: tuple[PilotId, ...]) -> str:
        """Let ended pilots leave the queue, with their directories in the spool; the problem, or empty."""
        foreign = [pilot_id for pilot_id in pilots if not self._is_ours(pilot_id)]
        if foreign:
            return f"no pilots of {self._settings.instance} at {self.name}: {', '.join(foreign)}"
        if not pilots:
            return ""
        too_much = self._admit("condor_qedit")
        if too_much:
            return too_much
        failed = schedds.edit(
            self._remote,
            constraint=f"{self._ours()} && {condortexts.named(pilots)}",
            attribute=FORGOTTEN,
            value="true",
            timeout_s=self._settings.command_timeout_s,
            now_s=self._clock(),
        )
        return "" if failed is None else failed.reason

    def machines(self) -> tuple[tuple[int, int], ...] | str:
        """Cores and MiB of memory of each of the site's machines, or the problem; for a check."""
        too_much = self._admit("condor_status")
        if too_much:
            return too_much
        found = schedds.machines(
            self._remote,
            projection=MACHINE_SIZES,
            timeout_s=self._settings.command_timeout_s,
            now_s=self._clock(),
        )
        if isinstance(found, NoAnswer):
            return found.reason
        sizes = ((condortexts.count_of(ad, name) or 0 for name in MACHINE_SIZES) for ad in found)
        return tuple((cores, memory_mib) for cores, memory_mib in sizes)

    def leave(self) -> str:
        """Take everything of this instance out of the queue, the bundle too: for a check that is over."""
        too_much = self._admit("condor_rm")
        if too_much:
            return too_much
        failed = schedds.remove(
            self._remote,
            constraint=self._ours(),
            why="aerotow: the check is over",
            timeout_s=self._settings.command_timeout_s,
            now_s=self._clock(),
        )
        return "" if failed is None else failed.reason

    def close(self) -> None:
        """Nothing is kept open between requests."""

    def _sight(
        self, looked: Looked, rules: SiteRules, known: tuple[KnownPilot, ...], *, now_s: float, offset_s: float
    ) -> SiteSight:
        mine = [ad for ad in looked.jobs if self._is_ours(str(ad.get(PILOT, "")))]
        ended = [ad for ad in mine if ad.get("JobStatus") == 4]
        wanted = {pilot.pilot_id: pilot.batch_id for pilot in known}
        no_past = looked.past_problem or self._oddity(looked.past)
        past = () if no_past else looked.past
        reports, unreadable = read_reports([*mine, *past], wanted=set(wanted))
        live = [condortexts.live_record(ad) for ad in mine if ad.get("JobStatus") != 4]
        if no_past:
            # The queue itself says of these that they ended, whatever becomes of the history.
            live += _finals(ended, wanted)
        return SiteSeen(
            site=self.name,
            taken_s=now_s,
            live=tuple(sorted(live)),
            final=FinalUnseen(reason=f"history: {no_past}")
            if no_past
            else FinalSeen(records=_finals([*ended, *past], wanted)),
            reports=reports,
            unreadable_reports=unreadable,
            spools=tuple(sorted(str(ad[PILOT]) for ad in mine if ad.get(FORGOTTEN) is not True)),
            clock_offset_s=offset_s,
            calls_last_minute=self._meter.calls().last_minute,
            rules=rules,
        )

    def _job(self, request: SubmitRequest, directory: Path, *, deadline_s: float) -> Job:
        """Lay out a pilot's files, the token among them, for the moment that it takes to send them."""
        assert self._is_ours(request.pilot_id), request.pilot_id
        directory.mkdir(mode=0o700)
        for name, content in ((START, START_SCRIPT.encode()), *request.files):
            path = directory / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            if name.endswith(".sh"):
                path.chmod(0o700)
        files = [name for name, _ in request.files]
        sha256 = self._settings.bundle_sha256
        return Job(
            name=request.pilot_id,
            description=condortexts.pilot_description(
                request.pilot_id,
                request.offer,
                directory=directory,
                files=files,
                deadline_s=int(deadline_s),
                common=self._common(),
            ),
            inputs=",".join([*files, f"{self._bundle_dir}/{condortexts.bundle_file(sha256)}"]),
        )

    def _bundle_there(self) -> str | NoAnswer | None:
        """Where the bundle lies; None if it does not."""
        looked = schedds.look(
            self._remote,
            Query(
                constraint=f"{self._ours()} && {BUNDLE} isnt undefined",
                projection=condortexts.PROJECTION,
                attribute=PILOT,
            ),
            timeout_s=self._settings.command_timeout_s,
            now_s=self._clock(),
        )
        if isinstance(looked, NoAnswer):
            return looked
        odd = self._oddity(looked.jobs)
        if odd:
            return NoAnswer(reason=f"the schedd answers with {odd}")
        return bundle_dir(looked.jobs, sha256=self._settings.bundle_sha256)

    def _admit(self, *commands: str) -> str:
        """Count one call, by what it does in the words of HTCondor's commands; or why it must not be made."""
        too_much = self._meter.admit()
        if not too_much:
            self._meter.note(commands)
        return too_much

    def _fresh_directory(self, name: str) -> Path:
        """An empty directory of ours alone; what a killed process left there goes."""
        directory = self._remote.work_dir / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)
        return directory

    def _common(self) -> dict[str, str]:
        settings = self._settings
        return {"instance": settings.instance, "site": settings.site, "sha256": settings.bundle_sha256}

    def _ours(self) -> str:
        token = schedds.read_token(self._remote.token_file, now_s=0)
        user = token.subject if not isinstance(token, NoAnswer) and token.idtoken and "@" in token.subject else ""
        return condortexts.ours(self._settings.instance, self.name, user=user)

    def _oddity(self, ads: tuple[Ad, ...]) -> str:
        """Why these cannot be the jobs that were asked for, or empty."""
        told = (condortexts.oddity(ad, instance=self._settings.instance, site=self.name) for ad in ads)
        return next(filter(None, told), "")

    def _is_ours(self, name: str) -> bool:
        return texts.ours(name, instance=self._settings.instance, site=self.name)


def bundle_dir(jobs: tuple[Ad, ...], *, sha256: str) -> str | None:
    """Where the schedd keeps the bundle: the directory of a job that has it as a whole."""
    for ad in jobs:
        place = ad.get("Iwd")
        # For a moment after its files have arrived it is still held.
        arrived = ad.get("JobStatus") == 1 or "StageInFinish" in ad
        if ad.get(BUNDLE) == sha256 and arrived and isinstance(place, str):
            return place
    return None


def stale_bundles(jobs: tuple[Ad, ...], *, sha256: str) -> tuple[str, ...]:
    """ClusterIds of other bundles whose directory no job of ours names among its input files."""
    wanted = " ".join(str(ad.get("TransferInput", "")) for ad in jobs if PILOT in ad)
    return tuple(
        str(ad["ClusterId"])
        for ad in jobs
        if ad.get(BUNDLE, sha256) != sha256 and "ClusterId" in ad and f"{ad.get('Iwd')}/" not in wanted
    )


def read_rules(ad: Ad, *, schedd: str) -> SiteRules:
    """What the site's admin has put into the schedd's ad: the lines of the file, with ; where a line ends."""
    words = ad.get(POLICY)
    if words is None:
        return NO_RULES
    file = f"{POLICY} of {schedd}"
    if not isinstance(words, str):
        return SiteRules(file=file, problem="it is no string")
    # An ad comes as a whole, so its last line needs no end to show that.
    return parse_site_rules(f"{words.replace(';', chr(10))}\n".encode(errors="replace"), file=file)


def read_reports(ads: list[Ad], *, wanted: set[PilotId]) -> tuple[tuple[EndReport, ...], tuple[PilotId, ...]]:
    """End reports of the wanted pilots, and the pilots whose report cannot be read."""
    reports: list[EndReport] = []
    unreadable: list[PilotId] = []
    for ad in ads:
        name, text = str(ad.get(PILOT, "")), ad.get(REPORT)
        if name not in wanted or text is None:
            continue
        read = texts.parse_report(name, text) if isinstance(text, str) else Unreadable(reason="no text")
        if isinstance(read, Unreadable):
            unreadable.append(name)
        else:
            reports.append(read)
    return tuple(sorted(set(reports))), tuple(sorted(set(unreadable)))


def _finals(ads: list[Ad], wanted: dict[PilotId, str | None]) -> tuple[BatchRecord, ...]:
    """Final records of the wanted pilots; a job of another id has only the name in common."""
    records = {condortexts.final_record(ad) for ad in ads if ad.get(PILOT) in wanted}
    return tuple(sorted(record for record in records if wanted[record.name] in (None, record.job_id)))
