"""Render a table or a text as a page of the report."""

from pathlib import Path

from trap2.report.tables.html import page, table, text
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    source = Path(snakemake.input.artifact)
    body = table(source) if source.suffix == ".csv" else text(source.read_text("utf-8"))
    files.write_text(snakemake.output.page, page(snakemake.params.title, body))
    log(f"rendered {source.name}")
