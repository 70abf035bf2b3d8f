"""Fine-tune an update with a trained protection's objective at one λ."""

from trap2.protection.catalogue import objective_of
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.training.finetune import finetune, workflow_arguments

with job.running(snakemake) as log:
    names = dict(snakemake.wildcards)
    lambda_ = float(names.pop("lambda_text"))
    finetune(
        **workflow_arguments(snakemake),
        names=names,
        objective=objective_of(names["protection"], lambda_, snakemake.params.options),
        log=log,
    )
