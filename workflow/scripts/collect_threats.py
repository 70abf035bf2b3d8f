"""Collect the attacks on every protection: what each of them acquires and keeps, and each merge."""

from trap2.attacks.catalogue import ATTACKS
from trap2.report.notes import add_notes
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
    rows = threats.threat_rows(cells, threats.strongest_points(attacks, references), ATTACKS)
    noted = [*attacks, *merges, {"notes": snakemake.params.left_out}]
    for columns, points, path in (
        (threats.COLUMNS, rows, snakemake.output.threats),
        (threats.CELL_COLUMNS, cells, snakemake.output.cells),
    ):
        shown = threats.printed(points)
        files.write_csv(path, add_notes(columns, shown, noted), shown)
    log(f"{len(cells)} merges of {len(rows)} attacks")
