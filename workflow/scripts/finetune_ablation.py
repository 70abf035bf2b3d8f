"""Fine-tune a TRAP² adapter with one setting changed."""

from trap2.protection.trap2 import Trap2
from trap2.runtime import job
from trap2.training.finetune import finetune, workflow_arguments

with job.running(snakemake) as say:
    finetune(
        **workflow_arguments(snakemake),
        names=dict(snakemake.wildcards) | {"protection": "trap2", "release": "lora"},
        trap2=Trap2(snakemake.params.weight, **snakemake.params.trap2),
        say=say,
    )
