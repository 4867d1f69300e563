"""``aerotow drain``: let a running pilot's jobs end and give it no new ones, and take that back."""

from __future__ import annotations

import click

from accounting.model import PilotRecord
from aerotow.cli.app import App, pass_app
from aerotow.cli.failure import FAILED, USAGE, Failure
from aerotow.cli.show import say
from aerotow.cli.stop import who
from factory.draining import drain_client
from overlay.drain import NotDrained, drain, take_back
from overlay.model import SlotsUnseen

_CANCEL = "--cancel"


@click.command("drain")
@click.argument("pilot_id", metavar="ID")
@click.option("--reason", default="", help="Why, in a few words; not with --cancel.")
@click.option(_CANCEL, "cancel", is_flag=True, help="Take it back: the pilot takes jobs again.")
@pass_app
def drain_pilot(app: App, pilot_id: str, reason: str, cancel: bool) -> None:
    """
    Let the jobs of the running pilot ID end and give it no new ones.

    It leaves when it has been without a job for factory.idle_timeout; until then --cancel takes it back.
    """
    if cancel == bool(reason.strip()):
        raise Failure(
            "give either --reason, which everyone who looks at the pilot is told, or --cancel", exit_code=USAGE
        )
    pilot = _running(app, pilot_id)
    slots = app.see_slots(app.config, app.now_s())
    if isinstance(slots, SlotsUnseen):
        raise Failure(
            f"the pool's slots are not seen: {slots.reason}; nothing was asked of the pilot", exit_code=FAILED
        )
    slot = next((one.name for one in slots.slots if one.pilot_id == pilot.pilot_id), None)
    if slot is None:
        raise Failure(f"pilot {pilot_id} has no slot in the pool now; nothing was asked of it", exit_code=FAILED)
    # Before the effect: what was asked for stands in the ledger also if the answer is lost.
    words = f"drain taken back by {who()}" if cancel else f"drain asked for by {who()}: {' '.join(reason.split())}"
    app.ledger.note_pilot(pilot.pilot_id, words, app.now_s())
    with drain_client(app.config) as client:
        done = take_back(client, slot) if cancel else drain(client, slot, reason=f"{who()}: {reason}")
    if isinstance(done, NotDrained):
        app.ledger.note_pilot(pilot.pilot_id, f"the pilot did not take that: {done.reason}", app.now_s())
        raise Failure(
            f"{pilot_id}: {done.reason}; 'aerotow pilot {pilot_id}' shows what is seen of it", exit_code=FAILED
        )
    say(f"{pilot_id}: takes jobs again" if cancel else f"{pilot_id}: drains; its jobs end, and it gets no new ones")


def _running(app: App, pilot_id: str) -> PilotRecord:
    """The pilot, if it can have a slot."""
    found = app.ledger.pilot(pilot_id)
    if found is None:
        raise Failure(f"no pilot '{pilot_id}' in the ledger; 'aerotow pilots' lists the open ones", exit_code=FAILED)
    if found.end_reason is not None:
        raise Failure(f"pilot {pilot_id} has ended ({found.end_reason.value})", exit_code=FAILED)
    return found
