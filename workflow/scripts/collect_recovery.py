"""Collect the project page's Table 5: merging with data and recovery with data."""

from trap2.report.notes import add_notes
from trap2.report.tables.recovery import COLUMNS, recovery_rows
from trap2.report.tables.rows import explanation
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    merges, attacks, heads = (
        [files.read_json(path) for path in paths]
        for paths in (snakemake.input.merges, snakemake.input.attacks, snakemake.input.heads)
    )
    published = files.read_csv(snakemake.input.published)
    rows = recovery_rows(merges, attacks, heads, published, snakemake.params.families)
    columns = COLUMNS
    if not rows:
        suite = snakemake.wildcards.suite
        reason = f"the table shows attacked adapters, of which the suite '{suite}' has none"
        columns, rows = explanation(suite, "recovery", reason)
    noted = [*merges, *attacks, {"notes": snakemake.params.left_out}]
    files.write_csv(snakemake.output.recovery, add_notes(columns, rows, noted), rows)
    log(f"wrote {len(rows)} rows")
