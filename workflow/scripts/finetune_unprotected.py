"""Fine-tune an update with the task loss alone."""

from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.training.finetune import finetune, workflow_arguments
from trap2.updates.key import UpdateKey

with job.running(snakemake) as log:
    finetune(
        **workflow_arguments(snakemake),
        key=UpdateKey.of(dict(snakemake.wildcards), protection="unprotected"),
        objective=None,
        log=log,
    )
