"""Choose among a trained protection's updates of a task by validation and copy the winner."""

from pathlib import Path

from trap2.runtime import files, job
from trap2.runtime.script import snakemake
from trap2.training.selection import select_lambda

with job.running(snakemake) as log:
    reference = files.read_json(snakemake.input.unprotected)["val"]["accuracy"]
    folders = {Path(path).parent for path in snakemake.input.candidates}
    candidates = {
        files.read_json(folder / "update.json")["objective"]["lambda"]: folder for folder in folders
    }
    accuracies = {
        lambda_: files.read_json(folder / "update.json")["val"]["accuracy"]
        for lambda_, folder in candidates.items()
    }
    chosen = select_lambda(accuracies, reference, snakemake.params.tolerance)
    for lambda_ in sorted(accuracies):
        mark = " <- chosen" if lambda_ == chosen else ""
        log(f"lambda {lambda_}: validation accuracy {accuracies[lambda_]:.2f} %{mark}")
    log(f"unprotected: validation accuracy {reference:.2f} %")
    for output in map(Path, snakemake.output):
        content = (candidates[chosen] / output.name).read_bytes()
        files.write_bytes(output, content)
