"""Plot Figure 8: a matrix of paths between adapters, the loss of both tasks along each."""

from trap2.report.figures import style
from trap2.report.figures.figure8 import figure8
from trap2.report.figures.points import path_rows, rounded
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job

with job.running(snakemake) as log:
    record = files.read_json(snakemake.input.pairs)
    rows = path_rows(record)
    about = f"{run_of(record, snakemake.params.seed)}, test split"
    figure = figure8(rows, snakemake.params.tasks, add_caption_notes(about, [record]))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log(f"plotted {len(record['pairs'])} pairs")
