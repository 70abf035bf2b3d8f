"""Archives made to do harm: links, devices, names, sizes, headers and lists that lie."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from trap2.data.unpacking import UnsafeArchiveError, unpack
from trap2.runtime import files


def silent(_: str) -> None:
    """Swallow a progress line."""


def tar_of(path: Path, members: list[tuple[str, dict[str, object]]]) -> Path:
    """A tar archive of members with these header fields."""
    with tarfile.open(path, "w") as archive:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return path


def zip_of(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            opened.writestr(zipfile.ZipInfo(name), "x")
    return path


def written(folder: Path) -> list[str]:
    """Everything below a folder that is no folder."""
    found = folder.rglob("*")
    return sorted(str(path.relative_to(folder)) for path in found if not path.is_dir())


def test_a_tar_of_links_too_deep_for_realpath_writes_nothing_outside(tmp_path: Path) -> None:
    """CVE-2025-4517: tarfile's own filter lets it through up to 3.11.12, 3.12.10 and 3.13.3."""
    long, steps, here = "d" * 247, "abcdefghijklmnop", ""
    members: list[tuple[str, dict[str, object]]] = []
    for step in steps:
        members.append((f"{here}{long}", {"type": tarfile.DIRTYPE}))
        members.append((f"{here}{step}", {"type": tarfile.SYMTYPE, "linkname": long}))
        here += f"{long}/"
    deep = "/".join(steps) + "/" + "l" * 254
    up = "../" * len(steps)
    members += [
        (deep, {"type": tarfile.SYMTYPE, "linkname": up}),
        ("escape", {"type": tarfile.SYMTYPE, "linkname": f"{deep}/../../victim"}),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "escape/file"}),
        ("hard", {"size": 9}),
    ]
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine", encoding="utf-8")
    archive = tar_of(tmp_path / "links.tar", members)
    with pytest.raises(UnsafeArchiveError, match=r"links\.tar: the member 'a' is a symbolic link"):
        unpack(archive, tmp_path / "into" / "folder", silent)
    assert (victim / "file").read_text(encoding="utf-8") == "mine"
    assert written(tmp_path) == ["links.tar", "victim/file"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "beside.jpg"}, "is a symbolic link"),
        ({"type": tarfile.LNKTYPE, "linkname": "missing.jpg"}, "is a hard link"),
        ({"type": tarfile.BLKTYPE}, "is a device"),
        ({"type": tarfile.FIFOTYPE}, r"is a pipe \(FIFO\)"),
        ({"type": tarfile.GNUTYPE_SPARSE}, "is a sparse file"),
        ({"type": b"M"}, "is no plain file"),
        ({"pax_headers": {"GNU.sparse.major": "1"}}, "is no plain file"),
    ],
)
def test_no_archive_needs_links_or_devices(
    fields: dict[str, object], said: str, tmp_path: Path
) -> None:
    """Links that stay inside too: where they lead to is decided when they are followed."""
    archive = tar_of(tmp_path / "bad.tar", [("a/link", fields)])
    with pytest.raises(UnsafeArchiveError, match=rf"bad\.tar: the member 'a/link' {said}"):
        unpack(archive, tmp_path / "folder", silent)
    assert written(tmp_path / "folder") == []


