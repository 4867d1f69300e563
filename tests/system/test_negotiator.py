"""
The pool's own negotiator against our matcher, for pairs of a job and a slot with hard expressions.

A slot of a real startd has the attributes and the START of each pair's slot ad, and a job that may run in that slot
alone has those of its job ad: so each pair's answer can be seen. A control job shows that a slot that took nothing was
offered: it has less priority than the pair's job, so in the negotiation that matched it the pair's job came first.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

import pytest

from overlay.classads import parse_ad
from overlay.clauses import conjuncts_of
from overlay.errors import AdUnreadable
from overlay.matching import match_table
from tests.properties.expressions import NAMES, buckets, expressions, hard_attributes
from tests.system.conftest import Bed
from tests.system.fleet import wait_until
from tests.system.hand import new_hand
from tests.tables import slow_rows

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PAIRS_EACH = 40
"""Pairs that our matcher matches, and as many that it does not."""
AP, USER = "ap1", "alice"
HOST, OWNER = "ap2", "dave"
SITE = "alpha"
"""Whose token the startd joins with."""

_OURS = re.compile(rf"(?<!\w)({'|'.join((*NAMES, 'Start'))})(?!\w)", re.IGNORECASE)
"""Names of the generated ads; a real slot has a Memory of its own, so they get names that nobody has."""

_CONFIG = """\
LOCAL_DIR = {directory}
LOG = $(LOCAL_DIR)/log
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
DAEMON_SOCKET_DIR = $(LOCAL_DIR)/sock
{places}
DAEMON_LIST = MASTER STARTD
use security:recommended
COLLECTOR_HOST = cm.pool:9618
TRUST_DOMAIN = pool
UID_DOMAIN = pool
FILESYSTEM_DOMAIN = {name}
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS
SEC_TOKEN_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords.d
SHARED_PORT_PORT = 0
MASTER_NAME = {name}
STARTD_NAME = {name}
GlideinSite = "{site}"
PairRun = "{name}"
STARTD_ATTRS = GlideinSite PairRun
MASTER_ATTRS = GlideinSite
NUM_CPUS = {slots}
MEMORY = {memory}
MAX_SLOT_TYPES = {types}
# A START that is false without a job would make its slot the owner's, which no negotiator looks at.
IS_OWNER = False
SUSPEND = False
PREEMPT = False
KILL = False
# Every job has to be matched by the negotiator: the schedd may not give a claim to its next job.
CLAIM_WORKLIFE = 0
RUNBENCHMARKS = False
PREEN =
UPDATE_INTERVAL = 20
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A job and a slot, as attributes and an expression each, and what our matcher says of them."""

    number: int
    job: Mapping[str, str]
    job_requires: str
    slot: Mapping[str, str]
    slot_requires: str
    matches: bool


def renamed(text: str) -> str:
    """An expression with names that nobody else has."""
    return _OURS.sub(r"Hx\1", text)


def ad_of(attributes: Mapping[str, str], requires: str) -> str:
    return (
        "[ " + "; ".join(f"{name} = {text}" for name, text in {**attributes, "Requirements": requires}.items()) + " ]"
    )


def drawn(seed: int, number: int) -> Pair | None:
    """A pair from random numbers; None for one whose answer is not the same at every moment, or that is too easy."""
    rng = Random(seed)
    sides = []
    for of in (expressions(rng), expressions(rng)):
        own = {renamed(name): renamed(text) for name, text in hard_attributes(rng, of).items()}
        sides.append((own, renamed(rng.choice(of.requirements))))
    (job, job_requires), (slot, slot_requires) = sides
    texts = [ad_of(job, job_requires), ad_of(slot, slot_requires)]
    if job_requires == slot_requires == "true" or any("$" in text for text in texts):
        return None
    try:
        for text in texts:
            parse_ad(text)
    except AdUnreadable:
        return None
    now_s = int(time.time())
    answers = {
        answer
        for later_s in (*range(60), *range(60, 1200, 61))
        for answer in slow_rows({"j": texts[0]}, {"offer:s": texts[1]}, now_s=now_s + later_s).values()
    }
    if len(answers) != 1:
        return None
    return Pair(
        number=number, job=job, job_requires=job_requires, slot=slot, slot_requires=slot_requires, matches=answers.pop()
    )


def sample() -> list[Pair]:
    """As many pairs that match as pairs that do not."""
    # As with hypothesis: CI repeats the same examples.
    seed = 20261122 if os.environ.get("CI") else secrets.randbits(32)
    print(f"seed {seed}")
    found: list[Pair] = []
    wanted = {True: PAIRS_EACH, False: PAIRS_EACH}
    while any(wanted.values()):
        seed += 1
        pair = drawn(seed, len(found) + 1)
        if pair is not None and wanted[pair.matches]:
            wanted[pair.matches] -= 1
            found.append(pair)
    return found


def one_line(clause: str) -> str:
    """An expression as HTCondor writes it, for a configuration file: no new lines, and no escapes of new ClassAds."""
    return re.sub(r"\s*\n\s*", " ", clause).replace(r"\303\244", "ä")


def config_of(pairs: list[Pair], *, directory: str, name: str, places: str) -> str:
    """A startd with a slot for each pair. In START each conjunct lets the control job pass and is else as it was."""
    lines = [
        _CONFIG.format(
            directory=directory,
            places=places,
            name=name,
            site=SITE,
            slots=len(pairs),
            memory=64 * len(pairs),
            types=len(pairs) + 1,
        )
    ]
    for pair in pairs:
        prefix = f"SLOT_TYPE_{pair.number}"
        clauses = conjuncts_of(parse_ad(ad_of({}, pair.slot_requires)))
        start = " && ".join(
            f"ifThenElse(TARGET.PairControl =?= true, true, ({one_line(clause)}))" for clause in clauses
        )
        own = {"PairSlot": str(pair.number), **pair.slot}
        lines += [
            f"{prefix} = cpus=1",
            f"{prefix}_PARTITIONABLE = False",
            f"NUM_SLOTS_TYPE_{pair.number} = 1",
            f"{prefix}_START = {start}",
            f"{prefix}_STARTD_ATTRS = $(STARTD_ATTRS) {' '.join(own)}",
            *(f"{prefix}_{attribute} = {text}" for attribute, text in own.items()),
        ]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Stage:
    """The startd and the jobs of all pairs."""

    bed: Bed
    pairs: list[Pair]
    name: str = field(default_factory=lambda: f"pairs{secrets.token_hex(3)}")

    @property
    def directory(self) -> str:
        return f"/tmp/{self.name}"

    def start(self) -> None:
        """The startd, as an ordinary user of its host."""
        dirs = " ".join(f"{self.directory}/{name}" for name in DIRS)
        self.bed.run(HOST, ["sh", "-c", f"umask 077; mkdir -p {dirs}; chmod 755 {self.directory}/execute"], user=OWNER)
        places = "\n".join(
            f"{name} = {self.bed.run(HOST, ['condor_config_val', name]).strip()}" for name in ("BIN", "SBIN", "LIBEXEC")
        )
        text = config_of(self.pairs, directory=self.directory, name=self.name, places=places)
        owner = f"{OWNER}:{OWNER}"
        self.bed.write(HOST, f"{self.directory}/config", text, mode=0o600, owner=owner)
        token = new_hand(self.bed).mint(SITE)
        self.bed.write(HOST, f"{self.directory}/tokens.d/pilot", token, mode=0o600, owner=owner)
        script = (
            f"CONDOR_CONFIG={self.directory}/config; export CONDOR_CONFIG; "
            f"setsid condor_master -f </dev/null >/dev/null 2>&1 & echo $! >{self.directory}/pid"
        )
        self.bed.run(HOST, ["sh", "-c", script], user=OWNER)
        wait_until("every slot is in the collector", lambda: len(self.slots()) == len(self.pairs))

    def stop(self) -> None:
        """Take all of it away."""
        self.bed.attempt(AP, ["condor_rm", "-constraint", f'PairRun =?= "{self.name}"'], user=USER)
        self.bed.attempt(
            HOST, ["sh", "-c", f"kill -QUIT $(cat {self.directory}/pid); sleep 5; rm -rf {self.directory}"]
        )

    def submit(self) -> None:
        """The job of each pair, and the control jobs; held, so that none runs before it was looked at."""
        common = (
            "executable = /bin/true\ntransfer_executable = false\nshould_transfer_files = YES\nhold = true\n"
            "initialdir = /tmp\n"
            f'request_memory = 16\nrequest_disk = 1MB\nMy.PairRun = "{self.name}"\n'
        )
        files = {
            f"{pair.number}.sub": common
            + "".join(f"My.{name} = {text}\n" for name, text in pair.job.items())
            + f"My.PairJob = {pair.number}\n"
            + f"requirements = ({pair.job_requires}) && {self.only(str(pair.number))}\nqueue\n"
            for pair in self.pairs
        }
        numbers = "".join(f"{pair.number}\n" for pair in self.pairs)
        files["control"] = (
            common + "priority = -10\nMy.PairControl = true\nMy.PairJob = $(k)\n"
            f"requirements = {self.only('$(k)')}\nqueue k from (\n{numbers})\n"
        )
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
        script = (
            f"mkdir ~/{self.name} && cd ~/{self.name} && tar -x && "
            "for f in *.sub control; do condor_submit -terse $f || exit 1; done; cd && rm -rf $OLDPWD"
        )
        home = ["env", f"HOME=/home/{USER}", "sh", "-c", script]
        self.bed.run(AP, home, user=USER, stdin=archive.getvalue())

    def release(self) -> None:
        """Let all of them be negotiated for."""
        self.bed.run(AP, ["condor_release", "-constraint", f'PairRun =?= "{self.name}"'], user=USER)

    def only(self, number: str) -> str:
        return f'(TARGET.PairRun =?= "{self.name}" && TARGET.PairSlot =?= {number})'

    def slots(self) -> dict[int, str]:
        """The slots' ads as the collector has them, by pair."""
        mine = f'PairRun =?= "{self.name}" && PairSlot isnt undefined'
        return self.ads(["condor_status", "-long", "-constraint", mine], "PairSlot")

    def jobs(self, *, control: bool = False) -> dict[int, str]:
        """The jobs' ads as the queue has them, by pair."""
        mine = f'PairRun =?= "{self.name}" && PairControl is {"true" if control else "undefined"}'
        return self.ads(["condor_q", "-allusers", "-long", "-constraint", mine], "PairJob")

    def ads(self, argv: list[str], key: str) -> dict[int, str]:
        found = {}
        for block in self.bed.run(AP, argv, user=USER).split("\n\n"):
            lines = [line for line in block.splitlines() if " = " in line]
            if lines:
                (number,) = [int(line.partition(" = ")[2]) for line in lines if line.startswith(f"{key} = ")]
                found[number] = "[ " + "; ".join(lines) + " ]"
        return found

    def ran(self) -> dict[int, int]:
        """Pairs whose job has run to its end, and the slot in which it did."""
        mine = f'PairRun =?= "{self.name}" && PairControl is undefined && JobStatus == 4'
        lines = self.bed.run(
            AP, ["condor_history", "-constraint", mine, "-af", "PairJob", "LastRemoteHost"]
        ).splitlines()
        found = dict(line.split() for line in lines)
        return {int(job): int(host.partition("@")[0].removeprefix("slot")) for job, host in found.items()}

    def matched(self) -> set[int]:
        """Pairs whose job is in the queue and was given a slot at some time."""
        mine = f'PairRun =?= "{self.name}" && PairControl is undefined && FirstJobMatchDate isnt undefined'
        words = self.bed.run(AP, ["condor_q", "-allusers", "-constraint", mine, "-af", "PairJob"]).split()
        return {int(word) for word in words}

    def negotiations(self) -> int:
        """Negotiations that have ended."""
        log = "grep -c 'Finished Negotiation Cycle' /var/log/condor/NegotiatorLog || true"
        return int(self.bed.run("cm", ["sh", "-c", log]))


