"""Preparing a demo task: rendering its splits into a prepared folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trap2.data.demo.canvas import SIZE
from trap2.data.demo.tasks import TASKS, render
from trap2.data.prepared import SPLITS, describe, write_split
from trap2.data.records import TaskManifest
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error


def prepare_demo(
    task: str, counts: Mapping[str, int], resolution: int, seed: int, folder: str | Path
) -> TaskManifest:
    """Render the shifted images of all three splits and describe them.

    ``splits.json`` says which renderings were made: image i of a part depends on the task, the
    part, the seed and i alone.

    Args:
        task: a key of :data:`trap2.data.demo.tasks.TASKS`.
        counts: images of each split.
        resolution: side of the images in pixels; the demo's are 32.
        seed: the configuration's seed.
        folder: where to write.

    Returns:
        The manifest, which is also written as ``manifest.json``.

    Raises:
        ValueError: another resolution.
    """
    if resolution != SIZE:
        raise Trap2Error(
            f"the demo's images are {SIZE} px wide, the backbone wants {resolution}; set its "
            f"resolution to {SIZE}"
        )
    for split in SPLITS:
        images, labels = render(task, split, counts[split], seed, shifted=True)
        write_split(folder, split, iter(images), labels)
    splits = {split: {"part": split, "indices": list(range(counts[split]))} for split in SPLITS}
    facts = {"task": task, "rule": "rendered", "seed": seed, "splits": splits}
    files.write_json(Path(folder) / "splits.json", facts)
    manifest = describe(
        folder,
        task=task,
        class_names=list(TASKS[task].class_names),
        templates=list(TASKS[task].templates),
        source="demo",
        resolution=resolution,
        # Painted at their size: nothing is resized or cropped.
        preprocessing={"size": resolution},
        seed=seed,
    )
    files.write_json(Path(folder) / "manifest.json", manifest)
    return manifest
