"""Give mean and standard deviation over seeds of every number of a table."""

from trap2.report.tables.seeds import over_seeds
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    tables = [files.read_csv(path) for path in snakemake.input.tables]
    columns, rows = over_seeds(snakemake.wildcards.suite, snakemake.params.seeds, tables)
    files.write_csv(snakemake.output.table, columns, rows)
    log(f"{len(tables)} seeds, {len(rows)} rows")
