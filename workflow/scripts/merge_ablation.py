"""Merge every variant of a sweep with the other tasks' unprotected adapters, by task arithmetic."""

from trap2.evaluation.ablation import merge_variants, read_variants
from trap2.evaluation.tasks import Scorer, open_bench
from trap2.merging.settings import Search
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.updates.stored import records_by_task, updates_by_task

with job.running(snakemake) as log:
    params, given = snakemake.params, snakemake.input
    bench = open_bench(snakemake, "val", "test")
    references = records_by_task(given.references)
    unprotected, variants = merge_variants(
        Scorer.of(bench, given.references),
        updates_by_task(params.tasks, given.unprotected, given.model),
        references,
        read_variants(params.values, given.variants, given.model),
        Search(**params.search),
        log,
    )
    record = dict(snakemake.wildcards) | {"release_format": "lora", "labels": params.labels}
    record |= {"unprotected": unprotected, "variants": variants}
    files.write_json(snakemake.output.sweep, record | bench.origin)
