"""Fine-tune an update with the TRAP² objective at one λ."""

from trap2.protection.trap2 import Trap2
from trap2.runtime import job
from trap2.training.finetune import finetune, workflow_arguments

with job.running(snakemake) as log:
    names = dict(snakemake.wildcards)
    lambda_ = float(names.pop("lambda_text"))
    finetune(
        **workflow_arguments(snakemake),
        names=names | {"protection": "trap2"},
        trap2=Trap2(lambda_, **snakemake.params.trap2),
        log=log,
    )
