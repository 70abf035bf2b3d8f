"""Recompute the SHA-256 of every file behind the results and say what does not match."""

import sys
from pathlib import Path

from trap2.runtime import job
from trap2.runtime.script import snakemake
from trap2.runtime.verification import verify

with job.running(snakemake) as log:

    def tell(line: str) -> None:
        """Into the log and onto the terminal."""
        log(line)
        print(line, file=sys.stderr)

    first, everything = map(Path, snakemake.params.manifests)
    count = verify(first, everything, Path(snakemake.params.published), tell)
    tell(f"all {count} files behind the results are as recorded")
