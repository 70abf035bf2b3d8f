"""Mix every task's protected adapter with every other task's unprotected one."""

from trap2.evaluation.pairs import PAIR_SCALE, mix_pairs
from trap2.evaluation.tasks import open_bench
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.updates.stored import updates_by_task

with job.running(snakemake) as log:
    tasks, given = snakemake.params.tasks, snakemake.input
    bench = open_bench(snakemake, "test")
    protected, unprotected = (
        updates_by_task(tasks, paths, given.model) for paths in (given.protected, given.unprotected)
    )
    record = dict(snakemake.wildcards) | {"release_format": "lora", "scale": PAIR_SCALE}
    record |= {"tasks": tasks, "pairs": mix_pairs(bench, protected, unprotected, log)}
    files.write_json(snakemake.output.pairs, record | bench.origin)
