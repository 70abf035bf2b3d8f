"""Fetch a published CLIP, or read it from a local file, and write it as the base model."""

from trap2.models.clip.build import load_pretrained
from trap2.models.clip.normalisation import Normalisation
from trap2.models.clip.tower import tower_tensors
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.runtime.versions import versions

with job.running(snakemake) as log:
    backbone = snakemake.params.backbone
    devices.device("cpu", snakemake.threads)
    given = backbone.get("normalisation")
    normalisation = given and Normalisation(tuple(given["mean"]), tuple(given["std"]))
    published = load_pretrained(
        backbone["architecture"],
        backbone["pretrained"],
        snakemake.params.downloads,
        normalisation,
        log,
    )
    # The files of a base whose images are CLIP's say nothing of them.
    metadata = published.normalisation.metadata()
    files.write_tensors(snakemake.output.weights, published.clip.state_dict(), metadata)
    files.write_tensors(snakemake.output.model, tower_tensors(published.clip), metadata)
    digest = files.sha256(snakemake.output.weights)
    record = {
        **dict(snakemake.wildcards),
        **backbone,
        "input": published.images(backbone["resolution"]),
        "weights": published.weights,
        "sha256": digest,
        "versions": versions(),
    }
    files.write_json(snakemake.output.record, record)
    log(f"{backbone['pretrained']}: {published.weights}")
    log(f"base.safetensors has the SHA-256 {digest}")
