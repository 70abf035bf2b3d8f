"""Put the sibling papers' claims to the test on a suite's tables and on the published ones."""

from pathlib import Path

from trap2.report.claims import COLUMNS, claim_rows, claims_on, judge, load_claims
from trap2.report.tables.sibling_layouts import claimed, claimed_published
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.suites.artifacts import SIBLINGS
from trap2.suites.sibling_tables import TABLES

with job.running(snakemake) as log:
    tables = {Path(path).stem: files.read_csv(path) for path in snakemake.input.tables}
    tables |= {name: claimed(name, rows) for name, rows in tables.items() if name in TABLES}
    numbers = {Path(path).stem: files.read_csv(path) for path in snakemake.input.published}
    published = claimed_published(numbers)
    claims = claims_on(load_claims(snakemake.input.claims), SIBLINGS)
    rows = claim_rows(snakemake.wildcards.suite, claims, tables, published)
    for row, claim in zip(rows, claims, strict=True):
        # How many of the paper's own numbers agree with what it says.
        found = judge(claim, published)
        row |= {"published_held": str(found.held), "published_of": str(found.count)}
    place = COLUMNS.index("published") + 1
    columns = [*COLUMNS[:place], "published_held", "published_of", *COLUMNS[place:]]
    files.write_csv(snakemake.output.claims, columns, rows)
    for row in rows:
        log(f"{row['claim']}: {row['verdict']} ({row['held']} of {row['of']})")
