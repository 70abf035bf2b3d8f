"""Protect an unprotected update by a post-hoc defense and score it."""

from pathlib import Path

from trap2.protection.protect import protect
from trap2.runtime import device as devices
from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.updates.key import UpdateKey

with job.running(snakemake) as log:
    protect(
        model=snakemake.input.model,
        head=snakemake.input.head,
        data=list(snakemake.input.data),
        source=Path(snakemake.input.unprotected[0]).parent,
        folder=Path(snakemake.output[0]).parent,
        key=UpdateKey.of(dict(snakemake.wildcards)),
        backbone=snakemake.params.backbone,
        logit_scale=snakemake.params.logit_scale,
        batch_size=snakemake.params.batch_size,
        seed=snakemake.params.seed,
        options=snakemake.params.options,
        device=devices.device(snakemake.params.device, snakemake.threads),
        log=log,
    )
