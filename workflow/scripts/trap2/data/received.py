"""Whether a file that was received is the one that was wanted: size, checksums, kind."""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from trap2.data.catalogue import RemoteFile
from trap2.data.fetching import CHUNK, ChecksumError
from trap2.data.target import GROWTH_FLOOR, GROWTH_LIMIT, shown
from trap2.runtime.reading import open_regular

FILE_BYTES = 2**40


HEAD = 1024


RECORDED = "when it was first received (checksums.json); remove that entry if the change is meant"

# How files of these names begin.
BEGINNINGS = {
    ".zip": (b"PK\x03\x04", b"PK\x05\x06"),
    ".gz": (b"\x1f\x8b",),
    ".tgz": (b"\x1f\x8b",),
    ".bz2": (b"BZh",),
    ".xz": (b"\xfd7zXZ\0",),
    ".parquet": (b"PAR1",),
    ".mat": (b"MATLAB ",),
}

PAGE = re.compile(
    rb"\s*(<!doctype\s+html|<html|<head|<\?xml[^>]*>\s*<(!doctype\s+html|html))", re.I
)


class Digests:
    """Size, MD5 and SHA-256 of a stream, compared with what is expected."""

    def __init__(self) -> None:
        self.size = 0
        self.head = self.tail = b""
        self.hashes = {
            "md5": hashlib.md5(usedforsecurity=False),
            "sha256": hashlib.sha256(),
        }

    def update(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.head += chunk[: HEAD - len(self.head)]
        self.tail = (self.tail + chunk[-4:])[-4:]
        for hashed in self.hashes.values():
            hashed.update(chunk)

    def compare(
        self, where: str | Path, file: RemoteFile, expected: Mapping[str, object] | None
    ) -> tuple[int, str]:
        """Size and SHA-256, if they are those of the catalogue and of the record.

        Args:
            where: what messages call it.
            file: its entry in the catalogue.
            expected: its entry in the record of what was received before.

        Raises:
            ChecksumError: it is another file, or of another kind than its name says.
        """
        found = {name: hashed.hexdigest() for name, hashed in self.hashes.items()}
        algorithm, _, digest = file.checksum.partition(":")
        if not self.size and file.size != 0:
            raise ChecksumError(f"{where}: the file is empty (0 bytes)")
        if PAGE.match(self.head.removeprefix(b"\xef\xbb\xbf")) and found.get(algorithm) != digest:
            raise ChecksumError(f"{where}: a web page{self._title()}, not the file '{file.name}'")
        if file.size is not None and self.size != file.size:
            raise ChecksumError(f"{where}: {self.size} bytes, expected {file.size}")
        if digest and found[algorithm] != digest:
            raise ChecksumError(f"{where}: {algorithm} {found[algorithm]}, expected {digest}")
        if not digest:
            self._compare_unknown(where, file, expected, found["sha256"])
        return self.size, found["sha256"]

    def _compare_unknown(
        self,
        where: str | Path,
        file: RemoteFile,
        expected: Mapping[str, object] | None,
        sha256: str,
    ) -> None:
        suffix = Path(file.name).suffix.lower()
        begins = BEGINNINGS.get(suffix, (b"",))
        if not self.head.startswith(begins):
            raise ChecksumError(
                f"{where}: does not begin as a file '{suffix}' does but with {self.head[:16]!r}"
            )
        if suffix == ".parquet" and (self.tail != b"PAR1" or self.size < 12):
            raise ChecksumError(f"{where}: {self.size} bytes without the end of a parquet file")
        if expected and sha256 != expected["sha256"]:
            raise ChecksumError(f"{where}: sha256 {sha256}, but {expected['sha256']} {RECORDED}")

    def _title(self) -> str:
        title = re.search(rb"<title[^>]*>\s*([^<]{1,100})", self.head, re.I)
        return f" ('{shown(title[1].decode('utf-8', 'replace').strip())}')" if title else ""


def check(
    path: Path, file: RemoteFile, expected: Mapping[str, object] | None = None
) -> tuple[int, str]:
    """Size and SHA-256 of a file on the disk; errors as :meth:`Digests.compare`.

    Raises:
        FileError: it is no regular file; a pipe would be waited for without end.
    """
    digests = Digests()
    with open_regular(path, FILE_BYTES) as opened:
        while chunk := opened.read(CHUNK):
            digests.update(chunk)
    return digests.compare(path, file, expected)


def check_whole(path: Path, file: RemoteFile) -> None:
    """Refuse a file that breaks off, where no checksum would tell; archives tell when unpacked.

    Raises:
        ChecksumError: it ends before its end.
    """
    if file.checksum or file.unpack:
        return
    suffix = Path(file.name).suffix.lower()
    if suffix == ".zip" and not zipfile.is_zipfile(path):
        raise ChecksumError(f"{path}: a zip archive without its end")
    if suffix == ".gz":
        limit = path.stat().st_size * GROWTH_LIMIT + GROWTH_FLOOR
        try:
            with gzip.open(path) as opened:
                while limit > 0 and (chunk := opened.read(CHUNK)):
                    limit -= len(chunk)
        except (OSError, EOFError, zlib.error) as error:
            raise ChecksumError(f"{path}: damaged or truncated ({error})") from None
        if limit <= 0:
            raise ChecksumError(f"{path}: grows to more than {GROWTH_LIMIT} times its size")
