"""Pretrain a tiny CLIP on captions of the demo tasks' clean renderings."""

from trap2.models.clip.build import build_clip, images_record
from trap2.models.clip.normalisation import Normalisation
from trap2.models.clip.pretraining import pretrain
from trap2.models.clip.tower import tower_tensors, vision_tower
from trap2.models.layers import family
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.runtime.versions import versions

with job.running(snakemake) as log:
    backbone = snakemake.params.backbone
    devices.device("cpu", snakemake.threads)
    # A tower that no job could adapt ends the run here and not after the pretraining.
    family(vision_tower(build_clip(backbone["architecture"])))
    state, metrics = pretrain(
        backbone["architecture"],
        snakemake.params.tasks,
        resolution=backbone["resolution"],
        seed=snakemake.params.seed,
        log=log,
        **backbone["pretraining"],
    )
    files.write_tensors(snakemake.output.weights, state)
    clip = build_clip(backbone["architecture"], snakemake.output.weights)
    files.write_tensors(snakemake.output.model, tower_tensors(clip))
    record = {
        **dict(snakemake.wildcards),
        **backbone,
        "input": images_record(backbone["resolution"], Normalisation()),
        "metrics": metrics,
        "versions": versions(),
    }
    files.write_json(snakemake.output.record, record)
