"""A site's settings, whether SLURM takes them, and what it still runs in a folder."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from snakemake_interface_common.exceptions import WorkflowError

from trap2.runtime.messages import message
from trap2.runtime.schema import ConfigurationError, checked_by, read_yaml

SQUEUE = ("squeue", "--noheader", "--format=%i|%T|%u|%Z|%k")


PATIENCE_SECONDS = 60


# Resources of Snakemake's SLURM executor and the options that it makes of them.
OPTIONS = {
    "slurm_account": "--account",
    "slurm_partition": "--partition",
    "clusters": "--clusters",
    "qos": "--qos",
    "constraint": "--constraint",
    "gres": "--gres",
    "mem_mb": "--mem",
    "runtime": "--time",
}


# The executor takes no dash in a type of GPU; sbatch does.
GPU_TYPE = (
    "A type with other signs, like nvidia_a100-sxm4-80gb, goes past the executor with gpu: null, "
    "gres: null and slurm_extra: --gpus-per-node=TYPE:1"
)


# What a shell would not take as it stands.  Spaces and brackets (node[01-04]) are quoted.
SHELL = re.compile(r"[^\w\s.,:=@%+/\[\]-]")


# What SLURM says of a request that it will never take; a partition that is down is another matter.
NEVER = r"invalid|unrecognized|illegal|not permitted|node configuration is not available"


def read_site(path: str | Path) -> tuple[dict[str, object], dict[str, object]]:
    """What ``slurm/site.yaml`` says that all jobs, and those with a GPU, ask SLURM for.

    Returns:
        Resources of Snakemake's SLURM executor for all jobs, and for jobs with a GPU besides; none
        where the file does not exist.

    Raises:
        ConfigurationError: the file is not YAML, a key or a value of it is not allowed, or
            Snakemake's SLURM executor would refuse jobs that ask for it.
    """
    path = Path(path)
    if not path.exists():
        return {}, {}
    found = checked_by("site.schema.yaml", read_yaml(path, str(path)) or {}, str(path))
    requests = {key: dict(found.get(key) or {}) for key in ("jobs", "gpu_jobs")}
    problems = []
    for key, request in requests.items():
        try:
            if request.get("slurm_extra"):
                request["slurm_extra"] = quoted(request["slurm_extra"])
        except ValueError as error:
            problems.append(f"{key}.slurm_extra: {error}")
        problems += [f"{key}: {words}" for words in _executor_refusals(request)]
    if problems:
        raise ConfigurationError(message(str(path), problems))
    return requests["jobs"], requests["gpu_jobs"]


def quoted(options: str) -> str:
    """Options of sbatch, safe in the shell command that Snakemake's executor makes of them.

    Raises:
        ValueError: a character of them could do something in a shell, or a quote has no end.
    """
    words = shlex.split(options)
    strange = sorted({sign for word in words for sign in SHELL.findall(word)})
    # The executor's command is one line.
    strange += ["a line's end"] if len(options.splitlines()) > 1 else []
    if strange:
        raise ValueError(
            f"{options!r} holds {' '.join(strange)}, which a shell on the login node would act on. "
            "Options of sbatch, like --mail-type=FAIL, hold letters, digits and . , : = @ % + / _ -"
        )
    return shlex.join(words)


def refuse_impossible_requests(requests: Mapping[str, Mapping[str, object]]) -> None:
    """End a run whose jobs SLURM would not take, before anything is downloaded or submitted.

    Snakemake's executor is asked first, which has rules of its own and would refuse a job when its
    turn comes.  SLURM is asked with ``sbatch --test-only``, which submits nothing.  Where it does
    not answer, or could not start such a job just now, the run goes on.

    Args:
        requests: rule to the resources of one of its jobs.

    Raises:
        WorkflowError: a request can never be had; the message says by whose word.
    """
    rules: dict[tuple[str, ...], list[str]] = {}
    refusals = []
    for rule, resources in requests.items():
        own = list(_executor_refusals(resources))
        refusals += [f"  {rule}: {words}" for words in own]
        if not own:
            rules.setdefault(sbatch_options(resources), []).append(rule)
    refusals += [
        f"  {', '.join(names)} ({' '.join(options)}): {words}"
        for options, names in rules.items()
        if (words := _refusal(options))
    ]
    if refusals:
        raise WorkflowError(
            "SLURM would not take these jobs; nothing was run:",
            *refusals,
            "Mend slurm/site.yaml (docs/cluster.md, Your cluster). If SLURM is wrong: --no-hooks",
        )


def sbatch_options(resources: Mapping[str, object]) -> tuple[str, ...]:
    """The options of sbatch for a job's resources, as Snakemake's executor chooses them."""
    given = {name: value for name, value in resources.items() if value not in (None, "", 0)}
    options = [f"{option}={given[name]}" for name, option in OPTIONS.items() if name in given]
    if "gpu" in given:
        model = f"{given['gpu_model']}:" if "gpu_model" in given else ""
        options.append(f"--gpus={model}{given['gpu']}")
    return (*options, *shlex.split(str(given.get("slurm_extra", ""))))


def _executor_refusals(resources: Mapping[str, object]) -> Iterator[str]:
    """What Snakemake's SLURM executor would say against a job when it submits it."""
    from snakemake_executor_plugin_slurm.utils import set_gres_string
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

    job = SimpleNamespace(resources=_Resources(resources))
    for check, remedy in ((set_gres_string, GPU_TYPE), (validate_slurm_extra, "")):
        try:
            check(job)
        except WorkflowError as error:
            words = " ".join(str(error).split())
            yield f"{words.rstrip(' .')}. {remedy}".rstrip()


class _Resources(dict[str, object]):
    """Resources as the executor reads them: by key and by name."""

    def __getattr__(self, name: str) -> object:
        return self.get(name)


def _refusal(options: tuple[str, ...]) -> str:
    command = ("sbatch", "--test-only", *options, "--wrap=true")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    refused = done.returncode != 0 and re.search(NEVER, done.stderr, re.I)
    return done.stderr.strip().splitlines()[-1] if refused else ""


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
