"""
For every test of the contract and of the faults a change of the code that it must notice.

`make mutants` makes each change in a copy of the tree, runs that one test there against the adapter named beside it,
and demands that it fails. Changes of `fake.py` show that the test can fail at all and take a second each; the others
are of the code that speaks to real schedulers, and need the test-bed.
"""

from __future__ import annotations

import condor_mutations

from tests.spoil import Change, Mutation

FAKE = "factory/sites/fake.py"
SLURM = "factory/sites/slurm.py"
REST = "factory/sites/slurmrestd.py"
TEXTS = "factory/sites/texts.py"
SCRIPTS = "factory/sites/scripts.py"
SHELL = "factory/sites/shell.py"
RESTTEXTS = "factory/sites/resttexts.py"
RESTAPI = "factory/sites/restapi.py"
RESTHTTP = "factory/sites/resthttp.py"
VERSIONS = "factory/sites/restversions.py"

CONTRACT = "test_site_contract"
FAULTS = "test_site_faults"
REST_FAULTS = "test_rest_faults"
CONDOR_FAULTS = "test_condor_faults"


def of(name: str, module: str, test: str, adapter: str, *changes: Change) -> Mutation:
    """A mutation in one line."""
    return Mutation(name=name, module=module, test=f"test_{test}", adapter=adapter, changes=changes)


LIVE = "a_submitted_pilot_is_live_under_its_name_and_id"
ORDER = "outcomes_come_in_the_order_of_the_requests"
REFUSAL = "a_refusal_carries_the_words_of_the_scheduler_and_leaves_no_job"
EXIT = "a_pilot_that_failed_has_a_final_record_with_its_exit_code"
NAMELESS = "an_ended_pilot_is_found_by_its_name_when_its_id_was_never_learnt"
CANCEL = "a_cancel_takes_a_waiting_pilot_and_leaves_a_running_one"
ENDED = "cancelling_what_has_ended_is_no_problem"
DEADLINE = "nothing_is_submitted_after_the_deadline"
FOREIGN = "a_pilot_of_another_instance_is_none_of_ours"
REPORT = "an_end_report_is_read_and_a_spoilt_one_is_named"
FORGOTTEN = "a_forgotten_pilot_leaves_no_spool_directory"
BUNDLE = "the_bundle_is_put_once"
CALLS = "a_look_takes_as_many_calls_for_many_pilots_as_for_few"

IN_MEMORY = tuple(
    of(name, CONTRACT, test, "fake", (FAKE, old, new))
    for name, test, old, new in (
        ("another id in the answer", LIVE, "batch_id=str(job_id))", "batch_id=str(job_id + 1))"),
        (
            "outcomes sorted by name",
            ORDER,
            "for n, request in enumerate(requests))",
            "for n, request in enumerate(sorted(requests, key=lambda one: one.pilot_id)))",
        ),
        (
            "a refusal is uncertain",
            REFUSAL,
            "return Refused(pilot_id=pilot_id, reason=faults.refuse)",
            "return Uncertain(pilot_id=pilot_id, reason=faults.refuse)",
        ),
        ("no exit code", EXIT, "exit_code=job.exit_code if job.state.is_final", "exit_code=0 if job.state.is_final"),
        ("found by id only", NAMELESS, "wanted[name] in (None, str(job.job_id))", "wanted[name] == str(job.job_id)"),
        (
            "cancels running ones too",
            CANCEL,
            "in names and job.state is BatchState.PENDING and job.submit_s",
            "in names and job.submit_s",
        ),
        (
            "an ended one is a problem",
            ENDED,
            "problem = self.faults.cancel_problem or self.faults.unseen",
            'problem = "gone" if any(job.state.is_final for job in self.jobs.values()) else ""',
        ),
        ("no look at the clock", DEADLINE, "if self.clock() + scripts.SBATCH_MIN_S > deadline_s:", "if not requests:"),
        (
            "everybody's jobs are ours",
            FOREIGN,
            "return texts.ours(name, instance=self.instance, site=self.name)",
            "return bool(name)",
        ),
        (
            "a spoilt report is left out",
            REPORT,
            "unreadable_reports=tuple(sorted(names & self.unreadable))",
            "unreadable_reports=()",
        ),
        ("forgets all", FORGOTTEN, "self.spools.pop(pilot_id, None)", "self.spools.clear()"),
        ("puts it each time", BUNDLE, "if not self.bundle_there:", "if self.name:"),
        (
            "a call for each pilot",
            CALLS,
            "self.counts.look += 1",
            "self.counts.look += max(len(known), 1)",
        ),
    )
)

