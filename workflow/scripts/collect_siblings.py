"""Collect a table of the sibling papers, the published numbers beside where they belong there."""

from trap2.report.notes import add_notes
from trap2.report.tables.sibling_layouts import collect
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    records = [files.read_json(path) for path in snakemake.input.records]
    numbers = [row for path in snakemake.input.published for row in files.read_csv(path)]
    columns, rows = collect(snakemake.wildcards.artifact, records, numbers)
    noted = [*records, {"notes": snakemake.params.notes}]
    files.write_csv(snakemake.output.table, add_notes(columns, rows, noted), rows)
    log(f"{len(rows)} rows from {len(records)} records")
