"""A complete, commented example of the operator's file, made from the models so that it cannot fall behind them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from config.model import (
    AccessPoint,
    Breaker,
    Bundle,
    Config,
    Factory,
    Instance,
    Limits,
    Metrics,
    Politeness,
    Pool,
    Share,
    Site,
    Vanishing,
    Vo,
)
from config.units import parse_memory_mib

_WIDTH = 110

_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("instance", Instance),
    ("pool", Pool),
    ("bundle", Bundle),
    ("access_points.ap1", AccessPoint),
    ("vos.astro", Vo),
    ("shares.astro", Share),
    ("limits", Limits),
    ("factory", Factory),
    ("breaker", Breaker),
    ("politeness", Politeness),
    ("metrics", Metrics),
    ("vanishing", Vanishing),
    ("sites.alpha", Site),
)
"""Tables of the file in the order in which an operator fills them in; names below a dictionary are examples."""

_VALUES: Mapping[str, str] = {
    "instance.name": '"tow"',
    "instance.database": '"postgresql+psycopg:///aerotow"',
    "pool.collector": '"cm.example.org"',
    "pool.trust_domain": '"example.org"',
    "bundle.path": '"/var/lib/aerotow/condor.tar.gz"',
    "bundle.sha256": f'"{"0" * 64}"',
    "access_points.ap1.schedd": '"ap1.example.org"',
    "vos.astro.projects": '{ dp001 = ["alice", "bob"] }',
    "metrics.listen": '"127.0.0.1:9648"',
    "shares.astro.maximum": "500",
    "shares.astro.projects": "{ dp001 = { weight = 2.0 } }",
    "sites.alpha.account": '"dp001"',
    "sites.alpha.partition": '"compute"',
    "sites.alpha.cores": "8",
    "sites.alpha.memory": '"16 GiB"',
    "sites.alpha.walltime": '"12:00:00"',
    "sites.alpha.login": '"pilot@login.alpha.example.org"',
    "sites.alpha.qos": '"long"',
    "sites.alpha.ssh_options": '["-oProxyJump=gate.example.org"]',
    "sites.alpha.outages": '[{ start = 2026-12-01T08:00:00Z, end = 2026-12-01T18:00:00Z, why = "cooling" }]',
    "sites.alpha.rest": '"https://slurm.alpha.example.org:6821"',
    "sites.alpha.token_file": '"/etc/aerotow/secrets/alpha.slurm-token"',
    "sites.alpha.ca_file": '"/etc/aerotow/alpha-ca.pem"',
    "sites.alpha.rest_user": '"pilot"',
    "sites.alpha.shared_dir": '"/shared/home/pilot"',
    "sites.alpha.shapes": '[{ name = "node", cores = 64, memory = "250 GiB" }, { name = "gpu", gpus = 4 }]',
    "sites.alpha.schedd": '"ap.alpha.example.org"',
    "sites.alpha.collector": '"cm.alpha.example.org:9618"',
    "sites.alpha.slot_attributes": '{ HasCvmfs = true, Region = "north" }',
}
"""Example values of keys without a default, and of those whose default shows nothing."""

_SPELLED_OUT = frozenset({"sites.alpha.login"})
"""Optional keys that nearly every operator sets: not commented out."""


def example_toml() -> str:
    """The example: every key with its meaning; those with a default are commented out as ``#key = default``."""
    assert {name.split(".")[0] for name, _ in _TABLES} == set(Config.model_fields)
    head = (
        "# aerotow: one file says who this factory is, which pool it serves and which sites it may use.\n"
        "# A key that is commented out shows its default, or an example where it has none.\n"
        "# Spans: '90 s', '15 min', '2 h', '1 d' or '1:30:00'. Memory: '16 GiB' or '16000 MiB'.\n"
        "# Check it with: aerotow config check FILE\n"
    )
    return head + "".join(f"\n{text}" for text in (_table(name, model) for name, model in _TABLES))


def _table(name: str, model: type[BaseModel]) -> str:
    """One table with its heading."""
    meaning = " ".join((model.__doc__ or "").split())
    lines = [f"# {meaning}", f"[{name}]"]
    for key, field in model.model_fields.items():
        lines.extend(_key(f"{name}.{key}", key, field))
    return "\n".join(lines) + "\n"


def _key(path: str, key: str, field: FieldInfo) -> Iterator[str]:
    """The lines of one key: its meaning, then the key."""
    for line in textwrap.wrap(field.description or "", _WIDTH):
        yield f"# {line}"
    value = _VALUES.get(path) or _toml(field.get_default(call_default_factory=True), field)
    commented = not field.is_required() and path not in _SPELLED_OUT
    yield f"{'#' if commented else ''}{key} = {value}"


def _toml(value: Any, field: FieldInfo) -> str:
    """A default as the operator would write it."""
    if any(isinstance(one, BeforeValidator) and one.func is parse_memory_mib for one in field.metadata):
        return f'"{value // 1024} GiB"' if value % 1024 == 0 else f'"{value} MiB"'
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case timedelta():
            return f'"{_span(value)}"'
        case str() | Path():
            return f'"{value}"'
        case _:
            raise TypeError(f"no example for a default of type {type(value).__name__}; add one to _VALUES")


def _span(span: timedelta) -> str:
    """A span in its largest whole unit, so that reading it back gives the same span."""
    seconds = int(span.total_seconds())
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % factor == 0:
            return f"{seconds // factor} {unit}"
    return f"{seconds} s"
