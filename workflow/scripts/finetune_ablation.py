"""Fine-tune a TRAP² adapter with one setting changed."""

from trap2 import job
from trap2.finetuning import finetune, workflow_arguments
from trap2.objective import Trap2

with job.running(snakemake) as say:
    finetune(
        **workflow_arguments(snakemake),
        names=dict(snakemake.wildcards) | {"protection": "trap2", "release": "lora"},
        trap2=Trap2(snakemake.params.weight, **snakemake.params.trap2),
        say=say,
    )
