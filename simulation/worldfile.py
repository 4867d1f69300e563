"""The file that says how sites behave: TOML, one table ``[sites.NAME]`` for each; docs/simulator.md has an example."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from config.units import parse_span
from simulation.errors import WorldUnreadable
from simulation.model import Outage, Regime, SiteModel, WorldModel

Span = Annotated[timedelta, BeforeValidator(parse_span)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Regime(_Strict):
    median: Span
    lasts: Span


class _Outage(_Strict):
    begin: Span
    length: Span
    kills: bool = True


class _Site(_Strict):
    regimes: tuple[_Regime, ...] = Field(min_length=1)
    sigma: float = Field(0.6, ge=0, le=5)
    rho: float = Field(0.5, gt=-1, lt=1)
    join: Span = timedelta(seconds=20)
    fizzle: Share = 0.0
    never_join: Share = 0.0
    preempted_per_h: float = Field(0.0, ge=0)
    room: int = Field(1_000_000, ge=0)
    speed: float = Field(1.0, gt=0)
    outages: tuple[_Outage, ...] = ()


class _World(_Strict):
    negotiator: Span = timedelta(seconds=60)
    claim_worklife: Span = timedelta(seconds=1200)
    sites: dict[str, _Site]


def read_world(path: Path, *, sites: frozenset[str]) -> WorldModel:
    """
    Read the models of the configuration's sites.

    :raises WorldUnreadable: the file cannot be read, a key does not fit, or a site of it is not configured.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorldUnreadable(
            path=path, problem=f"cannot be read ({error.strerror})", remedy="give the right path"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WorldUnreadable(path=path, problem=f"is no TOML ({error})", remedy="mend it there") from error
    try:
        world = _World.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise WorldUnreadable(path=path, problem=f"{key}: {first['msg']}", remedy="see docs/simulator.md") from error
    foreign = sorted(set(world.sites) - sites)
    if foreign:
        raise WorldUnreadable(
            path=path,
            problem=f"sites.{foreign[0]} is no configured site",
            remedy=f"the sites are {', '.join(sorted(sites))}",
        )
    return WorldModel(
        sites=tuple(_site(name, site) for name, site in sorted(world.sites.items())),
        negotiator_s=world.negotiator.total_seconds(),
        claim_worklife_s=world.claim_worklife.total_seconds(),
    )


def _site(name: str, site: _Site) -> SiteModel:
    return SiteModel(
        name=name,
        regimes=tuple(
            Regime(median_s=one.median.total_seconds(), lasts_s=one.lasts.total_seconds()) for one in site.regimes
        ),
        sigma=site.sigma,
        rho=site.rho,
        join_s=site.join.total_seconds(),
        fizzle=site.fizzle,
        never_join=site.never_join,
        preempted_per_h=site.preempted_per_h,
        room=site.room,
        speed=site.speed,
        outages=tuple(
            Outage(begin_s=one.begin.total_seconds(), length_s=one.length.total_seconds(), kills=one.kills)
            for one in site.outages
        ),
    )
