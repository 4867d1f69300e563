"""
One Slurm site behind a shell: looks, submits, cancels and cleans up, each with a fixed number of remote commands.

Knows nothing of transport (:mod:`factory.sites.shell`) and nothing of texts (:mod:`factory.sites.texts`).
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import assert_never

from config.names import PILOT_ID
from factory.sites import reservations, scripts, texts
from factory.sites.contract import (
    CancelOutcome,
    Closure,
    FinalSeen,
    FinalUnseen,
    KnownPilot,
    NotSent,
    SiteSeen,
    SiteSight,
    SiteUnseen,
    SubmitOutcome,
    SubmitRequest,
    Uncertain,
)
from factory.sites.meter import NOT_ASKED, CallMeter
from factory.sites.restversions import Place
from factory.sites.scripts import Answer
from factory.sites.shell import Outcome, Script, Shell, ShellResult
from factory.sites.texts import Unreadable
from glidein.model import BatchRecord, EndReport, PilotId

BUNDLES_DIR = ".aerotow/bundles"
"""Below the home of the site's account; a bundle there is named by its sha256."""
LIST_MAX_CHARACTERS = 60_000
"""Of job ids or names in one sacct; Linux takes 131,072 bytes in one argument."""
SINCE_SLACK_S = 900
"""sacct is asked for names from this long before the oldest intent: clocks differ."""
CLOCK_TOLERANCE_S = 60
DEADLINE_SLACK_S = 2.0
SCHEDULER_COMMANDS = frozenset({"squeue", "sacct", "sbatch", "scancel"})
_FILE_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")
_BATCH_ID = re.compile(r"^[0-9]{1,12}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """What a site needs to know of the configuration; times in seconds."""

    site: str
    instance: str
    bundle_path: Path
    bundle_sha256: str
    command_timeout_s: float
    account: str = ""
    """The pilots' account, to know which reservations are open to them."""
    policy_file: str = "~/.aerotow/site-policy.conf"
    """The file of the site's admin, an absolute path or one below the account's home."""
    transfer_timeout_s: float = 600.0
    """For the bundle, tens of megabytes over a slow line."""


def bundle_name(sha256: str) -> str:
    """Where the bundle lies at a site, below the home directory."""
    return f"{BUNDLES_DIR}/{sha256}.tar.gz"


class SlurmSite:
    """A Slurm cluster; implements :class:`factory.sites.contract.Site`. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        settings: SlurmSettings,
        shell: Shell,
        *,
        clock: Callable[[], float],
        nonce: Callable[[], str],
        meter: CallMeter | None = None,
    ) -> None:
        self._settings = settings
        self._meter = CallMeter() if meter is None else meter
        self._shell = shell
        self._clock = clock
        self._nonce = nonce
        self._offset_s = 0.0
        """The site's clock minus ours, at the least; see :meth:`_run`."""
        self._bundle_there: int | None = None
        """The connection on which the bundle was found or put."""
        self._places: dict[int, Place] = {}
        """What the account's directories are called at the site, by the connection on which that was learnt."""

    @property
    def name(self) -> str:
        """The site's name in the configuration."""
        return self._settings.site

    @property
    def meter(self) -> CallMeter:
        """What the site is asked."""
        return self._meter

    def look(self, known: tuple[KnownPilot, ...], *, now_s: float) -> SiteSight:
        """Live jobs, final records of the known pilots that are not live, and end reports: one remote command."""
        nonce = self._nonce()
        result, answer = self._run(
            scripts.LOOK, look_orders(known, now_s=now_s, policy_file=self._settings.policy_file), nonce=nonce
        )
        problem = incomplete(result, answer)
        if problem:
            return SiteUnseen(site=self.name, taken_s=now_s, reason=problem)
        queue = answer.section("squeue")
        if queue is None:
            return SiteUnseen(site=self.name, taken_s=now_s, reason="a part of the answer is missing")
        live = texts.parse_squeue(queue.stdout, queue.stderr, queue.status, nonce=nonce)
        if isinstance(live, Unreadable):
            return SiteUnseen(site=self.name, taken_s=now_s, reason=live.reason)
        ours = tuple(sorted(record for record in live if self._is_ours(record.name)))
        final = final_records(answer, known, ours)
        closed = closed_times(answer, account=self._settings.account, now_s=now_s)
        return self._sight(answer, live=ours, final=final, closed=closed, now_s=now_s)

    def prepare(self) -> str:
        """Put the bundle at the site if it is not there with the right sha256; the problem, or empty."""
        if self._bundle_there is not None and self._bundle_there == self._shell.connection:
            return ""
        sha256 = self._settings.bundle_sha256
        timeout_s = self._settings.transfer_timeout_s
        result, answer = self._run(scripts.BUNDLE_CHECK, f"{sha256}\n".encode())
        section = answer.section("bundle")
        if incomplete(result, answer) or section is None or section.status != 0:
            return f"bundle: {_problem(result, answer, 'bundle')}"
        if section.stdout.split()[:1] != [sha256]:
            try:
                content = self._settings.bundle_path.read_bytes()
            except OSError as error:
                return f"bundle: {self._settings.bundle_path}: {error.strerror}"
            result, answer = self._run(scripts.BUNDLE_PUT, f"{sha256}\n".encode() + content, timeout_s=timeout_s)
            problem = _problem(result, answer, "bundle")
            if problem:
                return f"bundle: {problem}"
        self._bundle_there = self._shell.connection
        return ""

    def submit(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> tuple[SubmitOutcome, ...]:
        """
        Upload the spool directories, then submit each; one outcome for each request, in their order.

        Two remote commands however many requests. sbatch reads the script from a file that is there as a whole: from
        a stream that is cut off it takes what came and submits that (measured).
        """
        if not requests:
            return ()
        problem = self._upload(requests, deadline_s=deadline_s)
        if problem:
            return tuple(_not_sent(requests, problem))
        left_s = deadline_s - self._clock()
        orders = submit_orders(requests, limit_s=int(deadline_s + self._offset_s))
        result, answer = self._run(scripts.SUBMIT, orders, timeout_s=left_s + DEADLINE_SLACK_S)
        if result.outcome is Outcome.NOT_CONNECTED:
            return tuple(_not_sent(requests, incomplete(result, answer)))
        return tuple(self._outcome(request.pilot_id, result, answer) for request in requests)

    def cancel(self, pilots: tuple[KnownPilot, ...]) -> CancelOutcome:
        """Cancel those that still wait; one that has started meanwhile is left alone where the version can tell."""
        if not pilots:
            return CancelOutcome(site=self.name, sent=())
        result, answer = self._run(scripts.CANCEL, cancel_orders(pilots))
        sections = {section.name: section for section in answer.sections}
        sent: list[PilotId] = []
        problems: list[str] = []
        cut_short = incomplete(result, answer)
        if cut_short:
            problems.append(cut_short)
        for pilot in pilots:
            section = sections.get(f"scancel:{pilot.pilot_id}")
            if section is not None and (section.status == 0 or texts.says_gone(section.stderr)):
                sent.append(pilot.pilot_id)
            elif section is not None:
                problems.append(f"scancel: {texts.essence(section.stderr, status=section.status)}")
        return CancelOutcome(site=self.name, sent=tuple(sent), problem="; ".join(dict.fromkeys(problems)))

    def forget(self, pilots: tuple[PilotId, ...]) -> str:
        """Remove the spool directories of ended pilots; the problem, or empty."""
        foreign = [pilot_id for pilot_id in pilots if not self._is_ours(pilot_id)]
        if foreign:
            return f"no pilots of {self._settings.instance} at {self.name}: {', '.join(foreign)}"
        if not pilots:
            return ""
        orders = "".join(f"spool {pilot_id}\n" for pilot_id in pilots) + "end\n"
        result, answer = self._run(scripts.FORGET, orders.encode())
        problems = [incomplete(result, answer)]
        problems += [texts.essence(section.stderr) for section in answer.sections if section.status != 0]
        return "; ".join(dict.fromkeys(problem for problem in problems if problem))

    def close(self) -> None:
        """End the connection."""
        self._shell.close()

    def _sight(
        self,
        answer: Answer,
        *,
        live: tuple[BatchRecord, ...],
        final: FinalSeen | FinalUnseen,
        closed: tuple[Closure, ...] | Unreadable,
        now_s: float,
    ) -> SiteSight:
        """The whole sight: what the scheduler told, and what a script's answer tells of rules, spools and reports."""
        spools, rules = answer.section("spools"), answer.section("rules")
        if rules is None:
            return SiteUnseen(site=self.name, taken_s=now_s, reason="a part of the answer is missing")
        if spools is None or spools.status != 0:
            why = texts.essence(spools.stderr) if spools else "a part of the answer is missing"
            return SiteUnseen(site=self.name, taken_s=now_s, reason=f"spool directories: {why}")
        reports, unreadable = _reports(answer)
        return SiteSeen(
            site=self.name,
            taken_s=now_s,
            live=live,
            final=final,
            reports=reports,
            unreadable_reports=unreadable,
            spools=tuple(sorted(name for name in spools.stdout.splitlines() if self._is_ours(name))),
            clock_offset_s=self._offset_s,
            calls_last_minute=self._meter.calls().last_minute,
            rules=texts.parse_rules(self._settings.policy_file, rules.stdout, rules.stderr, rules.status),
            closures=() if isinstance(closed, Unreadable) else closed,
            closures_unseen=closed.reason if isinstance(closed, Unreadable) else "",
        )

    def _upload(self, requests: tuple[SubmitRequest, ...], *, deadline_s: float) -> str:
        """Put the spool directories at the site while there is time for it; the problem, or empty."""
        for request in requests:
            assert self._is_ours(request.pilot_id), request.pilot_id
            assert all(_FILE_NAME.match(name) for name, _ in request.files), request.pilot_id
        left_s = deadline_s - self._clock() - scripts.SBATCH_MIN_S
        if left_s <= 0:
            return "the deadline had passed"
        timeout_s = min(left_s, self._settings.transfer_timeout_s)
        result, answer = self._run(scripts.UPLOAD, spool_archive(requests), timeout_s=timeout_s)
        problem = _problem(result, answer, "upload")
        if problem:
            return f"upload: {problem}"
        return "the deadline passed during the upload" if deadline_s - self._clock() < scripts.SBATCH_MIN_S else ""

    def _learn_places(self) -> Place | str:
        """User, home and the directory of all spool directories, asked once for each connection; or the problem."""
        if self._shell.connection in self._places:
            return self._places[self._shell.connection]
        result, answer = self._run(scripts.PLACE, b"")
        said = dict(answer.marks)
        problem = incomplete(result, answer)
        if problem or not all(said.get(word, "").startswith("/") for word in ("home", "spool")):
            return f"home directory: {problem or 'the answer does not name it'}"
        place = Place(user=said.get("user", ""), home=PurePosixPath(said["home"]), spool=PurePosixPath(said["spool"]))
        self._places = {self._shell.connection: place}
        return place

    def _is_ours(self, name: str) -> bool:
        """Whether a job or directory is a pilot of our instance at this site, and not of another entry or factory."""
        return texts.ours(name, instance=self._settings.instance, site=self.name)

    def _run(
        self, text: str, data: bytes, *, nonce: str | None = None, timeout_s: float | None = None
    ) -> tuple[ShellResult, Answer]:
        """
        Run a script with its data and take the output apart; measure the site's clock on the way.

        The site read its clock before we have its answer, so site minus ours is at least what we see now; with the
        least possible offset a deadline is never later there than here.
        """
        mark = nonce or self._nonce()
        timeout_s = self._settings.command_timeout_s if timeout_s is None else timeout_s
        header = f"{mark}\n{self._settings.instance}\n".encode()
        too_much = self._meter.admit()
        if too_much:
            result = ShellResult(outcome=Outcome.NOT_CONNECTED, stderr=too_much.encode())
            return result, parse_result(result, mark)
        result = self._shell.run(Script(text=text, data=header + data, timeout_s=max(timeout_s, 1.0)))
        answer = parse_result(result, mark)
        words = (section.name.partition(":")[0] for section in answer.sections)
        self._meter.note(word for word in words if word in SCHEDULER_COMMANDS)
        if answer.clock_s is not None:
            self._offset_s = answer.clock_s - self._clock()
        return result, answer

    def _outcome(self, pilot_id: PilotId, result: ShellResult, answer: Answer) -> SubmitOutcome:
        """What became of one request of a submission that was sent, whole or in part."""
        section = answer.section(f"sbatch:{pilot_id}")
        if section is not None:
            return texts.parse_sbatch(pilot_id, section.stdout, section.stderr, section.status)
        if ("late", pilot_id) in answer.marks:
            ahead = "" if abs(self._offset_s) < CLOCK_TOLERANCE_S else f" (its clock is {self._offset_s:+.0f} s off)"
            return NotSent(pilot_id=pilot_id, reason=f"the deadline passed before sbatch could run{ahead}")
        if ("missing", pilot_id) in answer.marks:
            return NotSent(pilot_id=pilot_id, reason="its spool directory is gone")
        reason = incomplete(result, answer) or "the answer says nothing of it"
        return Uncertain(pilot_id=pilot_id, reason=reason)


def parse_result(result: ShellResult, nonce: str) -> Answer:
    """The answer in what a shell brought back, as far as it came."""
    return scripts.parse_answer(result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace"), nonce)


def look_orders(known: tuple[KnownPilot, ...], *, now_s: float, policy_file: str) -> bytes:
    """Orders of the look: the queue, accounting for what the ledger knows, the admin's rules, spools, end reports."""
    for pilot in known:
        assert PILOT_ID.match(pilot.pilot_id), pilot.pilot_id
        assert pilot.batch_id is None or _BATCH_ID.match(pilot.batch_id), pilot.batch_id
    ids = [pilot.batch_id for pilot in known if pilot.batch_id is not None]
    unnumbered = [pilot for pilot in known if pilot.batch_id is None]
    lines = ["squeue", "reservations"]
    lines += [f"jobs {chunk}" for chunk in _chunks(ids)]
    if unnumbered:
        since_s = max(int(now_s) - min(pilot.intended_s for pilot in unnumbered), 0) + SINCE_SLACK_S
        lines += [f"names {since_s} {chunk}" for chunk in _chunks(pilot.pilot_id for pilot in unnumbered)]
    return ("\n".join(lines) + "\n").encode() + file_orders(known, policy_file=policy_file)


def file_orders(known: tuple[KnownPilot, ...], *, policy_file: str) -> bytes:
    """Orders of the part of the look that asks no scheduler: the admin's rules, spools and end reports."""
    assert "\n" not in policy_file, policy_file
    assert all(PILOT_ID.match(pilot.pilot_id) for pilot in known)
    lines = [f"rules {policy_file}", "spools", *(f"report {pilot.pilot_id}" for pilot in known), "end"]
    return ("\n".join(lines) + "\n").encode()


def submit_orders(requests: tuple[SubmitRequest, ...], *, limit_s: int) -> bytes:
    """Orders of the submission; ``limit_s`` is the deadline by the site's clock."""
    lines = [f"limit {limit_s}"]
    for request in requests:
        lines += [f"option {option}" for option in texts.sbatch_options(request.pilot_id, request.offer)]
        lines.append(f"submit {request.pilot_id}")
    assert not any("\n" in line for line in lines)
    return ("\n".join([*lines, "end"]) + "\n").encode()


def cancel_orders(pilots: tuple[KnownPilot, ...]) -> bytes:
    """Orders of the cancellation: by job id and name together where the id is known, else by name."""
    lines: list[str] = []
    for pilot in pilots:
        assert PILOT_ID.match(pilot.pilot_id), pilot.pilot_id
        assert pilot.batch_id is None or _BATCH_ID.match(pilot.batch_id), pilot.batch_id
        lines.append(f"job {pilot.batch_id} {pilot.pilot_id}" if pilot.batch_id else f"name {pilot.pilot_id}")
    return ("\n".join([*lines, "end"]) + "\n").encode()


def spool_archive(requests: tuple[SubmitRequest, ...]) -> bytes:
    """One tar of all spool directories, only for their owner; the last member says that nothing is missing."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for request in requests:
            directory = tarfile.TarInfo(request.pilot_id)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(directory)
            for name, content in request.files:
                member = tarfile.TarInfo(f"{request.pilot_id}/{name}")
                member.size, member.mode = len(content), 0o700 if name.endswith(".sh") else 0o600
                archive.addfile(member, io.BytesIO(content))
        archive.addfile(tarfile.TarInfo(".complete"))
    return buffer.getvalue()


def final_records(
    answer: Answer, known: tuple[KnownPilot, ...], live: tuple[BatchRecord, ...]
) -> FinalSeen | FinalUnseen:
    """What accounting says of the known pilots that are not live; one unreadable part makes all of it unseen."""
    wanted = not_live(known, live)
    records: list[BatchRecord] = []
    for section in answer.sections:
        if section.name != "sacct":
            continue
        read = texts.parse_sacct(section.stdout, section.stderr, section.status)
        match read:
            case Unreadable():
                return FinalUnseen(reason=read.reason)
            case tuple():
                records += (record for record in read if is_of(record, wanted))
            case _ as never:
                assert_never(never)
    return FinalSeen(records=tuple(sorted(records)))


def not_live(known: tuple[KnownPilot, ...], live: tuple[BatchRecord, ...]) -> dict[PilotId, str | None]:
    """The known pilots that no live record is of, with their job ids."""
    still_live = {record.name for record in live if not record.state.is_final}
    return {pilot.pilot_id: pilot.batch_id for pilot in known if pilot.pilot_id not in still_live}


def is_of(record: BatchRecord, wanted: dict[PilotId, str | None]) -> bool:
    """Whether it is of one of these. A job id may be another job's by now (MaxJobId, a new Slurm): the name decides."""
    return record.name in wanted and wanted[record.name] in (None, record.job_id)


def closed_times(answer: Answer, *, account: str, now_s: float) -> tuple[Closure, ...] | Unreadable:
    """When reservations close each partition, or why that is not known."""
    section = answer.section("reservations")
    if section is None:
        return Unreadable(reason="a part of the answer is missing")
    if section.status != 0:
        return Unreadable(reason=f"scontrol: {texts.essence(section.stderr, status=section.status)}")
    found = reservations.parse_reservations(section.stdout)
    if not found:
        return ()
    nodes = answer.section("partitions")
    if nodes is None or nodes.status != 0:
        why = texts.essence(nodes.stderr, status=nodes.status) if nodes else "a part of the answer is missing"
        return Unreadable(reason=f"sinfo: {why}")
    partitions = reservations.parse_partitions(nodes.stdout)
    for read in (found, partitions):
        if isinstance(read, str):
            return Unreadable(reason=texts.essence(read))
    assert not isinstance(found, str)
    assert not isinstance(partitions, str)
    user = dict(answer.marks).get("user", "")
    return reservations.closures(found, partitions, user=user, account=account, now_s=now_s)


def _reports(answer: Answer) -> tuple[tuple[EndReport, ...], tuple[PilotId, ...]]:
    """End reports that were there, and the pilots whose report cannot be read."""
    reports: list[EndReport] = []
    unreadable: list[PilotId] = []
    for section in answer.sections:
        word, _, pilot_id = section.name.partition(":")
        if word != "report":
            continue
        read = texts.parse_report(pilot_id, section.stdout)
        if isinstance(read, Unreadable) or section.status != 0 or len(section.stdout) > scripts.REPORT_MAX_BYTES:
            unreadable.append(pilot_id)
        else:
            reports.append(read)
    return tuple(sorted(reports)), tuple(sorted(unreadable))


def incomplete(result: ShellResult, answer: Answer) -> str:
    """Why a script's answer is not whole, or empty when it is."""
    stuck = next((f" (in {section.name})" for section in answer.sections if section.status is None), "")
    match result.outcome:
        case Outcome.NOT_CONNECTED:
            said = _unmarked(result)
            return said if said.startswith(NOT_ASKED) else f"no connection: {said}"
        case Outcome.CONNECTION_LOST:
            return f"connection lost{stuck}: {_unmarked(result)}"
        case Outcome.TIMED_OUT:
            return f"no answer in time{stuck}"
        case Outcome.TOO_MUCH:
            return f"the answer was longer than any answer of ours{stuck}"
        case Outcome.ANSWERED:
            if answer.ended:
                return ""
            return (
                f"the answer was cut short{stuck}"
                if answer.clock_s is not None
                else f"no answer of ours: {_unmarked(result)}"
            )
        case _ as never:
            assert_never(never)


def _unmarked(result: ShellResult) -> str:
    """The words of an answer without our markers, for people."""
    lines = (result.stderr + b"\n" + result.stdout).decode(errors="replace").splitlines()
    return texts.essence("\n".join(line for line in lines if not line.startswith("@")), status=result.status)


def _problem(result: ShellResult, answer: Answer, name: str) -> str:
    """Why a script with one section did not do its work, or empty when it did."""
    cut_short = incomplete(result, answer)
    section = answer.section(name)
    if cut_short or section is None:
        return cut_short or "a part of the answer is missing"
    return "" if section.status == 0 else texts.essence(section.stderr, status=section.status)


def _not_sent(requests: tuple[SubmitRequest, ...], reason: str) -> Iterator[SubmitOutcome]:
    for request in requests:
        yield NotSent(pilot_id=request.pilot_id, reason=reason)


def _chunks(words: Iterable[str]) -> Iterator[str]:
    """Comma lists of the words, each short enough for one argument."""
    chunk = ""
    for word in words:
        if chunk and len(chunk) + len(word) >= LIST_MAX_CHARACTERS:
            yield chunk
            chunk = ""
        chunk = f"{chunk},{word}" if chunk else word
    if chunk:
        yield chunk
