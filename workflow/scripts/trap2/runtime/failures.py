"""What to say when jobs of a run failed: which, their last words, the likely reason, what to do.

Read from Snakemake's own log of the run, because the process of a job that was killed says nothing
itself.  docs/troubleshooting.md has the same reasons at more length.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

LAST_LINES = 6


SHOWN_JOBS = 5


RAISED = r"(?!WorkflowError|CalledProcessError)[A-Za-z_.]*(Error|Exception): "


STOPPED = "Terminating processes on user request"


@dataclass(frozen=True)
class Reason:
    """A reason for a failure, known by what a log says.

    Attributes:
        symptom: a regular expression, searched in the last lines of the job's logs and in what
            Snakemake said about the job.
        reason: what is probably the matter.
        remedy: what to do before the same command is run again.
    """

    symptom: str
    reason: str
    remedy: str


REASONS = (
    Reason(
        r"No space left on device|Errno 28|Disk quota exceeded|; the disk (of .* )?has \d+ free",
        "the disk is full",
        "make room (df -h .)",
    ),
    Reason(
        r"sbatch failed|allocation failure",
        "SLURM refused the job; it never started",
        "mend slurm/site.yaml (docs/cluster.md, Your cluster)",
    ),
    Reason(
        r"CUDA out of memory|OutOfMemoryError",
        "the GPU's memory is too small for a batch",
        "lower micro_batch_size (training) or evaluation_batch_size in the suite, or set "
        "recompute: true on the backbone",
    ),
    Reason(
        r"promised a GPU|this job sees no GPU|no NVIDIA driver",
        "no GPU is visible where the job ran",
        "check nvidia-smi there and gpu_jobs in slurm/site.yaml, or set device: cpu",
    ),
    Reason(
        r"DUE TO TIME LIMIT|status is: '(TIMEOUT|DEADLINE)'|ended by SIGTERM",
        "the scheduler ended the job: its time was over, or it was preempted or cancelled",
        "nothing, if it was the time: every attempt gets more, and a training goes on from its "
        "last checkpoint",
    ),
    Reason(
        r"oom.kill|OUT_OF_MEMORY|MemoryError|DefaultCPUAllocator|SIGKILL|exit status 137",
        "the job was killed, most often because the machine ran out of memory",
        "run fewer jobs at a time (--cores 1); on a cluster the next attempt asks for more",
    ),
    Reason(
        r"weights could not be had|locate the file on the Hub|offline mode is enabled",
        "a model's weights cannot be fetched: the hub does not answer, or there is no network",
        "try again later, or set the backbone's pretrained to a file (docs/paper-suite.md, Models)",
    ),
    Reason(
        r"could not be had|cannot be listed|broke off after|(is|are) missing \(|a web page",
        "a download failed or is not what the catalogue says",
        "try again later, or give the files by hand (archives, docs/datasets.md)",
    ),
    Reason(
        r"not the one its authors made|truncated archive|nor a whole zip archive|Pack it anew",
        "an archive is not the one its authors made, or was cut short",
        "delete the archive that the log names and fetch it again (archives, docs/datasets.md)",
    ),
    Reason(
        r"dvc checkout|dvc pull",
        "a released file is missing or is not the released one",
        ".venv/bin/dvc checkout --force, or .venv/bin/dvc pull",
    ),
    Reason(
        r"run snakemake again",
        "a file of an earlier run was damaged or changed since",
        "delete the file that the log names; it is made anew",
    ),
    Reason(
        r"NaN or infinity|metric is NaN",
        "a training diverged",
        "lower learning_rate or λ in the suite",
    ),
    Reason(
        r"ModuleNotFoundError|ImportError|cannot open shared object",
        "a package is missing or broken in the environment that ran the job",
        "make env, and start .venv/bin/snakemake",
    ),
    Reason(r"Permission denied|Read-only file system", "a file cannot be written", "ls -l of it"),
)


UNKNOWN = Reason("", "as the last line says", "docs/troubleshooting.md may help")


@dataclass
class Failure:
    """A failed job, as Snakemake's log tells of it."""

    rule: str
    job: str
    ending: str = ""
    logs: list[str] = field(default_factory=list)


