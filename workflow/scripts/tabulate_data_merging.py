"""Make Table 5 or 11: accuracy after merging with data, its averages or all of it."""

from trap2 import files, job
from trap2.report.notes import add_notes
from trap2.report.tables import COMPLETE_KEYS, complete_rows, explanation, merging_rows

with job.running(snakemake) as say:
    suite, number = snakemake.wildcards.suite, int(snakemake.wildcards.number)
    if snakemake.params.objection:
        columns, rows = explanation(suite, number, snakemake.params.objection)
    else:
        cells = snakemake.params.cells
        merges = [files.read_json(path) for path in snakemake.input.merges]
        if number == 5:
            rows = merging_rows(merges, cells)
            columns = ["suite", "backbone", "release", "protection", *cells]
        else:
            rows = complete_rows(merges, snakemake.params.tasks, cells)
            columns = [*COMPLETE_KEYS, *snakemake.params.tasks, "average"]
        columns = add_notes(columns, rows, merges)
    files.write_csv(snakemake.output.table, columns, rows)
    say(snakemake.params.objection or f"wrote {len(rows)} rows")
