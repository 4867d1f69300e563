"""``aerotow why``: the killer answer, case by case."""

from __future__ import annotations

from dataclasses import replace

from accounting.books import Books
from factory.sites.fake import Faults
from overlay.job import JobHeldBack, JobStatus, JobUnseen
from overlay.model import EpochRecord, RecordsSeen
from tests.unit.cli.desk import Desk, bucket, found


def attempt(desk: Desk, *, ap: str = "ap1", end_s: int = 1_800_000_100, **changes: object) -> EpochRecord:
    record = EpochRecord(
        ap=ap,
        global_job_id=f"{ap}.pool#12.0#1800000000",
        run_instance_id=0,
        cluster=12,
        proc=0,
        owner="alice",
        group="dp001",
        start_s=1_800_000_000,
        end_s=end_s,
        execution_s=98,
        cores=2,
        memory_mib=2000,
        gpus=0,
        user_cpu_s=150.0,
        sys_cpu_s=10.0,
        peak_rss_kib=1024,
        exit_code=0,
        exit_signal=None,
        vacate_code=None,
        site="alpha",
        pilot_id="sim-alpha-6b49d2000001-1",
        remote_host="slot1_1@sim-alpha-6b49d2000001-1",
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def ingest(desk: Desk, *epochs: EpochRecord) -> None:
    for ap in sorted({one.ap for one in epochs}):
        reading = RecordsSeen(
            ap=ap,
            taken_s=desk.world.now_s,
            epochs=tuple(one for one in epochs if one.ap == ap),
            history=(),
            running=(),
            unreadable=(),
            complete=True,
            gap=False,
        )
        Books(f"sqlite:///{desk.world.directory}/ledger.db").payload.ingest(reading, desk.world.now_s)


def test_the_impossible_job_names_the_requirement_and_both_values_for_each_site(desk: Desk) -> None:
    # Mutation: print only the first reason's code (aerotow/cli/why.py).
    big = bucket(jobs=1, first="12.0", memory=88231)
    desk.world.more = (big,)
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(big)
    text = desk.run("why", "ap1#12.0").stdout
    for site in ("alpha", "beta"):
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{site}: "))
        assert "requires TARGET.Memory >= RequestMemory, and Memory is 7872 and RequestMemory is 88231" in line
    assert "No configured site can ever run this job as it is." in text
    told = desk.json("why", "ap1#12.0")
    assert told["runs_nowhere"]
    failed = {
        verdict["site"]: [clause["values"] for reason in verdict["reasons"] for clause in reason["failed"]]
        for verdict in told["verdicts"]
    }
    for site in ("alpha", "beta"):
        assert [["Memory", "7872"], ["RequestMemory", "88231"]] in failed[site]


def test_a_job_that_will_be_taken_by_a_waiting_pilot_names_it_and_slurms_reason(desk: Desk) -> None:
    for site in desk.world.sites.values():
        site.room = 0
    desk.world.submit_jobs(1)
    desk.world.cycle()
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket(first="1.0"))
    (pilot,) = desk.json("pilots")
    told = desk.json("why", "12.0")
    assert [pilot["pilot_id"]] == [taker["pilot_id"] for taker in told["takers"]]
    assert (1, 0) == (told["verdicts"][0]["absorbed_waiting"], told["verdicts"][0]["granted"])
    text = desk.run("why", "12.0").stdout
    assert "alpha: 1 job like it for pilots that start or wait there" in text
    assert pilot["batch_reason"] in text
    assert pilot["pilot_id"] in text


def test_caps_stops_and_unseen_sites_are_told_with_number_and_owner(desk: Desk) -> None:
    desk.world.submit_jobs(100)
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket(first="1.0"))
    text = desk.run("why", "12.0").stdout
    assert "5 new pilots asked for" in text
    assert "by max_pending" in text
    assert "[factory]" in text
    desk.run("stop", "alpha", "--reason", "cooling fails")
    desk.world.sites["beta"].faults = Faults(unseen="no route to host")
    desk.world.submit_jobs(100)
    desk.world.cycle()
    text = desk.run("why", "12.0").stdout
    assert "cooling fails [operator]" in text
    assert "no route to host [site]" in text


