"""Recompute the SHA-256 of every file behind the results and say what does not match."""

import sys
from pathlib import Path

from trap2.runtime import files, job, provenance


def manifest_files(first: Path, everything: Path) -> dict:
    """The finished run's list of files, and that of all artifacts if no later run changed any."""
    if not first.exists():
        raise files.FileError(f"{first}: there is no finished run to verify. Run snakemake first")
    listed = files.read_json(first)["files"]
    if not everything.exists():
        return listed
    if everything.stat().st_mtime < first.stat().st_mtime:
        print(f"{everything} is of an earlier run and is left out", file=sys.stderr)
        return listed
    return files.read_json(everything)["files"] | listed


def published_copies(folder: Path) -> dict:
    """The artifacts of ``results/`` itself, which jobs have copied there."""
    recorded = provenance.recorded(folder)
    return {path: {"sha256": digest} for path, digest in recorded.items() if Path(path).exists()}


with job.running(snakemake) as log:
    params = snakemake.params
    manifest = manifest_files(*map(Path, params.manifests))
    manifest |= published_copies(Path(params.published))
    found = list(provenance.problems(manifest))
    for problem in found:
        log(problem)
        print(problem, file=sys.stderr)
    if found:
        raise files.FileError(f"{len(found)} of {len(manifest)} files do not match, see above")
    print(f"all {len(manifest)} files behind the results are as recorded", file=sys.stderr)
