"""Make Table 2, 4 or 5: accuracy after merging, averaged over tasks and protected tasks."""

from trap2.report.notes import add_notes
from trap2.report.tables.rows import explanation, merging_rows
from trap2.runtime import files, job

with job.running(snakemake) as log:
    suite, number = snakemake.wildcards.suite, int(snakemake.wildcards.number)
    if snakemake.params.not_applicable:
        columns, rows = explanation(suite, number, snakemake.params.not_applicable)
    else:
        merges = [files.read_json(path) for path in snakemake.input.merges]
        rows = merging_rows(merges, snakemake.params.columns)
        columns = ["suite", "backbone", "release", "protection", *snakemake.params.columns]
        columns = add_notes(columns, rows, merges)
    files.write_csv(snakemake.output.table, columns, rows)
    log(snakemake.params.not_applicable or f"wrote {len(rows)} rows")
