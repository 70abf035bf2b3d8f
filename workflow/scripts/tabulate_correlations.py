"""Make Table 6: correlations of two adapters' distance with the loss at their midpoint."""

from trap2.report.notes import add_notes
from trap2.report.tables.correlations import STATISTICS, correlation_rows
from trap2.report.tables.rows import explanation
from trap2.runtime import files, job

KEYS = ["suite", "backbone", "release", "protection", "correlation", "n_pairs", "statistic"]

with job.running(snakemake) as log:
    if snakemake.params.not_applicable:
        columns, rows = explanation(snakemake.wildcards.suite, 6, snakemake.params.not_applicable)
    else:
        record = files.read_json(snakemake.input.pairs[0])
        rows = correlation_rows(record)
        columns = add_notes([*KEYS, *STATISTICS], rows, [record])
    files.write_csv(snakemake.output.table, columns, rows)
    log(snakemake.params.not_applicable or f"correlated {rows[0]['n_pairs']} pairs")
