"""Download a dataset's files, check them, and lay out their content for the readers.

A raw folder holds::

    downloads/      the files as their source offers them
    checksums.json  what was received: name → size, SHA-256, url, revision
    content/        archives unpacked, other files beside them; what readers read
    source.json     written last: the folder is whole

A file is taken for whole only under its final name, and it gets that name only after its size and
checksum are right.  Where the catalogue knows no checksum, a file of another kind than its name
says (a web page) or that breaks off is refused; its checksum is recorded when all files of the
dataset are there and unpacked, and binding afterwards.
"""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from trap2.data import fetching
from trap2.data.catalogue import Dataset, RemoteFile, Source, check_name
from trap2.data.fetching import ChecksumError, DownloadError, Log
from trap2.data.received import RECORDED, Digests, check, check_whole
from trap2.data.records import ReceivedRevision, SourceRecord
from trap2.data.target import REMEDY
from trap2.data.unpacking import DamagedArchiveError, UnsafeArchiveError, unpack
from trap2.runtime import disk, files

__all__ = ["ChecksumError", "DownloadError", "download"]

ATTEMPTS = 2


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
) -> SourceRecord:
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
        FileError: a full disk, a folder that cannot be written, a pipe in the place of a file.
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
    if mirror and not mirror.startswith(("http://", "https://")):
        raise DownloadError(
            f"mirror is '{mirror}'; it must begin with http:// or https://. A folder is named as "
            "'archives'"
        )
    with disk.explained(folder, REMEDY):
        place.downloads.mkdir(parents=True, exist_ok=True)
        record = _Record(folder / "checksums.json")
        if place.archives:
            _refuse_missing_archives(place)
        return _lay_out(
            place, [_fetch(place, file, record) for file in _expand(place, record)], record
        )


@dataclass(frozen=True)
class _Fetched:
    """One whole, checked file."""

    file: RemoteFile
    path: Path
    size: int
    sha256: str


class _Record:
    """``checksums.json``: what was received under which name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, ReceivedRevision] = files.read_json(path) if path.exists() else {}

    def known(self, file: RemoteFile, revision: str) -> ReceivedRevision | None:
        """What the same file of the same revision was when it was received before."""
        entry = self.entries.get(file.name)
        same = entry and (entry["url"], entry["revision"]) == (file.url, revision)
        return entry if same else None

    def add(self, fetched: list[_Fetched], revision: str) -> None:
        """Record a dataset's files, all at once: what is recorded binds the next download."""
        entries: dict[str, ReceivedRevision] = {
            one.file.name: {
                "url": one.file.url,
                "revision": revision,
                "size": one.size,
                "sha256": one.sha256,
            }
            for one in fetched
        }
        if self.entries | entries != self.entries:
            self.entries |= entries
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
        found = dict.fromkeys(received, file) or _list_names(place, file)
        if not found:
            raise DownloadError(f"{place.task}: no file matches '{file.name}' ({_origin(place)})")
        for name in sorted(found):
            yield replace(found[name], name=name, url=f"{file.url.rpartition('/')[0]}/{name}")


def _origin(place: _Place) -> str:
    if place.archives:
        return f"looked in {place.archives / place.task} and {place.archives}"
    return f"source '{place.source.name}', revision '{place.source.revision or 'none'}'"