def test_an_ambiguous_number_lists_the_candidates(desk: Desk) -> None:
    # Mutation: take the first AP that has the number (aerotow/cli/why.py, choose).
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket())
    desk.jobs["ap2", 12, 0] = found(None, ap="ap2", user="carol@pool", status=JobStatus.HELD)
    result = desk.run("why", "12.0", code=2)
    assert "12.0 is the name of 2 jobs; give one of these:" in result.stderr
    assert "ap1#12.0  idle, of alice@pool" in result.stderr
    assert "ap2#12.0  held, of carol@pool" in result.stderr
    assert "" == result.stdout


def test_a_past_job_makes_a_number_ambiguous_too(desk: Desk) -> None:
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket())
    ingest(desk, attempt(desk, ap="ap2", owner="carol"))
    assert "ap2#12.0  of carol, last attempt ended" in desk.run("why", "12.0", code=2).stderr


def test_an_unseen_ap_may_have_such_a_job_too(desk: Desk) -> None:
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket())
    desk.jobs["ap2", 12, 0] = JobUnseen(ap="ap2", cluster=12, proc=0, taken_s=0, reason="no answer in 25 s")
    assert "ap2 could not be asked and may have such a job too" in desk.run("why", "12.0").stderr


def test_a_held_job_tells_its_reason_and_the_next_step(desk: Desk) -> None:
    desk.jobs["ap1", 12, 0] = found(None, status=JobStatus.HELD, hold_reason="Error from slot1: disk quota exceeded")
    text = desk.run("why", "ap1#12.0").stdout
    assert "hold reason: Error from slot1: disk quota exceeded" in text
    assert "condor_release 12.0" in text


def test_a_running_job_tells_where_and_how_long_the_pilot_lives(desk: Desk) -> None:
    desk.world.submit_jobs(1, runtime_s=900)
    for _ in range(3):
        desk.world.cycle()
    (pilot,) = desk.json("pilots")
    desk.jobs["ap1", 12, 0] = found(None, status=JobStatus.RUNNING, pilot_id=pilot["pilot_id"], starts=1)
    text = desk.run("why", "12.0").stdout
    assert f"at site alpha, pilot {pilot['pilot_id']}, node n1, Slurm job {pilot['batch_id']}" in text
    assert "the pilot stops by itself in 2.0 h" in text
    assert pilot["life_left_s"] == desk.json("why", "12.0")["pilot"]["life_left_s"]


def test_a_finished_job_shows_its_attempts(desk: Desk) -> None:
    ingest(
        desk,
        attempt(desk, vacate_code=1, exit_code=None),
        attempt(desk, run_instance_id=1, start_s=1_800_000_200, end_s=1_800_000_300),
    )
    text = desk.run("why", "ap1.pool#12.0#1800000000").stdout
    assert "ap1#12.0: has left the queue of ap1; ended with exit code 0" in text
    assert "2 attempts in the usage ledger:" in text
    assert "given up and queued again" in text
    assert [0, 1] == [one["run_instance_id"] for one in desk.json("why", "12.0")["attempts"]]


def test_an_unknown_job_is_said_to_be_unknown(desk: Desk) -> None:
    text = desk.run("why", "ap1#99.0", code=1).stdout
    assert "ap1#99.0: not in the queue of ap1" in text
    assert "the usage ledger knows no attempt of it" in text


def test_an_ap_that_does_not_answer_is_not_an_absent_job(desk: Desk) -> None:
    # Mutation: treat JobUnseen like JobAbsent.
    desk.jobs["ap1", 12, 0] = JobUnseen(ap="ap1", cluster=12, proc=0, taken_s=0, reason="no answer in 25 s")
    text = desk.run("why", "ap1#12.0", code=1).stdout
    assert "ap1 could not be asked: no answer in 25 s" in text
    assert "not in the queue" not in text


def test_a_job_that_is_not_made_yet(desk: Desk) -> None:
    desk.jobs["ap1", 12, 500] = JobHeldBack(ap="ap1", cluster=12, proc=500, taken_s=0, next_proc=40, size=1000)
    assert "40 of 1000 so far" in desk.run("why", "ap1#12.500").stdout


def test_a_job_newer_than_the_last_cycle_is_planned_for_alone(desk: Desk) -> None:
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket())
    told = desk.json("why", "12.0")
    assert not told["bucket"]["counted"]
    assert 1 == sum(verdict["granted"] for verdict in told["verdicts"])
    assert "did not count this job" in desk.run("why", "12.0").stdout


def test_without_a_cycle_it_says_what_to_start(desk: Desk) -> None:
    desk.jobs["ap1", 12, 0] = found(bucket())
    result = desk.run("why", "12.0")
    assert "is 'aerotow run' running?" in result.stderr
    assert "nothing can be said of the sites" in result.stdout


