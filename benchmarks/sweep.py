"""Validation images that the search of a coefficient takes: counts, not times."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from figures import Figure
from networks import DEMO
from trap2.data.demo.prepare import prepare_demo
from trap2.evaluation.cells import search_cell
from trap2.evaluation.tasks import Scorer, reference_accuracy
from trap2.merging.merger import Merger
from trap2.merging.settings import Search
from trap2.models.clip.classifier import open_classifier
from trap2.models.clip.tower import load_tower
from trap2.updates.stored import load_updates

LIMIT = 0.65
RELEASED = Path("data/demo")
CPU = torch.device("cpu")


def figures(everything: bool) -> Iterator[Figure]:
    """On the demo's released updates: one protected task a backbone, or all of them and none."""
    if not RELEASED.exists():
        raise SystemExit("the demo's released updates are needed: run .venv/bin/dvc pull")
    suite = yaml.safe_load(Path(DEMO).read_text("utf-8"))
    with tempfile.TemporaryDirectory() as name:
        data = _prepare(Path(name), suite)
        for backbone, settings in suite["backbones"].items():
            tasks = list(suite["tasks"])
            scorer = _scorer(backbone, settings, tasks, data, suite["logit_scale"])
            taken = plain = cells = 0
            for protected in [*tasks, "none"] if everything else tasks[:1]:
                for images in _search(suite, scorer, backbone, tasks, protected):
                    taken, plain = taken + images["validated"], plain + images["plain"]
                    cells += 1
            note = f"{taken} of {plain} images in {cells} cells"
            what = f"validation images / every image at every coefficient, {backbone}"
            yield Figure("sweep", what, taken / plain, LIMIT, note)


def _prepare(folder: Path, suite: dict[str, Any]) -> list[str]:
    for task in suite["tasks"]:
        prepare_demo(task, {"train": 1, "val": 100, "test": 1}, 32, 0, folder / task / "32")
    return [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def _scorer(
    backbone: str, settings: dict[str, Any], tasks: list[str], data: list[str], scale: float
) -> Scorer:
    folder = RELEASED / backbone
    opened = {
        task: open_classifier(
            folder / "heads" / f"{task}.safetensors",
            data,
            task,
            ("val", "test"),
            logit_scale=scale,
            batch_size=256,
            device=CPU,
        )
        for task in tasks
    }
    references = (f"{folder}/lora/{task}/unprotected/update.json" for task in tasks)
    model = load_tower(str(folder / "tower.safetensors"), settings, CPU)
    return Scorer(model, opened, dict(map(reference_accuracy, references)))


def _search(
    suite: dict[str, Any], scorer: Scorer, backbone: str, tasks: list[str], protected: str
) -> Iterator[dict[str, int]]:
    folder = RELEASED / backbone
    names = ("adapter_model.safetensors", "adapter_config.json", "update.json")
    protections = {t: "trap2" if t == protected else "unprotected" for t in tasks}
    paths = [f"{folder}/lora/{t}/{p}/{name}" for t, p in protections.items() for name in names]
    updates = load_updates(paths, str(folder / "tower.safetensors"))
    search = Search(**suite["merging"]["search"])
    for method, spaces in suite["merging"]["methods"].items():
        for space in spaces:
            cell = search_cell(scorer, Merger(list(updates), space), method, {}, search)
            yield dict(cell["images"])
