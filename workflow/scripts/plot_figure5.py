"""Plot Figure 5: every task's update scaled as averaging N updates would scale it."""

from trap2.report.figures import style
from trap2.report.figures.figure5 import figure5
from trap2.report.figures.points import averaging_rows, rounded
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job

with job.running(snakemake) as log:
    tasks = snakemake.params.tasks
    records = [files.read_json(path) for path in snakemake.input.sweeps]
    sweeps = {record["protection"]: record["sweeps"] for record in records}
    scored = [files.read_json(path) for path in snakemake.input.zero_shot]
    zero_shot = {record["task"]: record["test"]["accuracy"] for record in scored}
    about = f"{run_of(records[0], snakemake.params.seed)}, test split"
    figure = figure5(sweeps, zero_shot, tasks, add_caption_notes(about, records))
    rows = averaging_rows(records, tasks, zero_shot)
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log("plotted")
