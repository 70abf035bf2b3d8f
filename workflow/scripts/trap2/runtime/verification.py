"""What a finished run is verified against: the lists of its files, and the published copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trap2.runtime import files, provenance

Listed = dict[str, dict[str, Any]]
"""The entry of each file of a manifest, by path."""


def manifest_files(first: Path, everything: Path, log: Callable[[str], None]) -> Listed:
    """The finished run's list of files, and that of all artifacts if no later run changed any.

    Raises:
        FileError: there is no finished run, or a list is damaged.
    """
    if not first.exists():
        raise files.FileError(f"{first}: there is no finished run to verify. Run snakemake first")
    listed: Listed = files.read_json(first)["files"]
    if not everything.exists():
        return listed
    if everything.stat().st_mtime < first.stat().st_mtime:
        log(f"{everything} is of an earlier run and is left out")
        return listed
    every: Listed = files.read_json(everything)["files"]
    return every | listed


def published_copies(folder: Path) -> Listed:
    """The artifacts of a folder itself, which jobs have copied there."""
    recorded = provenance.recorded(folder)
    return {path: {"sha256": digest} for path, digest in recorded.items() if Path(path).exists()}


def verify(first: Path, everything: Path, published: Path, log: Callable[[str], None]) -> int:
    """Compare every file behind a run's results with its record; the number of files.

    Args:
        first: the list of the finished run's files.
        everything: that of all artifacts' files.
        published: the folder of the published artifacts.
        log: is told what does not match, a line each.

    Raises:
        FileError: some do not match; each has been logged.
    """
    manifest = manifest_files(first, everything, log) | published_copies(published)
    found = list(provenance.problems(manifest))
    for problem in found:
        log(problem)
    if found:
        raise files.FileError(f"{len(found)} of {len(manifest)} files do not match, see above")
    return len(manifest)
