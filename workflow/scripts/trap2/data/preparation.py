"""From a raw folder to a prepared one: read, split, preprocess once, describe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trap2.data import splits, transforms
from trap2.data.catalogue import Dataset
from trap2.data.images import Part
from trap2.data.original import read
from trap2.data.prepared import describe, write_split
from trap2.data.records import SourceRecord, TaskManifest
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error

REPORT_SECONDS = 30.0


IMAGES_A_THREAD = 32

LEAK = (
    "Cars was trained on all its test images (cars_train: knots), of which validation and test "
    "are subsets; its accuracy measures memory, not generalisation."
)

Log = Callable[[str], None]


def prepare(
    dataset: Dataset,
    raw: str | Path,
    folder: str | Path,
    resolution: int,
    *,
    cars_train: str = "proper",
    seed: int = 0,
    threads: int = 1,
    log: Log = print,
) -> TaskManifest:
    """Write a dataset's train, val and test arrays, ``splits.json`` and ``manifest.json``.

    The result depends on the files and on the arguments other than ``threads``, byte for byte.

    Args:
        dataset: its row of the catalogue.
        raw: the folder that :func:`trap2.data.sources.download` made.
        folder: where to write; made if it does not exist.
        resolution: side of the prepared images in pixels.
        cars_train: ``proper`` or ``knots``; see :func:`trap2.data.splits.choose`.
        seed: of the splits that are drawn here.
        threads: how many images are decoded at once.
        log: called with a line from time to time.

    Returns:
        The manifest.

    Raises:
        FileError: the raw folder is incomplete, or a file in it is damaged or not what the
            catalogue says; the message names it.
        ValueError: a wrong argument.
    """
    if resolution < 1 or threads < 1:
        raise Trap2Error(f"resolution {resolution} and threads {threads} must be at least 1")
    raw, folder = Path(raw), Path(folder)
    origin = _origin(dataset, raw)
    original = read(dataset, origin["reader"], raw / "content")
    class_names = dataset.display_names(original.classes)
    selections = splits.choose(
        dataset,
        {name: part.labels for name, part in original.parts.items()},
        cars_train=cars_train,
        seed=seed,
    )
    facts = splits.describe(dataset, selections, cars_train=cars_train, seed=seed)
    _check_counts(dataset, selections, raw)
    (folder / "manifest.json").unlink(missing_ok=True)
    for split, selection in selections.items():
        part = original.parts[selection.part]
        label = f"{dataset.task} {split}"
        images = _preprocessed(part, selection.indices, resolution, threads, label, log)
        write_split(folder, split, images, part.labels[selection.indices])
    files.write_json(folder / "splits.json", facts)
    manifest = describe(
        folder,
        task=dataset.task,
        class_names=class_names,
        templates=list(dataset.templates),
        resolution=resolution,
        preprocessing=transforms.described(resolution),
        split={key: value for key, value in facts.items() if key not in ("splits", "task")},
        splits_sha256=files.sha256(folder / "splits.json"),
        source=origin,
        licence=dataset.licence,
        citation=dataset.citation,
        notes=[LEAK] if facts.get("cars_train") == "knots" else [],
    )
    files.write_json(folder / "manifest.json", manifest)
    return manifest


def _origin(dataset: Dataset, raw: Path) -> SourceRecord:
    marker = raw / "source.json"
    if not marker.exists():
        raise files.FileError(
            f"{raw}: no source.json, so the download is not complete; download {dataset.task} first"
        )
    origin = files.read_json(marker)
    if origin.get("task") != dataset.task:
        raise files.FileError(f"{raw}: holds '{origin.get('task')}', not '{dataset.task}'")
    found: SourceRecord = origin
    return found


def _check_counts(dataset: Dataset, selections: dict[str, splits.Selection], raw: Path) -> None:
    expected = dict(dataset.counts)
    if selections["train"].part == "test":
        expected["train"] = expected["val"] + expected["test"]
    found = {split: len(selection.indices) for split, selection in selections.items()}
    if found != expected:
        raise files.FileError(
            f"{dataset.task} ({raw}): the split gives {found} images, the catalogue expects "
            f"{expected}"
        )


def _preprocessed(
    part: Part, indices: np.ndarray, resolution: int, threads: int, label: str, log: Log
) -> Iterator[np.ndarray]:
    """The chosen images in order, ``threads`` at a time, with a progress line now and then."""

    def one(index: int) -> np.ndarray:
        try:
            return transforms.to_array(part.load(index), resolution)
        except files.FileError:
            raise
        except ValueError as error:
            raise files.FileError(f"{part.names[index]}: {error}") from None

    start = reported = time.monotonic()
    done = 0
    size = threads * IMAGES_A_THREAD
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(indices), size):
            batch = indices[first : first + size].tolist()
            yield from pool.map(one, batch)
            done += len(batch)
            now = time.monotonic()
            if now - reported >= REPORT_SECONDS or done == len(indices):
                reported = now
                rate = done / max(now - start, 1e-9)
                left = (len(indices) - done) / rate
                log(f"{label}: {done}/{len(indices)} images, {rate:.0f}/s, {left:.0f} s left")
