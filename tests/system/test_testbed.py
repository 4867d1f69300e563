"""What the other system tests stand on: real Slurm of three versions, a one-way network, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Bed

from testbed import bed as federation
from testbed import containers, model, network
from testbed.engine import client, run

SITES = [row.name for row in model.SITES]
NODES = [host for host in model.hosts() if host.role is model.Role.NODE]
OUTSIDE = ["cm", "ap1", "ap2", "factory", "login.beta"]


@pytest.mark.parametrize("name", SITES)
def test_site_runs_the_slurm_of_its_debian(bed: Bed, name: str) -> None:
    row = model.site_named(name)
    assert bed.sites[name].ssh("sinfo --version").startswith(f"slurm-wlm {row.slurm_series}.")


def test_every_site_has_another_slurm() -> None:
    assert len({row.slurm_series for row in model.SITES}) == 3


@pytest.mark.parametrize("name", SITES)
def test_pilot_account_runs_jobs_over_ssh_and_sacct_shows_them(bed: Bed, name: str) -> None:
    site = bed.sites[name]
    assert site.ssh("srun -n1 hostname").strip() in {f"{node}.{name}" for node in site.row.nodes}

    job = f"probe{time.monotonic_ns()}"
    submit = f"printf '#!/bin/sh\\nhostname > {job}.out; exit 7\\n' | env -i HOME=$HOME USER=$USER PATH=$PATH "
    job_id = site.ssh(f"{submit} sbatch --parsable -J {job} -o /dev/null").strip().partition(";")[0]
    record: list[str] = []
    for _ in range(60):
        found = site.sh(f"sacct -X -n -P -j {job_id} -o State,ExitCode,Account,Partition,JobName").split()
        record = found[0].split("|") if found else []
        # Slurm 22 shows half a record, without partition, for the first seconds.
        if record and record[3] and record[0] not in ("PENDING", "RUNNING", "COMPLETING"):
            break
        time.sleep(0.5)
    assert record == ["FAILED", "7:0", site.row.account, site.row.partition, job]
    # The home is one for login and compute hosts.
    assert site.sh(f"cat {job}.out").strip().endswith(f".{name}")


@pytest.mark.parametrize("name", SITES)
def test_slurm_believes_the_size_in_the_table(bed: Bed, name: str) -> None:
    row = bed.sites[name].row
    shown = {
        line.strip() for line in bed.sites[name].sh("sinfo -h -N -o '%n %c %m %l' -p " + row.partition).splitlines()
    }
    hours = int(row.max_walltime.total_seconds()) // 3600
    assert shown == {f"{node} {row.cpus_per_node} {row.memory_per_node_mb} {hours}:00:00" for node in row.nodes}


@pytest.mark.parametrize("name", SITES)
def test_job_with_a_clean_environment_leaves_the_node_alive(bed: Bed, name: str) -> None:
    """Slurm 24 and 26 kill slurmd in an unprivileged container here unless it has a user namespace of its own."""
    site = bed.sites[name]
    assert site.sh("srun --export=NONE -n1 /usr/bin/id -un").strip() == model.PILOT_USER
    assert not set(site.sh("sinfo -h -o %t").split()) & {"down", "down*", "drain", "unk*"}


@pytest.mark.parametrize("host", [host.name for host in NODES])
def test_compute_host_reaches_the_pool_from_behind_nat(bed: Bed, host: str) -> None:
    """The pool sees the gateway of its own network, not the compute host."""
    peer = _peer_seen_by_pool(bed, host)
    own = dict(model.host_named(host).addresses).values()
    assert peer not in own
    assert peer.endswith(".0.1")


def _peer_seen_by_pool(bed: Bed, host: str) -> str:
    """Address from which a compute host's connection arrives at a listener on the central manager."""
    listen = (
        "import socket; s = socket.socket(); s.bind(('', 0)); s.listen(); s.settimeout(20);"
        "print(s.getsockname()[1], flush=True); print(s.accept()[1][0], flush=True)"
    )
    argv = ["docker", "exec", "-i", model.host_named("cm").container, "python3", "-c", listen]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        port = listener.stdout.readline().strip()
        bed.run(host, ["bash", "-c", f"exec 3<>/dev/tcp/cm.pool/{port}"], timeout_s=20)
        return listener.stdout.readline().strip()


