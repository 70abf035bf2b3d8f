"""Compare a suite's tables with the published ones: a table and a page."""

from trap2.report.comparison import NUMBER_COLUMNS, PATTERN_COLUMNS, number_rows, pattern_rows
from trap2.report.comparison_page import comparison_page
from trap2.report.published import read_published
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.suites.paper import TABLES

with job.running(snakemake) as log:
    suite, numbers = snakemake.wildcards.suite, snakemake.params.numbers
    ours = {n: files.read_csv(path) for n, path in zip(TABLES, snakemake.input.tables, strict=True)}
    published = read_published(snakemake.input.published)
    if numbers:
        columns, rows = NUMBER_COLUMNS, number_rows(suite, ours, published)
    else:
        columns = PATTERN_COLUMNS
        rows = pattern_rows(suite, ours, published, snakemake.params.families)
    notes = sorted({row["notes"] for table in ours.values() for row in table if row.get("notes")})
    claims = files.read_csv(snakemake.input.claims)
    files.write_csv(snakemake.output.comparison, columns, rows)
    page = comparison_page(suite, claims, rows, notes, numbers=numbers)
    files.write_text(snakemake.output.page, page)
    log(f"compared {len(rows)} numbers")
