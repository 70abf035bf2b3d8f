"""Prepare a task: its images at one resolution as memory-mapped arrays, with a manifest."""

from pathlib import Path

from trap2 import job
from trap2.data.rendering import prepare_demo

with job.running(snakemake) as say:
    task, resolution = snakemake.wildcards.task, int(snakemake.wildcards.resolution)
    counts = {split: snakemake.params.data[split] for split in ("train", "val", "test")}
    folder = Path(snakemake.output.manifest).parent
    prepare_demo(task, counts, resolution, snakemake.params.seed, folder)
    say(f"rendered {counts} images of {task}")
