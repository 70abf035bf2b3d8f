"""The ``snakemake`` object of any job, outside Snakemake, to run its script by hand.

Snakemake itself finds the job that makes a file, with its rule, inputs, parameters and wildcards.
What the job would write goes to a folder of its own, so that a trial damages no result.
"""

from __future__ import annotations

import os
import pdb
import pickle
import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trap2.runtime.errors import Trap2Error

SCRATCH = "debug"


class NoSuchJob(Trap2Error):
    """No job makes this file, or the workflow cannot be read; the message says why."""


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        snakemake: what Snakemake gives to its script.
        script: the script.
        missing: inputs that are not there yet.
    """

    snakemake: Any
    script: Path
    missing: tuple[str, ...]

    def __str__(self) -> str:
        job = self.snakemake
        parts = [f"rule {job.rule}, script {self.script}"]
        for name in ("wildcards", "params", "input", "output", "log"):
            items = dict(getattr(job, name).items()) or list(getattr(job, name))
            parts.append(f"  {name}: {_short(items)}")
        if self.missing:
            parts.append(f"not there yet: {' '.join(self.missing)}")
        return "\n".join(parts)

    def run(self, *, post_mortem: bool = False) -> None:
        """Run the script in this process, so that ``breakpoint()`` in it or the library works.

        Args:
            post_mortem: open the debugger where the script failed.

        Raises:
            SystemExit: the script failed; its log has the trace.
        """
        for path in (*self.snakemake.output, *self.snakemake.log):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            runpy.run_path(str(self.script), {"snakemake": self.snakemake}, "__main__")
        except SystemExit as ended:
            # A job ends itself with a line; what went wrong is the error behind it.
            failure = ended.__context__
            if failure is None or not post_mortem:
                raise
            pdb.post_mortem(failure.__traceback__)
            raise


def job_of(target: str, settings: Sequence[str] = (), *, in_place: bool = False) -> Any:
    """The ``snakemake`` object of the job that makes a file; see :func:`find_job`."""
    return find_job(target, settings, in_place=in_place).snakemake


def find_job(target: str, settings: Sequence[str] = (), *, in_place: bool = False) -> Job:
    """The job that makes a file, found by Snakemake in the current folder's workflow.

    Args:
        target: a file that a job makes, below the current folder; or the name of a rule without
            wildcards.
        settings: what ``--config`` would say, ``key=value`` each.
        in_place: let the job write where it does; otherwise outputs and log go below ``debug/``.

    Raises:
        NoSuchJob: no job makes it, or the configuration cannot be used.
    """
    job, script, basedir = _resolve(target, settings)
    if not job.output and not in_place:
        raise NoSuchJob(
            f"{target}: the rule {job.rule.name} names no outputs, so what it writes cannot go "
            "elsewhere. To let it write where it does: --in-place"
        )
    return Job(
        snakemake=_handed_over(job, basedir, in_place),
        script=script,
        missing=tuple(str(path) for path in job.input if not Path(path).exists()),
    )


def _resolve(target: str, settings: Sequence[str]) -> tuple[Any, Path, str]:
    """Snakemake's own job, its script and the script's folder; nothing is run or locked."""
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_config
    from snakemake.exceptions import RuleException
    from snakemake.settings import types as given
    from snakemake_interface_common.exceptions import WorkflowError

    try:
        config = given.ConfigSettings(config=parse_config(list(settings) or None))
    except ValueError as error:
        raise NoSuchJob(f"--config: {error}") from None
    quiet = given.OutputSettings(quiet={given.Quietness.ALL})
    wanted = given.DAGSettings(targets=frozenset([target]))
    with SnakemakeApi(quiet) as api:
        try:
            workflow = api.workflow(
                resource_settings=given.ResourceSettings(cores=os.cpu_count()),
                config_settings=config,
                snakefile=_snakefile(),
            )
            # The API has no way to one job; this is what its printdag does.
            inner = workflow.dag(wanted).workflow_api._workflow
            inner._prepare_dag(
                forceall=False, ignore_incomplete=True, lock_warn_only=True, nolock=True
            )
            inner._build_dag()
            job = _maker(inner.dag, target)
            # Evaluated while the workflow is there.
            _ = (job.params, job.resources, job.threads)
        except (WorkflowError, RuleException) as error:
            lines = [str(part) for part in error.args if str(part).strip()] or [str(error)]
            raise NoSuchJob(f"{target}: {' '.join(' '.join(lines).split())}") from None
    if job.rule.script is None:
        raise NoSuchJob(f"{target}: the rule {job.rule.name} has no script to run")
    script = Path(str(job.rule.basedir.join(job.rule.script))).resolve()
    return job, script, str(script.parent)


def _snakefile() -> Path:
    """The Snakefile of the current folder, else that of the project around this library."""
    here = Path("Snakefile")
    return here if here.exists() else Path(__file__).resolve().parents[4] / "Snakefile"


def _maker(dag: Any, target: str) -> Any:
    for job in dag.jobs:
        if target == job.rule.name or str(Path(target)) in map(str, job.output):
            return job
    raise NoSuchJob(f"{target}: no job makes it")


def _handed_over(job: Any, scriptdir: str, in_place: bool) -> Any:
    """What a script gets, by way of pickle as in a real job."""
    from snakemake.iocontainers import Log, OutputFiles, Snakemake

    def place(path: Any) -> str:
        return str(path) if in_place else str(Path(SCRATCH) / str(path))

    handed = Snakemake(
        job.input,
        OutputFiles(toclone=job.output, custom_map=place),
        job.params,
        job.wildcards,
        job.threads,
        job.resources,
        Log(toclone=job.log, custom_map=place),
        job.rule.workflow.config,
        job.rule.name,
        None,
        scriptdir,
    )
    return pickle.loads(pickle.dumps(handed, protocol=4))


def _short(value: object, limit: int = 300) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]} …"
