"""Hostile adapters: each is PEFT's ΔW, or refused with a file or key."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from random import Random

import harness
import hostile
import pytest
import torch
from peft import PeftModel
from torch import nn
from trap2.evaluation.handled import Subject, as_model
from trap2.evaluation.treatments import TREATMENTS
from trap2.merging.merger import Merger
from trap2.runtime import files
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import LowRank
from trap2.updates.hub_names import from_hugging_face, import_adapter
from trap2.updates.stored import load_update

PREFIX = "base_model.model."
KEYS = (
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias", "peft_type",
    "init_lora_weights", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out",
    "layer_replication", "lora_bias", "trainable_token_indices", "megatron_config", "use_qalora",
    "target_parameters", "task_type", "auto_mapping", "base_model_name_or_path", "a later key",
)  # fmt: skip


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.out_proj = nn.Linear(6, 4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out_proj(self.q_proj(x).relu())


def tower() -> Tower:
    torch.manual_seed(0)
    return Tower().requires_grad_(False)


SHAPES = {"q_proj": (4, 6), "out_proj": (5, 4)}


def adapter(folder: Path, random: Random, shapes: dict[str, tuple[int, int]]) -> None:
    """An adapter that may be right, with up to three things wrong with it."""
    rank, dora = random.randint(1, 4), random.random() < 0.2
    layers = random.sample(sorted(shapes), random.randint(1, len(shapes)))
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": random.choice([rank, 1, 7, 0.3]),
        "target_modules": layers,
        "use_rslora": random.random() < 0.3,
        "use_dora": dora,
    }
    torch.manual_seed(random.randrange(1 << 30))
    tensors = {}
    for layer in layers:
        out, width = shapes[layer]
        tensors[f"{PREFIX}{layer}.lora_A.weight"] = torch.randn(rank, width)
        tensors[f"{PREFIX}{layer}.lora_B.weight"] = torch.randn(out, rank)
        if dora:
            tensors[f"{PREFIX}{layer}.lora_magnitude_vector"] = torch.rand(out) + 0.5
    wrong = random.choice([0, 1, 1, 1, 2, 3])
    late = []
    for _ in range(wrong):
        kind = random.random()
        if kind < 0.5:
            config[random.choice(KEYS)] = random.choice(hostile.VALUES)
        elif kind < 0.8 and tensors:
            hostile.damage_tensors(tensors, random)
        else:
            late.append(random.choice(["adapter_model.safetensors", "adapter_config.json"]))
    folder.mkdir()
    hostile.write(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    for name in dict.fromkeys(late):
        hostile.damage_file(folder / name, random)


def merged_by_peft(folder: Path) -> dict[str, torch.Tensor]:
    # PEFT falls over keys that are null or empty, which are as good as absent, and over a task
    # type that it does not know, which changes nothing.
    path = folder / "adapter_config.json"
    set_ = {
        key: value for key, value in files.read_json(path).items() if value and key != "task_type"
    }
    path.write_text(json.dumps(set_), "utf-8")
    base = tower().double()
    with warnings.catch_warnings(action="ignore"):
        model = PeftModel.from_pretrained(base, str(folder), autocast_adapter_dtype=False)
        whole = dict(model.double().merge_and_unload().named_parameters())
    return {f"{n}.weight": whole[f"{n}.weight"] - getattr(tower(), n).weight for n in SHAPES}


@pytest.mark.parametrize("number", harness.numbers(350))
def test_an_adapter_is_pefts_or_refused(tmp_path, number):
    random = harness.generator("adapter", number)
    base = tmp_path / "tower.safetensors"
    files.write_tensors(base, dict(tower().named_parameters()))
    folder = tmp_path / "adapter"
    adapter(folder, random, SHAPES)

    def load() -> dict[str, torch.Tensor]:
        merged = Merger([load_update(folder, base)]).merge("TA")
        with AppliedUpdate(tower(), merged) as applied:
            applied.set(1.0)
        return merged

    found = harness.attempt(
        load, tmp_path, ["adapter_config.json", "adapter_model", str(folder), "layer"]
    )
    if isinstance(found, harness.Refused):
        return
    expected = merged_by_peft(folder)
    assert found.keys() <= expected.keys()
    for layer, delta in expected.items():
        ours = found.get(layer, torch.zeros_like(delta)).double()
        assert (ours - delta).norm() <= 1e-5 * max(delta.norm(), 0.1)


@pytest.mark.parametrize("number", harness.numbers(100))
def test_every_treatment_of_an_adapter_is_a_model_or_refused(tmp_path, number):
    random = harness.generator("treatment", number)
    base = tmp_path / "tower.safetensors"
    files.write_tensors(base, dict(tower().named_parameters()))
    folder = tmp_path / "adapter"
    adapter(folder, random, SHAPES)

    def handle() -> None:
        subject = Subject.of(tower(), load_update(folder, base), 4)
        for treatment in TREATMENTS.values():
            if subject.has_factors or not treatment.factors:
                output = as_model(subject.model, treatment.handle(subject))(torch.ones(2, 6))
                assert output.shape == (2, 5)

    harness.attempt(
        handle, tmp_path, ["adapter_config.json", "adapter_model", str(folder), "layer"]
    )


HUB = {
    f"{prefix}encoder.layers.{depth}.{layer}": shape
    for prefix in ("", "vision_model.")
    for depth, layer, shape in (
        (0, "self_attn.q_proj", (4, 4)),
        (1, "mlp.fc1", (8, 4)),
        (2, "self_attn.out_proj", (4, 4)),
    )
}


@pytest.mark.parametrize("number", harness.numbers(150))
def test_an_import_is_the_same_factors_under_other_names_or_refused(tmp_path, number):
    random = harness.generator("import", number)
    shapes = {n: s for n, s in HUB.items() if n.startswith(random.choice(["v", "e", ("v", "e")]))}
    folder = tmp_path / "hub"
    adapter(folder, random, shapes or HUB)
    names = ["adapter_config.json", "adapter_model", str(folder)]

    def convert() -> dict[str, LowRank]:
        before = load_update(folder, tmp_path / "no base")
        import_adapter(folder, tmp_path / "ours")
        return {from_hugging_face(n.removesuffix(".weight")): before[n] for n in before}

    before = harness.attempt(convert, tmp_path, [*names, "no base"])
    if isinstance(before, harness.Refused):
        assert not (tmp_path / "ours").exists()
        return
    after = load_update(tmp_path / "ours", tmp_path / "no base")
    assert {n.removesuffix(".weight") for n in after} == before.keys()
    for name, part in before.items():
        assert torch.equal(after[f"{name}.weight"].B, part.B)
        assert torch.equal(after[f"{name}.weight"].A, part.A)
