"""``aerotow pilots`` and ``aerotow pilot``: every pilot in a line, and one with all that is known of it."""

from __future__ import annotations

import difflib

import click

from accounting.model import PilotRecord
from accounting.pilots import PilotEvent
from aerotow.cli.app import App, known, pass_app
from aerotow.cli.failure import FAILED, USAGE, Failure
from aerotow.cli.freshness import picture_of, warn_when_old
from aerotow.cli.show import ago, clock_time, json_option, memory, plain, print_json, say, span, table
from aerotow.cli.times import moment
from config.names import split_pilot_id
from glidein.model import PilotPhase
from glidein.start import to_die_s

_LIMIT = 10_000
_NOT_STARTED = frozenset({PilotPhase.INTENDED, PilotPhase.UNCERTAIN, PilotPhase.PENDING})


@click.command()
@click.option("--site", help="Only this site's.")
@click.option("--all", "all_pilots", is_flag=True, help="Ended ones too.")
@click.option("--since", help="With those ended since: '2 h', '1 d', 2026-11-22 or 2026-11-22T14:00 (UTC).")
@json_option
@pass_app
def pilots(app: App, site: str | None, all_pilots: bool, since: str | None, as_json: bool) -> None:
    """
    Open pilots, newest first.

    --all or --since show ended ones too.
    """
    now_s = app.now_s()
    since_s = None if since is None else moment(since, now_s, option="--since")
    instance = app.config.instance.name
    picture = picture_of(app)
    if site is not None:
        names = {*app.config.sites, *(one.site for one in picture.sites)}
        if site not in names:
            names |= {one.offer.site for one in app.ledger.pilots(instance, limit=_LIMIT)}
        known(site, names, what="site", where=f"{app.config_path} or the ledger")
    if all_pilots or since_s is not None:
        chosen = app.ledger.pilots(instance, site=site, since_s=since_s, limit=_LIMIT)
    else:
        open_now = [one for one in picture.pilots if site in (None, one.offer.site)]
        chosen = tuple(sorted(open_now, key=lambda one: (one.intended_s, one.pilot_id), reverse=True))
    if as_json:
        print_json([pilot_json(one, now_s) for one in chosen])
        return
    warn_when_old(picture.fresh, instance=instance, now_s=now_s)
    if not chosen:
        where = f" at {site}" if site else ""
        say(f"no pilots{where}" if all_pilots or since else f"no open pilots{where} (--all shows ended ones)")
        return
    pilot_table(chosen, now_s)
    if len(chosen) == _LIMIT:
        say(f"only the newest {_LIMIT} are shown; choose with --site and --since")


def pilot_table(chosen: tuple[PilotRecord, ...] | list[PilotRecord], now_s: float) -> None:
    """Pilots, one a line."""
    table(
        ("pilot", "phase", "site", "Slurm job", "waiting", "why", "node", "age", "life left", "jobs", "end"),
        (
            (
                one.pilot_id,
                one.phase.name.lower(),
                one.offer.site,
                one.batch_id,
                waiting(one, now_s),
                waits_for(one) if one.phase in _NOT_STARTED else None,
                node_of(one),
                span(age_s(one, now_s)),
                life_words(one, now_s),
                one.jobs,
                None if one.end_reason is None else one.end_reason.value,
            )
            for one in chosen
        ),
        right=("waiting", "age", "life left", "jobs"),
    )


@click.command()
@click.argument("pilot_id", metavar="ID")
@json_option
@pass_app
def pilot(app: App, pilot_id: str, as_json: bool) -> None:
    """All that is known of one pilot."""
    now_s = app.now_s()
    found = app.ledger.pilot(pilot_id)
    if found is None:
        raise _no_such(app, pilot_id)
    events = app.ledger.events(pilot_id)
    if as_json:
        print_json(pilot_json(found, now_s) | {"events": plain(events)})
        return
    warn_when_old(picture_of(app).fresh, instance=app.config.instance.name, now_s=now_s)
    table(("", ""), _facts(found, now_s))
    say()
    _events(events, now_s)


def waiting(one: PilotRecord, now_s: float) -> str | None:
    """How long it has waited for its start; None once it has started."""
    if one.phase not in _NOT_STARTED:
        return None
    return ago(one.submitted_s if one.submitted_s is not None else one.intended_s, now_s)


def waits_for(one: PilotRecord) -> str:
    """Why it waits, in the scheduler's words or ours."""
    if one.phase is PilotPhase.INTENDED:
        return "not sent yet"
    if one.phase is PilotPhase.UNCERTAIN:
        return "the answer to its submission was lost; looking for it by name"
    cancelled = ", cancel sent or on its way" if one.cancel_intended_s is not None else ""
    return (one.batch_reason or "no reason given") + cancelled


def node_of(one: PilotRecord) -> str | None:
    """Where it runs or ran."""
    if one.report is not None and one.report.node:
        return one.report.node
    return one.batch.node if one.batch is not None and one.batch.node else None


def age_s(one: PilotRecord, now_s: float) -> float:
    """Seconds from its intent to its end, or to now."""
    return max(0.0, (one.ended_s if one.ended_s is not None else now_s) - one.intended_s)


def life_left_s(one: PilotRecord, now_s: float) -> int | None:
    """Seconds until a started pilot stops by itself; None when it has not started or has ended."""
    if one.started_s is None or one.phase is PilotPhase.ENDED:
        return None
    end_s = to_die_s(start_s=one.started_s, walltime_s=one.offer.shape.walltime_s)
    return max(0, end_s - int(now_s))