def _list_names(place: _Place, file: RemoteFile) -> dict[str, RemoteFile]:
    """The names that exist, each with what its repository says of the file."""
    if place.archives:
        folders = (place.archives / place.task, place.archives)
        return {path.name: file for folder in folders for path in folder.glob(file.name)}
    if place.mirror:
        raise DownloadError(
            f"{place.task}: '{file.name}' stands for files that a mirror cannot list; write their "
            "names into a catalogue of your own, or choose another source"
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    repository, path = _hub_parts(file.url)
    try:
        information = HfApi().dataset_info(
            repository, revision=place.source.revision or None, files_metadata=True
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise DownloadError(f"{place.task}: {repository} cannot be listed ({error})") from None
    listed = [s for s in information.siblings or [] if fnmatch.fnmatch(s.rfilename, path)]
    found = {Path(s.rfilename).name: _as_listed(file, s) for s in listed}
    for name in found:
        check_name(name, f"{place.task}: {repository}")
    return found


def _as_listed(file: RemoteFile, sibling: Any) -> RemoteFile:
    """With size and SHA-256 of a revision's large files, which the repository knows."""
    if file.checksum or not sibling.lfs:
        return file
    return replace(file, checksum=f"sha256:{sibling.lfs.sha256}", size=sibling.lfs.size)


def _hub_parts(url: str) -> tuple[str, str]:
    owner, name, path = url.removeprefix("hub://").split("/", 2)
    return f"{owner}/{name}", path


def _fetch(place: _Place, file: RemoteFile, record: _Record) -> _Fetched:
    """One whole, checked file; fetched if it is not there."""
    expected = record.known(file, place.source.revision)
    if place.archives:
        return _checked(file, _find_archived(place, file), expected)
    path = place.downloads / file.name
    if path.exists():
        try:
            return _checked(file, path, expected)
        except ChecksumError as error:
            place.log(f"{error}; fetching it again")
    problems = []
    kind: type[files.FileError] = DownloadError
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _receive(place, file, path, expected)
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


def _checked(file: RemoteFile, path: Path, expected: ReceivedRevision | None) -> _Fetched:
    size, sha256 = check(path, file, expected)
    check_whole(path, file)
    return _Fetched(file, path, size, sha256)


def _refuse_missing_archives(place: _Place) -> None:
    """Name all files that are missing, not one after the other in one run each."""
    missing = [
        f"'{file.name}' ({file.url})"
        for file in place.source.files
        if "*" not in file.name and not any(f.exists() for f in _archived(place, file))
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
        if path.exists():
            return path
    raise DownloadError(f"{place.task}: '{file.name}' is missing ({_origin(place)})")


def _receive(
    place: _Place, file: RemoteFile, path: Path, expected: ReceivedRevision | None
) -> _Fetched:
    url, token = _address(place, file)
    size = file.size if file.size is not None or not expected else expected["size"]
    free = shutil.disk_usage(place.downloads).free
    if size is not None and size > free:
        raise files.FileError(
            f"{path}: needs {size} bytes; the disk has {free} free. Make room (df -h), or {REMEDY}"
        )
    digests = Digests()
    received = (0, "")

    def write(target: BinaryIO) -> None:
        nonlocal received
        try:
            for chunk in fetching.stream(url, size, place.log, token):
                digests.update(chunk)
                target.write(chunk)
        except ChecksumError as error:
            if size == file.size:
                raise
            raise ChecksumError(f"{error}; that was its size {RECORDED}") from None
        received = digests.compare(url, file, expected)

    files.write_whole(path, write)
    try:
        check_whole(path, file)
    except ChecksumError:
        path.unlink()
        raise
    return _Fetched(file, path, *received)


def _address(place: _Place, file: RemoteFile) -> tuple[str, str | None]:
    """Where a file is, and the token that its host may see."""
    if place.mirror:
        return f"{place.mirror}/{place.task}/{file.name}", None
    if not file.url.startswith("hub://"):
        return file.url, None
    from huggingface_hub import constants, get_token, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise DownloadError(f"{file.url}: HF_HUB_OFFLINE is set, so nothing is fetched")
    repository, name = _hub_parts(file.url)
    revision = place.source.revision or None
    return hf_hub_url(repository, name, repo_type="dataset", revision=revision), get_token()


def _lay_out(place: _Place, fetched: list[_Fetched], record: _Record) -> SourceRecord:
    """Unpack into a fresh folder, put it in place whole, and write ``source.json`` last."""
    facts: SourceRecord = {
        "task": place.task,
        "source": place.source.name,
        "reader": place.source.reader,
        "revision": place.source.revision,
        "files": {
            one.file.name: {"url": one.file.url, "size": one.size, "sha256": one.sha256}
            for one in fetched
        },
    }
    content, marker = place.folder / "content", place.folder / "source.json"
    if content.is_dir() and marker.exists() and files.read_json(marker) == facts:
        record.add(fetched, place.source.revision)
        return facts
    marker.unlink(missing_ok=True)
    for stale in place.folder.glob(".content.*"):
        shutil.rmtree(stale)
    scratch = Path(tempfile.mkdtemp(dir=place.folder, prefix=".content."))
    try:
        for one in fetched:
            if one.file.unpack:
                _unpack(place, one, scratch)
            else:
                shutil.copyfile(one.path, scratch / one.file.name)
        scratch.chmod(0o755)
        shutil.rmtree(content, ignore_errors=True)
        scratch.rename(content)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    record.add(fetched, place.source.revision)
    files.write_json(marker, facts)
    return facts


def _unpack(place: _Place, one: _Fetched, scratch: Path) -> None:
    try:
        count = unpack(one.path, scratch, place.log)
    except (UnsafeArchiveError, DamagedArchiveError):
        # With a checksum it is the authors' own; without one it must not be taken for it again.
        if not one.file.checksum and not place.archives:
            one.path.unlink()
        raise
    place.log(f"{place.task}: {one.file.name}: {count} files unpacked")
