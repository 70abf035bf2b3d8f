"""Protect an unprotected update by a post-hoc defense and score it."""

from pathlib import Path

from trap2 import job
from trap2.protecting import protect

with job.running(snakemake) as say:
    protect(
        tower=snakemake.input.tower,
        head=snakemake.input.head,
        data=list(snakemake.input.data),
        source=Path(snakemake.input.unprotected[0]).parent,
        folder=Path(snakemake.output[0]).parent,
        names=dict(snakemake.wildcards),
        backbone=snakemake.params.backbone,
        logit_scale=snakemake.params.logit_scale,
        batch_size=snakemake.params.batch_size,
        seed=snakemake.params.seed,
        device=job.device(snakemake.params.device, snakemake.threads),
        say=say,
    )
