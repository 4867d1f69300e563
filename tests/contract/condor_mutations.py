"""Changes of the code that speaks to a site's HTCondor, each with the test that must notice it (see mutations.py)."""

from __future__ import annotations

CONDOR = "factory/sites/condor.py"
TEXTS = "factory/sites/condortexts.py"
REMOTE = "overlay/remote.py"
WORKER = "overlay/remote_worker.py"

Change = tuple[str, str, str]

CONTRACT_CHANGES: tuple[tuple[str, str, tuple[Change, ...]], ...] = (
    (
        "another id in the answer",
        "a_submitted_pilot_is_live_under_its_name_and_id",
        ((TEXTS, "batch_id=batch_id)", 'batch_id=f"1{batch_id}")'),),
    ),
    (
        "outcomes sorted by name",
        "outcomes_come_in_the_order_of_the_requests",
        (
            (
                CONDOR,
                "            for request in requests\n        )",
                "            for request in sorted(requests, key=lambda one: one.pilot_id)\n        )",
            ),
        ),
    ),
    (
        "a refusal is uncertain",
        "a_refusal_carries_the_words_of_the_scheduler_and_leaves_no_job",
        ((TEXTS, "return Refused(pilot_id", "return Uncertain(pilot_id"),),
    ),
    (
        "no exit code",
        "a_pilot_that_failed_has_a_final_record_with_its_exit_code",
        ((TEXTS, '(0 if by_signal else count_of(ad, "ExitCode")) if exited', "0 if exited"),),
    ),
    (
        "found by id only",
        "an_ended_pilot_is_found_by_its_name_when_its_id_was_never_learnt",
        ((CONDOR, "wanted[record.name] in (None, record.job_id)", "wanted[record.name] == record.job_id"),),
    ),
    (
        "a removal that names no status",
        "a_cancel_takes_a_waiting_pilot_and_leaves_a_running_one",
        ((CONDOR, "(JobStatus == 1 || JobStatus == 5) && ", ""),),
    ),
    (
        "nothing removed is a failure",
        "cancelling_what_has_ended_is_no_problem",
        (
            (
                WORKER,
                '_plain(result, ["TotalSuccess", "TotalError", "TotalPermissionDenied"])',
                '{"TotalError": 1 - int(result["TotalSuccess"])}',
            ),
        ),
    ),
    (
        "nobody looks at the clock",
        "nothing_is_submitted_after_the_deadline",
        (
            (CONDOR, "left_s < SUBMIT_MIN_S", "left_s < -1000"),
            (CONDOR, "stop_at_s=deadline_s - SUBMIT_MIN_S", "stop_at_s=deadline_s + 1000"),
            (CONDOR, "timeout_s=left_s", "timeout_s=30.0"),
        ),
    ),
    (
        "everybody's jobs are ours",
        "a_pilot_of_another_instance_is_none_of_ours",
        (
            (TEXTS, 'f"{INSTANCE} =?= {classad_string(instance)}", ', ""),
            (TEXTS, "if (ad.get(INSTANCE), ad.get(SITE)) != (instance, site):", "if ad.get(SITE) != site:"),
            (CONDOR, "return texts.ours(name, instance=self._settings.instance, site=self.name)", "return bool(name)"),
        ),
    ),
    (
        "a spoilt report is left out",
        "an_end_report_is_read_and_a_spoilt_one_is_named",
        ((CONDOR, "unreadable.append(name)", "pass"),),
    ),
    (
        "forget has no effect",
        "a_forgotten_pilot_leaves_no_spool_directory",
        ((WORKER, "            if matched:\n", "            if not matched:\n"),),
    ),
    (
        "looked for at each call",
        "the_bundle_is_put_once",
        ((CONDOR, "        if self._bundle_dir is not None:\n", '        if self._bundle_dir == "":\n'),),
    ),
    (
        "a call for each pilot",
        "a_look_takes_as_many_calls_for_many_pilots_as_for_few",
        (
            (
                CONDOR,
                'self._admit("condor_status", "condor_q", *(["condor_history"] if known else []))',
                '"".join(self._admit("condor_history") for _ in known)',
            ),
        ),
    ),
)

FAULT_CHANGES: tuple[tuple[str, str, str, tuple[Change, ...]], ...] = (
    (
        "what a killed process had told is thrown away",
        "a_schedd_that_hangs_is_unseen_and_what_was_sent_to_it_is_found_once",
        "",
        ((REMOTE, "output.reason, output.output", 'output.reason, b""'),),
    ),
    (
        "what is queued is submitted",
        "a_submission_killed_between_its_steps_never_runs_and_is_seen_by_its_name",
        "",
        ((TEXTS, 'if "gone" in words and', 'if "queued" in words and'),),
    ),
    (
        "the schedd is where it was once",
        "a_schedd_that_was_killed_comes_back_with_every_pilot",
        "",
        ((WORKER, 'if ads and "MyAddress" in ads[0]:', 'if ads and not request.get("address"):'),),
    ),
    (
        "nobody remembers where the schedd was",
        "without_its_collector_a_site_is_still_seen_where_the_schedd_was",
        "",
        ((REMOTE, "remote.addresses[remote.schedd] = address", "pass"),),
    ),
    (
        "no connection is uncertain",
        "a_bad_token_is_told_and_nothing_is_sent",
        "without WRITE",
        ((TEXTS, 'if text.startswith(("Failed to connect", "Failed to create")):', "if not text:"),),
    ),
    (
        "a held pilot does not say why",
        "a_pilot_that_is_held_says_why_and_does_not_wait_for_ever",
        "",
        ((TEXTS, """essence(f"held: {meaning}: {_text(ad, 'HoldReason')}")""", '"held"'),),
    ),
    (
        "a pilot may run twice",
        "a_pilot_that_lost_its_slot_does_not_run_again",
        "",
        (
            (TEXTS, 'f"{gate} && (NumShadowStarts ?: 0) == 0"', "gate"),
            (TEXTS, '"(JobStatus == 1 && NumShadowStarts >= 1)"', '"false"'),
        ),
    ),
    (
        "the token in an attribute",
        "the_token_is_in_no_job_ad",
        "",
        (
            (
                CONDOR,
                "description=condortexts.pilot_description(",
                """description={"My.T": f'"{request.files[1][1].decode()}"'} | condortexts.pilot_description(""",
            ),
        ),
    ),
)
"""The third is the case of the test, where it has several."""
