"""Make one of Tables 7 to 11: accuracy after merging, one column a protected task."""

from trap2.report.notes import add_notes
from trap2.report.tables.rows import COMPLETE_KEYS, complete_rows, explanation
from trap2.runtime import files, job

with job.running(snakemake) as log:
    suite, number = snakemake.wildcards.suite, int(snakemake.wildcards.number)
    if snakemake.params.not_applicable:
        columns, rows = explanation(suite, number, snakemake.params.not_applicable)
    else:
        merges = [files.read_json(path) for path in snakemake.input.merges]
        rows = complete_rows(merges, snakemake.params.tasks, snakemake.params.columns)
        columns = [*COMPLETE_KEYS, *snakemake.params.tasks, "average"]
        columns = add_notes(columns, rows, merges)
    files.write_csv(snakemake.output.table, columns, rows)
    log(snakemake.params.not_applicable or f"wrote {len(rows)} rows")