REAL = (
    of("no name for the job", CONTRACT, LIVE, "ssh-beta", (TEXTS, 'f"--job-name={pilot_id}"', '"--job-name=pilot"')),
    of(
        "outcomes sorted by name",
        CONTRACT,
        ORDER,
        "ssh-beta",
        (
            SLURM,
            "result, answer) for request in requests)",
            "result, answer) for request in sorted(requests, key=lambda one: one.pilot_id))",
        ),
    ),
    of(
        "a refusal is uncertain",
        CONTRACT,
        REFUSAL,
        "ssh-beta",
        (
            TEXTS,
            "return Refused(pilot_id=pilot_id, reason=reason)",
            "return Uncertain(pilot_id=pilot_id, reason=reason)",
        ),
    ),
    of("no exit code", CONTRACT, EXIT, "ssh-beta", (TEXTS, "_count(code) if state.is_final", "0 if state.is_final")),
    of(
        "accounting's exit codes of v0.0.38 are believed",
        CONTRACT,
        EXIT,
        "rest-alpha",
        (VERSIONS, "accounts_exit_codes=False", "accounts_exit_codes=True"),
    ),
    of(
        "found by id only",
        CONTRACT,
        NAMELESS,
        "ssh-beta",
        (SLURM, "wanted[record.name] in (None, record.job_id)", "wanted[record.name] == record.job_id"),
    ),
    of(
        "a cancel that names no state",
        CONTRACT,
        CANCEL,
        "ssh-beta",
        (
            SCRIPTS,
            'scancel $ctld --state=PENDING --user="$user" --name="${rest#* }" "${rest%% *}"',
            'scancel "${rest%% *}"',
        ),
    ),
    of(
        "a cancel that names another state",
        CONTRACT,
        CANCEL,
        "rest-beta",
        (VERSIONS, '"job_state": ["PENDING"]', '"job_state": ["SUSPENDED"]'),
    ),
    of(
        "an ended one is a problem",
        CONTRACT,
        ENDED,
        "ssh-alpha",
        (SLURM, "(section.status == 0 or texts.says_gone(section.stderr))", "section.status == 0"),
    ),
    of(
        "nobody looks at the clock",
        CONTRACT,
        DEADLINE,
        "ssh-beta",
        (SLURM, "        if left_s <= 0:", "        if left_s <= -1000:"),
        (SLURM, "if deadline_s - self._clock() < scripts.SBATCH_MIN_S", "if deadline_s < 0"),
        (SLURM, "limit_s=int(deadline_s + self._offset_s)", "limit_s=int(deadline_s + 1000)"),
        (SLURM, "timeout_s=left_s + DEADLINE_SLACK_S", "timeout_s=30.0"),
        (SLURM, "timeout_s = min(left_s, self._settings.transfer_timeout_s)", "timeout_s = 30.0"),
    ),
    of(
        "everybody's jobs are ours",
        CONTRACT,
        FOREIGN,
        "ssh-beta",
        (SLURM, "return texts.ours(name, instance=self._settings.instance, site=self.name)", "return bool(name)"),
    ),
    of("a spoilt report is left out", CONTRACT, REPORT, "ssh-beta", (SLURM, "unreadable.append(pilot_id)", "pass")),
    of(
        "forget has no effect",
        CONTRACT,
        FORGOTTEN,
        "ssh-beta",
        (SCRIPTS, 'rm -rf "${spool:?}/${line#* }"', "true"),
    ),
    of(
        "looked for at each call",
        CONTRACT,
        BUNDLE,
        "ssh-beta",
        (SLURM, "self._bundle_there = self._shell.connection\n        return", "return"),
    ),
    of(
        "a request for each pilot",
        CONTRACT,
        CALLS,
        "rest-beta",
        (VERSIONS, "for chunk in _chunks(map(quote, names)", "for one in names for chunk in _chunks((one,)"),
    ),
    of(
        "a lost answer is a refusal",
        FAULTS,
        "lost_answers_are_uncertain_and_every_job_is_found_once",
        "beta",
        (TEXTS, "if _LOST.search(stderr):", "if not stderr:"),
    ),
    of(
        "half an order is carried out",
        FAULTS,
        "a_submission_cut_while_it_is_sent_never_runs_a_half",
        "beta",
        (
            SCRIPTS,
            "sbatch=$(command -v sbatch) || sbatch=sbatch\nset --\nwhile IFS= read -r line; do",
            'sbatch=$(command -v sbatch) || sbatch=sbatch\nset --\nwhile IFS= read -r line || [ -n "$line" ]; do',
        ),
    ),
    of(
        "no contact is a refusal",
        FAULTS,
        "a_dead_controller_is_unseen_and_nothing_is_sent",
        "beta",
        (TEXTS, "if _NO_CONTACT.search(stderr):", "if not stderr:"),
    ),
    of(
        "no word of accounting is no record",
        FAULTS,
        "dead_accounting_leaves_the_queue_seen_and_ends_open",
        "beta",
        (SLURM, "return FinalUnseen(reason=read.reason)", "continue"),
    ),
    of(
        "a request that never left is a refusal",
        FAULTS,
        "dead_authentication_is_unseen_and_nothing_is_sent",
        "beta",
        (TEXTS, "if _NO_CONTACT.search(stderr):", "if not stderr:"),
    ),
    of(
        "a dead master is believed",
        FAULTS,
        "a_connection_that_died_is_made_anew",
        "beta",
        (SHELL, 'if self._connection and self._control("check"):', "if self._connection:"),
    ),
    of(
        "no connection is an answer",
        FAULTS,
        "a_host_without_sshd_is_unseen_and_nothing_is_sent",
        "beta",
        (
            SHELL,
            "return ShellResult(outcome=Outcome.NOT_CONNECTED, stderr=problem.encode())",
            "return ShellResult(outcome=Outcome.CONNECTION_LOST, stderr=problem.encode())",
        ),
    ),
    of(
        "a connection for each command",
        FAULTS,
        "all_goes_over_one_connection",
        "beta",
        (SHELL, 'if self._connection and self._control("check"):', "if self._connection < 0:"),
    ),
    of(
        "errors in an answer are overlooked",
        REST_FAULTS,
        "a_token_that_slurm_does_not_take_changes_nothing",
        "beta",
        (
            RESTTEXTS,
            'if not said.errors and said.status == 200:\n        return ""',
            'if said.data:\n        return ""',
        ),
    ),
    of(
        "every certificate is trusted",
        REST_FAULTS,
        "a_certificate_of_another_authority_is_not_trusted",
        "beta",
        (
            RESTHTTP,
            "            tls = context.wrap_socket(",
            "            context.check_hostname = False\n            context.verify_mode = ssl.CERT_NONE\n"
            "            tls = context.wrap_socket(",
        ),
    ),
    of(
        "404 is an answer",
        REST_FAULTS,
        "a_version_that_is_not_there_is_told",
        "beta",
        (
            RESTAPI,
            "if reply.status == 404:\n                continue",
            "if reply.status == 999:\n                continue",
        ),
    ),
    of(
        "an answer that never came means not sent",
        REST_FAULTS,
        "a_submission_without_an_answer_is_uncertain_and_found_once",
        "beta",
        (REST, "made = Uncertain if reply.sent else NotSent", "made = NotSent"),
    ),
    of(
        "a connection that ended means not sent",
        REST_FAULTS,
        "a_submission_cut_after_it_was_sent_is_uncertain_and_found_once",
        "beta",
        (
            RESTHTTP,
            "return NoReply(failure=Failure.LOST, detail=_words(error), sent=True)",
            "return NoReply(failure=Failure.LOST, detail=_words(error), sent=False)",
        ),
    ),
    of(
        "no connection means perhaps sent",
        REST_FAULTS,
        "a_dead_proxy_is_unseen_and_nothing_is_sent",
        "beta",
        (REST, "made = Uncertain if reply.sent else NotSent", "made = Uncertain"),
    ),
    of(
        "no contact is uncertain",
        REST_FAULTS,
        "a_dead_controller_is_unseen_and_nothing_is_sent",
        "beta",
        (
            RESTTEXTS,
            'if not said.errors and said.status == 200:\n        return ""',
            'if said.data:\n        return ""',
        ),
    ),
    of(
        "no word of accounting is no record",
        REST_FAULTS,
        "dead_accounting_leaves_the_queue_seen_and_ends_open",
        "alpha",
        (RESTTEXTS, "all(number == NOTHING_FOUND for number, _ in said.errors)", "said.errors"),
    ),
    of(
        "a wrong cell in the table of versions",
        REST_FAULTS,
        "every_version_that_a_site_has_does_the_same",
        "alpha",
        (VERSIONS, "accounts_exit_codes=False", "accounts_exit_codes=True"),
    ),
    of(
        "a field that slurmrestd does not know",
        REST_FAULTS,
        "a_submission_is_taken_without_a_warning",
        "beta",
        (VERSIONS, '        "requeue": False,\n', '        "requeue": False,\n        "no_such_field": 1,\n'),
    ),
)

AT_CONDOR = (
    *(of(name, CONTRACT, test, "condor-delta", *changes) for name, test, changes in condor_mutations.CONTRACT_CHANGES),
    *(of(name, CONDOR_FAULTS, test, case, *changes) for name, test, case, changes in condor_mutations.FAULT_CHANGES),
)
"""Of the code for HTCondor sites; they need the test-bed's `delta`."""

MUTATIONS = (*IN_MEMORY, *REAL, *AT_CONDOR)
