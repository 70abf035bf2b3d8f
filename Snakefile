# TRAP²: every table and figure of "Making Models Unmergeable via Scaling-Sensitive Loss
# Landscape", from data to rendered artifact.  Start with README.md.

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from trap2.runtime.schema import ConfigurationError
from trap2.runtime.templates import refuse_code, require_folder

try:
    require_folder(ROOT)
    # Before it is read; what --configfile names was looked at by profiles/default.
    refuse_code("config/config.yaml")
except ConfigurationError as error:
    sys.exit(str(error))


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"


if not RELEASED:

    include: "workflow/rules/model.smk"
    include: "workflow/rules/finetune.smk"


include: "workflow/rules/protect.smk"
include: "workflow/rules/merge.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/ablate.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/threats.smk"
include: "workflow/rules/siblings.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/release.smk"


onerror:
    # After Snakemake's own account: what failed in a few lines, and what to do.
    print(failures.explain(log, failures.command_line(sys.argv, Path.cwd())), file=sys.stderr)


rule all:
    """The configured suite's tables and figures, under results/."""
    default_target: True
    input:
        results.finished,
    localrule: True


rule misplaced:
    """Say where a file is that the other kind of checkpoints makes."""
    input:
        results.misplaced,
    output:
        "<elsewhere>/{file}",
    wildcard_constraints:
        file=".+",
    localrule: True


rule all_artifacts:
    """Every table and figure of the configured suite, beside the published numbers."""
    input:
        results.everything,
    localrule: True
