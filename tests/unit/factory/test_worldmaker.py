"""A configuration that changes while the factory runs: site files come, change, are broken, and go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from accounting.model import PilotRecord
from config.load import load_config
from factory.wiring import Worldmaker, open_ledger
from glidein.model import EndReason, PilotPhase

MAIN = """
[instance]
name = "tow"
state_dir = "{directory}"
[pool]
collector = "127.0.0.1:1"
trust_domain = "pool"
secrets_dir = "{directory}"
[bundle]
path = "/b"
sha256 = "{sha256}"
[access_points.ap1]
schedd = "ap1.pool"
"""
BETA = """
[sites.beta]
account = "grid"
partition = "batch"
cores = 8
memory = "16 GiB"
walltime = "4:00:00"
"""


@pytest.fixture
def maker(tmp_path: Path) -> Worldmaker:
    path = tmp_path / "aerotow.toml"
    path.write_text(MAIN.format(directory=tmp_path, sha256="0" * 64))
    return Worldmaker(path, ledger=open_ledger(load_config(path)))


def test_a_site_file_takes_effect_without_a_restart(maker: Worldmaker, tmp_path: Path) -> None:
    # Mutation: Worldmaker._reload looks at the main file only.
    assert set() == set(maker().sites)
    file = tmp_path / "sites.d" / "beta.toml"
    file.parent.mkdir()
    file.write_text(BETA)
    with structlog.testing.capture_logs() as logged:
        world = maker()
    assert {"beta"} == set(world.sites) == {site.name for site in world.policy.sites}
    (event,) = logged
    assert ("config.taken", ["beta"], ("sites.beta: added",)) == (event["event"], event["added"], event["changes"])

    file.write_text(BETA.replace("cores = 8", "cores = 2"))
    with structlog.testing.capture_logs() as logged:
        assert [2] == [site.offer.shape.cores for site in maker().policy.sites]
    assert ("sites.beta.cores: 8, now 2",) == logged[0]["changes"]

    file.write_text(BETA.replace("cores = 8", "cores = 0"))
    with structlog.testing.capture_logs() as logged:
        assert [2] == [site.offer.shape.cores for site in maker().policy.sites]
    assert "config.not_taken" == logged[0]["event"]
    assert f"{file}: sites.beta.cores" in logged[0]["problem"]

    file.unlink()
    assert set() == set(maker().sites)


def test_a_renamed_site_is_told_so_and_its_old_name_stays_watched(maker: Worldmaker, tmp_path: Path) -> None:
    # Mutation: Worldmaker._adapters takes the configured sites only: the old name's pilots are seen by nobody.
    file = tmp_path / "sites.d" / "beta.toml"
    file.parent.mkdir()
    file.write_text(BETA)
    world = maker()
    (policy,) = world.policy.sites
    pilot = PilotRecord(
        pilot_id="tow-beta-6b49d2000001-1",
        offer=policy.offer,
        cycle="6b49d2000001",
        sent="submitted",
        phase=PilotPhase.PENDING,
        intended_s=1,
        submit_deadline_s=2,
        submitted_s=1,
        batch_id="7",
    )
    maker._ledger.adopt((pilot,), 1)
    file.unlink()
    (tmp_path / "sites.d" / "north.toml").write_text(BETA.replace("[sites.beta]", "[sites.north]"))
    with structlog.testing.capture_logs() as logged:
        world = maker()
    assert {"beta": "north"} == logged[0]["renamed"]
    assert logged[0]["changes"][0].startswith("sites.beta: renamed to north")
    assert {"beta", "north"} == set(world.sites)
    assert ["north"] == [site.name for site in world.policy.sites]
    maker._ledger.record_observed((replace(pilot, phase=PilotPhase.ENDED, end_reason=EndReason.IDLE, ended_s=9),), 9)
    assert {"north"} == set(maker().sites)
