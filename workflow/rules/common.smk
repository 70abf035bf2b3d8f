# What every stage needs: the checked configuration, the names of files, what jobs are told.

import sys
from pathlib import Path

from trap2.data import catalogue
from trap2.protection import catalogue as protections
from trap2.runtime import clock, cluster, code_digest, failures, plugins
from trap2.runtime.files import FileError
from trap2.runtime.schema import ConfigurationError
from trap2.suites import (
    ablations,
    artifacts,
    backbones,
    bundle,
    checks,
    load,
    paper,
    sibling_tables,
)
from trap2.suites.codes import Codes
from trap2.suites.files import PUBLISHED, UPDATE_FILES, Files, update_patterns
from trap2.suites.parameters import Parameters
from trap2.suites.results import Results
from trap2.suites.sibling_files import SIBLINGS_PUBLISHED, SiblingFiles
from trap2.suites.threat_files import ThreatFiles

code_digest.lend_to_jobs()
if workflow.is_main_process:
    try:
        clock.refuse_future_files(["results", "reproduced"])
    except clock.Trap2Error as error:
        sys.exit(str(error))
# Of the working directory, as all of config/.
SUITES = Path("config") / "suites"
_suites = {}


def suite_of(name):
    """A suite's settings, checked once; demo@2 is the demo."""
    name = name.partition("@")[0]
    if name not in _suites:
        try:
            _suites[name] = load.load_suite(
                name, SUITES, configuration.catalogue, configuration.protections
            )
            if workflow.is_main_process:
                checks.check_merging(name, _suites[name])
                backbones.check_backbones(name, _suites[name])
        except ConfigurationError as error:
            sys.exit(str(error))
    return _suites[name]


try:
    configuration = load.check_config(config, SUITES)
    plugins.load(configuration.plugins)
except (ConfigurationError, plugins.PluginError) as error:
    sys.exit(str(error))
suite_of(configuration.suite)
RELEASED = configuration.checkpoints == "released"
if RELEASED:
    try:
        reason = bundle.not_applicable(
            configuration.suite, suite_of(configuration.suite), configuration.seed
        )
    except FileError as error:
        sys.exit(str(error))
    if reason is not None:
        sys.exit(reason)

files = Files(suite_of, configuration, ancient)
threat_files = ThreatFiles(files)
sibling_files = SiblingFiles(files)
results = Results(files)
code = Codes(ROOT / "workflow" / "scripts", suite_of, configuration)
parameters = Parameters(suite_of, configuration, catalogue.load_rows(configuration.catalogue))


pathvars:
    # What was trained here and what is made from released checkpoints lie apart.
    results=files.root,
    elsewhere=files.elsewhere,
    logs=files.logs,


wildcard_constraints:
    # results/published/ holds the paper's own tables.
    # A suite with another seed than the configured one is suite@seed.
    suite=r"(?!published\b)[a-z0-9-]+(@\d+)?",
    backbone=r"[A-Za-z0-9_-]+",
    release_format=r"lora|full",
    task=r"[A-Za-z0-9_]+",
    resolution=r"\d+",
    lambda_text=r"\d+\.\d+|\d+e-\d+|\d+\.\d+e-\d+",
    protection=r"[a-z0-9-]+",
    protected=r"[A-Za-z0-9_]+",
    merges="merges|data_merges",
    setting="|".join(ablations.SETTINGS),
    value=r"[A-Za-z0-9.-]+",


def suites_from(source):
    """A pattern of the suites whose data comes from one source."""
    names = "|".join(load.suites_from(source, SUITES))
    return f"({names})(@\\d+)?" if names else "(?!)"


onstart:
    # A Snakemake that was killed leaves its cluster jobs running; a second job for the same
    # file would write it at the same time.
    cluster.refuse_beside_running_jobs(Path.cwd())
    if getattr(workflow.executor_plugin, "name", "") == "slurm":
        submitted = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        cluster.refuse_impossible_requests(
            {job.rule.name: dict(job.resources.items()) for job in submitted}
        )
