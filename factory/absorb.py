"""
What existing pilots will take: supply first, then demand, or every cycle would ask again for the same jobs.

Vacancies are the one thing here that changes in place: thousands of buckets pour into them, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accounting.model import PilotRecord
from config.names import split_pilot_id
from factory.model import Observation, Policy
from glidein.model import Lifetimes, Offer, PilotPhase, Shape
from glidein.start import promised_life_s, slot_memory_mib, to_die_s
from overlay.model import Bucket, MatchTable, Slot, Slots, SlotsSeen

_MANY = 10**9
"""More jobs than anybody has, for a pilot of which they use nothing up."""

_RANK = {
    PilotPhase.IDLE: 0,
    PilotPhase.BUSY: 0,
    PilotPhase.STARTING: 1,
    PilotPhase.PENDING: 2,
    PilotPhase.INTENDED: 3,
    PilotPhase.UNCERTAIN: 3,
    PilotPhase.UNKNOWN: 3,
}
"""
Who takes jobs first: the more certain pilot.

A pilot that nobody sees comes after those that wait, so that a waiting one is not called surplus in favour of a ghost.
"""


@dataclass(slots=True, kw_only=True)
class Vacancy:
    """
    What one pilot has left for idle jobs; used up in place while jobs are placed.

    Two sides of it. What it can run at a time: ``cores``, ``memory_mib``, ``disk_mib``, ``gpus``. And how much work it
    can take within ``time_s``, in the same four units times seconds (``work``): short jobs run one after the other.
    Work is reckoned as a fluid, so that of many short jobs of unlike size some may begin a little later than said.
    """

    pilot_id: str
    site: str
    slot_keys: tuple[str, ...]
    """Keys of the match table that may speak for it; the first that is there counts."""
    running: bool
    """Whether its slot is in the pool."""
    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int
    life_s: float
    """From now to the moment at which it stops by itself."""
    time_s: int = 1
    """How long it is counted on; 1 where nothing is known of run times or each job is to have its own place."""
    work: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Cores, memory, disk and GPUs, each times seconds, that nobody has taken yet."""
    jobs: int = 0
    """Jobs given to it so far."""

    def take(self, bucket: Bucket, jobs: int) -> None:
        """Use up what these jobs need."""
        busy_s = self.busy_s(bucket)
        need = needs(bucket)
        cores, memory, disk, gpus = self.work
        self.work = (
            cores - jobs * need[0] * busy_s,
            memory - jobs * need[1] * busy_s,
            disk - jobs * need[2] * busy_s,
            gpus - jobs * need[3] * busy_s,
        )
        if 2 * busy_s > self.time_s:
            # Each holds its place for most of the time: what is beside it must fit beside it.
            self.cores -= jobs * need[0]
            self.memory_mib -= jobs * need[1]
            self.disk_mib -= jobs * need[2]
            self.gpus -= jobs * need[3]
        self.jobs += jobs

    def busy_s(self, bucket: Bucket) -> int:
        """How much of its time one of the jobs takes; all of it where nobody knows how long it runs."""
        expected = bucket.expected_s
        return self.time_s if expected is None else max(1, min(expected, self.time_s))


def filled(vacancy: Vacancy) -> Vacancy:
    """The vacancy with the work that its cores, memory, disk and GPUs can do in its time."""
    time_s = vacancy.time_s
    vacancy.work = (
        vacancy.cores * time_s,
        vacancy.memory_mib * time_s,
        vacancy.disk_mib * time_s,
        vacancy.gpus * time_s,
    )
    return vacancy


def needs(bucket: Bucket) -> tuple[int, int, int, int]:
    """Cores, memory, disk and GPUs of one of its jobs."""
    return max(1, bucket.cores), bucket.memory_mib, bucket.disk_mib, bucket.gpus


def size(bucket: Bucket) -> tuple[int, int, int, int, str]:
    """Sort key of buckets: largest jobs first, so that small ones fill what is left; ties by key."""
    return -bucket.gpus, -bucket.cores, -bucket.memory_mib, -bucket.disk_mib, bucket.key


def new_life_s(shape: Shape, lifetimes: Lifetimes) -> int:
    """
    How long a pilot that has not joined will surely work, were it to take its whole time to join.

    With less, a job that fits only a pilot that joins at once would start one pilot after the other and run in none.
    """
    return promised_life_s(walltime_s=shape.walltime_s, lifetimes=lifetimes)


def need_s(bucket: Bucket, lifetimes: Lifetimes) -> int:
    """Life that a pilot must have more than, to be given a job: what START asks for (glidein.start)."""
    declared = lifetimes.default_job_runtime_s if bucket.runtime_s is None else bucket.runtime_s
    return declared + lifetimes.retire_margin_s


def counted_on_s(life_s: float, policy: Policy) -> int:
    """Seconds for which a pilot is counted on: the drain target, or the end of its life where that is sooner."""
    return max(1, int(min(policy.drain_target_s, life_s - policy.lifetimes.retire_margin_s)))


def new_vacancy(pilot_id: str, offer: Offer, policy: Policy) -> Vacancy:
    """A pilot that has not joined: its whole shape, less what HTCondor itself needs."""
    shape = offer.shape
    life_s = new_life_s(shape, policy.lifetimes)
    return filled(
        Vacancy(
            pilot_id=pilot_id,
            site=offer.site,
            slot_keys=(offer.key,),
            running=False,
            cores=shape.cores,
            memory_mib=slot_memory_mib(shape),
            disk_mib=shape.disk_mib,
            gpus=shape.gpus,
            life_s=life_s,
            time_s=counted_on_s(life_s, policy),
        )
    )


