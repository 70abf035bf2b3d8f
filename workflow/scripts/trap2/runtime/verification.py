"""Recomputing the SHA-256 of every file behind a run's results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from trap2.runtime import files, provenance

Entries = Mapping[str, provenance.ListedFile]


def verify(
    root: Path, first: Path, everything: Path, against: Path | None, log: Callable[[str], None]
) -> str:
    """Check a run's files against its manifests, and these against one that was kept elsewhere.

    Args:
        root: the folder of the published copies.
        first: the manifest of a plain run.
        everything: the manifest of all artifacts; of an earlier run it is left out.
        against: a manifest that the run's owner does not hold.
        log: receives a line for everything that does not match.

    Returns:
        What was found, in a sentence.

    Raises:
        FileError: there is no finished run, or something does not match.
    """
    manifest = {**_listed(first, everything, log), **_published(root)}
    found = list(provenance.problems(manifest))
    if against is not None:
        found += differences(manifest, read_entries(against), against)
    for problem in found:
        log(problem)
    if found:
        raise files.FileError(f"{len(found)} of {len(manifest)} files do not match, see above")
    said = f"all {len(manifest)} files behind the results are as recorded"
    return said + (f", and as {against} says" if against is not None else "")


def read_entries(path: Path) -> Entries:
    """The files of a manifest.

    Raises:
        FileError: it is missing, or no manifest.
    """
    content = files.read_json(path)
    entries = content.get("files") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("sha256"), str)
        for entry in entries.values()
    ):
        raise files.FileError(
            f"{path}: not the manifest of a run, which is results/manifest.json or a copy of it"
        )
    return entries


def differences(ours: Entries, kept: Entries, where: Path) -> Iterator[str]:
    """What a run has otherwise than a manifest that was kept elsewhere, a sentence each."""
    for path, entry in sorted(kept.items()):
        if path not in ours:
            yield f"{path}: {where} lists it, and this run has none"
        elif ours[path]["sha256"] != entry["sha256"]:
            yield (
                f"{path}: its SHA-256 is {ours[path]['sha256'][:12]}…, and {where} says "
                f"{entry['sha256'][:12]}…"
            )


def _listed(first: Path, everything: Path, log: Callable[[str], None]) -> Entries:
    if not first.exists():
        raise files.FileError(f"{first}: there is no finished run to verify. Run snakemake first")
    listed = read_entries(first)
    if not everything.exists():
        return listed
    if everything.stat().st_mtime < first.stat().st_mtime:
        log(f"{everything} is of an earlier run and is left out")
        return listed
    return {**read_entries(everything), **listed}


def _published(root: Path) -> Entries:
    """The artifacts of ``results/`` itself, which jobs have copied there."""
    recorded = provenance.recorded(root)
    return {path: {"sha256": digest} for path, digest in recorded.items() if Path(path).exists()}
