"""Plot what every attack acquires of every protection, and whether it keeps the rest."""

from trap2.report.figures import style
from trap2.report.figures.threats import threats_figure
from trap2.report.notes import about_rows
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    rows = files.read_csv(snakemake.input.threats)
    figure = threats_figure(rows, about_rows(rows, snakemake.params.seed))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    log(f"plotted {len(rows)} attacks")
