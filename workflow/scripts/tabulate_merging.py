"""Make Table 2 or 4: accuracy after merging, averaged over tasks and protected tasks."""

from trap2 import files, job
from trap2.report.notes import add_notes
from trap2.report.tables import merging_rows

with job.running(snakemake) as say:
    merges = [files.read_json(path) for path in snakemake.input.merges]
    rows = merging_rows(merges, snakemake.params.columns)
    columns = ["suite", "backbone", "release", "protection", *snakemake.params.columns]
    files.write_csv(snakemake.output.table, add_notes(columns, rows, merges), rows)
    say(f"wrote {len(rows)} rows")
