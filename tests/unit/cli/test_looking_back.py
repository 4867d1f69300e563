"""``aerotow replay``, ``explain`` and ``what-if``: a recorded cycle, made again and asked about."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from factory.sites.fake import Faults
from tests.unit.cli.desk import Desk, bucket


def busy(desk: Desk) -> None:
    """Some cycles in which something happens."""
    desk.world.submit_jobs(30, runtime_s=600)
    desk.world.more = (bucket(jobs=3, first="12.0", memory=88231), bucket(jobs=2, first="13.0", cores=3))
    for _ in range(4):
        desk.world.cycle()


def test_every_recorded_cycle_replays_to_the_identical_plan(desk: Desk) -> None:
    # Mutation: match_observation reads the machine's clock in place of the observation's.
    busy(desk)
    spans = desk.world.ledger.journal_list(desk.world.config.instance.name)
    assert len(spans) >= 3
    for span in spans:
        told = desk.json("replay", "--at", _iso(span.first_s))
        assert (True, span.cycle) == (told["identical"], told["cycle"]["name"])
    assert "the identical plan" in desk.run("replay").stdout


def test_an_exported_cycle_replays_elsewhere_and_a_changed_one_does_not(desk: Desk, tmp_path: Path) -> None:
    # Mutation: replay compares the recorded plan with itself.
    busy(desk)
    file = tmp_path / "cycle.json"
    first = _iso(desk.world.ledger.journal_list(desk.world.config.instance.name)[-1].first_s)
    desk.run("replay", "--at", first, "--export", str(file))
    assert 0o600 == file.stat().st_mode & 0o777
    assert desk.json("replay", str(file))["identical"]
    tree = json.loads(file.read_text())
    tree["policy"]["sites"][0]["max_pending"] = 1
    file.write_text(json.dumps(tree))
    text = desk.run("replay", str(file), code=1).stdout
    assert "decides otherwise" in text
    assert "alpha: 5 new pilots, now 1" in text


def test_what_cannot_be_replayed_says_why(desk: Desk, tmp_path: Path) -> None:
    assert "no cycle of instance sim is recorded; start the factory" in desk.run("replay", code=1).output
    busy(desk)
    assert "the oldest recorded one is of" in desk.run("replay", "--at", "2001-01-01", code=1).output
    assert "cannot be read (No such file" in desk.run("replay", str(tmp_path / "no"), code=2).output
    (tmp_path / "x").write_text("{}")
    assert "its key 'format' is None" in desk.run("replay", str(tmp_path / "x"), code=1).output
    assert "leave one of them out" in desk.run("replay", str(tmp_path / "x"), "--at", "1 h", code=2).output


def test_explain_tells_sight_limits_and_what_became_of_the_jobs(desk: Desk) -> None:
    # Mutation: leave out any line of _limit_lines; take the present file's limits for the recorded ones.
    busy(desk)
    first = desk.world.ledger.journal_list(desk.world.config.instance.name)[-1]
    text = desk.run("explain", "alpha", "--at", _iso(first.first_s)).stdout
    for words in (
        "pilots: 0 of 10 (sites.alpha.max_pilots) [factory]",
        "of them waiting: 0 of 5 (sites.alpha.max_pending) [factory]",
        "breaker: closed",
        "asked for: 5 new pilots",
        "can never run here",
        "ap1#12.0: the job and a pilot of site alpha do not accept each other",
    ):
        assert words in text
    told = desk.json("explain", "alpha", "--at", _iso(first.first_s))
    assert told["identical"]
    assert [{"site": "alpha", "count": 5}] == told["submits"]
    assert 35 == sum(one["jobs"] for one in told["kinds"])
    never = next(one for one in told["kinds"] if one["outcome"] == "never")
    assert (3, 1, "ap1#12.0", 0) == (never["jobs"], never["kinds"], never["example"], never["granted"])


def test_explain_an_unseen_site_and_one_that_is_none(desk: Desk) -> None:
    desk.world.sites["beta"].faults = Faults(unseen="squeue gave no answer in 30 s")
    busy(desk)
    text = desk.run("explain", "beta").stdout
    assert "not seen: squeue gave no answer in 30 s; nothing was asked for" in text
    assert "unseen" == desk.json("explain", "beta")["state"]
    assert "did you mean 'beta'?" in desk.run("explain", "betta", code=2).output


@pytest.mark.parametrize("kinds", [2000])
def test_explain_one_site_of_many_kinds_is_quick(desk: Desk, kinds: int) -> None:
    # Mutation: ask for the verdict of every kind that never fits; each costs a look at its requirements.
    desk.world.more = tuple(bucket(first=f"{n}.0", memory=50_000 + n) for n in range(kinds))
    desk.world.cycle()
    start = time.process_time()
    told = desk.json("explain", "alpha")
    assert [("never", kinds)] == [(one["outcome"], one["kinds"]) for one in told["kinds"]]
    assert time.process_time() - start < 5


def test_what_if_tells_what_another_limit_would_have_done(desk: Desk) -> None:
    # Mutation: decide both sides by the same policy.
    busy(desk)
    first = _iso(desk.world.ledger.journal_list(desk.world.config.instance.name)[-1].first_s)
    told = desk.json("what-if", "--at", first, "--set", "sites.alpha.max_pending=1")
    assert {"site": "alpha", "before": 5, "after": 1} in told["sites"]
    text = desk.run(
        "what-if", "--at", first, "--set", "sites.alpha.max_pending=1", "--set", "sites.beta.max_pending=1"
    ).stdout
    assert "-4" in text
    assert "without a place" in text
    assert "the plan would be the same" in desk.run("what-if", "--at", first, "--set", "limits.max_pilots=999").stdout


def test_what_if_takes_a_new_site_for_seen_and_empty(desk: Desk, tmp_path: Path) -> None:
    # Mutation: leave the new site out of the observation; it is unseen then and gets nothing.
    busy(desk)
    first = _iso(desk.world.ledger.journal_list(desk.world.config.instance.name)[-1].first_s)
    file = tmp_path / "gamma.toml"
    file.write_text(
        '[sites.gamma]\nlogin = "p@login.gamma"\naccount = "a"\npartition = "p"\ncores = 4\nmemory = "96 GiB"\n'
        'walltime = "2:00:00"\nmax_pilots = 20\nmax_pending = 20\n'
    )
    told = desk.json("what-if", "--at", first, "--site-file", str(file))
    assert ["gamma"] == told["added"]
    assert 0 < next(one["after"] for one in told["sites"] if one["site"].startswith("gamma"))
    changed = {one["first_job"]: one for one in told["buckets"]}
    assert (3, 0) == (changed["ap1#12.0"]["unplaced_before"], changed["ap1#12.0"]["unplaced_after"])


def test_what_if_names_what_is_wrong_with_a_setting(desk: Desk) -> None:
    busy(desk)
    for args, words in (
        ((), "say what is different"),
        (("--set", "max_pilots"), "is no setting"),
        (("--set", "sites.alfa.max_pilots=3"), "did you mean 'alpha'"),
        (("--set", "sites.alpha.max_pilot=3"), "did you mean 'max_pilots'"),
        (("--set", "limits.max_pilots=-1"), "limits.max_pilots"),
    ):
        assert words in desk.run("what-if", *args, code=2).output


def _iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))