def test_a_dags_own_job_is_no_job_for_pilots(desk: Desk) -> None:
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(None, universe=7)
    assert "runs at ap1 itself" in desk.run("why", "12.0").stdout


def test_a_mistyped_ap_or_number_is_a_usage_error(desk: Desk) -> None:
    assert "did you mean 'ap1'?" in desk.run("why", "ap11#12.0", code=2).stderr
    assert "write ap1#12.0 or 12.0" in desk.run("why", "twelve", code=2).stderr


def test_the_real_question_to_a_dead_pool_is_answered_unseen(desk: Desk) -> None:
    from click.testing import CliRunner

    from aerotow.cli.app import App
    from aerotow.cli.main import main

    result = CliRunner().invoke(main, ["why", "ap1#12.0"], obj=App(config_path=desk.app.config_path))
    assert 1 == result.exit_code
    assert "ap1#12.0: ap1 could not be asked" in result.stdout


def test_the_first_line_is_the_answer(desk: Desk) -> None:
    # Mutation: print the headline after the table.
    big = bucket(jobs=1, first="12.0", memory=88231)
    desk.world.more = (big,)
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(big)
    assert (
        "ap1#12.0 waits because it asks for 88231 MiB of memory, and the largest pilot, at alpha, has 7872 MiB; "
        "what to do: ask for less (request_memory), or ask the operators for larger pilots; owner: whoever submitted it"
    ) == desk.run("why", "ap1#12.0").stdout.splitlines()[0]
    assert ("memory", "job") == tuple(desk.json("why", "ap1#12.0")["cause"][key] for key in ("code", "owner"))


def test_a_factory_that_does_not_work_is_the_cause(desk: Desk) -> None:
    # Mutations: cause() passes no idle_factory; a slow cycle is taken for none (waiting.py without lease_valid).
    desk.world.submit_jobs(1)
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket())
    desk.world.now_s += 3600
    assert "no factory" not in desk.run("why", "ap1#12.0").stdout.splitlines()[0]
    desk.world.ledger.release_lease(desk.world.lease)
    first = desk.run("why", "ap1#12.0").stdout.splitlines()[0]
    assert "waits because no factory works: the last cycle of instance sim ended 60 min ago" in first
    assert "owner: the operators of this pool" in first


def test_a_held_job_says_its_reason_first(desk: Desk) -> None:
    desk.world.cycle()
    reason = "accounting_group dp009 is no project of alice; valid: dp001"
    desk.jobs["ap1", 12, 0] = found(None, status=JobStatus.HELD, hold_reason=reason)
    assert desk.run("why", "ap1#12.0").stdout.startswith(
        f"ap1#12.0 is held because {reason}; what to do: submit it anew"
    )
    assert "project" == desk.json("why", "ap1#12.0")["cause"]["code"]
    desk.jobs["ap1", 12, 0] = found(None, status=JobStatus.HELD, hold_reason="no such file")
    assert "held" == desk.json("why", "ap1#12.0")["cause"]["code"]


def test_a_waiting_pilots_start_is_told_from_history_or_not_at_all(desk: Desk) -> None:
    # Mutation: MEDIAN_MIN = 1 (factory/waits.py); forget how long the pilot has waited already.
    for site in desk.world.sites.values():
        site.start_delay_s = 10**6
    desk.world.submit_jobs(1)
    desk.world.cycle()
    desk.world.cycle()
    desk.jobs["ap1", 12, 0] = found(bucket())
    text = desk.run("why", "ap1#12.0").stdout
    assert "expected start: insufficient data (0 starts after as long a wait, 5 needed)" in text
    assert "1 pilot for jobs like it waits in the queue of site" in text.splitlines()[0]
    for site in desk.world.sites.values():
        site.start_delay_s = 60
    desk.world.submit_jobs(40, runtime_s=300)
    for _ in range(30):
        desk.world.cycle()
    for site in desk.world.sites.values():
        site.start_delay_s = 10**6
    desk.world.submit_jobs(8, runtime_s=300)
    desk.world.cycle()
    desk.world.cycle()
    (wait, *_) = desk.json("why", "ap1#12.0")["expected"]
    assert wait["expected"]["starts"] >= 5
    assert 0 <= wait["expected"]["q50_s"] <= 60
    assert "half of such pilots within" in desk.run("why", "ap1#12.0").stdout
