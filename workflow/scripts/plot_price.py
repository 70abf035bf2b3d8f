"""Tabulate and plot what attacks with a budget acquire and keep, over images and over steps."""

from trap2.attacks.catalogue import ATTACKS
from trap2.report.figures import style
from trap2.report.figures.price import price_figure
from trap2.report.notes import about_rows, add_notes
from trap2.report.tables import threats
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    attacks, merges, heads = (
        [files.read_json(path) for path in paths]
        for paths in (snakemake.input.attacks, snakemake.input.merges, snakemake.input.heads)
    )
    references = threats.References.of(merges, heads)
    cells = threats.cell_points(attacks, references, ATTACKS)
    rows = threats.printed(threats.price_rows(cells))
    noted = [*attacks, *merges, {"notes": snakemake.params.left_out}]
    files.write_csv(snakemake.output.csv, add_notes(threats.PRICE_COLUMNS, rows, noted), rows)
    about = about_rows(rows or threats.printed(cells), snakemake.params.seed)
    style.save(price_figure(rows, about), [snakemake.output.pdf, snakemake.output.png])
    log(f"plotted {len(rows)} points")
