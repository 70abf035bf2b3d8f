"""Tabulate Theorems A.2 and A.4, bound beside measurement, and say how often the premises hold."""

from trap2.report.figures.points import rounded
from trap2.report.notes import add_closing_notes, add_notes
from trap2.report.tables.theorems import degradation_rows, scaling_rows, statement
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    records = [files.read_json(path) for path in snakemake.input.curvature]
    scaling, damage = scaling_rows(records), degradation_rows(records)
    text = statement(scaling, damage, records[0]["images"])
    for rows, path in (
        (scaling, snakemake.output.scaling),
        (damage, snakemake.output.damage),
    ):
        shown = rounded(rows)
        columns = add_notes(list(rows[0]), shown, records)
        files.write_csv(path, columns, shown)
    files.write_text(snakemake.output.statement, add_closing_notes(text, shown))
    log(text)
