"""Put the claims about attacks and handling to the test on a suite's tables."""

from pathlib import Path

from trap2.report.claims import COLUMNS, claim_rows, claims_on, load_claims
from trap2.report.tables.recovery import published_recovery
from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.suites.artifacts import THREATS

with job.running(snakemake) as log:
    tables = {Path(path).stem: files.read_csv(path) for path in snakemake.input.tables}
    published = {"recovery": published_recovery(files.read_csv(snakemake.input.published))}
    claims = claims_on(load_claims(snakemake.input.claims), THREATS)
    rows = claim_rows(snakemake.wildcards.suite, claims, tables, published)
    files.write_csv(snakemake.output.claims, COLUMNS, rows)
    for row in rows:
        log(f"{row['claim']}: {row['verdict']} ({row['held']} of {row['of']})")
