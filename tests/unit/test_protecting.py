"""One protection job on files, both release formats: what it writes and what it records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trap2.data.prepared import write_split
from trap2.models.clip.build import build_clip
from trap2.models.clip.heads import write_head
from trap2.models.clip.tower import load_tower, vision_tower
from trap2.models.layers import lora_targets
from trap2.protection.catalogue import NotApplicable
from trap2.protection.protect import protect
from trap2.runtime import files
from trap2.updates.delta import CheckpointUpdate, LowRank
from trap2.updates.key import UpdateKey
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.stored import load_update
from trap2.updates.trainable import FullUpdate

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    """A job's arguments: a tiny random tower, head and task, two unprotected updates."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    tower = vision_tower(build_clip(ARCHITECTURE))
    files.write_tensors(tmp_path / "tower.safetensors", tower.state_dict())
    head = torch.nn.functional.normalize(torch.randn(5, 12), dim=1)
    write_head(tmp_path / "head.safetensors", head, list("abcde"))
    folder = tmp_path / "data/shapes/16"
    for split in ("val", "test"):
        images = generator.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
        write_split(folder, split, images, generator.integers(0, 5, 40))
    update = LoraUpdate(tower, lora_targets(tower), AdapterSettings(rank=3), seed=0)
    for parameter in update.parameters():
        parameter.data.normal_(0, 0.1)
    update.save(tmp_path / "lora/unprotected")
    full = FullUpdate(vision_tower(build_clip(ARCHITECTURE)))
    full.save(tmp_path / "full/unprotected")
    for release_format in ("lora", "full"):
        files.write_json(
            tmp_path / release_format / "unprotected/update.json",
            {"release_format": release_format},
        )
    return {
        "model": str(tmp_path / "tower.safetensors"),
        "head": str(tmp_path / "head.safetensors"),
        "data": [str(path) for path in sorted(folder.iterdir())],
        "backbone": {"architecture": ARCHITECTURE},
        "logit_scale": 100.0,
        "batch_size": 16,
        "seed": 7,
        "device": torch.device("cpu"),
        "log": lambda _line: None,
    }


def run(job: dict[str, Any], root: Path, release_format: str, name: str, folder: str = "") -> Path:
    key = UpdateKey("s", "b", release_format, "shapes", name)
    target = root / release_format / (folder or name)
    source = root / release_format / "unprotected"
    protect(**job, source=source, folder=target, key=key)
    return target


@pytest.mark.parametrize("name", ["params", "mergelock"])
def test_a_protected_checkpoint_scores_like_the_unprotected_one(tmp_path, job, name):
    folder = run(job, tmp_path, "full", name)
    record = files.read_json(folder / "update.json")
    tower = load_tower(job["model"], job["backbone"], torch.device("cpu"))
    tower.load_state_dict(files.read_tensors(tmp_path / "full/unprotected/model.safetensors"))
    images = torch.randn(8, 3, 16, 16)
    expected = tower(images)
    protected = files.read_tensors(folder / "model.safetensors")
    tower.load_state_dict(protected)
    torch.testing.assert_close(tower(images), expected, rtol=1e-4, atol=1e-4)
    update = load_update(folder, job["model"])
    assert isinstance(update, CheckpointUpdate)
    assert set(update) == set(protected)
    assert record["unprotected"] == {"release_format": "full"}
    assert record["seed"] == 7
    assert record["val"]["count"] == record["test"]["count"] == 40


@pytest.mark.parametrize("name", ["params-adapter", "mergelock-refit"])
def test_a_protected_adapter_is_a_peft_adapter_of_the_same_rank(tmp_path, job, name):
    folder = run(job, tmp_path, "lora", name)
    update = load_update(folder, job["model"])
    plain = load_update(tmp_path / "lora/unprotected", job["model"])
    assert list(update) == list(plain)
    for layer in update:
        found, before = update[layer], plain[layer]
        assert isinstance(found, LowRank)
        assert isinstance(before, LowRank)
        assert found.rank == before.rank == 3
        assert found.B.dtype == torch.float32
        assert not torch.allclose(found.dense(), before.dense())
    record = files.read_json(folder / "update.json")
    assert record["title"] == {"params-adapter": "PaRaMS*", "mergelock-refit": "Merge-Lock†"}[name]
    assert record["protection"] == name
    assert {"parameters", "paper", "versions", "val", "test"} <= record.keys()


@pytest.mark.parametrize(("release_format", "name"), [("lora", "params-refit"), ("full", "params")])
def test_the_same_job_writes_the_same_bytes(tmp_path, job, release_format, name):
    first = run(job, tmp_path, release_format, name, "first")
    second = run(job, tmp_path, release_format, name, "second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_nothing_is_written_where_a_defense_does_not_apply(tmp_path, job):
    with pytest.raises(NotApplicable, match=r"PaRaMS \(params\) transforms whole checkpoints"):
        run(job, tmp_path, "lora", "params")
    assert not (tmp_path / "lora/params").exists()
