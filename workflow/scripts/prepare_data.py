"""Prepare a task: its images at one resolution as memory-mapped arrays, with a manifest."""

from pathlib import Path

from trap2.data.catalogue import parse_row
from trap2.data.demo.prepare import prepare_demo
from trap2.data.preparation import prepare
from trap2.runtime import job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    task, resolution = snakemake.wildcards.task, int(snakemake.wildcards.resolution)
    data, seed = snakemake.params.data, snakemake.params.seed
    folder = Path(snakemake.output.manifest).parent
    if data["source"] == "demo":
        counts = {split: data[split] for split in ("train", "val", "test")}
        prepare_demo(task, counts, resolution, seed, folder)
        log(f"rendered {counts} images of {task}")
    else:
        manifest = prepare(
            parse_row(task, data["dataset"]),
            Path(snakemake.input.raw[0]).parent,
            folder,
            resolution,
            cars_train=data.get("cars_train", "proper"),
            seed=seed,
            threads=snakemake.threads,
            log=log,
        )
        for note in manifest["notes"]:
            log(note)
