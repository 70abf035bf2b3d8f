"""Fine-tune a TRAP² adapter with one setting changed."""

from pathlib import Path

from trap2 import job
from trap2.finetuning import finetune
from trap2.objective import Trap2

with job.running(snakemake) as say:
    names = dict(snakemake.wildcards)
    finetune(
        tower=snakemake.input.tower,
        head=snakemake.input.head,
        data=list(snakemake.input.data),
        folder=Path(snakemake.output[0]).parent,
        names=names | {"protection": "trap2", "release": "lora"},
        backbone=snakemake.params.backbone,
        release=snakemake.params.release,
        trap2=Trap2(snakemake.params.weight, **snakemake.params.trap2),
        logit_scale=snakemake.params.logit_scale,
        seed=snakemake.params.seed,
        device=job.device(snakemake.params.device, snakemake.threads),
        say=say,
    )
