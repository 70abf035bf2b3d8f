"""Render a table of the sibling papers as LaTeX."""

from trap2.report.tables.sibling_layouts import render
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    rows = files.read_csv(snakemake.input.table)
    source = f"Numbers of the {snakemake.wildcards.suite} suite, seed {snakemake.params.seed}"
    files.write_text(snakemake.output.tex, render(snakemake.wildcards.artifact, rows, source))
    log(f"rendered {len(rows)} rows")