def fits(vacancy: Vacancy, bucket: Bucket, lifetimes: Lifetimes) -> int:
    """How many of the bucket's jobs the vacancy has room and time for, were they to match."""
    if need_s(bucket, lifetimes) >= vacancy.life_s:
        return 0
    busy_s = vacancy.busy_s(bucket)
    free = (vacancy.cores, vacancy.memory_mib, vacancy.disk_mib, vacancy.gpus)
    at_a_time = in_all = _MANY
    for has, work, need in zip(free, vacancy.work, needs(bucket), strict=True):
        if need > 0:
            if has < need or work < need * busy_s:
                return 0
            at_a_time = min(at_a_time, has // need)
            in_all = min(in_all, work // (need * busy_s))
    return max(0, min(at_a_time * (vacancy.time_s // busy_s), in_all))


def matches(bucket: Bucket, slot_keys: Sequence[str], table: MatchTable) -> bool:
    """Whether job and slot accept each other; a pair that nothing was evaluated for does not."""
    for key in slot_keys:
        match = table.matches_key(bucket.key, key)
        if match is not None:
            return match
    return False


def supply(observation: Observation, policy: Policy, leaving: frozenset[str]) -> list[Vacancy]:
    """
    What open pilots offer, in the order in which they get jobs; ``leaving`` are being cancelled and offer nothing.

    A slot that was seen speaks for itself, whatever the phase: a pilot of an unseen site keeps an old one.
    """
    slots = slots_by_pilot(observation.slots)
    ranked: list[tuple[tuple[int, int, str, int, str], Vacancy]] = []
    for pilot in observation.pilots:
        if pilot.phase in (PilotPhase.ENDED, PilotPhase.ENDING) or pilot.pilot_id in leaving or pilot.requeued:
            continue
        slot = slots.get(pilot.pilot_id)
        vacancy = _of_slot(pilot, slot, observation.now_s, policy) if slot else _of_record(pilot, observation, policy)
        if vacancy is not None:
            rank = 0 if slot else _RANK[pilot.phase]
            ranked.append(((rank, *by_age(pilot)), vacancy))
    ranked.sort(key=lambda pair: pair[0])
    return [vacancy for _, vacancy in ranked]


def by_age(pilot: PilotRecord) -> tuple[int, str, int, str]:
    """Sort key: oldest first; pilots of one cycle in the order in which the plan placed them."""
    parts = split_pilot_id(pilot.pilot_id)
    return pilot.intended_s, pilot.cycle, parts[3] if parts else 0, pilot.pilot_id


def slots_by_pilot(slots: Slots) -> dict[str, Slot]:
    """The slot of each pilot; of two under one name the one that started last. None are known of an unseen pool."""
    if not isinstance(slots, SlotsSeen):
        return {}
    return {slot.pilot_id: slot for slot in sorted(slots.slots, key=lambda slot: (slot.started_s or 0, slot.name))}


def running_cores(slots: Slots) -> dict[str, int]:
    """Cores in which jobs run, by project."""
    found: dict[str, int] = {}
    if isinstance(slots, SlotsSeen):
        for slot in slots.slots:
            for group, cores in slot.busy_groups:
                found[group] = found.get(group, 0) + cores
    return found


def _of_slot(pilot: PilotRecord, slot: Slot, now_s: float, policy: Policy) -> Vacancy | None:
    """What a seen slot has free."""
    if not slot.accepting:
        return None
    life_s = _end_s(pilot, slot, now_s) - now_s
    return filled(
        Vacancy(
            pilot_id=pilot.pilot_id,
            site=pilot.offer.site,
            slot_keys=(f"pilot:{pilot.pilot_id}", pilot.offer.key),
            running=True,
            cores=slot.cores - slot.busy_cores,
            memory_mib=slot.memory_mib - slot.busy_memory_mib,
            disk_mib=slot.disk_mib - slot.busy_disk_mib,
            gpus=_free_gpus(pilot, slot),
            life_s=life_s,
            time_s=counted_on_s(life_s, policy),
        )
    )


def _free_gpus(pilot: PilotRecord, slot: Slot) -> int:
    """GPUs that no job uses; where the slot does not say, a busy one has none left."""
    if slot.gpus is None:
        return 0 if slot.busy_cores else pilot.offer.shape.gpus
    return slot.gpus - slot.busy_gpus


def _of_record(pilot: PilotRecord, observation: Observation, policy: Policy) -> Vacancy | None:
    """What a pilot without a slot in the pool will offer, or may still offer if only its ad was lost."""
    vacancy = new_vacancy(pilot.pilot_id, pilot.offer, policy)
    if pilot.phase not in (PilotPhase.IDLE, PilotPhase.BUSY):
        # A cancel that is on its way takes a waiting pilot out; should it have started, its phase will say so.
        return None if pilot.phase is PilotPhase.PENDING and pilot.cancel_intended_s is not None else vacancy
    seen_s = pilot.slot_seen_s
    if not isinstance(observation.slots, SlotsSeen) or seen_s is None:
        return None
    if observation.now_s - seen_s > policy.ads_max_age_s:
        return None
    vacancy.running = True
    vacancy.life_s = _end_s(pilot, None, observation.now_s) - observation.now_s
    vacancy.time_s = counted_on_s(vacancy.life_s, policy)
    return filled(vacancy)


def _end_s(pilot: PilotRecord, slot: Slot | None, now_s: float) -> float:
    """When a joined pilot stops by itself: its own word, else from its start, else as if it had just started."""
    if slot is not None and slot.to_die_s is not None:
        return slot.to_die_s
    started_s = pilot.started_s if slot is None or slot.started_s is None else slot.started_s
    start_s = now_s if started_s is None else started_s
    return to_die_s(start_s=int(start_s), walltime_s=pilot.offer.shape.walltime_s)
