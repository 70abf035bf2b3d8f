"""Readers: torchvision's own dataset classes read the same files; damage is named."""

from __future__ import annotations

import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision import datasets
from trap2.data.catalogue import Dataset
from trap2.data.forms import read_idx
from trap2.data.images import Part, RawDataset
from trap2.data.original import read
from trap2.runtime import files


def reading(catalogue: dict[str, Dataset], content: Path, task: str) -> RawDataset:
    name = "original"
    return read(catalogue[task], catalogue[task].source(name).reader, content)


def same(part: Part, reference: object) -> None:
    """The part has torchvision's labels and pixels, in torchvision's order."""
    assert len(part) == len(reference)  # type: ignore[arg-type]
    for index in range(len(part)):
        image, label = reference[index]  # type: ignore[index]
        assert label == part.labels[index]
        ours = part.load(index).convert("RGB")
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(image.convert("RGB")))


def test_cars_as_torchvision_reads_it(catalogue, laid_out, tmp_path: Path) -> None:
    content = laid_out("cars", "original")
    (tmp_path / "stanford_cars").symlink_to(content)
    raw = reading(catalogue, content, "cars")
    for part in ("train", "test"):
        reference = datasets.StanfordCars(tmp_path, split=part)
        assert list(raw.classes) == reference.classes
        same(raw.parts[part], reference)


def test_cars_shards_hold_the_same_images(catalogue, laid_out) -> None:
    original = reading(catalogue, laid_out("cars", "original"), "cars")
    shards = read(catalogue["cars"], "cars_parquet", laid_out("cars", "hub"))
    assert shards.classes == original.classes
    for part in ("train", "test"):
        same(shards.parts[part], pairs(original.parts[part]))


def pairs(part: Part) -> list[tuple[object, int]]:
    return [(part.load(index), int(part.labels[index])) for index in range(len(part))]


def test_dtd_as_torchvision_reads_it(catalogue, laid_out, tmp_path: Path) -> None:
    (tmp_path / "dtd").symlink_to(laid_out("dtd"))
    raw = reading(catalogue, laid_out("dtd"), "dtd")
    for part in ("train", "val", "test"):
        reference = datasets.DTD(tmp_path, split=part, partition=1)
        assert raw.classes == reference.classes
        same(raw.parts[part], reference)


def test_eurosat_as_torchvision_reads_it(catalogue, laid_out, tmp_path: Path) -> None:
    (tmp_path / "eurosat").symlink_to(laid_out("eurosat"))
    raw = reading(catalogue, laid_out("eurosat"), "eurosat")
    reference = datasets.EuroSAT(tmp_path)
    assert raw.classes == reference.classes
    same(raw.parts["all"], reference)


def test_gtsrb_as_torchvision_reads_it(catalogue, laid_out, tmp_path: Path) -> None:
    (tmp_path / "gtsrb").symlink_to(laid_out("gtsrb"))
    raw = reading(catalogue, laid_out("gtsrb"), "gtsrb")
    for part in ("train", "test"):
        same(raw.parts[part], datasets.GTSRB(tmp_path, split=part))


