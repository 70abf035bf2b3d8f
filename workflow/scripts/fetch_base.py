"""Fetch a published CLIP, or read it from a local file, and write it as the base model."""

from trap2.models.clip.build import load_pretrained
from trap2.models.clip.tower import tower_tensors
from trap2.runtime import device as devices
from trap2.runtime import files, job
from trap2.runtime.versions import versions

with job.running(snakemake) as log:
    backbone = snakemake.params.backbone
    devices.device("cpu", snakemake.threads)
    clip = load_pretrained(
        backbone["architecture"], backbone["pretrained"], snakemake.params.downloads
    )
    files.write_tensors(snakemake.output.weights, clip.state_dict())
    files.write_tensors(snakemake.output.model, tower_tensors(clip))
    digest = files.sha256(snakemake.output.weights)
    record = {**dict(snakemake.wildcards), **backbone, "sha256": digest, "versions": versions()}
    files.write_json(snakemake.output.record, record)
    log(f"{backbone['pretrained']}: base.safetensors has the SHA-256 {digest}")
