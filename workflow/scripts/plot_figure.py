"""Plot a figure of the paper, with the numbers that it shows."""

from trap2.report.figures import style
from trap2.report.figures.given import Given, plotter
from trap2.report.figures.points import rounded
from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    given = {
        kind: [files.read_json(path) for path in paths] for kind, paths in snakemake.input.items()
    }
    scored = given.pop("zero_shot", [])
    zero_shot = {record["task"]: record["test"]["accuracy"] for record in scored}
    (records,) = given.values()
    seed, settings = snakemake.params.seed, snakemake.params.settings
    plot = plotter(int(snakemake.wildcards.number))
    figure, rows = plot(Given(records, zero_shot, seed, **settings))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log(f"plotted {len(rows)} points")
