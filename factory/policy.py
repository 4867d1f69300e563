"""The operator's configuration as the planner's policy."""

from __future__ import annotations

import json

from config.model import Config, Share
from config.model import Site as SiteConfig
from factory.model import (
    BreakerPolicy,
    Outage,
    PatiencePolicy,
    Policy,
    ShapePolicy,
    SitePolicy,
    SlotFacts,
    VanishPolicy,
    VoShare,
)
from glidein.model import Lifetimes, Offer, Shape
from overlay.poolconfig import GroupShare


def policy_of(config: Config) -> Policy:
    """The rules in force."""
    return Policy(
        sites=tuple(site_policy(name, site) for name, site in sorted(config.sites.items())),
        max_pilots=config.limits.max_pilots,
        max_submits_per_cycle=config.limits.max_submits_per_cycle,
        lifetimes=lifetimes_of(config),
        breaker=BreakerPolicy(
            failures=config.breaker.failures,
            fizzle_s=_seconds(config.breaker.fizzle.total_seconds()),
            backoff_s=_seconds(config.breaker.backoff.total_seconds()),
            backoff_max_s=_seconds(config.breaker.backoff_max.total_seconds()),
        ),
        surplus_after_s=_seconds(config.factory.surplus_after.total_seconds()),
        ads_max_age_s=_seconds(config.pool.ads_max_age.total_seconds()),
        slot_facts=SlotFacts(trust_domain=config.pool.trust_domain),
        drain_target_s=_seconds(config.factory.drain_target.total_seconds()),
        ramp_percent=config.limits.ramp,
        exclude_nodes=config.breaker.exclude_nodes,
        shares=shares_of(config),
        placement=config.factory.placement,
        wait_noticed_s=_seconds(config.factory.wait_noticed.total_seconds()),
        project_vos=tuple(sorted((project.lower(), vos) for project, vos in vo_map_of(config).items())),
        patience=PatiencePolicy(
            backoff_s=config.politeness.backoff.total_seconds(),
            backoff_max_s=config.politeness.backoff_max.total_seconds(),
        ),
        vanish=VanishPolicy(
            share=config.vanishing.share, at_least=config.vanishing.at_least, looks=config.vanishing.looks
        ),
    )


def vo_map_of(config: Config) -> dict[str, tuple[str, ...]]:
    """Project to the virtual organisations whose table names it."""
    vos: dict[str, list[str]] = {}
    for name, vo in sorted(config.vos.items()):
        for project in vo.projects:
            vos.setdefault(project, []).append(name)
    return {project: tuple(names) for project, names in vos.items()}


def shares_of(config: Config) -> tuple[VoShare, ...]:
    """What each virtual organisation gets."""
    return tuple(
        VoShare(
            vo=vo,
            weight=share.weight,
            guaranteed_cores=share.guaranteed,
            maximum_cores=share.maximum,
            projects=tuple(sorted((name.lower(), one.weight) for name, one in share.projects.items())),
        )
        for vo, share in sorted(config.shares.items())
    )


def group_shares(config: Config) -> tuple[GroupShare, ...]:
    """
    The same for the negotiator: organisations and below them projects; empty where the operator has said nothing.

    It knows one number for each group. So an organisation with a maximum gets that as its quota and nothing beyond, one
    with a guarantee gets that as its quota and what others leave, and the rest is divided by weight.
    """
    if not config.shares:
        return ()
    whole = sum(_share(config, vo).weight for vo in config.vos)
    vos = vo_map_of(config)
    parts: list[GroupShare] = []
    for name, vo in sorted(config.vos.items()):
        share = _share(config, name)
        cores = share.maximum if share.maximum is not None else share.guaranteed or None
        parts.append(GroupShare(vo=name, part=share.weight / whole, cores=cores, more=share.maximum is None))
        # Of two organisations with one project the first in the alphabet speaks for it, as in the plan.
        own = sorted(project for project in vo.projects if vos[project][0] == name)
        weights = {project: share.projects[project].weight if project in share.projects else 1.0 for project in own}
        parts += [
            GroupShare(vo=name, project=project, part=weight / sum(weights.values()))
            for project, weight in weights.items()
        ]
    return tuple(parts)


def _share(config: Config, vo: str) -> Share:
    return config.shares.get(vo) or Share()


def lifetimes_of(config: Config) -> Lifetimes:
    """The clocks of every pilot."""
    return Lifetimes(
        join_timeout_s=_seconds(config.factory.join_timeout.total_seconds()),
        idle_timeout_s=_seconds(config.factory.idle_timeout.total_seconds()),
        default_job_runtime_s=_seconds(config.factory.default_job_runtime.total_seconds()),
        claim_life_s=_seconds(config.factory.claim_life.total_seconds()),
    )


def site_policy(name: str, site: SiteConfig) -> SitePolicy:
    """What one site may get."""
    caps = {shape.name: shape.max_pilots for shape in site.shapes}
    shapes = tuple(
        ShapePolicy(offer=_offer(name, kind, own), max_pilots=caps.get(kind)) for kind, own in site.kinds if kind
    )
    outages = [
        Outage(start_s=int(one.start.timestamp()), end_s=_seconds(one.end.timestamp()), why=one.why)
        for one in site.outages
    ]
    return SitePolicy(
        offer=shapes[0].offer if shapes else _offer(name, "", site),
        max_pilots=site.max_pilots,
        max_pending=site.max_pending,
        shapes=shapes,
        weight=site.weight,
        outages=tuple(sorted(outages)),
    )


def _offer(name: str, kind: str, site: SiteConfig) -> Offer:
    """One kind of pilot; ``site`` has its own keys in place."""
    shape = Shape(
        cores=site.cores,
        memory_mib=site.memory,
        disk_mib=site.disk,
        gpus=site.gpus,
        walltime_s=_seconds(site.walltime.total_seconds()),
    )
    return Offer(
        site=name,
        name=kind,
        shape=shape,
        account=site.account,
        partition=site.partition,
        qos=site.qos,
        slot_attributes=tuple(sorted((key, json.dumps(value)) for key, value in site.slot_attributes.items())),
    )


def _seconds(value: float) -> int:
    """Whole seconds, rounded up so that no limit becomes zero."""
    return -int(-value // 1)
