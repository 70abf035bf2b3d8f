"""Put the paper's claims to the test on a suite's tables and on the published ones."""

from pathlib import Path

from trap2.report.claims import COLUMNS, claim_rows, claims_on, load_claims
from trap2.report.published import read_published
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    tables = {Path(path).stem: files.read_csv(path) for path in snakemake.input.tables}
    published = {
        f"table{n}": table for n, table in read_published(snakemake.input.published).items()
    }
    claims = claims_on(load_claims(snakemake.input.claims))
    rows = claim_rows(snakemake.wildcards.suite, claims, tables, published)
    files.write_csv(snakemake.output.claims, COLUMNS, rows)
    for row in rows:
        log(f"{row['claim']}: {row['verdict']} ({row['held']} of {row['of']})")
