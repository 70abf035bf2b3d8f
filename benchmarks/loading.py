"""Images a second to one core: prepared arrays against decoding JPEGs with torchvision.

    python benchmarks/loading.py [--output loading.json]

Both ways deliver the same uint8 batches (n, 3, R, R), in one random order.  The plain way opens
JPEG files of photograph size with torchvision's image folder and transforms; the prepared way maps
the arrays of :mod:`trap2.data.prepared`, decoded and cropped once.  The bar is on that step.  The
second pair of figures adds CLIP's normalisation to float32, the same for both ways: a GPU does it
itself, and on one core it costs more than mapping the images.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figure
from PIL import Image
from torchvision import datasets, transforms
from trap2.data.prepared import open_split, write_split
from trap2.data.transforms import to_array
from trap2.models.clip.tower import normalise
from trap2.runtime import files, seeding

BATCH = 64
BAR = 20.0


def write_photographs(folder: Path, count: int, width: int, height: int) -> None:
    """JPEGs with the detail of photographs: smooth shapes and a little grain."""
    (folder / "only").mkdir(parents=True)
    for index in range(count):
        generator = seeding.numpy_generator(0, "photograph", str(index))
        coarse = generator.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = generator.normal(0.0, 6.0, (height, width, 1))
        pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "only" / f"{index:05d}.jpg", quality=90)


def rate(produce: Callable[[np.ndarray], Any], order: np.ndarray, seconds: float) -> float:
    """Images a second of ``produce`` over batches in ``order``, again and again for so long."""
    batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    produce(batches[0])
    done, start = 0, time.perf_counter()
    while True:
        for batch in batches:
            produce(batch)
            done += len(batch)
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                return done / elapsed


def measure(
    folder: Path, count: int, size: tuple[int, int], resolution: int, seconds: float
) -> dict[str, Any]:
    """Write the photographs, prepare them, and time both ways."""
    write_photographs(folder / "jpeg", count, *size)
    jpegs = datasets.ImageFolder(str(folder / "jpeg"))
    write_split(
        folder / "prepared",
        "train",
        (to_array(jpegs[index][0], resolution) for index in range(count)),
        np.zeros(count, dtype=np.int64),
    )
    prepared = open_split(folder / "prepared", "train").images
    cut = transforms.Compose(
        [
            transforms.Resize(resolution, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(resolution),
            transforms.PILToTensor(),
        ]
    )
    order = seeding.numpy_generator(0, "order").permutation(count)

    def decode(batch: np.ndarray) -> torch.Tensor:
        return torch.stack([cut(jpegs[int(index)][0]) for index in batch])

    def take(batch: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(prepared[batch])

    ways = {"jpeg": decode, "prepared": take}
    for batch in (order[:BATCH], order[-BATCH:]):
        assert torch.equal(decode(batch), take(batch)), "the two ways give different pixels"
    pixels = {name: rate(way, order, seconds) for name, way in ways.items()}
    floats = {
        name: rate(lambda batch, way=way: normalise(way(batch)), order, seconds)  # type: ignore[misc]
        for name, way in ways.items()
    }
    return {
        "images": count,
        "jpeg_size": list(size),
        "resolution": resolution,
        "threads": torch.get_num_threads(),
        "uint8_images_per_second": {name: round(value, 1) for name, value in pixels.items()},
        "float_images_per_second": {name: round(value, 1) for name, value in floats.items()},
        "uint8_speedup": round(pixels["prepared"] / pixels["jpeg"], 1),
        "float_speedup": round(floats["prepared"] / floats["jpeg"], 1),
    }


def figures(everything: bool) -> Iterator[Figure]:
    """Prepared arrays against JPEGs, as uint8."""
    with tempfile.TemporaryDirectory() as folder:
        count, seconds = (512, 5.0) if everything else (128, 1.0)
        found = measure(Path(folder), count, (500, 375), 224, seconds)
    rates = found["uint8_images_per_second"]
    yield Figure(
        *("loading", "prepared arrays / decoding JPEGs", rates["jpeg"] / rates["prepared"]),
        *(1 / BAR, f"{rates['prepared']:.0f} and {rates['jpeg']:.0f} images a second"),
    )


def main() -> None:
    """Run the benchmark and print or write its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each of four runs")
    parser.add_argument("--output", type=Path, help="write the JSON here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        result = measure(
            Path(folder),
            arguments.images,
            (arguments.width, arguments.height),
            arguments.resolution,
            arguments.seconds,
        )
    result["bar"] = BAR
    result["meets_bar"] = result["uint8_speedup"] >= BAR
    print(json.dumps(result, indent=2))
    if arguments.output:
        files.write_json(arguments.output, result)


if __name__ == "__main__":
    main()
