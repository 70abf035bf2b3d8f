"""Download a dataset's files, check them, and lay out their content for the readers.

A raw folder holds::

    downloads/      the files as their source offers them
    checksums.json  what was received: name → size, SHA-256, url, revision
    content/        archives unpacked, other files beside them; what readers read
    source.json     written last: the folder is whole

A file is taken for whole only under its final name, and it gets that name only after its size and
checksum are right.  A checksum that the catalogue does not know is recorded on the first download
and binding afterwards.
"""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from trap2.data.catalogue import Dataset, RemoteFile, Source
from trap2.data.unpacking import unpack
from trap2.runtime import files

ATTEMPTS = 2


CHUNK = 2**20


TIMEOUT_SECONDS = 60


REPORT_BYTES = 256 * 2**20

Log = Callable[[str], None]


class DownloadError(files.FileError):
    """A file that could not be fetched whole; the message lists each attempt."""


class ChecksumError(files.FileError):
    """A file whose size or content is not the expected one."""


@dataclass(frozen=True)
class _Place:
    """Where the files of one dataset come from and go to."""

    dataset: Dataset
    source: Source
    folder: Path
    mirror: str | None
    archives: Path | None
    log: Log

    @property
    def task(self) -> str:
        return self.dataset.task

    @property
    def downloads(self) -> Path:
        return self.folder / "downloads"


def download(
    dataset: Dataset,
    folder: str | Path,
    *,
    source: str | None = None,
    mirror: str | None = None,
    archives: str | Path | None = None,
    log: Log = print,
) -> dict[str, Any]:
    """Make ``folder`` hold the dataset's content, complete and checked.

    Files that are already there and whole are not fetched again.

    Args:
        dataset: its row of the catalogue.
        folder: the raw folder.
        source: one of the row's sources; the first by default.
        mirror: base URL used instead of the catalogue's: ``{mirror}/{task}/{file name}``.
        archives: a folder of files already downloaded, as ``{archives}/{task}/{file name}`` or
            ``{archives}/{file name}``; nothing is fetched then, and nothing there is changed.
        log: called with a line from time to time.

    Returns:
        What ``source.json`` holds: task, source, reader, revision, and each file's size and
        SHA-256.

    Raises:
        DownloadError: a file cannot be fetched, or is not in ``archives``.
        ChecksumError: a file's size or content is wrong, twice.
        UnsafeArchiveError: an archive that must not be unpacked.
    """
    folder = Path(folder)
    place = _Place(
        dataset,
        dataset.source(source),
        folder,
        mirror.rstrip("/") if mirror else None,
        Path(archives) if archives else None,
        log,
    )
    place.downloads.mkdir(parents=True, exist_ok=True)
    record = _Record(folder / "checksums.json")
    fetched = []
    if place.archives:
        _refuse_missing_archives(place)
    for file in _expand(place, record):
        path = _fetch(place, file, record)
        fetched.append((file, path))
    return _lay_out(place, fetched, record)


class _Record:
    """``checksums.json``: what was received under which name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = files.read_json(path) if path.exists() else {}

    def known(self, file: RemoteFile, revision: str) -> dict[str, Any] | None:
        """What the same file of the same revision was when it was received before."""
        entry = self.entries.get(file.name)
        same = entry and (entry["url"], entry["revision"]) == (file.url, revision)
        return entry if same else None

    def add(self, file: RemoteFile, revision: str, size: int, sha256: str) -> None:
        entry = {"url": file.url, "revision": revision, "size": size, "sha256": sha256}
        if self.entries.get(file.name) != entry:
            self.entries[file.name] = entry
            files.write_json(self.path, self.entries)


def _expand(place: _Place, record: _Record) -> Iterator[RemoteFile]:
    """The source's files, each ``*`` replaced by the names that exist."""
    for file in place.source.files:
        if "*" not in file.name:
            yield file
            continue
        received = {
            Path(entry["url"]).name
            for entry in record.entries.values()
            if entry["revision"] == place.source.revision
            and fnmatch.fnmatch(entry["url"], file.url)
        }
        names = received or _list_names(place, file)
        if not names:
            raise DownloadError(f"{place.task}: no file matches '{file.name}' ({_origin(place)})")
        for name in sorted(names):
            yield replace(file, name=name, url=f"{file.url.rpartition('/')[0]}/{name}")


