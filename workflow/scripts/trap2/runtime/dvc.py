"""Whether a released file is the one that Git knows of: ``data.dvc`` holds the digest of ``data/``.

DVC records a folder as one MD5, that of the list of its files and their MD5s.  The list is in
DVC's cache; where it is not, it is made again from the files.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import yaml

from trap2.runtime import files

CACHE = Path(".dvc/cache/files/md5")
ENDING = ".dir"


def check(path: Path, folder: Path) -> None:
    """Compare a file below a folder that DVC tracks with what ``{folder}.dvc`` records.

    A folder without such a file is not tracked, and nothing vouches for it.

    Raises:
        FileError: the file is not the recorded one, or ``{folder}.dvc`` cannot be read.
    """
    pointer = folder.with_name(f"{folder.name}.dvc")
    if not pointer.exists():
        return
    name = path.relative_to(folder).as_posix()
    known = _listing(pointer, folder).get(name)
    if known != _md5(path.read_bytes()):
        raise files.FileError(
            f"{path}: not what {pointer} records. Get it again: dvc checkout --force, or dvc pull. "
            "If you have staged another bundle: dvc add data"
        )


@cache
def _listing(pointer: Path, folder: Path) -> dict[str, str]:
    """Every file's MD5 by its path below ``folder``; empty if the folder is another one."""
    recorded = _recorded(pointer)
    listed = CACHE / recorded[:2] / recorded[2:]
    content = listed.read_bytes() if listed.is_file() else b""
    if f"{_md5(content)}{ENDING}" != recorded:
        content = _listed_anew(folder)
    if f"{_md5(content)}{ENDING}" != recorded:
        return {}
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


def _recorded(pointer: Path) -> str:
    try:
        (output,) = yaml.safe_load(pointer.read_text("utf-8"))["outs"]
        digest = output["md5"]
        if not isinstance(digest, str) or not digest.endswith(ENDING):
            raise TypeError
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        raise files.FileError(
            f"{pointer}: not what `dvc add {pointer.stem}` writes. Get it again: git checkout "
            f"{pointer}"
        ) from None
    return digest


def _listed_anew(folder: Path) -> bytes:
    entries = [
        {"md5": _md5(path.read_bytes()), "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    entries.sort(key=lambda entry: tuple(entry["relpath"].split("/")))
    return json.dumps(entries).encode()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