def header_bomb(path: Path, kind: bytes, claimed: int, sent: int) -> Path:
    """A gzipped tar whose first header says that it takes so many bytes."""
    member = tarfile.TarInfo("a.jpg")
    member.type, member.size = kind, claimed
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(sent >> 20):
            packed.write(bytes(2**20))
    return path


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_refused_before_it_is_read(kind: bytes, tmp_path: Path) -> None:
    archive = header_bomb(tmp_path / "header.tar.gz", kind, 3 * 2**30, 2**27)
    tracemalloc.start()
    with pytest.raises(UnsafeArchiveError, match=r"header\.tar\.gz: .* a header of 3221225472 b"):
        unpack(archive, tmp_path / "folder", silent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_extended_headers_name_and_measure_members(tmp_path: Path) -> None:
    """What honest archives hold: PAX and GNU names of more than 100 letters."""
    name = "class/" + "ä" * 120 + ".jpg"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        archive = tmp_path / f"{form}.tar.xz"
        with tarfile.open(archive, "w:xz", format=form, pax_headers={"comment": "a"}) as packed:
            for member in (tarfile.TarInfo("."), tarfile.TarInfo("./class")):
                member.type = tarfile.DIRTYPE
                packed.addfile(member)
            member = tarfile.TarInfo(f"./{name}")
            member.size = 700
            packed.addfile(member, io.BytesIO(b"y" * 700))
        assert unpack(archive, tmp_path / str(form), silent) == 1
        assert (tmp_path / str(form) / name).read_bytes() == b"y" * 700


def test_an_archive_of_nothing_but_members_is_refused(tmp_path: Path) -> None:
    block = tarfile.TarInfo("a/")
    block.type = tarfile.DIRTYPE
    archive = tmp_path / "many.tar.gz"
    archive.write_bytes(gzip.compress(block.tobuf() * 30_000 + bytes(1024)))
    with pytest.raises(UnsafeArchiveError, match=r"many\.tar\.gz: more than \d+ members at 'a'"):
        unpack(archive, tmp_path / "folder", silent)


BAD_NAMES = [
    ("/etc/passwd", "outside the folder"),
    ("../x", "outside the folder"),
    ("a/../../x", "outside the folder"),
    ("a\\x", "outside the folder"),
    ("C:x", "outside the folder"),
    ("n" * 300, r"too long for a file"),
    ("a/" * 40 + "x", "32 folders deep"),
    ("/".join(["n" * 200] * 4), "too long for a file"),
    ("a\nb", "control characters"),
]


@pytest.mark.parametrize(("name", "said"), BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_no_file_may_have_is_refused(
    kind: str, name: str, said: str, tmp_path: Path
) -> None:
    archive = tmp_path / f"bad.{kind}"
    _ = tar_of(archive, [(name, {"size": 1})]) if kind == "tar" else zip_of(archive, [name])
    with pytest.raises(UnsafeArchiveError, match=said) as caught:
        unpack(archive, tmp_path / "folder", silent)
    assert "bad." in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert written(tmp_path) == [archive.name]


@pytest.mark.parametrize("name", [".", "./", "a/."])
def test_a_file_named_as_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "bad.tar", [("a/x", {"size": 1}), (name.rstrip("/"), {"size": 1})])
    with pytest.raises(UnsafeArchiveError, match=r"names the folder itself|a file and a folder"):
        unpack(archive, tmp_path / "folder", silent)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as packed:
        packed.addfile(tarfile.TarInfo("\xe4.jpg"))
    with pytest.raises(UnsafeArchiveError, match=r"'.*udce4\.jpg' has a name that is not UTF-8"):
        unpack(archive, tmp_path / "folder", silent)


def test_a_name_with_nul_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "bad.zip", ["a.jpg0/../x"])
    archive.write_bytes(archive.read_bytes().replace(b"a.jpg0/../x", b"a.jpg\0/../x"))
    with pytest.raises(UnsafeArchiveError, match="outside the folder"):
        unpack(archive, tmp_path / "folder", silent)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/1.jpg", "a/1.jpg"], "'a/1.jpg' comes twice"),
        (["a/1.jpg", "./a//1.jpg"], "comes twice"),
        (["a/1.jpg", "a/1.JPG"], "differs from 'a/1.jpg' in its spelling alone"),
        (["a/1.jpg", "A/2.jpg"], "differs from 'a' in its spelling alone"),
        (["caf\u00e9", "cafe\u0301"], "in its spelling alone"),
        (["a", "a/1.jpg"], "'a' both a file and a folder"),
        (["a/1.jpg", "a"], "'a' both a file and a folder"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide_are_refused(
    kind: str, names: list[str], said: str, tmp_path: Path
) -> None:
    """Else the result would depend on the file system, or a later member would win."""
    archive = tmp_path / f"bad.{kind}"
    if kind == "tar":
        tar_of(archive, [(name, {"size": 1}) for name in names])
    else:
        zip_of(archive, names)
    with pytest.raises(UnsafeArchiveError, match=said):
        unpack(archive, tmp_path / "folder", silent)


def patched(path: Path, offsets: dict[bytes, tuple[int, bytes]]) -> None:
    """Overwrite fields behind every signature."""
    content = bytearray(path.read_bytes())
    for signature, (offset, value) in offsets.items():
        place = content.find(signature)
        while place >= 0:
            content[place + offset : place + offset + len(value)] = value
            place = content.find(signature, place + 4)
    path.write_bytes(content)


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def test_a_zip_of_another_method_is_refused_by_its_name(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "zstd.zip", ["a.jpg"])
    method = struct.pack("<H", 93)
    patched(archive, {LOCAL: (8, method), CENTRAL: (10, method)})
    with pytest.raises(files.FileError, match=r"zstd\.zip: .*'a\.jpg' .*method 93 \(zstd\)"):
        unpack(archive, tmp_path / "folder", silent)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "secret.zip", ["a.jpg"])
    patched(archive, {LOCAL: (6, b"\x01\0"), CENTRAL: (8, b"\x01\0")})
    with pytest.raises(files.FileError, match=r"secret\.zip: the member 'a\.jpg' is encrypted"):
        unpack(archive, tmp_path / "folder", silent)


