"""Make a table of the paper, in the layout of its kind."""

from trap2.report.tables.layouts import LAYOUTS
from trap2.report.tables.rows import explanation
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    suite, number = snakemake.wildcards.suite, int(snakemake.wildcards.number)
    if reason := snakemake.params.not_applicable:
        columns, rows = explanation(suite, number, reason)
    else:
        given = {
            kind: [files.read_json(path) for path in paths]
            for kind, paths in snakemake.input.items()
        }
        columns, rows = LAYOUTS[snakemake.params.kind](**given, **snakemake.params.settings)
    files.write_csv(snakemake.output.table, columns, rows)
    log(reason or f"wrote {len(rows)} rows")
