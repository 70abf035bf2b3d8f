"""Fine-tune a TRAP² adapter with one setting changed."""

from trap2.protection.trap2 import Trap2
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.training.finetune import finetune, workflow_arguments

with job.running(snakemake) as log:
    finetune(
        **workflow_arguments(snakemake),
        names=dict(snakemake.wildcards) | {"protection": "trap2", "release_format": "lora"},
        objective=Trap2(snakemake.params.lambda_, **snakemake.params.trap2),
        log=log,
    )
