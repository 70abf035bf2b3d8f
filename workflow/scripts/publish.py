"""Copy an artifact of the configured suite to results/."""

from pathlib import Path

from trap2 import files, job

with job.running(snakemake) as say:
    files.write_bytes(snakemake.output[0], Path(snakemake.input[0]).read_bytes())
    say(f"published {snakemake.output[0]} of the {snakemake.params.suite} suite")
