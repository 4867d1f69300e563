"""What the table of the federation promises to those who read it."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path

import pytest

from config.load import load_config
from overlay.poolconfig import render_ap, render_cm
from testbed import engine, images, model, network, pool, slurmconf, tower
from testbed.slurmconf import slurm_conf


def test_every_address_is_used_once_and_lies_in_its_network() -> None:
    subnets = {name: ipaddress.ip_network(subnet) for name, subnet in model.networks().items()}
    addresses = [(name, address) for host in model.hosts() for name, address in host.addresses]
    assert len({address for _, address in addresses}) == len(addresses)
    assert all(ipaddress.ip_address(address) in subnets[name] for name, address in addresses)


def test_full_names_are_unique() -> None:
    """HTCondor's CCB takes two hosts of one full name for neighbours, and every match dies."""
    names = [host.fqdn for host in model.hosts()]
    assert len(set(names)) == len(names)


def test_bridge_names_fit_the_kernel() -> None:
    assert all(len(name) <= 15 for name in model.networks())


def test_compute_host_knows_pool_and_its_own_site_only() -> None:
    seen = model.names_seen_from(model.host_named("n1.alpha"))
    assert {"cm.pool", "ap1.pool", "ap2.pool", "factory.pool", "login.alpha", "login", "n2.alpha", "n2"} <= seen.keys()
    assert not [name for name in seen if name.endswith((".beta", ".gamma"))]


def test_pool_knows_login_hosts_by_their_outer_address_and_no_compute_host() -> None:
    seen = model.names_seen_from(model.factory_host())
    assert seen["login.beta"] == dict(model.host_named("login.beta").addresses)[model.POOL_NETWORK]
    assert not [name for name in seen if name.startswith("n")]


def test_other_subnet_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROTOW_TESTBED_SUBNET", "10.99")
    assert model.host_named("cm").addresses == ((model.POOL_NETWORK, "10.99.0.10"),)


@pytest.mark.parametrize("row", model.SITES, ids=lambda row: row.name)
def test_pilot_of_the_table_fits_a_node_of_its_site(row: model.SlurmSite) -> None:
    assert row.pilot_cores <= row.cpus_per_node
    assert row.pilot_memory_mib <= row.memory_per_node_mb
    assert row.pilot_walltime <= row.max_walltime


def test_sites_differ_in_everything_that_matching_looks_at() -> None:
    for attribute in ("cpus_per_node", "memory_per_node_mb", "partition", "account", "max_walltime", "slurm_series"):
        assert len({getattr(row, attribute) for row in model.SITES}) == 3, attribute


def test_configuration_of_the_factory_is_one_that_it_accepts(tmp_path: Path) -> None:
    path = tmp_path / "aerotow.toml"
    path.write_text(tower.config_text(bundle_sha256="0" * 64))
    config = load_config(path)
    assert set(config.sites) == {"alpha", "beta", "gamma"}
    assert config.vos["astro"].projects == {"dp001": ("alice", "bob"), "dp002": ("alice",)}
    assert tomllib.loads(path.read_text())["sites"]["gamma"]["account"] == "ext-aerotow"


def test_pool_configuration_is_rendered_for_every_host() -> None:
    spec = pool.specification()
    assert "COLLECTOR" in render_cm(spec)
    assert all("SCHEDD" in render_ap(spec, ap) for ap in model.APS)


@pytest.mark.parametrize(("name", "minutes"), [("alpha", 120), ("beta", 240), ("gamma", 60)])
def test_slurm_limits_are_those_of_the_table(name: str, minutes: int) -> None:
    row = model.site_named(name)
    text = slurm_conf(row)
    assert f"PartitionName={row.partition} " in text
    assert text.count(f"MaxTime={minutes} ") == 3
    assert (slurmconf.cgroup_conf(row) is None) == (row.slurm_series == "22.05")


def test_dockerfile_has_the_targets_that_are_built() -> None:
    assert {"site", "pool", "aerotow-deps", "aerotow"} == set(images.stage_texts())


def test_content_hash_tells_where_one_part_ends_and_the_next_begins() -> None:
    assert images.content_hash(["ab", "c"]) != images.content_hash(["a", "bc"])


def test_rules_let_answers_through_before_they_drop() -> None:
    rules = network.wanted_rules()
    assert len(rules) == 3 * len(model.ALL_SITES)
    assert [rule.rpartition(" ")[2] for rule in rules[:3]] == ["ACCEPT", "ACCEPT", "DROP"]
    assert "ESTABLISHED" in rules[1]


@pytest.mark.parametrize(("content", "stays"), [("1", False), ("999999999", False), ("nonsense", False)])
def test_pid_file_of_a_dead_daemon_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, stays: bool
) -> None:
    """dockerd refuses to start while any process at all has the number in its pid file."""
    path = tmp_path / "docker.pid"
    path.write_text(content)
    monkeypatch.setattr(engine, "PID_FILE", path)
    engine.remove_stale_pid_file()
    assert path.exists() is stays
