"""Recompute the SHA-256 of every file behind the results and say what does not match."""

import sys
from pathlib import Path

from trap2 import files, job, lineage


def manifest_files(path: str) -> dict:
    """The finished run's list of files."""
    if not Path(path).exists():
        raise files.FileError(f"{path}: there is no finished run to verify. Run snakemake first")
    return files.read_json(path)["files"]


with job.running(snakemake) as say:
    manifest = manifest_files(snakemake.params.manifest)
    found = list(lineage.problems(manifest))
    for problem in found:
        say(problem)
        print(problem, file=sys.stderr)
    if found:
        raise files.FileError(f"{len(found)} of {len(manifest)} files do not match, see above")
    print(f"all {len(manifest)} files behind the results are as recorded", file=sys.stderr)
