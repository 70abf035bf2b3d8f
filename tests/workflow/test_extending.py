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
    """One block of the page: what it adds, and where; no place is a file of its own."""

    section: str
    path: str
    place: str
    lines: tuple[str, ...]

    @property
    def is_configuration(self) -> bool:
        return self.path.startswith("config/")

    def apply(self, folder: Path) -> None:
        file = folder / self.path
        if not self.place:
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join(self.lines) + "\n", "utf-8")
            return
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
    for section in PAGE.read_text("utf-8").split("\n## "):
        for text in re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.S):
            header, *lines = text.splitlines()
            path, _, place = header.removeprefix("# ").partition(", ")
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
    sections = {block.section for block in blocks()} - {"# Extending"}
    assert sections == {
        "A merging method",
        "A merger with data",
        "A protection",
        "A trained protection",
        "A backbone",
        "A dataset",
    }
    for section in sections:
        code = [b for b in blocks() if b.section == section and not b.is_configuration]
        settings = [b for b in blocks() if b.section == section and b.is_configuration]
        # A dataset's row is in a file beside its reader's.
        for file in code:
            assert sum(map(bool, file.lines)) <= MOST_LINES, file.path
        assert settings
        assert all(len(block.lines) == 1 for block in settings)


def test_the_smoke_suite_gets_the_jobs_of_a_method_a_protection_and_a_backbone(extended):
    jobs = extended.dry_run()
    tasks, backbones = 3, 2
    assert jobs["pretrain_base"] == backbones
    assert jobs["finetune_unprotected"] == backbones * tasks
    assert jobs["protect_update"] == backbones * tasks
    assert jobs["finetune_protected"] == jobs["select_lambda"] == 2 * backbones * tasks
    # One merge of unprotected updates; each task protected by noise, by half and by TRAP².
    assert jobs["merge_updates"] == backbones * (1 + 3 * tasks)


def only(folder: Path, section: str) -> None:
    """Make one section's addition, and name its plugin."""
    for block in blocks():
        if block.section == section:
            block.apply(folder)
            if not block.is_configuration:
                config = folder / "config/config.yaml"
                text = config.read_text("utf-8")
                config.write_text(f"{text}\nplugins: [{block.path}]\n", "utf-8")


def test_a_new_method_in_a_plugin_makes_its_cells_and_the_tables(edited):
    only(edited.folder, "A merging method")
    assert edited.dry_run() == {
        "merge_updates": 1 + 3,
        "make_table": 1,
        "collect_cells": 1,
        "summarise_results": 1,
        "publish": 4,
        "collect_manifest": 1,
    }
    file = edited.folder / "results/smoke/ViT-demo/lora/merges/trap2/shapes.json"
    before = json.loads(file.read_text("utf-8"))["cells"]
    edited.run(str(file.relative_to(edited.folder)))
    after = json.loads(file.read_text("utf-8"))["cells"]
    assert {name for name in after if name not in before} == {"Median-Full", "Median-Core"}
    # The seconds that a cell took are among what is equal: none was computed again.
    assert {name: after[name] for name in before} == before
    plugin = edited.folder / "mine/median.py"
    plugin.write_text(plugin.read_text("utf-8").replace("median(0).values", "mean(0)"), "utf-8")
    edited.run(str(file.relative_to(edited.folder)))
    again = json.loads(file.read_text("utf-8"))["cells"]
    assert {name: again[name] for name in before} == before
    assert again["Median-Full"]["key"] != after["Median-Full"]["key"]


