"""Where one job is, read from an AP's answer."""

from __future__ import annotations

from overlay.classads import parse_ad
from overlay.client import Answer, NoAnswer
from overlay.demand import bucket_of
from overlay.job import JobAbsent, JobFound, JobHeldBack, JobSight, JobStatus, JobUnseen, job_of

JOB = '[ ClusterId = 12; ProcId = 3; JobUniverse = 5; JobStatus = {status}; User = "a@pool"; RequestCpus = 2; {more} ]'
GROUP = (
    '[ JobCount = 1; JobIds = "12.3"; User = "alice@pool"; Owner = "alice"; JobStatus = 1; JobUniverse = 5; '
    "RequestCpus = 2; RequestMemory = 100; RequestDisk = 1024; Requirements = true{more} ]"
)
CLUSTER = "[ ClusterId = 12; TotalSubmitProcs = 10; JobMaterializeNextProcId = 5 ]"


def read(jobs: tuple[str, ...] = (), groups: tuple[str, ...] = (), clusters: tuple[str, ...] = ()) -> JobSight:
    answer = Answer(steps=(jobs, groups, clusters), duration_s=0.1)
    return job_of(answer, ap="ap1", cluster=12, proc=3, now_s=1000)


def test_an_idle_job_has_the_key_of_its_whole_bucket() -> None:
    # Mutation: leave ClusterId and ProcId in the group (overlay/job.py), and no job is ever in a counted bucket.
    job = read((JOB.format(status=1, more=""),), (GROUP.format(more="; ClusterId = 12; ProcId = 3"),))
    assert isinstance(job, JobFound)
    assert job.bucket is not None
    assert bucket_of(parse_ad(GROUP.format(more="")), ap="ap1").key == job.bucket.key
    assert (JobStatus.IDLE, 2, True) == (job.status, job.cores, job.is_for_pilots)


def test_a_running_job_tells_its_pilot_and_what_it_occupies() -> None:
    more = 'CpusProvisioned = 4; MachineAttrGlideinPilotId0 = "sim-alpha-6b49d2000001-1"; NumShadowStarts = 2'
    job = read((JOB.format(status=2, more=more),))
    assert isinstance(job, JobFound)
    assert ("sim-alpha-6b49d2000001-1", 4, 2, None) == (job.pilot_id, job.cores, job.starts, job.bucket)


def test_a_job_that_the_ap_has_not_made_yet() -> None:
    answer = Answer(steps=((), (), (CLUSTER,)), duration_s=0.1)
    later = job_of(answer, ap="ap1", cluster=12, proc=7, now_s=1000)
    assert isinstance(later, JobHeldBack)
    assert (5, 10) == (later.next_proc, later.size)
    # 12.3 was made and has gone; 12.10 never will be.
    assert isinstance(read(clusters=(CLUSTER,)), JobAbsent)
    assert isinstance(job_of(answer, ap="ap1", cluster=12, proc=10, now_s=1000), JobAbsent)


def test_no_answer_and_a_damaged_one_are_not_absence() -> None:
    # Mutation: return JobAbsent for NoAnswer.
    answer = NoAnswer(reason="no answer in 25 s")
    assert isinstance(job_of(answer, ap="ap1", cluster=12, proc=3, now_s=1000), JobUnseen)
    assert isinstance(read(("[ ClusterId = 12",)), JobUnseen)
    assert isinstance(read((JOB.format(status=77, more=""),)), JobUnseen)
    assert isinstance(read(), JobAbsent)
