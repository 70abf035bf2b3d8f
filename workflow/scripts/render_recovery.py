"""Render the recovery table as LaTeX, the project page's numbers below."""

from trap2.report.tables.recovery import published_recovery, render_recovery
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    text = render_recovery(
        files.read_csv(snakemake.input.recovery),
        published_recovery(files.read_csv(snakemake.input.published)),
        f"Numbers of the {snakemake.wildcards.suite} suite, seed {snakemake.params.seed}",
    )
    files.write_text(snakemake.output.tex, text)
    log("rendered the recovery table")
