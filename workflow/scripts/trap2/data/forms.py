"""The datasets' original on-disk forms.

A reader takes the content folder that :mod:`trap2.data.sources` lays out and gives the original
parts in their original order.  It trusts nothing that it can check: a file that a list names and
the disk lacks, a folder that no list names, a label out of range are errors that say what was
found.  Nothing is skipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from trap2.data.images import RawDataset, array_part, file_part
from trap2.data.target import is_clutter
from trap2.runtime import files
from trap2.runtime.reading import open_regular, read_bytes

LIST_BYTES = 2**26


IDX_BYTES = 2**29

DIGITS = [str(digit) for digit in range(10)]


def few(names: Any, limit: int = 8) -> str:
    """Some names as messages list them."""
    names = sorted(names)
    return ", ".join(map(str, names[:limit])) + (", …" if len(names) > limit else "")


def read_lines(path: Path) -> list[str]:
    """The lines of a list that a dataset comes with, without empty ones."""
    if not path.exists():
        raise files.FileError(f"{path}: this list is missing from the dataset")
    try:
        lines = read_bytes(path, LIST_BYTES).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise files.FileError(f"{path}: not a text file ({error})") from None
    return [line.strip() for line in lines if line.strip()]


def subfolders(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted: a dataset's classes.

    Raises:
        FileError: there is no such folder.
    """
    if not folder.is_dir():
        raise files.FileError(f"{folder}: this folder is missing from the dataset")
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what macOS leaves there."""
    return sorted(entry for entry in folder.iterdir() if not is_clutter(entry.name))


def _same_classes(folder: Path, found: Any, listed: Any) -> None:
    extra, missing = set(found) - set(listed), set(listed) - set(found)
    if extra or missing:
        raise files.FileError(
            f"{folder}: class folders and lists differ: folders that no list names: "
            f"{few(extra) or 'none'}; classes without a folder: {few(missing) or 'none'}"
        )


def class_files(folder: Path, classes: list[str], suffix: str) -> tuple[list[str], list[int]]:
    """Every file of every class folder, by class, then by name; other files are an error."""
    names, labels = [], []
    for label, name in enumerate(classes):
        for path in _entries(folder / name):
            if path.suffix.lower() != suffix:
                raise files.FileError(f"{path}: not expected here; class folders hold {suffix}")
            names.append(f"{name}/{path.name}")
            labels.append(label)
    return names, labels


def _load_mat(path: Path, name: str) -> np.ndarray:
    import scipy.io

    try:
        found: np.ndarray = scipy.io.loadmat(str(path), squeeze_me=True)[name]
        return found
    except FileNotFoundError:
        raise files.FileError(f"{path}: this file is missing from the dataset") from None
    except KeyError:
        raise files.FileError(f"{path}: no variable '{name}'") from None
    except (NotImplementedError, ValueError, TypeError, OSError, zlib.error) as error:
        raise files.FileError(f"{path}: not a readable MATLAB 5 file ({error})") from None


def read_cars_devkit(content: Path) -> RawDataset:
    """Stanford Cars as its authors gave it: annotations in MATLAB files."""
    meta = content / "devkit" / "cars_meta.mat"
    classes = [str(name) for name in np.atleast_1d(_load_mat(meta, "class_names"))]
    parts = {}
    for part, path in (
        ("train", content / "devkit" / "cars_train_annos.mat"),
        ("test", content / "cars_test_annos_withlabels.mat"),
    ):
        annotations = np.atleast_1d(_load_mat(path, "annotations"))
        lacking = {"fname", "class"} - set(annotations.dtype.names or ())
        if lacking:
            raise files.FileError(f"{path}: the annotations have no {' and no '.join(lacking)}")
        names = [f"cars_{part}/{name}" for name in annotations["fname"].tolist()]
        labels = np.array(annotations["class"].tolist(), dtype=np.int64) - 1
        parts[part] = file_part(content, names, labels)
    return RawDataset(classes, parts)


def read_dtd(content: Path) -> RawDataset:
    """DTD, partition 1: parts ``train``, ``val`` and ``test``."""
    images = content / "dtd" / "images"
    listed = {
        split: read_lines(content / "dtd" / "labels" / f"{split}1.txt")
        for split in ("train", "val", "test")
    }
    classes = subfolders(images)
    _same_classes(
        images, classes, {name.split("/")[0] for names in listed.values() for name in names}
    )
    label = {name: index for index, name in enumerate(classes)}
    return RawDataset(
        classes,
        {
            split: file_part(images, names, [label[name.split("/")[0]] for name in names])
            for split, names in listed.items()
        },
    )


def read_eurosat(content: Path) -> RawDataset:
    """EuroSAT (RGB): a folder a class, one part ``all``."""
    folder = content / "2750"
    classes = subfolders(folder)
    names, labels = class_files(folder, classes, ".jpg")
    return RawDataset(classes, {"all": file_part(folder, names, labels)})


def read_gtsrb(content: Path) -> RawDataset:
    """GTSRB: a folder a class for training, a table for the test."""
    training = content / "GTSRB" / "Training"
    classes = subfolders(training)
    wrong = [name for name in classes if not (name.isascii() and name.isdigit())]
    if wrong or [int(name) for name in classes] != list(range(len(classes))):
        raise files.FileError(
            f"{training}: class folders should be 00000, 00001, …; found {few(classes)}"
        )
    names, labels = [], []
    for label, name in enumerate(classes):
        for image in _gtsrb_class(training / name, label):
            names.append(f"{name}/{image}")
            labels.append(label)
    rows = _read_gtsrb_table(content / "GT-final_test.csv")
    test = file_part(
        content / "GTSRB" / "Final_Test" / "Images",
        [name for name, _ in rows],
        [label for _, label in rows],
    )
    return RawDataset(classes, {"train": file_part(training, names, labels), "test": test})


def _gtsrb_class(folder: Path, label: int) -> list[str]:
    """One training folder's images by name; its table, if it has one, must say the same."""
    images = sorted(path.name for path in _entries(folder) if path.suffix == ".ppm")
    table = folder / f"GT-{folder.name}.csv"
    if table.exists() and sorted(_read_gtsrb_table(table)) != [(name, label) for name in images]:
        raise files.FileError(
            f"{table}: does not list the images of its folder, with class {label}"
        )
    extra = [path.name for path in _entries(folder) if path.suffix != ".ppm" and path != table]
    if extra:
        raise files.FileError(f"{folder}: files not expected here: {few(extra)}")
    return images