def test_a_new_post_hoc_protection_in_a_plugin_makes_its_updates_cells_and_the_tables(edited):
    only(edited.folder, "A protection")
    assert edited.dry_run() == {
        "protect_update": 3,
        "merge_updates": 3,
        "make_table": 2,
        "collect_cells": 1,
        "summarise_results": 1,
        "publish": 5,
        "collect_manifest": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file mine/median.py"),
        ("import nothing_like_it\n", "mine/median.py, line 1: No module named"),
        (
            "from trap2.merging.catalogue import METHODS\nMETHODS.add(METHODS['TIES'])\n",
            "mine/median.py, line 2: the name 'TIES' of a merging method is taken",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_ends_the_run(clone, text, message):
    (clone.folder / "mine").mkdir()
    if text is not None:
        (clone.folder / "mine/median.py").write_text(text)
    run = clone.snakemake("-n", "--config", "suite=smoke", "plugins=[mine/median.py]")
    assert run.code != 0
    assert message in run.output
    assert "Traceback" not in run.output


def test_the_paper_suite_gets_the_jobs_of_a_backbone_and_a_dataset(extended):
    jobs = Clone(extended.folder, ("suite=paper",)).dry_run("results/table1.csv")
    tasks, backbones = 9, 4
    assert jobs["download_dataset"] == tasks
    assert jobs["fetch_base"] == backbones
    assert jobs["prepare_data"] == 2 * tasks
    assert jobs["finetune_unprotected"] == backbones * tasks


def test_no_example_edits_a_file_of_the_project_but_its_configuration():
    for block in blocks():
        assert block.is_configuration or (block.path.startswith("mine/") and not block.place)


@pytest.fixture(scope="module")
def prepared(extended, flowers) -> tuple[Clone, str]:
    """The extended project with the flowers prepared, and the name of their manifest."""
    target = "results/paper/data/flowers/224/manifest.json"
    clone = Clone(extended.folder, ("suite=paper", f"archives={flowers}"))
    clone.run(target)
    return clone, target


def test_the_dataset_is_downloaded_and_prepared_by_its_rules(prepared):
    clone, target = prepared
    manifest = json.loads((clone.folder / target).read_text("utf-8"))
    folder = (clone.folder / target).parent
    assert manifest["class_names"] == list(CLASSES)
    assert {name: split["count"] for name, split in manifest["splits"].items()} == {
        "train": 15,
        "val": 6,
        "test": 9,
    }
    images = np.load(folder / "test.images.npy")
    labels = np.load(folder / "test.labels.npy")
    # JPEG keeps a flat colour to within a few levels.
    assert np.abs(images[:, 0].mean((1, 2)) - 80.0 * labels).max() < 5


@pytest.mark.parametrize(
    ("file", "old", "new", "jobs"),
    [
        ("mine/flowers.py", "A folder of JPEG", "A folder of many JPEG", {}),
        ("mine/flowers.py", '".jpg"', '".jpeg"', {"prepare_data": 1}),
        ("mine/datasets.yaml", "flowers:", "roses: {}\n# and\nflowers:", None),
        ("mine/datasets.yaml", "licence: CC0", "licence: MIT", {"prepare_data": 1}),
        (
            "mine/datasets.yaml",
            "example.org/flowers.zip",
            "example.org/two.zip",
            {"download_dataset": 1, "prepare_data": 1},
        ),
    ],
)
def test_an_edited_row_or_reader_runs_what_uses_it(prepared, file, old, new, jobs):
    clone, target = prepared
    path = clone.folder / file
    text = path.read_text("utf-8")
    clone.edit(file, old, new)
    try:
        if jobs is None:
            run = clone.snakemake("-n", target, "--config", *clone.settings)
            assert run.code != 0
            assert "catalogue: mine/datasets.yaml: roses: 'sources'" in run.output
            assert "Traceback" not in run.output
        else:
            assert clone.dry_run(target) == jobs
    finally:
        path.write_text(text, "utf-8")


PROGRAM = """
import torch, yaml
from trap2.models.clip.build import build_clip
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import blocks, lora_targets
from trap2.suites.checks import check_merging
from trap2.suites.load import load_suite
from trap2.updates.settings import AdapterSettings
from trap2.updates.lora import LoraUpdate
from trap2.merging.merger import Merger
from trap2.protection.post_hoc import protect_adapter
from trap2.updates.delta import LowRank
from pathlib import Path

from trap2.runtime import plugins
from trap2.merging.catalogue import METHODS
from trap2.merging.sample import Sample
from trap2.protection.catalogue import objective_of

torch.set_num_threads(1)
torch.manual_seed(0)
plugins.load(yaml.safe_load(Path("config/config.yaml").read_text())["plugins"])
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

model = torch.nn.Linear(5, 6, bias=False)
inputs, scales = [[torch.randn(4, 5)] for _ in updates], (0.0, 1.0, 1e6)
sample = Sample(model, [], inputs, [lambda x, k=k: k * x for k in scales])
found = METHODS["Confident"].with_data(sample, updates, {})
assert found.coefficients["layer"][0] == 1 / 6 and found.coefficients["layer"][2] == 1
wanted = sum(c * u["layer"].dense() for c, u in zip(found.coefficients["layer"], updates))
torch.testing.assert_close(found.merged["layer"], wanted)

weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
half = objective_of("half", 0.2, {})
losses = half.accumulate_gradient(lambda s: (s * weight - 1) ** 2, half.draw(None), 1.0)
assert abs(float(weight.grad) - (2 * (0.3 - 1) - 0.2 * 2 * 0.5 * (0.15 - 1))) < 1e-12

tower = vision_tower(build_clip(suite.backbones["Swin-demo"].architecture))
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
