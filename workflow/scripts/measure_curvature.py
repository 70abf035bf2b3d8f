"""Measure what Theorems A.2 and A.4 speak of: slopes and curvatures of every update and pair."""

from trap2.evaluation.landscape import measure_curvature
from trap2.evaluation.tasks import open_bench
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.updates.stored import updates_by_task

with job.running(snakemake) as log:
    params, given = snakemake.params, snakemake.input
    bench = open_bench(snakemake, "test")
    protected, unprotected = (
        updates_by_task(params.tasks, paths, given.model)
        for paths in (given.protected, given.unprotected)
    )
    updates, pairs = measure_curvature(
        bench, protected, unprotected, examples=params.images, seed=params.seed, log=log
    )
    record = dict(snakemake.wildcards) | {"release_format": "lora", "images": params.images}
    record |= {"updates": updates, "pairs": pairs}
    files.write_json(snakemake.output.curvature, record | bench.origin)
