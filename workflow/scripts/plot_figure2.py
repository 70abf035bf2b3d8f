"""Plot Figure 2: loss and accuracy of one task over the scale of its update."""

from trap2.report.figures import style
from trap2.report.figures.figure2 import figure2
from trap2.report.figures.points import rounded, scale_rows
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job

with job.running(snakemake) as log:
    task = snakemake.params.task
    records = [files.read_json(path) for path in snakemake.input.sweeps]
    sweeps = {record["protection"]: record["sweeps"][task] for record in records}
    zero_shot = files.read_json(snakemake.input.zero_shot)["test"]["accuracy"]
    about = f"{run_of(records[0], snakemake.params.seed)}, task {task}, test split"
    figure = figure2(sweeps, zero_shot, add_caption_notes(about, records))
    rows = scale_rows(records, [task])
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log("plotted")
