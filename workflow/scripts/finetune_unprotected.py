"""Fine-tune an update with the task loss alone."""

from trap2 import job
from trap2.finetuning import finetune, workflow_arguments

with job.running(snakemake) as say:
    finetune(
        **workflow_arguments(snakemake),
        names=dict(snakemake.wildcards) | {"protection": "unprotected"},
        trap2=None,
        say=say,
    )