def failed_jobs(snakemake_log: str) -> tuple[list[Failure], dict[str, str]]:
    """The jobs that failed and were not finished by a later attempt; and every job's message."""
    failed: dict[str, Failure] = {}
    messages: dict[str, str] = {}
    current: Failure | None = None
    ending = ""
    for line in snakemake_log.splitlines():
        if found := re.match(r"\s*Job (\d+): (.*)", line):
            messages[found[1]] = found[2]
        elif found := re.match(r"\s*(?:Error in )?rule (\w+):$", line):
            current, ending = Failure(found[1], "", ending), ""
        elif found := re.match(r"\s*Finished jobid: (\d+)", line):
            failed.pop(found[1], None)
        elif re.search(r"died with|returned non-zero exit status|SLURM status is", line):
            ending = line.strip()
        elif current and (found := re.match(r"\s+message: (SLURM .*)", line)):
            ending = found[1]
            current.ending = ending
        elif current and (found := re.match(r"\s+jobid: (\d+)", line)):
            current.job = found[1]
            failed[found[1]] = current
        elif current and (found := re.match(r"\s+log: (.*) \(check log file", line)):
            current.logs = found[1].split(", ")
            current = None
    return list(failed.values()), messages


def likely_reason(text: str) -> Reason:
    """The first reason whose symptom is in a text."""
    return next((known for known in REASONS if re.search(known.symptom, text)), UNKNOWN)


def explain(snakemake_logs: Iterable[str], command: str) -> str:
    """What to tell the user after a failed run.

    Args:
        snakemake_logs: Snakemake's own log files of the run.
        command: how it was started.

    Returns:
        Some lines a failed job; an empty text where no job is to blame.
    """
    paths = list(snakemake_logs)
    whole = "\n".join(_text(path) for path in paths)
    if STOPPED in whole:
        return f"\nStopped on request; what was running was ended. Go on with: {command}\n"
    failures, messages = failed_jobs(whole)
    if not failures:
        return ""
    began = min(map(_began, paths))
    lines = [line for failure in failures[:SHOWN_JOBS] for line in _told(failure, messages, began)]
    if more := failures[SHOWN_JOBS:]:
        lines += ["", *(f"FAILED  {_title(failure, messages)}" for failure in more)]
    return "\n".join([*lines, "", f"Then go on with: {command}", ""])


def command_line(arguments: Sequence[str], folder: Path) -> str:
    """The command that was given (``sys.argv``), a program below ``folder`` by its path."""
    program = Path(arguments[0])
    name = "snakemake" if program.name == "__main__.py" else program.name
    if program.is_relative_to(folder) and name == program.name:
        name = str(program.relative_to(folder))
    return shlex.join([name, *arguments[1:]])


def _title(failure: Failure, messages: dict[str, str]) -> str:
    return f"{failure.rule}: {messages.get(failure.job, 'job ' + failure.job)}"


def _told(failure: Failure, messages: dict[str, str], began: float) -> Iterator[str]:
    yield f"\nFAILED  {_title(failure, messages)}"
    last = [failure.ending]
    if failure.ending.startswith("SLURM "):
        yield f"slurm   {failure.ending}"
    for log in failure.logs:
        if _modified(log) < began:
            yield f"log     {log} (not written in this run: the job did not start)"
            continue
        text = _text(log).strip()
        lines = text.splitlines()
        # What was raised, where Snakemake's own farewell in SLURM's log has pushed it up.
        raised = [line for line in lines[:-LAST_LINES] if re.match(RAISED, line)][-1:]
        shown = raised + lines[-LAST_LINES:]
        yield f"log     {log}" + ("" if text else " (empty: the job ended without a word)")
        yield from (f"        | {line}" for line in shown)
        last += shown
    found = likely_reason("\n".join(last))
    yield f"reason  {found.reason}"
    yield f"next    {found.remedy}"


def _began(snakemake_log: str) -> float:
    """When a run began (s since the epoch): Snakemake names its log after it; else 0."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d{6})\.", Path(snakemake_log).name)
    return datetime.strptime(found[1], "%Y-%m-%dT%H%M%S").timestamp() if found else 0.0


def _modified(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return -1.0


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return ""
