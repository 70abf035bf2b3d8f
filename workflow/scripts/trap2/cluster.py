"""What SLURM still runs in a folder, so that no second run writes the same files."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError

SQUEUE = ("squeue", "--noheader", "--format=%i|%T|%u|%Z|%k")
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class ClusterJob:
    """A SLURM job: its number, state and user, and the rule and wildcards that it runs."""

    number: str
    state: str
    user: str
    work: str

    def __str__(self) -> str:
        return f"{self.number} {self.state} {self.work} ({self.user})"


def jobs_in(folder: Path) -> list[ClusterJob]:
    """The waiting and running SLURM jobs that a Snakemake started from ``folder``.

    They are known by their working directory and by the comment that Snakemake gives its jobs.
    Where there is no SLURM, or it does not answer, none are found.
    """
    try:
        done = subprocess.run(
            SQUEUE, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return []
    places = {str(folder), str(folder.resolve())}
    found = []
    for line in done.stdout.splitlines():
        number, state, user, place, comment = line.split("|", 4)
        if place in places and comment.startswith("rule_"):
            work = comment.removeprefix("rule_").replace("_wildcards_", " ")
            found.append(ClusterJob(number, state, user, work))
    return found


def refuse_beside_running_jobs(folder: Path) -> None:
    """End a run that would start beside jobs of an earlier one.

    Raises:
        WorkflowError: jobs of an earlier run still work in ``folder``; the message names them.
    """
    jobs = jobs_in(folder)
    if jobs:
        numbers = " ".join(job.number for job in jobs)
        raise WorkflowError(
            "SLURM jobs of an earlier run still work here and would write the same files:",
            *(f"  {job}" for job in jobs),
            "Start again when they have ended (see squeue); what they finish counts. "
            f"To end them now: scancel {numbers}",
        )
