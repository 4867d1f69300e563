"""Small modelled worlds whose every number can be worked out by hand."""

from __future__ import annotations

from typing import Any

from factory.model import BreakerPolicy, Policy, SitePolicy
from glidein.model import Lifetimes, Offer, Shape
from simulation.model import Regime, SiteModel, TraceJob, WorldModel
from simulation.run import Setup, fits_of
from simulation.world import SimWorld

STEADY = (Regime(median_s=100.0, lasts_s=1e9),)


def policy(*names: str, cores: int = 4, walltime_s: int = 7200, **more: Any) -> Policy:
    shape = Shape(cores=cores, memory_mib=8128, disk_mib=10_000, walltime_s=walltime_s)
    fields: dict[str, Any] = {
        "sites": tuple(
            SitePolicy(
                offer=Offer(site=name, shape=shape, account="a", partition="p"),
                max_pilots=10,
                max_pending=5,
            )
            for name in names
        ),
        "max_pilots": 100,
        "max_submits_per_cycle": 20,
        "lifetimes": Lifetimes(join_timeout_s=120, idle_timeout_s=300, default_job_runtime_s=600),
        "breaker": BreakerPolicy(failures=3, fizzle_s=60, backoff_s=300, backoff_max_s=3600),
        "surplus_after_s": 300,
        "ads_max_age_s": 300,
    }
    return Policy(**fields | more)


def site(name: str = "alpha", **more: Any) -> SiteModel:
    """A site without chance: every pilot waits 100 s and joins 20 s later."""
    return SiteModel(**{"name": name, "regimes": STEADY, "sigma": 0.0} | more)


def job(submit_s: float = 0.0, runtime_s: float = 600.0, **more: Any) -> TraceJob:
    return TraceJob(submit_s=submit_s, runtime_s=runtime_s, **more)


def world(*jobs: TraceJob, sites: tuple[SiteModel, ...] = (), seed: int = 0, **more: Any) -> SimWorld:
    sites = sites or (site(),)
    rules = policy(*(one.name for one in sites), **more)
    return SimWorld(WorldModel(sites=sites), jobs, seed=seed, lifetimes=rules.lifetimes, fits=fits_of(rules))


def setup(*jobs: TraceJob, sites: tuple[SiteModel, ...] = (), horizon_s: float = 86_400.0, **more: Any) -> Setup:
    sites = sites or (site(),)
    rules = policy(*(one.name for one in sites), **more)
    return Setup(policy=rules, world=WorldModel(sites=sites), trace=tuple(jobs), horizon_s=horizon_s)
