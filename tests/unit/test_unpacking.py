"""Archives are unpacked without trust."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from trap2.data.unpacking import UnsafeArchiveError, unpack
from trap2.runtime import files


def silent(_: str) -> None:
    """Swallow a progress line."""


def tar_with(path: Path, name: str, **fields: object) -> Path:
    """A tar archive of one member with these header fields."""
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(member, field, value)
        archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("../outside.txt", {"size": 1}),
        ("a/../../outside.txt", {"size": 1}),
        ("/tmp/outside.txt", {"size": 1}),
        ("a\\..\\outside.txt", {"size": 1}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "../../outside"}),
        ("link", {"type": tarfile.LNKTYPE, "linkname": "../../outside"}),
        ("device", {"type": tarfile.CHRTYPE}),
        ("pipe", {"type": tarfile.FIFOTYPE}),
    ],
)
def test_an_unsafe_tar_is_refused(name: str, fields: dict[str, object], tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "bad.tar", name, **fields)
    with pytest.raises(UnsafeArchiveError, match=r"bad\.tar"):
        unpack(archive, tmp_path / "into" / "folder", silent)
    written = [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()]
    assert written == [archive]


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "C:/outside.txt"])
def test_an_unsafe_zip_is_refused(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("fine.txt", "x")
        opened.writestr(name, "x")
    with pytest.raises(UnsafeArchiveError, match="outside the folder"):
        unpack(archive, tmp_path / "folder", silent)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bad.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeArchiveError, match="'link' is a link"):
        unpack(archive, tmp_path / "folder", silent)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_explodes_is_refused(kind: str, tmp_path: Path) -> None:
    archive, zeros = tmp_path / f"bomb.{kind}", bytes(100 * 2**20)
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("zeros", zeros)
    else:
        with tarfile.open(archive, "w:gz") as packed:
            member = tarfile.TarInfo("zeros")
            member.size = len(zeros)
            packed.addfile(member, io.BytesIO(zeros))
    with pytest.raises(UnsafeArchiveError, match="'zeros', more than 100 times its own size"):
        unpack(archive, tmp_path / "folder", silent)


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    """Beside class folders it would be a class, in one an image that no list names."""
    archive = tmp_path / "made-on-a-mac.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("a/1.jpg", "a/._1.jpg", "a/.DS_Store", "__MACOSX/a/1.jpg"):
            opened.writestr(name, "x")
    assert unpack(archive, tmp_path / "folder", silent) == 1
    written = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    assert written == [tmp_path / "folder" / "a" / "1.jpg"]


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "archive.zip"
    page.write_text("<html>Not found</html>", encoding="utf-8")
    with pytest.raises(files.FileError, match="neither a tar nor a whole zip archive"):
        unpack(page, tmp_path / "folder", silent)


def test_a_truncated_zip_is_refused(miniatures: Path, tmp_path: Path) -> None:
    whole = (miniatures / "eurosat" / "EuroSAT.zip").read_bytes()
    archive = tmp_path / "EuroSAT.zip"
    archive.write_bytes(whole[:-100])
    with pytest.raises(files.FileError, match=r"EuroSAT\.zip: .*truncated"):
        unpack(archive, tmp_path / "folder", silent)


def test_a_zip_with_a_damaged_member_is_refused(miniatures: Path, tmp_path: Path) -> None:
    broken = bytearray((miniatures / "eurosat" / "EuroSAT.zip").read_bytes())
    broken[5000] ^= 0xFF
    archive = tmp_path / "EuroSAT.zip"
    archive.write_bytes(broken)
    with pytest.raises(files.FileError, match=r"EuroSAT\.zip: damaged or truncated archive"):
        unpack(archive, tmp_path / "folder", silent)
