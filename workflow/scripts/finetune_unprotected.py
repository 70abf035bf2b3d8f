"""Fine-tune an update with the task loss alone."""

from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.training.finetune import finetune, workflow_arguments

with job.running(snakemake) as log:
    finetune(
        **workflow_arguments(snakemake),
        names=dict(snakemake.wildcards) | {"protection": "unprotected"},
        objective=None,
        log=log,
    )
