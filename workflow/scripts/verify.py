"""Recompute the SHA-256 of every file behind the results and say what does not match."""

import sys
from pathlib import Path

from trap2.runtime import job, verification
from trap2.runtime.script import snakemake

with job.running(snakemake) as log:

    def tell(line: str) -> None:
        """Write a line to the log and to the terminal."""
        log(line)
        print(line, file=sys.stderr)

    first, everything = map(Path, snakemake.params.manifests)
    published = Path(snakemake.params.published)
    tell(verification.verify(published, first, everything, None, tell))
