"""After a failed run: which job, its last words, the likely reason, the next command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trap2.runtime.failures import REASONS, UNKNOWN, command_line, explain, likely_reason

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


def attempt(number: int, rule: str, log: str, ending: str = "") -> str:
    """What Snakemake's log says of one failed attempt."""
    return f"""
    Job {number}: Fine-tune the tiny one on digits
RuleException:
CalledProcessError in file "finetune.smk", line 9:
Command 'python finetune.py' {ending or "returned non-zero exit status 1."}
[Sun Nov 22 05:36:48 2026]
Error in rule {rule}:
    message: None
    jobid: {number}
    output: results/a.json, results/b.json
    log: {log} (check log file(s) for error details)
"""


def write(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


def test_it_names_job_words_reason_and_command(tmp_path):
    log = write(tmp_path / "job.log", "step 1\n" * 20 + "OSError: No space left on device\n")
    told = explain(
        [write(tmp_path / "snakemake.log", attempt(3, "finetune_protected", log))], "make demo"
    )
    assert "FAILED  finetune_protected: Fine-tune the tiny one on digits" in told
    assert f"log     {log}\n" in told
    assert told.count("| step 1") == 5
    assert "| OSError: No space left on device" in told
    assert "reason  the disk is full\nnext    make room (df -h .)" in told
    assert told.rstrip().endswith("Then go on with: make demo")


def test_a_job_that_a_later_attempt_finished_did_not_fail(tmp_path):
    log = write(tmp_path / "job.log", "ValueError: no\n")
    text = attempt(3, "a", log) + "Finished jobid: 3 (Rule: a)\n" + attempt(4, "b", log)
    told = explain([write(tmp_path / "snakemake.log", text)], "x")
    assert "FAILED  b" in told
    assert "FAILED  a" not in told


def test_every_attempt_of_a_job_is_told_once(tmp_path):
    log = write(tmp_path / "job.log", "ValueError: no\n")
    text = attempt(3, "a", log) + "Trying to restart job 3.\n" + attempt(3, "a", log)
    assert explain([write(tmp_path / "snakemake.log", text)], "x").count("FAILED") == 1


def test_a_killed_job_says_nothing_itself(tmp_path):
    text = attempt(1, "a", write(tmp_path / "job.log", ""), "died with <Signals.SIGKILL: 9>.")
    told = explain([write(tmp_path / "snakemake.log", text)], "x")
    assert "(empty: the job ended without a word)" in told
    assert "ran out of memory" in told


def test_slurms_own_log_counts(tmp_path):
    own = write(tmp_path / "job.log", "step 100/800: loss 1.2\n")
    slurm = write(tmp_path / "12.log", "slurmstepd: *** JOB 12 CANCELLED AT … DUE TO TIME LIMIT\n")
    text = f"""
Error in group heads:
    log: {slurm} (check log file(s) for error details)
    jobs:
        rule build_head:
            jobid: 7
            log: {own}, {slurm} (check log file(s) for error details)
"""
    told = explain([write(tmp_path / "snakemake.log", text)], "x")
    assert "FAILED  build_head: job 7" in told
    assert "the scheduler ended the job" in told


def test_slurms_refusal_is_quoted_and_an_earlier_runs_log_is_not(tmp_path):
    own = write(tmp_path / "job.log", "a success of yesterday\n")
    os.utime(own, (1, 1))
    text = f"""
    Job 3: Merge the tiny ones
Error in rule merge_updates:
    message: SLURM sbatch failed. The error message was 'sbatch: error: invalid partition: gpux
sbatch: error: Batch job submission failed: Invalid partition name specified'.
    jobid: 3
    log: {own} (check log file(s) for error details)
"""
    told = explain([write(tmp_path / "2026-11-22T113524.923615.snakemake.log", text)], "x")
    assert "slurm   SLURM sbatch failed. The error message was 'sbatch: error: invalid part" in told
    assert f"log     {own} (not written in this run: the job did not start)" in told
    assert "yesterday" not in told
    assert "reason  SLURM refused the job; it never started" in told


def test_what_was_raised_is_shown_before_snakemakes_farewell(tmp_path):
    farewell = "Exiting because a job execution failed.\n" * 7
    log = write(tmp_path / "job.log", f"a\nNameError: name 'x' is not defined\n{farewell}")
    told = explain([write(tmp_path / "snakemake.log", attempt(3, "a", log))], "x")
    assert "| NameError: name 'x' is not defined\n        | Exiting" in told


def test_a_run_that_was_stopped_says_how_to_go_on_and_blames_no_job(tmp_path):
    log = write(tmp_path / "job.log", "ended by SIGTERM\n")
    text = attempt(3, "a", log) + "Terminating processes on user request, this might take…\n"
    told = explain([write(tmp_path / "snakemake.log", text)], "make demo")
    assert told == "\nStopped on request; what was running was ended. Go on with: make demo\n"


def test_of_many_failures_a_few_are_told_and_the_others_named(tmp_path):
    log = write(tmp_path / "job.log", "ValueError: no\n")
    text = "".join(attempt(number, "a", log) for number in range(8))
    told = explain([write(tmp_path / "snakemake.log", text)], "x")
    assert told.count("FAILED") == 8
    assert told.count("reason ") == 5


@pytest.mark.parametrize("logs", [[], ["nowhere.log"]])
def test_without_a_failed_job_nothing_is_said(logs):
    assert explain(logs, "x") == ""


def test_an_unknown_failure_is_left_to_its_last_line():
    assert likely_reason("ValueError: the signs are upside down") is UNKNOWN


@pytest.mark.parametrize("known", REASONS, ids=lambda known: known.reason)
def test_the_page_has_every_reason(known):
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert any(likely_reason(row.split(" | ")[0]) is known for row in rows)


def test_the_command_is_the_one_that_was_given():
    folder = Path("/home/me/clone")
    given = ["--cores", "2", "--config", "sources={cars: original}"]
    shown = "--cores 2 --config 'sources={cars: original}'"
    assert command_line(["/home/me/clone/.venv/bin/snakemake", *given], folder) == (
        f".venv/bin/snakemake {shown}"
    )
    assert command_line(["/usr/bin/snakemake", *given], folder) == f"snakemake {shown}"
    module = "/home/me/clone/.venv/lib/snakemake/__main__.py"
    assert command_line([module, *given], folder) == f"snakemake {shown}"
