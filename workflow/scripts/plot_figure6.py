"""Plot Figure 6: the weights that Chain of Merges gives protected adapters."""

from trap2.report.figures import style
from trap2.report.figures.figure6 import figure6
from trap2.report.figures.points import coefficient_rows, rounded
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job

with job.running(snakemake) as log:
    records = [files.read_json(path) for path in snakemake.input.merges]
    rows = coefficient_rows(records, snakemake.params.cells)
    about = run_of(records[0], snakemake.params.seed)
    figure = figure6(rows, snakemake.params.tasks, add_caption_notes(about, records))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log("plotted")
