"""Score every task's update at a grid of scales: W0 + s·ΔW (Figures 2, 5 and 7)."""

from trap2.evaluation.scale_grid import scale_grid
from trap2.evaluation.scale_sweep import sweep_scales
from trap2.evaluation.tasks import open_bench
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    grid = scale_grid(len(snakemake.params.tasks))
    bench = open_bench(snakemake, "test")
    sweeps = sweep_scales(bench, snakemake.input.updates, snakemake.input.model, grid, log)
    record = {**dict(snakemake.wildcards), "sweeps": sweeps, "notes": bench.origin["notes"]}
    files.write_json(snakemake.output.sweeps, record)
