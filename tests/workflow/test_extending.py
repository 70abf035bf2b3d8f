"""The worked examples of docs/extending.md, applied to a copy of the project and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from clones import PROJECT, Clone, clone_to
from PIL import Image

PAGE = PROJECT / "docs" / "extending.md"
MOST_LINES = 15
CLASSES = ("daisy", "rose", "tulip")


@dataclass(frozen=True)
class Block:
    """One block of the page: what it adds, and where."""

    section: str
    path: str
    place: str
    lines: tuple[str, ...]

    @property
    def is_configuration(self) -> bool:
        return self.path.startswith("config/")

    def apply(self, folder: Path) -> None:
        file = folder / self.path
        lines = file.read_text("utf-8").splitlines()
        if self.place == "at the end":
            lines += ["", "", *self.lines]
        else:
            where, anchor = re.fullmatch(r"(below|in place of) `(.*)`", self.place).groups()
            found = [number for number, line in enumerate(lines) if line.startswith(anchor)]
            assert found, f"{self.path} has no line {anchor!r}"
            start = found[0] + (where == "below")
            lines[start : found[0] + 1] = self.lines
        file.write_text("\n".join(lines) + "\n", "utf-8")


def blocks() -> list[Block]:
    found = []
    for section in PAGE.read_text("utf-8").split("\n## ")[1:]:
        for text in re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.S):
            header, *lines = text.splitlines()
            path, place = header.removeprefix("# ").split(", ", 1)
            found.append(Block(section.splitlines()[0], path, place, tuple(lines)))
    return found


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Clone:
    made = clone_to(tmp_path_factory.mktemp("extended") / "clone")
    for block in blocks():
        block.apply(made.folder)
    return made


@pytest.fixture(scope="module")
def flowers(tmp_path_factory) -> Path:
    """A folder with a tiny flowers.zip."""
    folder = tmp_path_factory.mktemp("archives")
    with zipfile.ZipFile(folder / "flowers.zip", "w") as archive:
        for label, name in enumerate(CLASSES):
            for number in range(10):
                picture = folder / "picture.jpg"
                colour = (80 * label, 20 * number, 90)
                Image.new("RGB", (40, 30), colour).save(picture)
                archive.write(picture, f"flowers/{name}/{number}.jpg")
    return folder


def test_an_addition_takes_15_lines_of_code_and_one_of_configuration():
    sections = {block.section for block in blocks()}
    assert sections == {"A merging method", "A protection", "A backbone", "A dataset"}
    for section in sections:
        code = [b for b in blocks() if b.section == section and not b.is_configuration]
        settings = [b for b in blocks() if b.section == section and b.is_configuration]
        assert sum(bool(line) for block in code for line in block.lines) <= MOST_LINES
        assert settings
        assert all(len(block.lines) == 1 for block in settings)


def test_the_smoke_suite_gets_the_jobs_of_a_method_a_protection_and_a_backbone(extended):
    jobs = extended.dry_run()
    tasks, backbones = 3, 2
    assert jobs["pretrain_base"] == backbones
    assert jobs["finetune_unprotected"] == backbones * tasks
    assert jobs["protect_update"] == backbones * tasks
    # One merge of unprotected updates; each task protected by noise and by TRAP².
    assert jobs["merge_updates"] == backbones * (1 + 2 * tasks)


def test_the_paper_suite_gets_the_jobs_of_a_backbone_and_a_dataset(extended):
    jobs = Clone(extended.folder, ("suite=paper",)).dry_run("results/table1.csv")
    tasks, backbones = 9, 4
    assert jobs["download_dataset"] == tasks
    assert jobs["fetch_base"] == backbones
    assert jobs["prepare_data"] == 2 * tasks
    assert jobs["finetune_unprotected"] == backbones * tasks


def test_the_dataset_is_downloaded_and_prepared_by_its_rules(extended, flowers):
    target = "results/paper/data/flowers/224"
    settings = ("suite=paper", f"archives={flowers}")
    Clone(extended.folder, settings).run(f"{target}/manifest.json")
    manifest = json.loads((extended.folder / target / "manifest.json").read_text("utf-8"))
    assert manifest["class_names"] == list(CLASSES)
    assert {name: split["count"] for name, split in manifest["splits"].items()} == {
        "train": 15,
        "val": 6,
        "test": 9,
    }
    images = np.load(extended.folder / target / "test.images.npy")
    labels = np.load(extended.folder / target / "test.labels.npy")
    # JPEG keeps a flat colour to within a few levels.
    assert np.abs(images[:, 0].mean((1, 2)) - 80.0 * labels).max() < 5


PROGRAM = """
import torch, yaml
from trap2.models.clip.build import build_clip
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import blocks, lora_targets
from trap2.suites.checks import check_merging
from trap2.suites.load import load_suite
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import LoraUpdate
from trap2.merging.merger import Merger
from trap2.protection.post_hoc import protect_adapter
from trap2.updates.delta import LowRank
from pathlib import Path

torch.set_num_threads(1)
torch.manual_seed(0)
suite = load_suite("smoke", Path("config/suites"))
check_merging("smoke", suite)

updates = [{"layer": LowRank(torch.randn(6, 2), torch.randn(2, 5))} for _ in range(3)]
dense = torch.stack([update["layer"].dense() for update in updates])
merged = Merger(updates, "Full").merge("Median")["layer"]
torch.testing.assert_close(merged, 3 * dense.sort(0).values[1])
assert Merger(updates, "Core").merge("Median")["layer"].shape == (6, 5)

first, second = (
    protect_adapter("noise", updates[0], {}, {}, seed=0, task="shapes")["layer"] for _ in range(2)
)
assert torch.equal(first.B, second.B) and torch.equal(first.A, updates[0]["layer"].A)
noise = (first.B - updates[0]["layer"].B) / updates[0]["layer"].B.std()
assert 0.03 < float(noise.std()) < 0.3

tower = vision_tower(build_clip(suite["backbones"]["Swin-demo"]["architecture"]))
targets = lora_targets(tower)
assert len(targets) == 4 and len(blocks(tower)) == 2, targets
images = torch.randn(2, 3, 32, 32)
before = tower(images)
update = LoraUpdate(tower, targets, AdapterSettings(rank=2, dropout=0.0), seed=0)
for parameter in update.parameters():
    parameter.data.normal_()
with torch.no_grad():
    assert before.shape == (2, 64)
    torch.testing.assert_close(update.at(0.0)(images), before)
    assert not torch.allclose(update.at(1.0)(images), before)
"""


def test_the_method_the_protection_and_the_backbone_compute(extended):
    environment = os.environ | {"PYTHONPATH": str(extended.folder / "workflow" / "scripts")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=extended.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
