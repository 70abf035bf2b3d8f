"""Say in a few lines what a suite's Tables 1 and 2 show."""

from trap2.report.notes import add_closing_notes
from trap2.report.summary import summary
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    table1, table2 = map(files.read_csv, (snakemake.input.table1, snakemake.input.table2))
    lambdas: dict[str, dict[str, dict[str, float]]] = {}
    for record in map(files.read_json, snakemake.input.trained):
        chosen = lambdas.setdefault(record["backbone"], {}).setdefault(record["protection"], {})
        chosen[record["task"]] = record["objective"]["lambda"]
    manifest = files.sha256(snakemake.input.manifest)
    places, seed = snakemake.params.places, snakemake.params.seed
    text = summary(table1, table2, lambdas, places, seed, manifest)
    text = add_closing_notes(text, table1)
    files.write_text(snakemake.output.summary, text)
    log(text)
