"""
Networks, and the firewall between them: compute hosts reach the pool through NAT, nothing reaches compute hosts.

Docker masquerades what leaves a bridge, so the pool sees a site's gateway; and it isolates bridges from each other,
so three rules per site in DOCKER-USER open the one way.
"""

from __future__ import annotations

import shlex

from testbed import model
from testbed.engine import Say, client, run, step
from testbed.errors import CommandFailed, NetworkTaken

CHAIN = "DOCKER-USER"


def ensure_networks(say: Say) -> None:
    """
    Make the missing networks, and make anew those that are not as the table says.

    :raises NetworkTaken: somebody else's network has the name or the addresses.
    """
    import docker.errors

    there = {network.name: network for network in client().networks.list(names=list(model.networks()))}
    for name, subnet in model.networks().items():
        network = there.get(name)
        if network is not None:
            network.reload()
            if (network.attrs.get("Labels") or {}).get(model.LABEL) != model.LABEL_VALUE:
                raise NetworkTaken(network=name, problem="a network of this name is not ours")
            if network.attrs["IPAM"]["Config"][0].get("Subnet") == subnet:
                continue
            _remove(name)
        with step(say, f"network {name} {subnet}"):
            try:
                client().networks.create(
                    name,
                    driver="bridge",
                    labels={model.LABEL: model.LABEL_VALUE},
                    options={"com.docker.network.bridge.name": name},
                    ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)]),
                )
            except docker.errors.APIError as error:
                raise NetworkTaken(network=name, problem=str(error.explanation)) from error


def _remove(name: str) -> None:
    network = client().networks.get(name)
    for container_id in network.attrs.get("Containers") or {}:
        client().containers.get(container_id).remove(force=True, v=True)
    network.remove()


def remove_networks(say: Say) -> None:
    """Remove every network with our label; its containers are gone by now."""
    for network in client().networks.list(filters={"label": model.OURS}):
        network.reload()
        _remove(network.name)
        say(f"removed network {network.name}")


def wanted_rules() -> list[str]:
    """Our rules as ``iptables -S`` prints them, without the leading ``-A CHAIN``, from the top of the chain."""
    note = f"-m comment --comment {model.FIREWALL_NOTE}"
    pool = model.POOL_NETWORK
    rules = []
    for site in map(model.site_network, model.ALL_SITES):
        rules += [
            f"-i {site} -o {pool} {note} -j ACCEPT",
            f"-i {pool} -o {site} -m conntrack --ctstate RELATED,ESTABLISHED {note} -j ACCEPT",
            f"-i {pool} -o {site} {note} -j DROP",
        ]
    return rules


def our_rules_now() -> list[str]:
    """Rules of ours that are in force, recognised by their comment."""
    try:
        listing = run(["iptables", "-w", "-S", CHAIN])
    except CommandFailed:
        return []
    prefix = f"-A {CHAIN} "
    lines = [line.removeprefix(prefix).replace('"', "") for line in listing.splitlines() if line.startswith(prefix)]
    return [line for line in lines if f"--comment {model.FIREWALL_NOTE} " in line]


def ensure_firewall(say: Say) -> None:
    """Have exactly our rules, in our order, at the top; rules of a broken earlier run are replaced."""
    wanted = wanted_rules()
    if our_rules_now() == wanted:
        return
    with step(say, "firewall: compute hosts to pool only"):
        remove_firewall()
        for position, rule in enumerate(wanted, start=1):
            run(["iptables", "-w", "-I", CHAIN, str(position), *shlex.split(rule)])


def remove_firewall() -> None:
    """Delete exactly our rules, as often as each is there."""
    for rule in our_rules_now():
        run(["iptables", "-w", "-D", CHAIN, *shlex.split(rule)])