def test_mnist_as_torchvision_reads_it(catalogue, laid_out, tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in laid_out("mnist").iterdir():
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    raw = reading(catalogue, laid_out("mnist"), "mnist")
    for part in ("train", "test"):
        same(raw.parts[part], datasets.MNIST(tmp_path, train=part == "train"))


def test_aircraft_as_torchvision_reads_it(catalogue, laid_out) -> None:
    raw = reading(catalogue, laid_out("aircraft"), "aircraft")
    for part in ("train", "val", "test"):
        reference = datasets.FGVCAircraft(laid_out("aircraft"), split=part)
        assert raw.classes == reference.classes
        same(raw.parts[part], reference)


def test_svhn_as_torchvision_reads_it(catalogue, laid_out) -> None:
    class Miniature(datasets.SVHN):
        def _check_integrity(self) -> bool:
            return True

    raw = reading(catalogue, laid_out("svhn"), "svhn")
    for part in ("train", "test"):
        same(raw.parts[part], Miniature(str(laid_out("svhn")), split=part))


def test_resisc45_as_an_image_folder(catalogue, laid_out) -> None:
    content = laid_out("resisc45")
    raw = reading(catalogue, content, "resisc45")
    for part in ("train", "val", "test"):
        listed = (content / f"resisc45-{part}.txt").read_text().split()
        reference = datasets.ImageFolder(
            str(content / "NWPU-RESISC45"),
            is_valid_file=lambda path, listed=listed: Path(path).name in listed,
        )
        assert list(raw.classes) == reference.classes
        same(raw.parts[part], reference)


def test_sun397_as_the_image_folder_that_the_published_indices_mean(
    catalogue, laid_out, tmp_path: Path
) -> None:
    """Partition 1 as class folders ``a_abbey``; labels and order are those of the folder."""
    content = laid_out("sun397")
    raw = reading(catalogue, content, "sun397")
    for part, name in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        for line in (content / name).read_text().split():
            pieces = line.strip("/").split("/")
            folder = tmp_path / part / "_".join(pieces[:-1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / pieces[-1]).symlink_to(content / "SUN397" / line.strip("/"))
        reference = datasets.ImageFolder(str(tmp_path / part))
        assert list(raw.classes) == [name[2:] for name in reference.classes]
        same(raw.parts[part], reference)
    assert list(raw.classes) == ["balcony_exterior", "balcony_interior", "ballroom", "zen_garden"]


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def first_line(path: Path) -> str:
    return path.read_text().splitlines()[0]


GT = "GTSRB/Training/00007/GT-00007.csv"
VARIANTS = "fgvc-aircraft-2013b/data/variants.txt"
DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("dtd", lambda c: (c / "dtd/labels/val1.txt").unlink(), r"val1\.txt: this list is missing"),
    ("dtd", lambda c: (c / "dtd/images/woven").mkdir(), "no list names: woven"),
    ("dtd", lambda c: shutil.rmtree(c / "dtd/images/banded"), "without a folder: banded"),
    ("dtd", lambda c: shutil.rmtree(c / "dtd/images"), "images: this folder is missing"),
    (
        "dtd",
        lambda c: edit(c / "dtd/labels/val1.txt", lambda text: text + text.splitlines()[0]),
        "twice",
    ),
    (
        "dtd",
        lambda c: edit(
            c / "dtd/labels/val1.txt",
            lambda text: text + first_line(c / "dtd/labels/test1.txt"),
        ),
        "in both parts 'val' and 'test'",
    ),
    (
        "dtd",
        lambda c: edit(c / "dtd/labels/val1.txt", lambda text: text + "banded/../../x.jpg"),
        "outside the folder",
    ),
    ("eurosat", lambda c: (c / "2750/Desert").mkdir(), "11 classes, the catalogue expects 10"),
    ("eurosat", lambda c: (c / "2750/River/notes.txt").write_text("x"), "notes.txt: not expected"),
    (
        "resisc45",
        lambda c: (c / "resisc45-test.txt").unlink(),
        r"resisc45-test\.txt: this list is missing",
    ),
    ("resisc45", lambda c: (c / "NWPU-RESISC45/volcano").mkdir(), "no list names: volcano"),
    (
        "resisc45",
        lambda c: shutil.copy(
            c / "NWPU-RESISC45/wetland/wetland_001.jpg",
            c / "NWPU-RESISC45/wetland/wetland_701.jpg",
        ),
        r"images that no list names: wetland_701\.jpg",
    ),
    (
        "resisc45",
        lambda c: (c / "NWPU-RESISC45/wetland/wetland_001.jpg").unlink(),
        r"1 of \d+ listed images are missing, the first is 'wetland/wetland_001\.jpg'",
    ),
    ("gtsrb", lambda c: (c / "GT-final_test.csv").unlink(), "GT-final_test.csv: this list is miss"),
    (
        "gtsrb",
        lambda c: edit(c / GT, lambda text: text.replace(";7\n", ";8\n")),
        "does not list the images of its folder",
    ),
    ("gtsrb", lambda c: (c / GT).with_name("x.png").write_text("x"), r"not expected here: x\.png"),
    ("gtsrb", lambda c: (c / "GTSRB/Training/Extra").mkdir(), "should be 00000, 00001"),
    ("gtsrb", lambda c: (c / "GTSRB/Training/00043").mkdir(), "44 classes, the catalogue expects"),
    (
        "gtsrb",
        lambda c: edit(c / "GT-final_test.csv", lambda text: text.replace("14;17;", "14;17;1", 1)),
        r"labels outside 0 … 42, the first is 1\d\d? of '00000\.ppm'",
    ),
    (
        "gtsrb",
        lambda c: edit(c / "GT-final_test.csv", lambda text: text.replace("ClassId", "Class")),
        "expected a table with Filename and ClassId",
    ),
    (
        "aircraft",
        lambda c: edit(c / VARIANTS, lambda text: text.replace("Yak-42\n", "")),
        r"variants not in variants\.txt: Yak-42",
    ),
    (
        "aircraft",
        lambda c: edit(c / VARIANTS, lambda text: text + "Concorde\n"),
        "5 classes, the catalogue expects 4",
    ),
    (
        "mnist",
        lambda c: (c / "t10k-labels-idx1-ubyte.gz").unlink(),
        "t10k-labels-idx1-ubyte.gz: this file is missing",
    ),
    (
        "sun397",
        lambda c: (c / "Testing_01.txt").unlink(),
        r"Testing_01\.txt: this list is missing",
    ),
    (
        "sun397",
        lambda c: shutil.copytree(c / "SUN397/b/ballroom", c / "SUN397/b/bank"),
        "no list names: b_bank",
    ),
]


@pytest.mark.parametrize(("task", "damage", "message"), DAMAGES)
def test_damage_is_named(
    task: str, damage: Callable[[Path], object], message: str, catalogue, copied
) -> None:
    content = copied(task)
    damage(content)
    with pytest.raises(files.FileError, match=message):
        reading(catalogue, content, task)


def annotate(path: Path, labels: list[int]) -> None:
    """Overwrite the classes of a Cars annotation file, which count from 1."""
    annotations = scipy.io.loadmat(path)["annotations"]
    for index, label in enumerate(labels):
        annotations[0, index]["class"] = np.array([[label]], dtype=np.uint8)
    scipy.io.savemat(path, {"annotations": annotations})


@pytest.mark.parametrize(
    "task", ["dtd", "eurosat", "gtsrb", "resisc45", "aircraft", "sun397", "cars"]
)
def test_what_macos_leaves_in_a_folder_is_left_out(task, catalogue, copied) -> None:
    """It copies a folder to some disks with a second file for every one."""
    content = copied(task)
    raw = read(catalogue[task], catalogue[task].source().reader, content)
    for path in [*content.rglob("*")]:
        (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
        (path.parent / ".DS_Store").write_bytes(b"\x00")
        (path.parent / "__MACOSX").mkdir(exist_ok=True)
    again = read(catalogue[task], catalogue[task].source().reader, content)
    assert list(again.classes) == list(raw.classes)
    for name, part in raw.parts.items():
        assert list(again.parts[name].names) == list(part.names)
        assert again.parts[name].labels.tolist() == part.labels.tolist()


def test_a_cars_label_out_of_range_is_named(catalogue, copied) -> None:
    content = copied("cars", "original")
    annotate(content / "devkit" / "cars_train_annos.mat", [5])
    with pytest.raises(files.FileError, match=r"part 'train'.*outside 0 … 3, the first is 4"):
        reading(catalogue, content, "cars")


def test_cars_in_another_order_is_refused(catalogue, copied) -> None:
    """The published validation indices mean the original order of the test images."""
    content = copied("cars", "original")
    path = content / "cars_test_annos_withlabels.mat"
    stored = scipy.io.loadmat(path)["annotations"]
    scipy.io.savemat(path, {"annotations": stored[:, ::-1]})
    with pytest.raises(files.FileError, match="not in their original order"):
        reading(catalogue, content, "cars")


def test_a_damaged_devkit_is_named(catalogue, copied) -> None:
    content = copied("cars", "original")
    path = content / "cars_test_annos_withlabels.mat"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(files.FileError, match=r"withlabels\.mat: not a readable MATLAB 5 file"):
        reading(catalogue, content, "cars")
    shutil.copy(content / "devkit" / "cars_test_annos.mat", path)
    with pytest.raises(files.FileError, match="the annotations have no class"):
        reading(catalogue, content, "cars")


def test_svhn_labels_and_images_are_checked(catalogue, copied) -> None:
    content = copied("svhn")
    stored = scipy.io.loadmat(content / "train_32x32.mat")
    for change, message in [
        ({"y": stored["y"] + 1}, "y should be 1 … 10"),
        ({"y": stored["y"][:-1]}, "60 images and 59 labels"),
        ({"X": stored["X"].astype(np.float64)}, "X should be uint8"),
    ]:
        values = {"X": stored["X"], "y": stored["y"], **change}
        scipy.io.savemat(content / "train_32x32.mat", values)
        with pytest.raises(files.FileError, match=message):
            reading(catalogue, content, "svhn")
    scipy.io.savemat(content / "train_32x32.mat", {"X": stored["X"]})
    with pytest.raises(files.FileError, match="no variable 'y'"):
        reading(catalogue, content, "svhn")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack(">HBB1I", 0, 8, 1, 4) + b"abc", r"3 bytes of data, its header says \(4,\)"),
        (
            struct.pack(">HBB1I", 0, 8, 1, 2) + b"abc",
            r"more than 2 bytes of data, its header says \(2,\)",
        ),
        (struct.pack(">HBB1I", 0, 13, 1, 4) + bytes(16), "not an idx file of unsigned bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 1, 1, 1) + b"a", "not an idx file of unsigned bytes"),
        (b"", "not an idx file"),
        (gzip.compress(bytes(1000), mtime=0)[:20], "damaged or truncated"),
    ],
)
def test_a_damaged_idx_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(files.FileError, match=message):
        read_idx(path, 1)


def test_an_unknown_reader_is_named(catalogue, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown reader 'webdataset'; known: cars_devkit"):
        read(catalogue["cars"], "webdataset", tmp_path)


def test_a_class_without_images_is_named(catalogue, copied) -> None:
    content = copied("aircraft")
    path = content / "fgvc-aircraft-2013b" / "data" / "images_variant_val.txt"
    kept = [line for line in path.read_text().splitlines() if "Yak-42" not in line]
    path.write_text("\n".join(kept))
    with pytest.raises(files.FileError, match="part 'val': no image of 1 classes: Yak-42"):
        reading(catalogue, content, "aircraft")
    path.write_text("")
    with pytest.raises(files.FileError, match="part 'val': no images"):
        reading(catalogue, content, "aircraft")
