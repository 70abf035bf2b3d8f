"""Fine-tune a TRAP² adapter with one setting changed."""

from trap2.protection.trap2 import Trap2
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.training.finetune import finetune, workflow_arguments
from trap2.updates.key import UpdateKey

with job.running(snakemake) as log:
    names = dict(snakemake.wildcards)
    finetune(
        **workflow_arguments(snakemake),
        key=UpdateKey.of(names, protection="trap2", release_format="lora"),
        facts={name: names[name] for name in ("setting", "value")},
        objective=Trap2(snakemake.params.lambda_, **snakemake.params.trap2),
        log=log,
    )
