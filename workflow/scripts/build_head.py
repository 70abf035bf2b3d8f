"""Build a task's zero-shot head from the text tower and score the base model with it."""

from trap2.models.clip.zero_shot import build_head
from trap2.runtime import device as devices
from trap2.runtime import job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    build_head(
        base=snakemake.input.base,
        data=list(snakemake.input.data),
        head=snakemake.output.head,
        record=snakemake.output.record,
        facts=dict(snakemake.wildcards),
        backbone=snakemake.params.backbone,
        logit_scale=snakemake.params.logit_scale,
        batch_size=snakemake.params.batch_size,
        device=devices.device(snakemake.params.device, snakemake.threads),
        log=log,
    )