def test_zip_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "overlap.zip", ["a.jpg", "b.jpg", "c.jpg"])
    patched(archive, {CENTRAL: (42, struct.pack("<I", 0))})
    with pytest.raises(UnsafeArchiveError, match=r"overlap\.zip: .*overlaps another one"):
        unpack(archive, tmp_path / "folder", silent)


@pytest.mark.parametrize("size", [0, 2, 2**31])
def test_a_zip_whose_list_lies_about_sizes_is_refused(size: int, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "lie.zip", ["a.jpg"])
    patched(archive, {CENTRAL: (24, struct.pack("<I", size))})
    with pytest.raises(files.FileError, match=r"lie\.zip: "):
        unpack(archive, tmp_path / "folder", silent)


def test_a_zip_with_an_endless_list_is_refused(tmp_path: Path) -> None:
    entry = CENTRAL + bytes(42)
    body = entry * (2**25 // len(entry) + 10)
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, len(body), 0, 0)
    (tmp_path / "list.zip").write_bytes(body + end)
    with pytest.raises(files.FileError, match=r"list\.zip: .*its list of members takes more than"):
        unpack(tmp_path / "list.zip", tmp_path / "folder", silent)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_tar_that_breaks_off_is_refused(kind: str, miniatures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / f"whole.tar.{kind}", f"w:{kind}") as packed:
        packed.add(miniatures / "dtd" / "dtd-r1.0.1.tar.gz", "a.jpg")
    whole = (tmp_path / f"whole.tar.{kind}").read_bytes()
    for length in (len(whole) - 9, len(whole) // 2):
        archive = tmp_path / f"short.tar.{kind}"
        archive.write_bytes(whole[:length])
        with pytest.raises(files.FileError, match=rf"short\.tar\.{kind}: .*truncated"):
            unpack(archive, tmp_path / str(length), silent)


def test_a_tar_without_its_end_mark_is_truncated(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "short.tar", [("a.jpg", {"size": 512}), ("b.jpg", {"size": 512})])
    archive.write_bytes(archive.read_bytes()[:1024])
    with pytest.raises(files.FileError, match=r"short\.tar: damaged or truncated"):
        unpack(archive, tmp_path / "folder", silent)


def test_xz_that_demands_gigabytes_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "memory.tar.xz"
    block = bytearray(lzma.compress(tarfile.TarInfo("a").tobuf()))
    # The block's header says how large the dictionary is, and has a checksum.
    end = 12 + (block[12] + 1) * 4
    block[block.index(b"\x21\x01", 12) + 2] = 36
    block[end - 4 : end] = struct.pack("<I", zlib.crc32(block[12 : end - 4]))
    archive.write_bytes(block)
    with pytest.raises(files.FileError, match=r"memory\.tar\.xz: "):
        unpack(archive, tmp_path / "folder", silent)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_pipe_or_device_in_the_place_of_an_archive_is_refused(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "archive.zip")
    with pytest.raises(files.FileError, match=r"archive\.zip: not a regular file but a "):
        unpack(tmp_path / "archive.zip", tmp_path / "folder", silent)


def test_a_full_disk_while_unpacking_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zip_of(tmp_path / "a.zip", ["a.jpg"])

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trap2.data.target.open", full, raising=False)
    with pytest.raises(files.FileError, match=r"a\.jpg: No space left on device.*'resources'"):
        unpack(archive, tmp_path / "folder", silent)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ["a.jpg"])
    with pytest.raises(files.FileError, match=r"/proc/trap2.*: "):
        unpack(archive, "/proc/trap2/folder", silent)


def test_what_is_unpacked_never_goes_through_a_link(tmp_path: Path) -> None:
    """Somebody else may have made one in the folder."""
    archive = zip_of(tmp_path / "a.zip", ["a/1.jpg"])
    (tmp_path / "outside").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafeArchiveError, match=r"'a/1\.jpg' would be written outside"):
        unpack(archive, tmp_path / "folder", silent)
    assert list((tmp_path / "outside").iterdir()) == []
