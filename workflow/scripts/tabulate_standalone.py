"""Make Table 1 or 3: standalone accuracy, with zero-shot as the reference."""

from trap2.report.notes import add_notes
from trap2.report.tables.rows import explanation, standalone_rows
from trap2.runtime import files, job

with job.running(snakemake) as log:
    suite, number = snakemake.wildcards.suite, int(snakemake.wildcards.number)
    if snakemake.params.not_applicable:
        columns, rows = explanation(suite, number, snakemake.params.not_applicable)
    else:
        tasks = snakemake.params.tasks
        updates = [files.read_json(path) for path in snakemake.input.records]
        zero_shot = [
            files.read_json(path) | {"release_format": updates[0]["release_format"]}
            for path in snakemake.input.zero_shot
        ]
        rows = standalone_rows([*zero_shot, *updates], tasks)
        order = list(dict.fromkeys(update["backbone"] for update in updates))
        rows.sort(key=lambda row: order.index(row["backbone"]))
        columns = ["suite", "backbone", "release", "protection", *tasks, "average"]
        columns = add_notes(columns, rows, [*zero_shot, *updates])
    files.write_csv(snakemake.output.table, columns, rows)
    log(snakemake.params.not_applicable or f"wrote {len(rows)} rows")