def life_words(one: PilotRecord, now_s: float) -> str | None:
    """What is left of its life; a dash for one that has not started or has ended."""
    left_s = life_left_s(one, now_s)
    return None if left_s is None else span(left_s)


def pilot_json(one: PilotRecord, now_s: float) -> dict[str, object]:
    """One pilot for scripts."""
    offer, shape = one.offer, one.offer.shape
    return {
        "pilot_id": one.pilot_id,
        "site": offer.site,
        "phase": one.phase.name.lower(),
        "sent": one.sent,
        "cores": shape.cores,
        "memory_mib": shape.memory_mib,
        "walltime_s": shape.walltime_s,
        "account": offer.account,
        "partition": offer.partition,
        "cycle": one.cycle,
        "batch_id": one.batch_id,
        "batch_reason": one.batch_reason,
        "node": node_of(one),
        "intended_s": one.intended_s,
        "submitted_s": one.submitted_s,
        "started_s": one.started_s,
        "joined_s": one.joined_s,
        "slot_seen_s": one.slot_seen_s,
        "surplus_since_s": one.surplus_since_s,
        "cancel_intended_s": one.cancel_intended_s,
        "ended_s": one.ended_s,
        "life_left_s": life_left_s(one, now_s),
        "end_reason": None if one.end_reason is None else one.end_reason.value,
        "detail": one.detail,
        "jobs": one.jobs,
        "batch": plain(one.batch),
        "report": plain(one.report),
    }


def _facts(one: PilotRecord, now_s: float) -> list[tuple[str, object]]:
    """Everything but the events; what is not known yet is left out."""
    offer, shape, batch, report = one.offer, one.offer.shape, one.batch, one.report
    qos = f", QOS {offer.qos}" if offer.qos else ""
    facts: list[tuple[str, object]] = [
        ("pilot", one.pilot_id),
        ("phase", one.phase.name.lower()),
        ("site", f"{offer.site}, partition {offer.partition}, account {offer.account}{qos}"),
        ("shape", f"{shape.cores} cores, {memory(shape.memory_mib)}, {span(shape.walltime_s)}"),
        ("asked for by", f"cycle {one.cycle}"),
        ("Slurm job", one.batch_id),
        ("node", node_of(one)),
    ]
    facts.extend(
        (label, f"{clock_time(at_s, now_s)} ({ago(at_s, now_s)} ago)")
        for label, at_s in (
            ("intended", one.intended_s),
            ("submitted", one.submitted_s),
            ("started", one.started_s),
            ("joined the pool", one.joined_s),
            ("slot last seen", one.slot_seen_s),
            ("not needed since", one.surplus_since_s),
            ("cancel decided", one.cancel_intended_s),
            ("ended", one.ended_s),
        )
        if at_s is not None
    )
    if one.phase in _NOT_STARTED:
        facts.append(("waits", f"{waiting(one, now_s)}: {waits_for(one)}"))
    if one.phase is PilotPhase.UNKNOWN:
        facts.append(("unknown", "seen nowhere that was looked at; it counts as open until the site's sacct tells"))
    facts.extend(
        [
            ("life left", life_words(one, now_s)),
            ("end reason", None if one.end_reason is None else one.end_reason.value),
            ("detail", one.detail),
            ("jobs", one.jobs),
        ]
    )
    if batch is not None:
        code = "" if batch.exit_code is None else f", exit code {batch.exit_code}"
        number = "" if not batch.exit_signal else f", signal {batch.exit_signal}"
        used = (
            f", {batch.elapsed_s} s on {batch.alloc_cpus} CPUs"
            if batch.elapsed_s is not None and batch.alloc_cpus is not None
            else ""
        )
        facts.append(("Slurm says", f"{batch.raw_state}{code}{number}{used}"))
    if report is not None:
        facts.append(("it says", f"{report.reason.value}, exit code {report.exit_code}, {report.jobs} jobs"))
    return [fact for fact in facts if fact[1] not in (None, "")]


def _events(events: tuple[PilotEvent, ...], now_s: float) -> None:
    """The changes of its life in order."""
    table(
        ("at (UTC)", "phase", "detail"),
        ((clock_time(event.at_s, now_s), event.phase.name.lower(), event.detail) for event in events),
    )


def _no_such(app: App, pilot_id: str) -> Failure:
    """What may have been meant."""
    ids = [one.pilot_id for one in app.ledger.pilots(app.config.instance.name, limit=_LIMIT)]
    by_job = [one for one in app.ledger.pilots(app.config.instance.name, limit=_LIMIT) if one.batch_id == pilot_id]
    if by_job:
        names = ", ".join(f"{one.pilot_id} at {one.offer.site}" for one in by_job[:5])
        return Failure(f"'{pilot_id}' is the Slurm job of {names}; give the pilot's id", exit_code=USAGE)
    near = difflib.get_close_matches(pilot_id, ids, n=1, cutoff=0.8)
    if split_pilot_id(pilot_id) is None and not near:
        return Failure(
            f"'{pilot_id}' is no pilot's id (INSTANCE-SITE-CYCLE-N); 'aerotow pilots --all' lists them",
            exit_code=USAGE,
        )
    hint = f"did you mean '{near[0]}'?" if near else "'aerotow pilots --all' lists them"
    return Failure(f"no pilot '{pilot_id}' in the ledger; {hint}", exit_code=FAILED)
