"""Fine-tune an update with the task loss alone."""

from pathlib import Path

from trap2 import job
from trap2.finetuning import finetune

with job.running(snakemake) as say:
    finetune(
        tower=snakemake.input.tower,
        head=snakemake.input.head,
        data=list(snakemake.input.data),
        folder=Path(snakemake.output[0]).parent,
        names=dict(snakemake.wildcards) | {"protection": "unprotected"},
        backbone=snakemake.params.backbone,
        release=snakemake.params.release,
        trap2=None,
        logit_scale=snakemake.params.logit_scale,
        seed=snakemake.params.seed,
        device=job.device(snakemake.params.device, snakemake.threads),
        say=say,
    )
