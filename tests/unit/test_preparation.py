"""Preprocessing against open_clip's own, and the way from a download to prepared arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from open_clip.transform import image_transform
from PIL import Image, ImageCms
from torchvision.transforms import Compose
from trap2.data import splits
from trap2.data.catalogue import Dataset
from trap2.data.original import read
from trap2.data.preparation import prepare
from trap2.data.prepared import SPLITS, open_split, split_files
from trap2.data.sources import download
from trap2.data.transforms import to_array, to_rgb
from trap2.runtime import files, seeding

TASKS = ["cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "aircraft", "svhn", "sun397"]
RESOLUTION = 32


def silent(_: str) -> None:
    """Swallow a progress line."""


def noise(width: int, height: int) -> Image.Image:
    pixels = seeding.numpy_generator(0, "noise").integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def before_floats(resolution: int) -> Compose:
    """open_clip's evaluation transform without its last two steps, ToTensor and Normalize."""
    whole = image_transform((resolution, resolution), is_train=False)
    return Compose(whole.transforms[:-2])


@pytest.mark.parametrize("resolution", [32, 224, 256])
@pytest.mark.parametrize(
    "size",
    [
        (28, 28),
        (32, 32),
        (64, 64),
        (500, 375),
        (375, 500),
        (61, 47),
        (33, 224),
        (224, 225),
        (7, 90),
    ],
)
def test_preprocessing_is_open_clips(size: tuple[int, int], resolution: int) -> None:
    image = noise(*size)
    expected = np.asarray(before_floats(resolution)(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(to_array(image, resolution), expected)


def test_grey_scale_is_open_clips() -> None:
    image = noise(50, 41).convert("L")
    expected = np.asarray(before_floats(32)(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(to_array(image, 32), expected)


def test_a_prepared_array_owns_its_order() -> None:
    array = to_array(noise(40, 40), 32)
    assert array.shape == (3, 32, 32)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous


def stored(image: Image.Image, path: Path) -> Image.Image:
    """The image after a round through a file, as a dataset would hold it."""
    image.save(path, quality=100) if path.suffix == ".jpg" else image.save(path)
    with Image.open(path) as opened:
        opened.load()
        return opened


def test_modes_become_the_same_rgb(tmp_path: Path) -> None:
    """Grey-scale, 16-bit grey, palette (with transparency too) and alpha, without loss."""
    grey = noise(20, 20).convert("L")
    expected = np.asarray(grey.convert("RGB"))
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    palette = grey.convert("P")
    clear = palette.copy()
    clear.info["transparency"] = bytes(range(256))
    alpha = grey.convert("RGBA")
    alpha.putalpha(77)
    for name, image in {
        "grey": grey,
        "sixteen": sixteen,
        "palette": palette,
        "clear": clear,
        "alpha": alpha,
        "grey-alpha": alpha.convert("LA"),
    }.items():
        again = stored(image, tmp_path / f"{name}.png")
        found = to_rgb(again)
        assert found.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(found), expected, err_msg=name)
    assert stored(sixteen, tmp_path / "again.png").mode in ("I;16", "I")


def test_one_bit_becomes_rgb(tmp_path: Path) -> None:
    image = stored(noise(16, 16).convert("1"), tmp_path / "one.png")
    assert set(np.asarray(to_rgb(image)).ravel().tolist()) == {0, 255}


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    """Inks of a print image must not come out inverted."""
    colours = np.zeros((16, 48, 3), dtype=np.uint8)
    colours[:, :16, 0], colours[:, 16:32, 1], colours[:, 32:, 2] = 255, 255, 255
    image = stored(Image.fromarray(colours).convert("CMYK"), tmp_path / "print.jpg")
    assert image.mode == "CMYK"
    difference = np.abs(np.asarray(to_rgb(image)).astype(int) - colours)
    assert difference[:, 4:12].max() < 40
    assert difference[:, 20:28].max() < 40


def test_lab_becomes_rgb() -> None:
    lab = ImageCms.createProfile("LAB")
    rgb = ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(noise(8, 8), rgb, lab, outputMode="LAB")
    assert to_rgb(image).mode == "RGB"


def test_images_without_a_range_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        to_rgb(Image.fromarray(np.zeros((4, 4), dtype=np.float32)))
    with pytest.raises(ValueError, match="from 0 to 70000"):
        to_rgb(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)))


@pytest.fixture(scope="session")
def raw(
    tmp_path_factory: pytest.TempPathFactory, catalogue: dict[str, Dataset], mirror: str
) -> Callable[..., Path]:
    """The raw folder of a dataset, downloaded from the server; do not change it."""
    base = tmp_path_factory.mktemp("downloaded")

    def fetch(task: str, source: str | None = None) -> Path:
        folder = base / f"{task}-{source}"
        if not folder.exists():
            download(catalogue[task], folder, source=source, mirror=mirror, log=silent)
        return folder

    return fetch


@pytest.mark.parametrize(
    ("task", "source"), [*((task, "original") for task in TASKS), ("cars", "hub")]
)
def test_from_download_to_arrays(
    task: str, source: str, catalogue: dict[str, Dataset], raw: Callable[..., Path], tmp_path: Path
) -> None:
    """Every prepared pixel and label is the one that the split names in the original part."""
    row, origin = catalogue[task], raw(task, source)
    manifest = prepare(row, origin, tmp_path, RESOLUTION, seed=3, log=silent)
    original = read(row, row.source(source).reader, origin / "content")
    record = files.read_json(tmp_path / "splits.json")["splits"]
    for split in SPLITS:
        opened = open_split(tmp_path, split)
        part, indices = original.parts[record[split]["part"]], record[split]["indices"]
        assert len(opened) == len(indices) == row.counts[split]
        np.testing.assert_array_equal(opened.labels, part.labels[indices])
        for place in range(0, len(indices), 5):
            image = part.load(indices[place]).convert("RGB")
            expected = np.asarray(before_floats(RESOLUTION)(image)).transpose(2, 0, 1)
            np.testing.assert_array_equal(opened.images[place], expected)
    assert manifest == files.read_json(tmp_path / "manifest.json")
    assert manifest["class_names"] == row.display_names(original.classes)
    assert len(manifest["class_names"]) == row.classes
    assert manifest["templates"] == list(row.templates)
    assert manifest["licence"] == row.licence
    assert manifest["preprocessing"]["interpolation"] == "bicubic"
    assert manifest["preprocessing"]["resize_mode"] == "shortest"
    assert manifest["preprocessing"]["size"] == manifest["resolution"]
    assert manifest["source"] == files.read_json(origin / "source.json")
    assert manifest["splits_sha256"] == files.sha256(tmp_path / "splits.json")
    assert manifest["split"]["rule"] == row.split["rule"]
    for split, facts in manifest["splits"].items():
        assert facts["count"] == sum(facts["class_histogram"]) == row.counts[split]
        for name, digest in facts["sha256"].items():
            assert digest == files.sha256(tmp_path / name)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_threads_change_no_byte(catalogue, raw, tmp_path: Path) -> None:
    for threads in (1, 3):
        folder = tmp_path / str(threads)
        prepare(catalogue["sun397"], raw("sun397"), folder, RESOLUTION, threads=threads, log=silent)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_both_sources_of_cars_give_the_same_arrays(catalogue, raw, tmp_path: Path) -> None:
    for source in ("hub", "original"):
        folder = tmp_path / source
        prepare(catalogue["cars"], raw("cars", source), folder, RESOLUTION, log=silent)
    for split in SPLITS:
        for name in split_files(split):
            assert files.sha256(tmp_path / "hub" / name) == files.sha256(
                tmp_path / "original" / name
            )


def test_the_cars_leak_is_recorded(catalogue, raw, tmp_path: Path) -> None:
    made = {
        choice: prepare(
            catalogue["cars"],
            raw("cars"),
            tmp_path / choice,
            RESOLUTION,
            cars_train=choice,
            log=silent,
        )
        for choice in splits.CARS_TRAIN
    }
    assert made["proper"]["split"]["cars_train"] == "proper"
    assert made["proper"]["notes"] == []
    assert made["knots"]["split"]["cars_train"] == "knots"
    assert "all its test images" in made["knots"]["notes"][0]
    train = open_split(tmp_path / "knots", "train")
    assert len(train) == 20
    seen = {image.tobytes() for image in train.images}
    for split in ("val", "test"):
        held = open_split(tmp_path / "knots", split).images
        assert {image.tobytes() for image in held} <= seen
    trained = {image.tobytes() for image in open_split(tmp_path / "proper", "train").images}
    assert not trained & seen


def test_the_eurosat_seed_is_recorded(catalogue, raw, tmp_path: Path) -> None:
    made = [
        prepare(
            catalogue["eurosat"],
            raw("eurosat"),
            tmp_path / str(seed),
            RESOLUTION,
            seed=seed,
            log=silent,
        )
        for seed in (1, 2)
    ]
    assert [manifest["split"]["seed"] for manifest in made] == [1, 2]
    assert made[0]["splits_sha256"] != made[1]["splits_sha256"]
    assert made[0]["splits"]["val"]["class_histogram"] == [2] * 10


def test_progress_is_reported(catalogue, raw, tmp_path: Path) -> None:
    said: list[str] = []
    prepare(catalogue["dtd"], raw("dtd"), tmp_path, RESOLUTION, log=said.append)
    assert any(line.startswith("dtd train: 12/12 images") and "/s" in line for line in said)


def damaged_copy(miniatures: Path, tmp_path: Path, catalogue, change) -> Path:
    """DTD with one image file replaced, unpacked again."""
    folder = tmp_path / "raw"
    download(catalogue["dtd"], folder, archives=miniatures, log=silent)
    image = folder / "content" / "dtd" / "images" / "banded" / "banded_0003.jpg"
    change(image)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b""), r"banded_0003\.jpg: the image is empty \(0 bytes\)"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:300]),
            r"banded_0003\.jpg: damaged or truncated",
        ),
        (
            lambda path: Image.fromarray(np.zeros((9, 9), np.float32)).save(path, "TIFF"),
            r"banded_0003\.jpg: a floating-point image",
        ),
        (
            lambda path: path.unlink(),
            r"listed images are missing, the first is 'banded/banded_0003",
        ),
    ],
)
def test_a_damaged_image_stops_the_preparation(
    change, message: str, catalogue, miniatures: Path, tmp_path: Path
) -> None:
    folder = damaged_copy(miniatures, tmp_path, catalogue, change)
    with pytest.raises(files.FileError, match=message):
        prepare(catalogue["dtd"], folder, tmp_path / "out", RESOLUTION, threads=2, log=silent)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "I;16"])
