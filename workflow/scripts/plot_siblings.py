"""Tabulate and plot a figure of Merge-Lock's paper."""

from trap2.report.figures import style
from trap2.report.figures.mergelock import FIGURES
from trap2.report.figures.points import rounded
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    records = [files.read_json(path) for path in snakemake.input.records]
    shown = FIGURES[int(snakemake.wildcards.number)]
    rows = shown.rows(records, snakemake.params.task)
    files.write_csv(snakemake.output.csv, list(shown.columns), rounded(rows))
    about = add_caption_notes(run_of(records[0], snakemake.params.seed), records)
    style.save(shown.draw(rows, about), [snakemake.output.pdf, snakemake.output.png])
    log(f"plotted {len(rows)} points")
