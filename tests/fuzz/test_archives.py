"""Archives of every kind, honest and hostile: what was packed, or one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Refused, attempt, generator, numbers
from trap2.data.unpacking import unpack

Members = dict[str, bytes]

HOSTILE_NAMES = [
    "/etc/trap2",
    "../trap2",
    "a/../../trap2",
    "..",
    ".",
    "a\\b",
    "C:/trap2",
    "C:trap2",
    "//server/trap2",
    "n" * 300,
    "é" * 200,
    "d/" * 60 + "x",
    "/".join(["n" * 200] * 9),
    "a\nb",
    "a\x1b[2J",
    "a\x7f",
    "\udcff.jpg",
]


def members(random_: random.Random) -> Members:
    """Some honest files in some folders."""
    folders = ["", "a/", "b c/", "ä/", "deep/er/", "2750/Forest/"]
    return {
        f"{random_.choice(folders)}{number:03d}.jpg": random_.randbytes(
            random_.choice([0, 1, 511, 512, 513, 9000])
        )
        for number in range(random_.randint(1, 12))
    }


def tarball(found: Members, random_: random.Random, extra: list[tarfile.TarInfo] = []) -> bytes:  # noqa: B006
    buffer = io.BytesIO()
    form = random_.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as packed:
        entries = [(tarfile.TarInfo(name), content) for name, content in found.items()]
        for entry, content in entries:
            entry.size = len(content)
        for entry in extra:
            entries.insert(random_.randint(0, len(entries)), (entry, bytes(entry.size)))
        for entry, content in entries:
            packed.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def compressed(content: bytes, random_: random.Random) -> bytes:
    packers: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress]
    return random_.choice(packers)(content)


def zipped(found: Members, random_: random.Random, extra: list[zipfile.ZipInfo] = []) -> bytes:  # noqa: B006
    buffer = io.BytesIO()
    method = random_.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as packed:
        warnings.simplefilter("ignore")
        for name, content in found.items():
            packed.writestr(name, content)
        for entry in extra:
            packed.writestr(entry, b"x")
    return buffer.getvalue()


def honest(found: Members, random_: random.Random) -> bytes:
    if random_.random() < 0.5:
        return zipped(found, random_)
    return compressed(tarball(found, random_), random_)


def bad_name(found: Members, random_: random.Random) -> bytes:
    name = random_.choice([*HOSTILE_NAMES, next(iter(found)), next(iter(found)).upper()])
    if random_.random() < 0.5 and name.isprintable() and name != ".":
        return zipped(found, random_, [zipfile.ZipInfo(name)])
    return compressed(tarball(found, random_, [tarfile.TarInfo(name)]), random_)


def bad_kind(found: Members, random_: random.Random) -> bytes:
    entry = tarfile.TarInfo(random_.choice(["a/link", "link", "z"]))
    entry.type = random_.choice(
        [b"1", b"2", b"3", b"4", b"6", b"S", b"M", b"V", b"D", b"~", b"\xff"]
    )
    entry.linkname = random_.choice(["/etc/passwd", "../..", next(iter(found)), "missing", ""])
    return compressed(tarball(found, random_, [entry]), random_)


def bad_zip_kind(found: Members, random_: random.Random) -> bytes:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = random_.choice([0o120777, 0o010644, 0o020644, 0o140644]) << 16
    return zipped(found, random_, [entry])


def header_bomb(found: Members, random_: random.Random) -> bytes:
    entry = tarfile.TarInfo("a")
    entry.type = random_.choice([b"x", b"g", b"L", b"K", b"X"])
    entry.size = random_.choice([2**20, 2**31, 3 * 2**30, 2**33, 2**62])
    return gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(2**23), 1)


def growth(found: Members, random_: random.Random) -> bytes:
    zeros = bytes(2**27)
    if random_.random() < 0.5:
        return gzip.compress(tarball({"zeros": zeros}, random_), 6)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", zeros)
    return buffer.getvalue()


def member_bomb(found: Members, random_: random.Random) -> bytes:
    entry = tarfile.TarInfo(random_.choice(["a", "./"]))
    entry.type = tarfile.DIRTYPE
    return gzip.compress(entry.tobuf() * 30_000, 1)


def patched_zip(found: Members, random_: random.Random) -> bytes:
    """One field of one record of a zip says something else."""
    content = bytearray(zipped(found, random_))
    signature, length = random_.choice([(b"PK\3\4", 30), (b"PK\1\2", 46), (b"PK\5\6", 22)])
    places = [i for i in range(len(content)) if content[i : i + 4] == signature]
    offset = random_.choice(places) + random_.randrange(4, length - 3)
    value = random_.choice([0, 1, 93, 0xFFFF, 2**31, 2**32 - 1, random_.getrandbits(32)])
    content[offset : offset + 4] = struct.pack("<I", value)
    return bytes(content)


def patched_tar(found: Members, random_: random.Random) -> bytes:
    """Bytes of a header are others, and its checksum is right all the same."""
    content = bytearray(tarball(found, random_))
    start = 512 * random_.choice([0, 0, 1])
    for _ in range(random_.randint(1, 4)):
        content[start + random_.randrange(500)] = random_.choice([0, 32, 47, 46, 0x80, 0xFF, 55])
    content[start + 148 : start + 156] = b" " * 8
    total = sum(content[start : start + 512])
    content[start + 148 : start + 156] = f"{total:06o}\0 ".encode()
    return compressed(bytes(content), random_)


def flipped(found: Members, random_: random.Random) -> bytes:
    content = bytearray(honest(found, random_))
    for _ in range(random_.randint(1, 30)):
        content[random_.randrange(len(content))] = random_.randrange(256)
    return bytes(content)


def cut(found: Members, random_: random.Random) -> bytes:
    content = honest(found, random_)
    return content[: random_.randrange(len(content))]


def glued(found: Members, random_: random.Random) -> bytes:
    parts = [
        honest(found, random_),
        random_.randbytes(random_.randint(1, 2000)),
        honest({}, random_),
    ]
    random_.shuffle(parts)
    return b"".join(parts)


def twice(found: Members, random_: random.Random) -> bytes:
    return gzip.compress(compressed(honest(found, random_), random_))


def noise(found: Members, random_: random.Random) -> bytes:
    start = random_.choice([b"", b"PK\3\4", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"PK\5\6"])
    return start + random_.randbytes(random_.randrange(3000))


# What must be refused, and what may be read if it is read right, or as something.
REFUSED = [bad_name, bad_kind, bad_zip_kind, header_bomb, growth, member_bomb]
EITHER = [patched_zip, patched_tar, flipped, cut, glued, twice, noise]


@pytest.mark.parametrize("number", numbers(400))
def test_archives(number: int, tmp_path: Path) -> None:
    random_ = generator("archives", number)
    found = members(random_)
    heavy = [growth, member_bomb, header_bomb]
    kinds = [honest, *REFUSED[:3], *EITHER] * 4 + heavy
    make = random_.choice(kinds)
    folder = tmp_path / "case"
    folder.mkdir()
    archive = folder / random_.choice(["a.zip", "a.tar", "a.tgz", "a"])
    archive.write_bytes(make(found, random_))
    target = folder / "content"
    result = attempt(lambda: unpack(archive, target, lambda line: None), target, [str(archive)])
    read_ = {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if not path.is_dir()
    }
    assert not any(path.is_symlink() for path in target.rglob("*"))
    if make is honest:
        assert (result, read_) == (len(found), found)
    elif make in REFUSED:
        assert isinstance(result, Refused), make.__name__
    if make in (cut, noise):
        assert isinstance(result, Refused) or read_ == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case"]
