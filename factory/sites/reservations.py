"""
What a scheduler's reservations leave to pilots: pure readers, and the one moment for each partition that matters.

Slurm starts no job on a node whose time limit reaches into a reservation that the job does not use; such a pilot would
wait in front of the maintenance and start after it, for jobs that have gone elsewhere. So the site is asked for what is
reserved, and the plan asks for no pilot that no node could take.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from factory.sites.contract import Closure

NODES_MAX = 100_000
"""A host list that names more is not taken apart."""
_FIELD = re.compile(r"(?:^| )([A-Za-z]+)=(\S*)")
_GROUP = re.compile(r"([^\[\],]*)(?:\[([0-9,-]+)\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """One reservation; times are epoch seconds."""

    name: str
    start_s: int
    end_s: int
    nodes: frozenset[str]
    cpus: int | None
    """CPUs that it takes of its nodes together; None: all of them."""
    flags: frozenset[str]
    users: tuple[str, ...]
    accounts: tuple[str, ...]

    def takes_us(self, user: str, account: str) -> bool:
        """
        Whether a pilot may run in it without naming it: only MAGNETIC reservations draw in jobs that they allow.

        A list of names that begin with ``-`` is of those who may not. Source: scontrol(1), RESERVATIONS.
        """
        return "MAGNETIC" in self.flags and _named(user, self.users) and _named(account, self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionNodes:
    """Nodes of a partition that have the same number of CPUs; a partition may have several lines of these."""

    partition: str
    nodes: frozenset[str]
    cpus_per_node: int


def parse_reservations(text: str) -> tuple[Reservation, ...] | str:
    """Read ``scontrol -o show reservation`` with SLURM_TIME_FORMAT=%s; words on what is wrong when it is no answer."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("No reservations in the system"):
            continue
        fields = dict(_FIELD.findall(line))
        start, end = fields.get("StartTime", ""), fields.get("EndTime", "")
        if "ReservationName" not in fields or not start.isdigit() or not end.isdigit():
            return f"a reservation does not parse: {line[:100]}"
        nodes = expand_hosts(fields.get("Nodes", ""))
        if nodes is None:
            return f"reservation {fields['ReservationName']}: no list of hosts: {fields.get('Nodes', '')[:100]}"
        found.append(
            Reservation(
                name=fields["ReservationName"],
                start_s=int(start),
                end_s=int(end),
                nodes=nodes,
                cpus=tres_cpus(fields.get("TRES", "")),
                flags=frozenset(_words(fields.get("Flags", ""))),
                users=_words(fields.get("Users", "")),
                accounts=_words(fields.get("Accounts", "")),
            )
        )
    return tuple(found)


def parse_partitions(text: str) -> tuple[PartitionNodes, ...] | str:
    """Read ``sinfo -h -a -o '%R|%c|%N'``; words on what is wrong when it is no answer."""
    found = []
    for line in text.splitlines():
        partition, _, rest = line.partition("|")
        cpus, bar, hosts = rest.partition("|")
        nodes = expand_hosts(hosts)
        if not bar or not cpus.rstrip("+").isdigit() or nodes is None:
            return f"a partition does not parse: {line[:100]}"
        found.append(PartitionNodes(partition=partition, nodes=nodes, cpus_per_node=int(cpus.rstrip("+"))))
    return tuple(found)


def closures(
    reservations: Iterable[Reservation], partitions: Iterable[PartitionNodes], *, user: str, account: str, now_s: float
) -> tuple[Closure, ...]:
    """
    For each partition that reservations take as a whole: from when on no node of it is free any more.

    A pilot fits on a node until that node's first reservation, so the last of these moments is the one that counts. A
    reservation of a part of its nodes' CPUs leaves room on them, and is none for this purpose.
    """
    groups = tuple(partitions)
    cpus_of = {node: group.cpus_per_node for group in groups for node in group.nodes}
    first: dict[str, Reservation] = {}
    for one in sorted(reservations, key=lambda one: (one.start_s, -one.end_s, one.name)):
        whole = one.cpus is None or one.cpus >= sum(cpus_of.get(node, 0) for node in one.nodes)
        if one.end_s <= now_s or not whole or one.takes_us(user, account):
            continue
        for node in one.nodes:
            first.setdefault(node, one)
    found = []
    for name in sorted({group.partition for group in groups}):
        nodes = {node for group in groups if group.partition == name for node in group.nodes}
        if not nodes or not all(node in first for node in nodes):
            continue
        last = max((first[node] for node in nodes), key=lambda one: (one.start_s, one.end_s, one.name))
        flags = f" ({','.join(sorted(last.flags & {'MAINT', 'DAILY', 'WEEKLY', 'FLEX', 'MAGNETIC'}))})"
        why = f"reservation {last.name}{flags if flags != ' ()' else ''}"
        found.append(Closure(partition=name, start_s=last.start_s, end_s=last.end_s, why=why))
    return tuple(found)


def expand_hosts(text: str) -> frozenset[str] | None:
    """The names in a list such as ``n[1-2,05-07],gpu1``; empty for ``(null)``; None when it is no such list."""
    if text in ("", "(null)"):
        return frozenset()
    names: set[str] = set()
    for word in re.split(r",(?![^\[]*\])", text):
        parts: list[tuple[str, ...]] = []
        at = 0
        while at < len(word):
            group = _GROUP.match(word, at)
            if group is None or group.end() == at:
                return None
            at = group.end()
            parts.append((group[1],))
            if group[2] is not None:
                numbers = _numbers(group[2])
                if numbers is None:
                    return None
                parts.append(numbers)
        for made in itertools.islice(itertools.product(*parts), NODES_MAX + 1):
            names.add("".join(made))
        if len(names) > NODES_MAX or not parts:
            return None
    return frozenset(names)


def tres_cpus(text: str) -> int | None:
    """The CPUs in a list such as ``cpu=16,mem=4G``."""
    found = re.search(r"(?:^|,)cpu=([0-9]{1,9})(?:,|$)", text)
    return int(found[1]) if found else None


def _numbers(text: str) -> tuple[str, ...] | None:
    """``1-3,07`` as ``1 2 3 07``, with the zeros in front that it has."""
    found: list[str] = []
    for word in text.split(","):
        low, dash, high = word.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            return None
        last = int(high) if dash else int(low)
        if last - int(low) > NODES_MAX:
            return None
        found += [str(number).zfill(len(low)) for number in range(int(low), last + 1)]
    return tuple(found)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word and word != "(null)")


def _named(name: str, names: tuple[str, ...]) -> bool:
    """Whether a list of names, or of excluded names, lets this one in; an empty list lets all."""
    refused = [one[1:] for one in names if one.startswith("-")]
    return name not in refused and (name in names or len(refused) == len(names))
