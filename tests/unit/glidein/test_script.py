"""The files of a pilot's spool directory, and the exit codes."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from glidein.epconfig import PoolFacts
from glidein.errors import BadPilotInput
from glidein.model import EXIT_CODES, EndReason, Lifetimes, Offer, Shape
from glidein.script import BundleRef, SiteFacts, pilot_script_text, spool_dir, spool_files

LIFETIMES = Lifetimes(join_timeout_s=60, idle_timeout_s=600, default_job_runtime_s=120)
PILOT = "bed-alpha-0000abcd-1"


def files(**change: object) -> dict[str, tuple[int, str]]:
    walltime_s = int(str(change.pop("walltime_s", 3600)))
    shape = Shape(cores=2, memory_mib=2048, disk_mib=1024, walltime_s=walltime_s)
    arguments = {
        "pilot_id": PILOT,
        "offer": Offer(site="alpha", shape=shape, account="a", partition="p"),
        "pool": PoolFacts(collector="cm.pool:9618", trust_domain="pool"),
        "lifetimes": LIFETIMES,
        "bundle": BundleRef(path=PurePosixPath("/home/pilot/b.tar.gz"), sha256="ab" * 32),
        "site": SiteFacts(scratch_dir="/tmp"),
    }
    return {file.name: (file.mode, file.text) for file in spool_files(**{**arguments, **change})}


def test_env_has_plain_lines_that_the_script_knows() -> None:
    _, text = files()["pilot.env"]
    facts = dict(line.split("=", 1) for line in text.splitlines())
    assert (PILOT, "3600", "/tmp") == (facts["pilot_id"], facts["walltime_s"], facts["scratch_dir"])
    script = pilot_script_text()
    assert set() == {key for key in facts if key not in script}


def test_no_file_is_open_to_others_and_none_is_the_token() -> None:
    made = files()
    assert {"pilot.env", "condor_config", "payload.sh", "policy.sh", "vo.map"} == set(made)
    assert {0o600, 0o700} == {mode for mode, _ in made.values()}


def test_spool_directory_is_named_by_instance_and_pilot() -> None:
    found = spool_dir(home=PurePosixPath("/home/pilot"), instance="bed", pilot_id=PILOT)
    assert PurePosixPath("/home/pilot/.aerotow/bed/pilots/bed-alpha-0000abcd-1") == found


@pytest.mark.parametrize(
    "change",
    [
        {"site": SiteFacts(scratch_dir="/tmp; rm -rf /")},
        {"site": SiteFacts(scratch_dir="$HOME")},
        {"site": SiteFacts(scratch_dir="tmp")},
        {"site": SiteFacts(scratch_dir="")},
        {"site": SiteFacts(scratch_dir="/tmp", rules_file=PurePosixPath("/a b"))},
        {"pilot_id": "../../etc"},
        {"bundle": BundleRef(path=PurePosixPath("/b\nx=y"), sha256="ab" * 32)},
        {"bundle": BundleRef(path=PurePosixPath("/b"), sha256="AB" * 32)},
        {"walltime_s": 90},
    ],
)
def test_value_that_the_script_would_refuse_is_refused_here(change: dict[str, object]) -> None:
    with pytest.raises(BadPilotInput):
        files(**change)


def test_exit_codes_are_those_of_the_script() -> None:
    script = pilot_script_text()
    for reason, code in EXIT_CODES.items():
        assert f"{reason.value} {code}" in script
        assert f"{reason.value}) code={code}" in script or reason is EndReason.CONDOR_FAILED
