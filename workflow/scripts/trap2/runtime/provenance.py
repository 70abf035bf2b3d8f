"""How every result was made: a record a job, and the check of its inputs before it starts.

A job writes ``provenance/{its first output}.json`` beside its outputs: the SHA-256 of its inputs
and outputs, its rule, wildcards, parameters, versions and seconds.  The next job compares its
inputs with these records before it reads them, so that a damaged, changed or exchanged file ends
it instead of entering a result.  A released file is compared with the bundle's manifest instead.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from trap2.runtime import dvc, files
from trap2.runtime.versions import versions

FOLDER = "provenance"


BUNDLE = Path("data")


MANIFEST = "manifest.json"
REPRODUCED = "reproduced"
"""The root of what is made from released checkpoints."""


AGAIN = "run snakemake without a target, which brings all tables and the manifest up to date"


class Described(TypedDict):
    """What a job says of itself; the outputs are paths, relative to the run."""

    rule: str
    wildcards: dict[str, str]
    params: dict[str, object]
    outputs: list[str]


class JobRecord(TypedDict):
    """A job's record: inputs and outputs are SHA-256 by path."""

    rule: str
    wildcards: dict[str, str]
    params: dict[str, object]
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]
    environment: dict[str, str]
    seconds: float


class ListedFile(TypedDict):
    """A file of a run's manifest.

    What no job made has its SHA-256 alone; ``made_from`` is the SHA-256 of each input, by path.
    """

    sha256: str
    rule: NotRequired[str]
    made_from: NotRequired[dict[str, str]]


def manifest_path(suite: str) -> Path:
    """The manifest of a suite's released files."""
    return BUNDLE / suite / MANIFEST


def record_path(output: str | Path) -> Path:
    """Where the record of the job that writes ``output`` first is."""
    return Path(output).parent / FOLDER / f"{Path(output).name}.json"


def write_record(job: Described, inputs: Mapping[str, str], seconds: float) -> None:
    """Write a finished job's record.

    Args:
        job: what it says of itself.
        inputs: SHA-256 of each input, by path.
        seconds: what the job took.
    """
    outputs = list(job["outputs"])
    record: JobRecord = {
        **job,
        "inputs": dict(inputs),
        "outputs": {path: files.sha256(path) for path in outputs},
        "versions": versions(),
        "environment": {"system": platform.system(), "machine": platform.machine()},
        "seconds": round(seconds, 2),
    }
    files.write_json(record_path(outputs[0]), record)


def check_inputs(paths: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of every input, each compared with the record of the job that made it.

    A folder without any record was not made by a job and is taken as it is.

    Raises:
        FileError: a file is not what was recorded, or its record is damaged or of other files.
    """
    found: dict[str, str] = {}
    known: dict[Path, dict[str, str]] = {}
    for path in map(str, paths):
        folder = Path(path).parent
        if folder not in known:
            known[folder] = recorded(folder)
        found[path] = files.sha256(path)
        if known[folder] and known[folder].get(path) != found[path]:
            raise files.FileError(mismatch(path, found[path], known[folder].get(path)))
    return found


def mismatch(path: str, found: str, known: str | None) -> str:
    """What is wrong with a file whose digest is not the recorded one, and what to do."""
    if known is None:
        return f"{path}: the records beside it speak of other files. {remedy(path)}."
    return (
        f"{path}: damaged or changed after it was made: its SHA-256 is {found[:12]}…, recorded "
        f"is {known[:12]}…. {remedy(path)}."
    )


def remedy(path: str) -> str:
    """How to get a file back that is missing or is not what was made."""
    if Path(path).parts[0] == str(BUNDLE):
        return "Get it again: dvc checkout --force, or dvc pull"
    # By its name: for a run that needs nothing else, Snakemake does not make what lies behind it.
    name = shlex.quote(path)
    released = " --config checkpoints=released" if Path(path).parts[0] == REPRODUCED else ""
    return f"Delete it and run snakemake again: rm -f {name}; snakemake --cores 2 {name}{released}"


def recorded(folder: Path) -> dict[str, str]:
    """The digests of a folder's files, from the records of the jobs that made them.

    Raises:
        FileError: a record is damaged.
    """
    if len(folder.parts) > 1 and folder.parts[0] == str(BUNDLE):
        path = manifest_path(folder.parts[1])
        dvc.check(path, BUNDLE)
        manifest = files.read_json(path)
        return {str(BUNDLE / name): digest for name, digest in manifest["files"].items()}
    digests: dict[str, str] = {}
    for path in sorted((folder / FOLDER).glob("*.json")):
        digests |= read_record(path)["outputs"]
    return digests


def read_record(path: Path) -> JobRecord:
    """A job's record.

    Raises:
        FileError: it is missing or no such record.
    """
    record = files.read_json(path)
    if not isinstance(record, dict) or not {"rule", "inputs", "outputs"} <= record.keys():
        raise files.FileError(
            f"{path}: not the record of a job. Delete the files beside its folder and run "
            "snakemake again."
        )
    return cast("JobRecord", record)


def collect(targets: Iterable[str]) -> dict[str, ListedFile]:
    """Every file behind some targets: its digest and the rule that made it, by path.

    Follows the records from the targets to files that no job made.

    Raises:
        FileError: a record is damaged, or two records disagree about a file.
    """
    found: dict[str, ListedFile] = {}
    makers: dict[str, JobRecord] = {}
    read: set[Path] = set()
    waiting = sorted(targets, reverse=True)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        if (folder := Path(path).parent / FOLDER) not in read:
            read.add(folder)
            for record in _records(folder):
                makers |= dict.fromkeys(record["outputs"], record)
        maker = makers.get(path)
        if maker is None:
            found[path] = {"sha256": files.sha256(path)}
            continue
        found[path] = {
            "sha256": maker["outputs"][path],
            "rule": maker["rule"],
            "made_from": maker["inputs"],
        }
        waiting.extend(sorted(maker["inputs"], reverse=True))
    return found


def problems(manifest: Mapping[str, ListedFile]) -> Iterator[str]:
    """What does not match in a run, one sentence each.

    Args:
        manifest: as :func:`collect` made it when the run was finished.
    """
    for path, entry in sorted(manifest.items()):
        try:
            digest = files.sha256(path)
        except (OSError, files.FileError) as error:
            why = getattr(error, "strerror", None) or error
            yield f"{path}: cannot be read ({why}). {remedy(path)}."
            continue
        if digest != entry["sha256"]:
            if _is_as_made(path, digest):
                yield f"{path}: was made anew since; {AGAIN}."
            else:
                yield mismatch(path, digest, entry["sha256"])
        for source, used in entry.get("made_from", {}).items():
            if manifest[source]["sha256"] != used:
                yield (
                    f"{path}: was made from another {source} (SHA-256 {used[:12]}…) than the one "
                    f"on record ({manifest[source]['sha256'][:12]}…). {remedy(path)}."
                )


def _is_as_made(path: str, digest: str) -> bool:
    try:
        return recorded(Path(path).parent).get(path) == digest
    except (files.FileError, OSError):
        return False


def _records(folder: Path) -> Iterator[JobRecord]:
    for path in sorted(folder.glob("*.json")):
        yield read_record(path)
