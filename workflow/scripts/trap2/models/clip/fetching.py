"""Fetching published weights from the hub: a pinned commit, checked size and content.

What the catalogue does not know of a file is recorded in ``checksums.json`` when it is first
received, and binds later downloads.  This is the only place where models use the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trap2.models.clip.tags import Tag
from trap2.runtime import files

ATTEMPTS = 2

RECORD = "checksums.json"

Log = Callable[[str], None]


class WeightsError(files.FileError):
    """Weights that cannot be fetched, or whose content is not the expected one."""


@dataclass(frozen=True)
class Received:
    """A file of weights: where it lies and what it is, for the base's record."""

    path: Path
    repository: str
    file: str
    revision: str
    sha256: str
    size: int
    pinned: bool

    def record(self) -> dict[str, str | int | bool]:
        """Everything but where it lies on this machine."""
        return {key: value for key, value in asdict(self).items() if key != "path"}


def fetch(tag: Tag, folder: str | Path, log: Log = print) -> Received:
    """The file of a tag, fetched into ``folder`` unless it is there, and checked.

    Raises:
        WeightsError: it cannot be fetched, or its size or content is wrong, twice.
    """
    record_file = Path(folder) / RECORD
    entries = files.read_json(record_file) if record_file.exists() else {}
    key = f"{tag.architecture}:{tag.name}"
    expected = _expected(tag, entries.get(key))
    if not tag.pinned:
        known = "what was received first" if expected.sha256 else "nothing; recorded now"
        log(f"{key}: no commit and checksum are pinned in weights.yaml; compared with {known}")
    problems = []
    for attempt in range(1, ATTEMPTS + 1):
        try:
            received = _check(_download(expected, folder, again=attempt > 1), expected, tag.pinned)
        except WeightsError as error:
            problems.append(f"attempt {attempt}: {error}")
            log(problems[-1])
            continue
        entry = received.record()
        if entries.get(key) != entry:
            files.write_json(record_file, {**entries, key: entry})
        return received
    raise WeightsError(
        f"{key}: the weights could not be had. {'; '.join(problems)}. If you can get "
        f"{tag.file} of {tag.repository} in another way, set the backbone's pretrained to its path."
    )


def _expected(tag: Tag, received: Any) -> Tag:
    """The tag with what its file was when it was received before, where the catalogue is silent."""
    same = isinstance(received, dict) and (received.get("repository"), received.get("file")) == (
        tag.repository,
        tag.file,
    )
    if not same or (tag.revision and received["revision"] != tag.revision):
        return tag
    return replace(
        tag,
        revision=tag.revision or received["revision"],
        sha256=tag.sha256 or received["sha256"],
        size=tag.size or received["size"],
    )


def _download(tag: Tag, folder: str | Path, *, again: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        received = hf_hub_download(
            tag.repository,
            tag.file,
            revision=tag.revision or None,
            cache_dir=folder,
            force_download=again,
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        where = f"{tag.repository}/{tag.file} at {tag.revision or 'its newest revision'}"
        raise WeightsError(f"{where}: {error}") from None
    return Path(received)


def _check(path: Path, tag: Tag, pinned: bool) -> Received:
    size = path.stat().st_size
    if tag.size is not None and size != tag.size:
        raise WeightsError(f"{path}: {size} bytes, expected {tag.size}")
    digest = files.sha256(path)
    if tag.sha256 and digest != tag.sha256:
        raise WeightsError(f"{path}: sha256 {digest}, expected {tag.sha256}")
    # The hub's client keeps a file under the commit that it belongs to.
    revision = tag.revision or path.parent.name
    return Received(path, tag.repository, tag.file, revision, digest, size, pinned)
