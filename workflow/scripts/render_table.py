"""Render a table of a suite as LaTeX, in the paper's layout."""

from trap2.report.tables.latex import render, zero_shot_averages
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    suite, number = snakemake.wildcards.suite, int(snakemake.wildcards.number)
    standalone = [row for path in snakemake.input.standalone for row in files.read_csv(path)]
    text = render(
        number,
        snakemake.params.kind,
        files.read_csv(snakemake.input.table),
        zero_shot=zero_shot_averages(standalone),
        source=f"Numbers of the {suite} suite, seed {snakemake.params.seed}",
    )
    files.write_text(snakemake.output.tex, text)
    log(f"rendered Table {number}")