def test_unusual_modes_are_prepared(mode: str, catalogue, miniatures: Path, tmp_path: Path) -> None:
    picture = noise(40, 44)

    def change(path: Path) -> None:
        if mode == "I;16":
            image = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        else:
            image = picture.convert(mode)
        image.save(path, "JPEG" if mode in ("L", "CMYK") else "PNG")

    folder = damaged_copy(miniatures, tmp_path, catalogue, change)
    manifest = prepare(catalogue["dtd"], folder, tmp_path / "out", RESOLUTION, log=silent)
    assert manifest["splits"]["train"]["count"] == 12


def test_an_incomplete_download_is_refused(catalogue, raw, tmp_path: Path) -> None:
    with pytest.raises(files.FileError, match=r"no source\.json, so the download is not complete"):
        prepare(catalogue["dtd"], tmp_path, tmp_path / "out", RESOLUTION, log=silent)
    with pytest.raises(files.FileError, match="holds 'dtd', not 'cars'"):
        prepare(catalogue["cars"], raw("dtd"), tmp_path / "out", RESOLUTION, log=silent)


def test_unexpected_counts_are_refused(catalogue, raw, tmp_path: Path) -> None:
    row = replace(catalogue["mnist"], counts={"train": 60000, "val": 2000, "test": 8000})
    with pytest.raises(files.FileError, match=r"gives \{'train': 60, .* the catalogue expects"):
        prepare(row, raw("mnist"), tmp_path / "out", RESOLUTION, log=silent)


def test_wrong_arguments_are_named(catalogue, raw, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resolution 0 and threads 1 must be at least 1"):
        prepare(catalogue["dtd"], raw("dtd"), tmp_path, 0, log=silent)
    with pytest.raises(ValueError, match="'both'; allowed: proper, knots"):
        prepare(catalogue["cars"], raw("cars"), tmp_path, 32, cars_train="both", log=silent)
