"""Tabulate and plot the standalone accuracy of every protection after what people do to weights."""

from trap2.report.figures import style
from trap2.report.figures.handling import handling_figure
from trap2.report.notes import about_rows, add_notes
from trap2.report.tables.handling import COLUMNS, handling_rows
from trap2.report.tables.threats import printed
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    records = [files.read_json(path) for path in snakemake.input.handling]
    rows = printed(handling_rows(records))
    noted = [*records, {"notes": snakemake.params.left_out}]
    files.write_csv(snakemake.output.csv, add_notes(COLUMNS, rows, noted), rows)
    figure = handling_figure(rows, about_rows(rows, snakemake.params.seed))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    log(f"plotted {len(rows)} treatments")