def _origin(place: _Place) -> str:
    if place.archives:
        return f"looked in {place.archives / place.task} and {place.archives}"
    return f"source '{place.source.name}', revision '{place.source.revision or 'none'}'"


def _list_names(place: _Place, file: RemoteFile) -> set[str]:
    if place.archives:
        folders = (place.archives / place.task, place.archives)
        return {path.name for folder in folders for path in folder.glob(file.name)}
    if place.mirror:
        raise DownloadError(
            f"{place.task}: '{file.name}' stands for files that a mirror cannot list; write their "
            "names into a catalogue of your own, or choose another source"
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    repository, path = _hub_parts(file.url)
    try:
        information = HfApi().dataset_info(repository, revision=place.source.revision or None)
    except (HfHubHTTPError, OSError) as error:
        raise DownloadError(f"{place.task}: {repository} cannot be listed ({error})") from None
    listed = [sibling.rfilename for sibling in information.siblings or []]
    return {Path(name).name for name in listed if fnmatch.fnmatch(name, path)}


def _hub_parts(url: str) -> tuple[str, str]:
    owner, name, path = url.removeprefix("hub://").split("/", 2)
    return f"{owner}/{name}", path


def _fetch(place: _Place, file: RemoteFile, record: _Record) -> Path:
    """The path of one whole, checked file."""
    revision = place.source.revision
    expected = record.known(file, revision)
    if place.archives:
        path = _find_archived(place, file)
        size, sha256 = _check(path, file, expected)
        record.add(file, revision, size, sha256)
        return path
    path = place.downloads / file.name
    if path.exists():
        try:
            size, sha256 = _check(path, file, expected)
            record.add(file, revision, size, sha256)
            return path
        except ChecksumError as error:
            place.log(f"{error}; fetching it again")
    problems = []
    kind: type[files.FileError] = DownloadError
    for attempt in range(1, ATTEMPTS + 1):
        try:
            size, sha256 = _receive(place, file, path, expected)
            record.add(file, revision, size, sha256)
            return path
        except (DownloadError, ChecksumError) as error:
            kind = type(error)
            problems.append(f"attempt {attempt}: {error}")
            place.log(problems[-1])
    row = place.dataset
    raise kind(
        f"{row.task}: '{file.name}' could not be had. {'; '.join(problems)}. Nothing was kept. "
        f"If you can get the file in another way ({row.title}: {row.homepage}), put it into a "
        f"folder and name that folder as 'archives'."
    )


def _refuse_missing_archives(place: _Place) -> None:
    """Name all files that are missing, not one after the other in one run each."""
    missing = [
        f"'{file.name}' ({file.url})"
        for file in place.source.files
        if "*" not in file.name and not any(f.is_file() for f in _archived(place, file))
    ]
    if missing:
        raise DownloadError(
            f"{place.task}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing "
            f"({_origin(place)})"
        )


def _archived(place: _Place, file: RemoteFile) -> list[Path]:
    """Where a file of the archives may be."""
    assert place.archives is not None
    return [place.archives / place.task / file.name, place.archives / file.name]


def _find_archived(place: _Place, file: RemoteFile) -> Path:
    for path in _archived(place, file):
        if path.is_file():
            return path
    raise DownloadError(f"{place.task}: '{file.name}' is missing ({_origin(place)})")


def _receive(
    place: _Place, file: RemoteFile, path: Path, expected: dict[str, Any] | None
) -> tuple[int, str]:
    if file.url.startswith("hub://") and not place.mirror:
        with tempfile.TemporaryDirectory(dir=place.downloads, prefix=".hub.") as scratch:
            received = _from_hub(place, file, Path(scratch))
            result = _check(received, file, expected)
            os.replace(received, path)
        return result
    url = f"{place.mirror}/{place.task}/{file.name}" if place.mirror else file.url
    result = (0, "")

    def write(target: BinaryIO) -> None:
        nonlocal result
        digests = _Digests()
        for chunk in _stream(url, place.log):
            digests.update(chunk)
            target.write(chunk)
        result = digests.compare(url, file, expected)

    files.write_whole(path, write)
    return result


def _from_hub(place: _Place, file: RemoteFile, scratch: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    repository, name = _hub_parts(file.url)
    revision = place.source.revision or None
    try:
        received = hf_hub_download(
            repository, name, repo_type="dataset", revision=revision, local_dir=scratch
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DownloadError(f"{file.url} at revision '{revision}': {error}") from None
    return Path(received)


def _stream(url: str, log: Log) -> Iterator[bytes]:
    request = urllib.request.Request(url, headers={"User-Agent": "trap2"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            announced = response.headers.get("Content-Length")
            received = reported = 0
            while chunk := response.read(CHUNK):
                received += len(chunk)
                if received - reported >= REPORT_BYTES:
                    reported = received
                    log(f"{url}: {received / 2**20:.0f} of {int(announced or 0) / 2**20:.0f} MiB")
                yield chunk
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise DownloadError(f"{url}: {error}") from None
    if announced is not None and received != int(announced):
        raise DownloadError(f"{url}: broke off after {received} of {announced} bytes")


class _Digests:
    """Size, MD5 and SHA-256 of a stream, compared with what is expected."""

    def __init__(self) -> None:
        self.size = 0
        self.hashes = {
            "md5": hashlib.md5(usedforsecurity=False),
            "sha256": hashlib.sha256(),
        }

    def update(self, chunk: bytes) -> None:
        self.size += len(chunk)
        for hashed in self.hashes.values():
            hashed.update(chunk)

    def compare(
        self, where: str | Path, file: RemoteFile, expected: dict[str, Any] | None
    ) -> tuple[int, str]:
        """Size and SHA-256, if they are those of the catalogue and of the record."""
        found = {name: hashed.hexdigest() for name, hashed in self.hashes.items()}
        if file.size is not None and self.size != file.size:
            raise ChecksumError(f"{where}: {self.size} bytes, expected {file.size}")
        algorithm, _, digest = file.checksum.partition(":")
        if digest and found[algorithm] != digest:
            raise ChecksumError(f"{where}: {algorithm} {found[algorithm]}, expected {digest}")
        if not digest and expected and found["sha256"] != expected["sha256"]:
            raise ChecksumError(
                f"{where}: sha256 {found['sha256']}, but {expected['sha256']} when it was first "
                "received (checksums.json); remove that entry if the change is meant"
            )
        return self.size, found["sha256"]


def _check(path: Path, file: RemoteFile, expected: dict[str, Any] | None) -> tuple[int, str]:
    digests = _Digests()
    with open(path, "rb") as opened:
        while chunk := opened.read(CHUNK):
            digests.update(chunk)
    return digests.compare(path, file, expected)


def _lay_out(
    place: _Place, fetched: list[tuple[RemoteFile, Path]], record: _Record
) -> dict[str, Any]:
    """Unpack into a fresh folder, put it in place whole, and write ``source.json`` last."""
    facts = {
        "task": place.task,
        "source": place.source.name,
        "reader": place.source.reader,
        "revision": place.source.revision,
        "files": {
            file.name: {key: record.entries[file.name][key] for key in ("url", "size", "sha256")}
            for file, _ in fetched
        },
    }
    content, marker = place.folder / "content", place.folder / "source.json"
    if content.is_dir() and marker.exists() and files.read_json(marker) == facts:
        return facts
    marker.unlink(missing_ok=True)
    for stale in place.folder.glob(".content.*"):
        shutil.rmtree(stale)
    scratch = Path(tempfile.mkdtemp(dir=place.folder, prefix=".content."))
    try:
        for file, path in fetched:
            if file.unpack:
                count = unpack(path, scratch, place.log)
                place.log(f"{place.task}: {file.name}: {count} files unpacked")
            else:
                shutil.copyfile(path, scratch / file.name)
        scratch.chmod(0o755)
        shutil.rmtree(content, ignore_errors=True)
        scratch.rename(content)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    files.write_json(marker, facts)
    return facts
