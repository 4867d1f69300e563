"""The scenario that needs no file: three sites whose queues change their pace, and the product's default settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from config.load import parse_config
from config.model import Config
from factory.policy import policy_of
from simulation.generate import bursty
from simulation.model import Regime, SiteModel, WorldModel
from simulation.run import Setup

BUILT_IN = """
[instance]
name = "sim"

[pool]
collector = "cm.invalid"
trust_domain = "pool"

[bundle]
path = "/nowhere/condor.tar.gz"
sha256 = "{sha256}"

[access_points.ap1]
schedd = "ap1.invalid"
"""

SITE = """
[sites.{name}]
account = "sim"
partition = "cpu"
cores = 8
memory = "16 GiB"
disk = "40 GiB"
walltime = "12 h"
max_pilots = 30
max_pending = 15
"""


def built_in_config() -> Config:
    """Three sites of pilots with eight cores; all other settings are the defaults."""
    text = BUILT_IN.format(sha256="0" * 64) + "".join(SITE.format(name=name) for name in ("alpha", "beta", "gamma"))
    return parse_config(text, path=Path("(built in)"))


def built_in_world() -> WorldModel:
    """Waits from one minute to hours, at each site in other proportions."""
    calm, slow, jammed = 60.0, 1200.0, 4 * 3600.0
    return WorldModel(
        sites=(
            SiteModel(
                name="alpha",
                regimes=(Regime(median_s=calm, lasts_s=6 * 3600), Regime(median_s=slow, lasts_s=6 * 3600)),
                sigma=0.6,
                rho=0.5,
            ),
            SiteModel(
                name="beta",
                regimes=(
                    Regime(median_s=calm, lasts_s=4 * 3600),
                    Regime(median_s=slow, lasts_s=4 * 3600),
                    Regime(median_s=jammed, lasts_s=8 * 3600),
                ),
                sigma=0.8,
                rho=0.5,
            ),
            SiteModel(
                name="gamma",
                regimes=(Regime(median_s=2 * calm, lasts_s=3 * 3600), Regime(median_s=jammed, lasts_s=5 * 3600)),
                sigma=1.0,
                rho=0.8,
            ),
        )
    )


def world_for(config: Config, model: WorldModel | None = None) -> WorldModel:
    """The given models for the configuration's sites; a site without one has a short, steady queue."""
    model = model or WorldModel(sites=())
    known = {site.name: site for site in model.sites}
    return replace(model, sites=tuple(known.get(name, SiteModel(name=name)) for name in sorted(config.sites)))


def fault_setup(seed: int) -> Setup:
    """Two hours of bursts at three sites that are quick and now and then lose a pilot, for runs with faults."""
    queues = (Regime(median_s=60, lasts_s=7200), Regime(median_s=600, lasts_s=3600))
    sites = tuple(
        SiteModel(name=name, regimes=queues, fizzle=0.03, never_join=0.02, preempted_per_h=0.1)
        for name in ("alpha", "beta", "gamma")
    )
    return Setup(
        policy=policy_of(built_in_config()),
        world=WorldModel(sites=sites),
        trace=bursty(seed, days=0.08),
        horizon_s=86_400.0,
    )