@pytest.mark.parametrize("host", NODES, ids=lambda host: host.name)
def test_nothing_outside_opens_a_connection_to_a_compute_host(bed: Bed, host: model.Host) -> None:
    """A listener on the compute host hears its own site, and neither pool nor another site."""
    assert host.site is not None
    port = 17017
    serve_argv = ["docker", "exec", "-i", host.container, "perl", "-MIO::Socket::INET", "-e", _PERL_LISTENER % port]
    with subprocess.Popen(serve_argv, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        address = host.addresses[0][1]
        try:
            assert _connects(bed, f"login.{host.site}", address, port), "the listener itself must work"
            others = [other for other in OUTSIDE if other != f"login.{host.site}"]
            with ThreadPoolExecutor() as threads:
                reached = threads.map(lambda other: _connects(bed, other, address, port), others)
            assert dict(zip(others, reached, strict=True)) == dict.fromkeys(others, False)
        finally:
            listener.terminate()
            bed.attempt(host.name, ["pkill", "-f", f"LocalPort => {port}"])


_PERL_LISTENER = (
    "$s = IO::Socket::INET->new(LocalPort => %d, Listen => 5, ReuseAddr => 1) or die; $| = 1; "
    'print "listening\\n"; alarm 60; while ($c = $s->accept) { close $c }'
)


def _connects(bed: Bed, host: str, address: str, port: int) -> bool:
    done = bed.attempt(host, ["timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"])
    return done.returncode == 0


def test_login_hosts_are_reached_from_the_factory_only_by_their_own_key(bed: Bed) -> None:
    for name in SITES:
        bed.run("factory", ["ssh-keygen", "-F", f"login.{name}"])
    argv = ["ssh", "-o", "HostKeyAlias=login.nowhere", f"{model.PILOT_USER}@login.alpha", "true"]
    refused = bed.attempt("factory", argv, user=model.FACTORY_USER)
    assert refused.returncode == 255
    assert b"Host key verification failed" in refused.stderr


@pytest.mark.parametrize("host", [host.name for host in model.hosts() if host.site is not None])
def test_site_hosts_have_no_htcondor(bed: Bed, host: str) -> None:
    assert bed.attempt(host, ["sh", "-c", "command -v condor_master"]).returncode != 0
    assert "condor" not in bed.run(host, ["dpkg-query", "-W", "-f", "${Package}\n"])
    # What a pilot unpacks into its scratch directory comes and goes; the site itself has none.
    search = "find / -xdev \\( -path /proc -o -path /tmp -o -path /home \\) -prune -o -name 'condor_*' -print"
    assert bed.run(host, ["sh", "-c", search]) == ""


def test_pool_runs_the_series_we_say(bed: Bed) -> None:
    for host in ("cm", *model.APS):
        assert bed.run(host, ["condor_version"]).startswith(f"$CondorVersion: {model.CONDOR_SERIES}.")


def test_users_are_where_the_table_says_and_can_submit(bed: Bed) -> None:
    for user in model.USERS:
        for ap in user.aps:
            dry = "printf 'executable=/bin/true\\nqueue\\n' > dry.sub && condor_submit -dry-run /dev/null dry.sub"
            assert "1 job(s) dry-run" in bed.as_user(ap, user.name, dry)
    assert bed.attempt("ap1", ["id", "dave"]).returncode != 0


def test_keys_are_where_they_are_needed_and_nowhere_else(bed: Bed) -> None:
    pilots = {f"pilot-{row.name}" for row in model.ALL_SITES}
    at_cm = set(bed.run("cm", ["ls", "/etc/condor/passwords.d"]).split())
    # The collector makes itself a key POOL when it starts; nothing is ever signed with it.
    assert at_cm - {"POOL"} == pilots | {"cm"}
    for ap in model.APS:
        assert set(bed.run(ap, ["ls", "/etc/condor/passwords.d"]).split()) - {"POOL"} == {f"ap-{ap}"}
    assert set(bed.run("factory", ["ls", "/etc/aerotow/secrets/keys.d"]).split()) == pilots
    places = {"factory": "/etc/aerotow/secrets"}
    for host in ("cm", *model.APS, "factory"):
        where = places.get(host, "/etc/condor/passwords.d /etc/condor/tokens.d")
        search = f"find {where} -type f ! -perm 600 ! -name '*.pub'"
        assert bed.run(host, ["sh", "-c", search], user="root") == ""


def test_second_up_is_quick_and_keeps_what_is_there(bed: Bed) -> None:
    before = _container_ids()
    begin_s = time.monotonic()
    federation.up(lambda _: None)
    took_s = time.monotonic() - begin_s
    after = _container_ids()
    # The factory's host follows the working tree, which somebody may be editing.
    before.pop(model.factory_host().container)
    after.pop(model.factory_host().container)
    assert before == after
    # 3 to 5 s on two idle cores.
    assert took_s < 90


def _container_ids() -> dict[str, str]:
    found = client().containers.list(all=True, filters={"label": model.OURS})
    return {str(container.name): str(container.id) for container in found}


def test_up_heals_dead_and_frozen_daemons_and_foreign_leftovers(bed: Bed) -> None:
    """What a broken earlier run may leave: dead and frozen daemons, a half-made container, old firewall rules."""
    site = bed.sites["gamma"]
    site.stop("slurmctld", kill=True)
    site.signal("slurmd", "STOP", node="n2")
    rule = ["-i", "aerotow-gone", "-m", "comment", "--comment", model.FIREWALL_NOTE, "-j", "DROP"]
    run(["iptables", "-w", "-I", network.CHAIN, *rule])
    image = containers.find(model.host_named("cm")).image.id  # type: ignore[union-attr]
    left = client().containers.create(
        image, "true", name=f"{model.NAME}-left-over", labels={model.LABEL: model.LABEL_VALUE}
    )
    before = _container_ids()
    federation.up(lambda _: None)
    after = _container_ids()
    assert before.pop(f"{model.NAME}-left-over") == left.id
    before.pop(model.factory_host().container)
    after.pop(model.factory_host().container)
    assert before == after
    for host in model.site_hosts(site.row):
        assert {d.state for d in containers.daemons(host)} == {"running"}
    assert not [rule for rule in network.our_rules_now() if "aerotow-gone" in rule]
    assert site.ssh("srun -n1 true") == ""


def test_up_makes_a_site_anew_when_one_of_its_hosts_is_gone(bed: Bed) -> None:
    containers.remove(model.host_named("n1.beta"))
    federation.up(lambda _: None)
    assert bed.sites["beta"].ssh("srun -n1 hostname").strip() == "n1.beta"
    assert "grid|pilot" in bed.sites["beta"].sh("sacctmgr -n -P show assoc format=account,user")


@pytest.mark.long
def test_down_leaves_nothing_that_up_made_and_takes_nothing_else(bed: Bed) -> None:
    """With a test-bed of its own, beside the one that everybody uses."""
    env = {**os.environ, "AEROTOW_TESTBED_NAME": "second", "AEROTOW_TESTBED_SUBNET": "10.89"}
    command = [sys.executable, "-m", "testbed"]
    ours = {"label": f"{model.LABEL}=second"}
    others = _container_ids()
    try:
        subprocess.run([*command, "up"], env=env, check=True, timeout=300)
        assert len(client().containers.list(filters=ours)) == len(model.hosts())
        assert "second-alpha" in run(["iptables-save"])
    finally:
        subprocess.run([*command, "down"], env=env, check=True, timeout=120)
    assert client().containers.list(all=True, filters=ours) == []
    assert client().networks.list(filters=ours) == []
    assert client().volumes.list(filters=ours) == []
    assert "second-" not in run(["iptables-save"])
    assert "second-" not in run(["ip", "link"])
    after = _container_ids()
    for ids in (others, after):
        ids.pop(model.factory_host().container)
    assert after == others
    assert network.our_rules_now() == network.wanted_rules()