DIRS = ("log", "lock", "run", "spool", "execute", "sock", "tokens.d", "passwords.d")


@pytest.fixture
def stage(bed: Bed) -> Iterator[Stage]:
    made = Stage(bed, sample())
    try:
        made.start()
        yield made
    finally:
        made.stop()


# Mutation: deciding_conjuncts gives what is written only.
def test_the_negotiator_matches_the_pairs_that_our_matcher_matches_and_no_other(stage: Stage) -> None:
    stage.submit()
    jobs, slots = stage.jobs(), stage.slots()
    assert set(slots) == set(jobs) == {pair.number for pair in stage.pairs}
    # The ads as the pool has them: what was drawn is in them, among much else.
    offers = {f"offer:{number}": text for number, text in slots.items()}
    table = match_table(buckets({f"ap1:{number}": text for number, text in jobs.items()}), offers, now_s=time.time())
    expected = {(job, slot) for job in jobs for slot in slots if table.matches_key(f"ap1:{job}", f"offer:{slot}")}
    assert expected == {(pair.number, pair.number) for pair in stage.pairs if pair.matches}

    stage.release()
    try:
        wait_until(
            "the jobs that match have run", lambda: {(job, job) for job in stage.ran()} >= expected, timeout_s=60
        )
    except AssertionError as error:
        print(error)
    # A slot that the negotiator gives to its pair's job, and that refuses it, has been offered, too.
    wait_until("every slot was offered", lambda: set(stage.jobs(control=True)) <= stage.matched(), timeout_s=60)
    before = stage.negotiations()
    wait_until("three negotiations have passed", lambda: stage.negotiations() >= before + 3)
    ran = {(job, slot) for job, slot in stage.ran().items()}
    assert set(stage.jobs()) == set(jobs) - {job for job, _ in ran}
    print(f"{len(jobs)} pairs, {len(ran)} ran")
    assert describe(stage.pairs, {number for pair in expected ^ ran for number in pair}) == ""


def describe(pairs: list[Pair], numbers: set[int]) -> str:
    """The pairs of these numbers, for whoever has to look into them."""
    return "\n".join(
        f"{pair.number}: ours {pair.matches}\n  job {ad_of(pair.job, pair.job_requires)}\n"
        f"  slot {ad_of(pair.slot, pair.slot_requires)}"
        for pair in pairs
        if pair.number in numbers
    )