def _read_gtsrb_table(path: Path) -> list[tuple[str, int]]:
    rows = csv.DictReader(io.StringIO("\n".join(read_lines(path))), delimiter=";")
    try:
        return [(row["Filename"].strip(), int(row["ClassId"])) for row in rows]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise files.FileError(
            f"{path}: expected a table with Filename and ClassId, separated by ';' ({error!r})"
        ) from None


def read_mnist(content: Path) -> RawDataset:
    """MNIST: idx files."""
    parts = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        images = read_idx(content / f"{stem}-images-idx3-ubyte.gz", 3)
        labels = read_idx(content / f"{stem}-labels-idx1-ubyte.gz", 1)
        parts[part] = array_part(str(content / f"{stem}-images-idx3-ubyte.gz"), images, labels)
    return RawDataset(DIGITS, parts)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped or not, with so many dimensions.

    Raises:
        FileError: it is missing, truncated, longer than it says, or of another type.
    """
    if not path.exists():
        raise files.FileError(f"{path}: this file is missing from the dataset")
    start = 4 + 4 * dimensions
    try:
        with open_regular(path, IDX_BYTES) as stored:
            packed = stored.read(2) == b"\x1f\x8b"
            stored.seek(0)
            opened = gzip.GzipFile(fileobj=stored) if packed else stored
            header = opened.read(start)
            shape = tuple(np.frombuffer(header[4 : len(header) // 4 * 4], dtype=">u4").tolist())
            size = math.prod(shape)
            content = opened.read(min(size, IDX_BYTES) + 1)
            # What breaks off says so at its end.
            any(not opened.read(2**20) for _ in range(64))
    except (OSError, EOFError, zlib.error) as error:
        raise files.FileError(f"{path}: damaged or truncated ({error})") from None
    if header[:4] != bytes((0, 0, 8, dimensions)):
        raise files.FileError(
            f"{path}: not an idx file of unsigned bytes with {dimensions} dimensions"
        )
    if len(shape) != dimensions or len(content) != size:
        found = f"more than {size}" if len(content) > size else len(content)
        raise files.FileError(f"{path}: {found} bytes of data, its header says {shape}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def read_resisc45(content: Path) -> RawDataset:
    """RESISC45 with the lists of torchgeo: parts ``train``, ``val`` and ``test``."""
    folder = content / "NWPU-RESISC45"
    listed = {
        split: read_lines(content / f"resisc45-{split}.txt") for split in ("train", "val", "test")
    }
    classes = subfolders(folder)
    owners = {name: name.rpartition("_")[0] for names in listed.values() for name in names}
    _same_classes(folder, classes, owners.values())
    label = {name: index for index, name in enumerate(classes)}
    stored, _ = class_files(folder, classes, ".jpg")
    unlisted = {name.partition("/")[2] for name in stored} - set(owners)
    if unlisted:
        raise files.FileError(f"{folder}: images that no list names: {few(unlisted)}")
    return RawDataset(
        classes,
        {
            split: file_part(
                folder,
                [f"{owners[name]}/{name}" for name in names],
                [label[owners[name]] for name in names],
            )
            for split, names in listed.items()
        },
    )


def read_aircraft(content: Path) -> RawDataset:
    """FGVC-Aircraft by variant: parts ``train``, ``val`` and ``test``."""
    folder = content / "fgvc-aircraft-2013b" / "data"
    classes = read_lines(folder / "variants.txt")
    label = {name: index for index, name in enumerate(classes)}
    parts = {}
    for split in ("train", "val", "test"):
        path = folder / f"images_variant_{split}.txt"
        pairs = [line.partition(" ")[::2] for line in read_lines(path)]
        unknown = {variant for _, variant in pairs} - set(label)
        if unknown:
            raise files.FileError(f"{path}: variants not in variants.txt: {few(unknown)}")
        parts[split] = file_part(
            folder / "images",
            [f"{name}.jpg" for name, _ in pairs],
            [label[variant] for _, variant in pairs],
        )
    return RawDataset(classes, parts)


def read_svhn(content: Path) -> RawDataset:
    """SVHN, cropped digits: MATLAB files; 10 is the digit 0."""
    parts = {}
    for part in ("train", "test"):
        path = content / f"{part}_32x32.mat"
        images, labels = _load_mat(path, "X"), np.atleast_1d(_load_mat(path, "y")).astype(np.int64)
        if images.ndim != 4 or images.shape[2] != 3 or images.dtype != np.uint8:
            raise files.FileError(
                f"{path}: X should be uint8 (H, W, 3, n), found {images.dtype} {images.shape}"
            )
        if labels.min() < 1 or labels.max() > 10:
            raise files.FileError(
                f"{path}: y should be 1 … 10 (10 is the digit 0), found {labels.min()} … "
                f"{labels.max()}"
            )
        stacked = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
        parts[part] = array_part(str(path), stacked, labels % 10)
    return RawDataset(DIGITS, parts)


def read_sun397(content: Path) -> RawDataset:
    """Partition 1 in the order of class folders named ``a_abbey``, then by file name.

    The published permutation indexes that order, not the order of the lists.
    """
    folder = content / "SUN397"
    listed = {
        part: [line.lstrip("/") for line in read_lines(_sun_list(content, file))]
        for part, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt"))
    }
    owner = {name: "_".join(name.split("/")[:-1]) for names in listed.values() for name in names}
    images = [path.relative_to(folder) for path in folder.rglob("*.jpg")]
    found = {"_".join(path.parent.parts) for path in images if not is_clutter(str(path))}
    _same_classes(folder, found, owner.values())
    label = {name: index for index, name in enumerate(sorted(found))}
    parts = {}
    for part, names in listed.items():
        ordered = sorted(names, key=lambda name: (owner[name], name.rpartition("/")[2]))
        parts[part] = file_part(folder, ordered, [label[owner[name]] for name in ordered])
    return RawDataset([name.partition("_")[2] for name in label], parts)


def _sun_list(content: Path, name: str) -> Path:
    """The partition list, at the top of its archive or in a folder of it."""
    for folder in (content, content / "Partitions", content / "SUN397"):
        if (folder / name).is_file():
            return folder / name
    return content / name
