"""Fine-tune an update with a trained protection's objective at one λ."""

from pathlib import Path

from trap2.protection.applied import transform_after
from trap2.protection.catalogue import objective_of
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.training.finetune import finetune, workflow_arguments
from trap2.updates.key import UpdateKey
from trap2.updates.stored import updates_by_task

with job.running(snakemake) as log:
    key = UpdateKey.of(dict(snakemake.wildcards))
    lambda_ = float(snakemake.wildcards.lambda_text)
    # Where it is trained against them, in …/{task}/unprotected/.
    partners = list(snakemake.input.partners)
    tasks = dict.fromkeys(Path(path).parent.parent.name for path in partners)
    finetune(
        **workflow_arguments(snakemake),
        key=key,
        objective=objective_of(key.protection, lambda_, snakemake.params.options),
        log=log,
        partners=updates_by_task(tasks, partners, snakemake.input.model),
        finish=transform_after(key, snakemake.params.options, snakemake.params.seed),
        start=next((Path(path).parent for path in snakemake.input.start), None),
    )
