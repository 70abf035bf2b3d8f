"""Tabulate and plot one ablation: standalone and merged accuracy over a setting's values."""

from trap2.report.figures import style
from trap2.report.figures.ablation import ablation_figure, ablation_rows
from trap2.report.figures.points import rounded
from trap2.report.notes import add_caption_notes, add_notes, run_of
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    record = files.read_json(snakemake.input.sweep)
    rows = ablation_rows(record)
    about = f"{run_of(record, snakemake.params.seed)}, test split"
    figure = ablation_figure(rows, add_caption_notes(about, [record]))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    shown = rounded(rows)
    files.write_csv(snakemake.output.csv, add_notes(list(rows[0]), shown, [record]), shown)
    log(f"{len(rows)} updates")
