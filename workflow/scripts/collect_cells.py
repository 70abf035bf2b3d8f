"""Collect the merges of a suite, a row each."""

from trap2 import files, job
from trap2.report.tables import CELL_COLUMNS, cell_rows

with job.running(snakemake) as say:
    tasks = snakemake.params.tasks
    rows = cell_rows([files.read_json(path) for path in snakemake.input.merges], tasks)
    files.write_csv(snakemake.output.cells, [*CELL_COLUMNS, *tasks, "average"], rows)
    say(f"wrote {len(rows)} rows")
