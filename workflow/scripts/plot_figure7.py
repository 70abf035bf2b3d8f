"""Plot Figure 7: change of the test loss as an update is scaled down."""

from trap2.report.figures import style
from trap2.report.figures.figure7 import figure7
from trap2.report.figures.points import rounded, scale_rows
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job

with job.running(snakemake) as log:
    records = [files.read_json(path) for path in snakemake.input.sweeps]
    rows = [row for row in scale_rows(records, snakemake.params.tasks) if row["s"] <= 1]
    about = f"{run_of(records[0], snakemake.params.seed)}, test split"
    figure = figure7(rows, snakemake.params.tasks, add_caption_notes(about, records))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log("plotted")
