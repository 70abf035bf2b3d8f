"""Collect the merges of a suite, a row each."""

from trap2.report.notes import add_notes
from trap2.report.tables.rows import CELL_COLUMNS, cell_rows
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    tasks = snakemake.params.tasks
    merges = [files.read_json(path) for path in snakemake.input.merges]
    rows = cell_rows(merges, tasks)
    columns = add_notes([*CELL_COLUMNS, *tasks, "average"], rows, merges)
    files.write_csv(snakemake.output.cells, columns, rows)
    log(f"wrote {len(rows)} rows")
