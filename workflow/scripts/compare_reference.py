"""Compare the tables and the splits of this run with those that came with the checkpoints."""

from pathlib import Path

from trap2.report import reproduction_page
from trap2.runtime import files, job, provenance
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    tables = {
        Path(reference).name: reproduction_page.differences(
            files.read_csv(reference), files.read_csv(ours)
        )
        for reference, ours in zip(snakemake.input.reference, snakemake.input.tables, strict=True)
    }
    splits = {
        Path(released).stem: files.read_json(released) == files.read_json(ours)
        for released, ours in zip(
            snakemake.input.released_splits, snakemake.input.splits, strict=True
        )
    }
    suite = snakemake.wildcards.suite
    released = files.read_json(provenance.manifest_path(suite))
    made = f"seed {released['configuration']['seed']}, revision {released['revision']}"
    page = reproduction_page.page(suite, made, tables, splits)
    files.write_text(snakemake.output.page, page)
    log(page)
