"""Plot Figure 3: accuracy on two tasks along the path between their adapters."""

from trap2.report.figures import style
from trap2.report.figures.figure3 import figure3
from trap2.report.figures.points import path_rows, rounded
from trap2.report.notes import add_caption_notes, run_of
from trap2.runtime import files, job

with job.running(snakemake) as log:
    record = files.read_json(snakemake.input.pairs)
    scored = [files.read_json(path) for path in snakemake.input.zero_shot]
    zero_shot = {each["task"]: each["test"]["accuracy"] for each in scored}
    pair = tuple(snakemake.params.pair)
    rows = [
        row for row in path_rows(record) if (row["protected_task"], row["unprotected_task"]) == pair
    ]
    about = f"{run_of(record, snakemake.params.seed)}, test split"
    figure = figure3(rows, zero_shot, add_caption_notes(about, [record]))
    style.save(figure, [snakemake.output.pdf, snakemake.output.png])
    files.write_csv(snakemake.output.csv, list(rows[0]), rounded(rows))
    log(f"plotted {pair[0]} with {pair[1]}")
