"""Hostile whole checkpoints, bases and records: W − W0 in float64, or refused with a file."""

from __future__ import annotations

import json

import harness
import hostile
import pytest
import torch
from trap2.evaluation.tasks import reference_accuracy
from trap2.merging.merger import Merger
from trap2.models.clip.heads import read_head
from trap2.runtime import files
from trap2.updates.stored import load_update

SHAPES = {
    "conv1.weight": (4, 3, 2, 2),
    "blocks.0.fc.weight": (6, 4),
    "ln.bias": (5,),
    "proj": (3, 4),
}


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    buffers = {"position_ids": torch.arange(5), "bn.num_batches_tracked": torch.tensor(seed)}
    return {name: torch.randn(shape) for name, shape in SHAPES.items()} | buffers


@pytest.mark.parametrize("number", harness.numbers(250))
def test_a_checkpoint_is_the_difference_or_refused(tmp_path, number):
    random = harness.generator("checkpoint", number)
    base, folder = tmp_path / "tower.safetensors", tmp_path / "tuned"
    folder.mkdir()
    tensors = {base: weights(0), folder / "model.safetensors": weights(1)}
    late = []
    for _ in range(random.choice([0, 1, 1, 1, 2])):
        path = random.choice([base, *[folder / "model.safetensors"] * 3])
        if random.random() < 0.6:
            hostile.damage_tensors(tensors[path], random)
        else:
            late.append(path)
    for path, content in tensors.items():
        hostile.write(path, content)
    for path in dict.fromkeys(late):
        hostile.damage_file(path, random)
    if random.random() < 0.2:
        record = {"base_sha256": random.choice(hostile.VALUES), "task": "x"}
        (folder / "update.json").write_text(json.dumps(record), "utf-8")

    def load() -> dict[str, torch.Tensor]:
        return Merger([load_update(folder, base)]).merge("TA")

    found = harness.attempt(load, tmp_path, [base.name, "model.safetensors", "layer", str(folder)])
    if isinstance(found, harness.Refused):
        return
    own, tuned = (files.read_tensors(path) for path in tensors)
    counted = {name for name in tuned if tuned[name].is_floating_point()}
    assert found.keys() == counted == {name for name in own if own[name].is_floating_point()}
    for name, delta in found.items():
        expected = tuned[name].double() - own[name].double()
        assert (delta - expected).norm() <= 1e-6 * max(expected.norm(), tuned[name].double().norm())


@pytest.mark.parametrize("number", harness.numbers(50))
def test_a_head_is_finite_or_refused(tmp_path, number):
    random = harness.generator("head", number)
    tensors = {"head": torch.ones(3, 4)}
    if random.random() < 0.7:
        hostile.damage_tensors(tensors, random)
    path = tmp_path / "pets.safetensors"
    hostile.write(path, tensors)
    if random.random() < 0.3:
        hostile.damage_file(path, random)
    head = harness.attempt(lambda: read_head(path), tmp_path, [path.name])
    if not isinstance(head, harness.Refused):
        assert head.dtype == torch.float32
        assert head.isfinite().all()
        assert head.ndim == 2


@pytest.mark.parametrize("number", harness.numbers(60))
def test_a_reference_is_a_number_to_divide_by_or_refused(tmp_path, number):
    random = harness.generator("record", number)
    value = random.choice(hostile.VALUES)
    record = {"task": "pets", "val": {"accuracy": 25.0}}
    match random.randrange(4):
        case 0:
            record["val"] = value
        case 1:
            record["val"]["accuracy"] = value
        case 2:
            record["task"] = value
        case _:
            record = value
    path = tmp_path / "update.json"
    path.write_text(json.dumps(record), "utf-8")
    if random.random() < 0.3:
        hostile.damage_file(path, random)
    found = harness.attempt(lambda: reference_accuracy(str(path)), tmp_path, [path.name])
    if not isinstance(found, harness.Refused):
        task, accuracy = found
        assert isinstance(task, str)
        assert 0 < accuracy <= 100
