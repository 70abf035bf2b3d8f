"""Copy an artifact of the configured suite to results/."""

from pathlib import Path

from trap2.runtime import files, job
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:
    files.write_bytes(snakemake.output.artifact, Path(snakemake.input.artifact).read_bytes())
    log(f"published {snakemake.output.artifact} of the {snakemake.params.suite} suite")
