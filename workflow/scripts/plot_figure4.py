"""Plot Figure 4: heat maps of every pair of adapters, merged at one scale."""

from trap2.report.figures import style
from trap2.report.figures.figure4 import figure4
from trap2.report.figures.points import pair_rows, rounded
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job

with job.running(snakemake) as log:
    record = files.read_json(snakemake.input.pairs)
    rows = pair_rows(record)
    about = f"{run_of(record, snakemake.params.seed)}, test split"
    figure = figure4(rows, snakemake.params.tasks, add_caption_notes(about, [record]))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log(f"plotted {len(record['pairs'])} pairs")
