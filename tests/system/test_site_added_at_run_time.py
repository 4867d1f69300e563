"""A site that comes to a running factory by one file of its own."""

from __future__ import annotations

import re

import pytest

from testbed import containers, model
from tests.system.fleet import FACTORY, jobs_left, new_fleet, squeue_of, submit_jobs, wait_until
from tests.system.test_factory import clean_up

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("bed")]

ALPHA, BETA, _ = model.SITES


def test_a_site_file_brings_its_first_pilot_within_two_cycles() -> None:
    # Mutation: Worldmaker._reload looks at the main file only.
    fleet = new_fleet(sites=(ALPHA, BETA))
    main = (containers.read_file(FACTORY, fleet.config) or b"").decode()
    before, _, table = main.partition("[sites.beta]")
    containers.write_file(FACTORY, fleet.config, before.encode(), owner="aerotow:aerotow")
    directory = f"{fleet.directory}/sites.d"
    containers.execute(FACTORY, ["mkdir", directory], user=model.FACTORY_USER)
    try:
        fleet.start()
        cluster = submit_jobs(fleet, 1, where='TARGET.GlideinSite == "beta"')
        wait_until(
            "the job is seen and fits nowhere",
            lambda: any(event["jobs_idle"] for event in fleet.events("cycle.finished")),
            timeout_s=60,
        )
        assert [] == squeue_of(BETA, fleet.instance)
        text = "[sites.beta]" + table
        assert len(re.findall(r"^\S", text, re.MULTILINE)) <= 10
        containers.write_file(FACTORY, f"{directory}/beta.toml", text.encode(), owner="aerotow:aerotow")
        wait_until("a pilot is asked for", lambda: bool(fleet.events("pilot.submitted")), timeout_s=60, pause_s=0.3)
        names = [line.split('"event": "')[1].split('"')[0] for line in fleet.log().splitlines() if '"event": "' in line]
        between = names[names.index("config.taken") : names.index("pilot.submitted")]
        # The cycle that takes the file into force, and the next at most.
        assert between.count("cycle.finished") <= 1
        (taken,) = fleet.events("config.taken")
        assert (["beta"], ["sites.beta: added"]) == (taken["added"], taken["changes"])
        wait_until("the job has run there", lambda: jobs_left(cluster) == 0, timeout_s=90)
    finally:
        clean_up(fleet)
