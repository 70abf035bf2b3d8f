"""Score every task's update after what people do to weights without merging them."""

from trap2.evaluation.handling import handle_updates
from trap2.evaluation.tasks import open_bench
from trap2.evaluation.treatments import TREATMENTS
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    bench = open_bench(snakemake, "test")
    tasks, reasons = handle_updates(
        bench, snakemake.input.updates, snakemake.input.model, rank=snakemake.params.rank, log=log
    )
    record = dict(snakemake.wildcards) | {"treatments": list(TREATMENTS), "tasks": tasks}
    files.write_json(snakemake.output.handling, record | {"reasons": reasons} | bench.origin)
