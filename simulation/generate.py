"""Job arrivals made up from a seed: three workloads that ask different things of a policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from simulation.model import TraceJob

DAY_S = 86_400.0
HOUR_S = 3600.0


def bursty(seed: int, *, days: float) -> tuple[TraceJob, ...]:
    """Bursts of single-core jobs by a few users, about one burst in 45 minutes, of 5 to 120 jobs; else nothing."""
    random = Random(f"{seed}/bursty")

    def made() -> Iterator[TraceJob]:
        at_s = random.expovariate(1 / 2700)
        while at_s < days * DAY_S:
            user = f"user{random.randrange(4)}"
            median_s = random.choice((300.0, 900.0, 2400.0))
            declares = random.random() < 0.7
            for _ in range(int(math.exp(random.uniform(math.log(5), math.log(120))))):
                runtime_s = min(_around(random, median_s, 0.5), 4 * median_s)
                yield TraceJob(
                    submit_s=round(at_s + random.uniform(0, 30), 1),
                    memory_mib=1500,
                    runtime_s=runtime_s,
                    declared_s=int(4 * median_s) if declares else None,
                    user=user,
                    project=f"project{user[-1]}",
                )
            at_s += random.expovariate(1 / 2700)

    return tuple(sorted(made()))


def mixed(seed: int, *, days: float) -> tuple[TraceJob, ...]:
    """A queue that is long from the beginning and fed on: 1 to 8 cores, some with much memory, minutes to hours."""
    random = Random(f"{seed}/mixed")
    shapes = ((1, 1500), (1, 1500), (1, 6000), (2, 3000), (4, 6000), (8, 14000))

    def made() -> Iterator[TraceJob]:
        at_s = 0.0
        for number in range(int(700 + 350 * days)):
            if number >= 700:
                at_s += random.expovariate(350 / DAY_S)
            cores, memory_mib = random.choice(shapes)
            median_s = random.choice((900.0, 3600.0, 7200.0))
            user = f"user{random.randrange(6)}"
            yield TraceJob(
                submit_s=round(at_s, 1),
                cores=cores,
                memory_mib=memory_mib,
                runtime_s=min(_around(random, median_s, 0.6), 4 * median_s),
                declared_s=int(4 * median_s),
                user=user,
                project=f"project{user[-1]}",
                requirements='GlideinSite != "gamma"' if random.random() < 0.2 else "",
            )

    return tuple(sorted(made()))


def trickle(seed: int, *, days: float) -> tuple[TraceJob, ...]:
    """Short single-core jobs one by one, about 40 an hour, of one to four minutes; none declares its run time."""
    random = Random(f"{seed}/trickle")

    def made() -> Iterator[TraceJob]:
        at_s = random.expovariate(40 / HOUR_S)
        while at_s < days * DAY_S:
            user = f"user{random.randrange(3)}"
            yield TraceJob(
                submit_s=round(at_s, 1),
                runtime_s=round(random.uniform(60, 240), 1),
                user=user,
                project=f"project{user[-1]}",
            )
            at_s += random.expovariate(40 / HOUR_S)

    return tuple(sorted(made()))


def _around(random: Random, median_s: float, sigma: float) -> float:
    """Log-normal seconds."""
    return round(median_s * math.exp(sigma * random.gauss(0.0, 1.0)), 1)


WORKLOADS: dict[str, Callable[..., tuple[TraceJob, ...]]] = {"bursty": bursty, "mixed": mixed, "trickle": trickle}
"""By the names that the command line takes."""
