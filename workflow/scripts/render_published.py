"""Render the paper's own numbers as LaTeX: what a run is compared with."""

from trap2.report.published import published_rows
from trap2.report.tables.latex import render, zero_shot_averages
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    number = int(snakemake.wildcards.number)
    standalone = [
        row
        for path in snakemake.input.standalone
        for row in published_rows("standalone", files.read_csv(path))
    ]
    text = render(
        number,
        snakemake.params.kind,
        published_rows(snakemake.params.kind, files.read_csv(snakemake.input.numbers)),
        zero_shot=zero_shot_averages(standalone),
        source="The paper's published numbers",
        ours="(Ours)",
    )
    files.write_text(snakemake.output.tex, text)
    log(f"rendered the published Table {number}")
