"""What ordinary use does to an update, against PEFT, PyTorch's own quantisation and numpy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from trap2.data.prepared import Split
from trap2.evaluation.handled import GROUP, Handled, Subject, as_model, quantised
from trap2.evaluation.handling import handle_update, handle_updates
from trap2.evaluation.tasks import Bench
from trap2.evaluation.treatments import TREATMENTS
from trap2.models.clip.classifier import Classifier
from trap2.runtime import files
from trap2.updates.adapters import write_adapter
from trap2.updates.delta import LowRank, UpdateError
from trap2.updates.stored import load_update
from trap2.updates.trainable import FullUpdate

RANK = 8
ADAPTED = {"fc1.weight": (40, 48), "fc2.weight": (6, 40)}


class Tower(nn.Module):
    """Linear layers with biases, a norm, and a convolution that no adapter touches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.fc1 = nn.Linear(48, 40)
        self.norm = nn.LayerNorm(40)
        self.fc2 = nn.Linear(40, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.fc1(self.conv(images).flatten(1))).tanh()
        return self.fc2(hidden)


@pytest.fixture
def tower() -> nn.Module:
    torch.manual_seed(0)
    return Tower().requires_grad_(False).eval()


@pytest.fixture
def update() -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: LowRank(
            torch.randn(o, RANK, generator=generator) / 4, torch.randn(RANK, i, generator=generator)
        )
        for name, (o, i) in ADAPTED.items()
    }


@pytest.fixture(autouse=True)
def base_unchanged(tower):
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    yield
    assert all(torch.equal(value, before[n]) for n, value in tower.state_dict().items())
    assert not any(module._forward_hooks for module in tower.modules())


def images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(2))


def treat(name: str, tower: nn.Module, update: Any, rank: int = RANK) -> Handled:
    return TREATMENTS[name].handle(Subject.of(tower, update, rank))


def weights(name: str, tower: nn.Module, update: Any) -> dict[str, np.ndarray]:
    """A treated model's weights in float64."""
    handled = treat(name, tower, update)
    every = dict(tower.state_dict()) | dict(handled.weights)
    return {key: value.double().numpy() for key, value in every.items()}


def base(tower: nn.Module) -> dict[str, np.ndarray]:
    return {key: value.double().numpy() for key, value in tower.state_dict().items()}


def products(update: dict[str, LowRank]) -> dict[str, np.ndarray]:
    return {key: part.B.double().numpy() @ part.A.double().numpy() for key, part in update.items()}


def assert_moved(found: dict[str, np.ndarray], tower: nn.Module, delta: dict[str, Any]) -> None:
    """The weights are W0 + delta, and W0 where there is none."""
    for key, origin in base(tower).items():
        expected = origin + delta.get(key, 0.0)
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=2e-6, err_msg=key)


def peft_model(folder: Path, tower: nn.Module) -> Any:
    from copy import deepcopy

    from peft import PeftModel

    return PeftModel.from_pretrained(deepcopy(tower), str(folder))


def test_merged_and_beside_the_base_are_what_peft_makes_of_the_adapter(tower, update, tmp_path):
    write_adapter(tmp_path, {key: (part.B, part.A) for key, part in update.items()})
    read = load_update(tmp_path, tmp_path / "none")
    beside = peft_model(tmp_path, tower)
    with torch.inference_mode():
        expected = beside(images())
        ours = as_model(tower, treat("unmerged", tower, read))(images())
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    merged = beside.merge_and_unload().state_dict()
    found = weights("as-released", tower, read)
    assert found.keys() == merged.keys()
    for key, value in merged.items():
        np.testing.assert_allclose(found[key], value.double().numpy(), rtol=0, atol=1e-6)
    # The adapter does something, so that these agreements are not of two zeros.
    assert not np.allclose(found["fc1.weight"], base(tower)["fc1.weight"], atol=0.1)


@pytest.mark.parametrize(("name", "dtype"), [("fp16", np.float16), ("bf16", None)])
def test_casts_of_the_merged_weights_and_of_the_factors(tower, update, name, dtype):
    def cast(array: np.ndarray) -> np.ndarray:
        if dtype is not None:
            return array.astype(np.float32).astype(dtype).astype(np.float64)
        # bfloat16: float32 with its lower 16 bits rounded away, half to even.
        bits = array.astype(np.float32).view(np.uint32).astype(np.uint64)
        kept = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
        return kept.astype(np.uint32).view(np.float32).astype(np.float64)

    merged = weights("as-released", tower, update)
    found = weights(f"merged-{name}", tower, update)
    for key, value in found.items():
        np.testing.assert_array_equal(value, cast(merged[key]), err_msg=key)
    delta = {k: cast(part.B.numpy()) @ cast(part.A.numpy()) for k, part in update.items()}
    assert_moved(weights(f"update-{name}", tower, update), tower, delta)
    assert np.abs(delta["fc1.weight"] - products(update)["fc1.weight"]).max() > 1e-4


def truncation(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ vt[:rank]


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        *(("extract-r", 8), ("extract-r-2", 4), ("extract-r-4", 2)),
        *(("rank-3-4", 6), ("rank-1-2", 4), ("rank-1-4", 2)),
    ],
)
def test_extraction_and_other_ranks_are_numpys_truncations(tower, update, name, rank):
    delta = {key: truncation(matrix, rank) for key, matrix in products(update).items()}
    assert_moved(weights(name, tower, update), tower, delta)


def checkpoint(tower: nn.Module, folder: Path) -> Any:
    """A whole checkpoint with every tensor moved, and its differences from W0."""
    from copy import deepcopy

    files.write_tensors(folder / "tower.safetensors", dict(tower.state_dict()))
    moved = deepcopy(tower)
    for number, parameter in enumerate(moved.parameters()):
        generator = torch.Generator().manual_seed(number)
        parameter.add_(torch.randn(parameter.shape, generator=generator) / 4)
    FullUpdate(moved).save(folder / "whole")
    return load_update(folder / "whole", folder / "tower.safetensors")


def test_a_checkpoint_is_extracted_without_its_vectors(tower, tmp_path):
    whole = checkpoint(tower, tmp_path)
    delta = {key: value.double().numpy() for key, value in whole.items()}
    assert_moved(weights("as-released", tower, whole), tower, delta)
    cut = {
        key: truncation(matrix.reshape(len(matrix), -1), 4).reshape(matrix.shape)
        for key, matrix in delta.items()
        if matrix.ndim > 1
    }
    assert set(cut) == {"conv.weight", "fc1.weight", "fc2.weight"}
    assert_moved(weights("extract-r-2", tower, whole), tower, cut)


def test_quantisation_in_8_bits_is_pytorchs_own_by_channel(tower):
    weight = tower.state_dict()["fc1.weight"]
    scale = weight.abs().amax(dim=1) / 127
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)
    torch.testing.assert_close(quantised(weight, 8), expected, rtol=0, atol=1e-6)
    assert (weight - expected).abs().max() > 1e-5


def test_quantisation_in_4_bits_is_pytorchs_own_by_group(tower):
    weight = tower.state_dict()["fc1.weight"]  # 48 inputs: a group of 32 and one of 16
    found = quantised(weight, 4)
    for start in range(0, 48, GROUP):
        part = weight[:, start : start + GROUP]
        scale = part.abs().amax(dim=1) / 7
        zeros = torch.zeros(len(scale), dtype=torch.int32)
        expected = torch.fake_quantize_per_channel_affine(part, scale, zeros, 0, -7, 7)
        torch.testing.assert_close(found[:, start : start + GROUP], expected, rtol=0, atol=1e-6)


def test_quantisation_of_a_row_of_zeros_is_zero_and_levels_are_few():
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    weight[1] = 0
    assert not quantised(weight, 4)[1].any()
    assert not quantised(weight, 8)[1].any()
    assert len(quantised(weight, 4)[0, :GROUP].unique()) <= 15


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_quantised_of_base_update_and_merged_model(tower, update, bits):
    before, delta = base(tower), products(update)

    def rule(array: np.ndarray) -> np.ndarray:
        top, size = (127, array.shape[1]) if bits == 8 else (7, GROUP)
        parts = []
        for start in range(0, array.shape[1], size):
            part = array[:, start : start + size]
            scale = np.abs(part).max(axis=1, keepdims=True) / top
            parts.append(np.clip(np.rint(part / scale), -top, top) * scale)
        return np.concatenate(parts, axis=1)

    step = {8: 2e-3, 4: 5e-2}[bits]
    found = weights(f"base-int{bits}", tower, update)
    for key in ADAPTED:
        np.testing.assert_allclose(found[key], rule(before[key]) + delta[key], atol=1e-5)
        assert 1e-5 < np.abs(found[key] - before[key] - delta[key]).max() < step
    found = weights(f"update-int{bits}", tower, update)
    for key, part in update.items():
        expected = rule(part.B.double().numpy()) @ rule(part.A.double().numpy())
        np.testing.assert_allclose(found[key], before[key] + expected, atol=1e-5)
    found = weights(f"merged-int{bits}", tower, update)
    for key in before:
        if key in ADAPTED:
            # A float32 sum that lies on the edge of two levels may fall to the other one.
            different = np.abs(found[key] - rule(before[key] + delta[key])) > 1e-5
            assert different.mean() < 1e-2
        else:
            np.testing.assert_array_equal(found[key], before[key])


@pytest.mark.parametrize(
    ("name", "weight"),
    [("weight-0-90", 0.9), ("weight-0-95", 0.95), ("weight-1-05", 1.05), ("weight-1-10", 1.1)],
)
def test_an_adapters_weight_scales_its_delta(tower, update, name, weight):
    delta = {key: weight * matrix for key, matrix in products(update).items()}
    assert_moved(weights(name, tower, update), tower, delta)


def test_a_whole_forward_pass_in_another_precision(tower, update):
    from copy import deepcopy

    moved = deepcopy(tower).double()
    for key, matrix in products(update).items():
        moved.get_parameter(key).add_(torch.from_numpy(matrix))
    expected = moved(images().double())
    errors = {}
    for name in ("float64", "as-released", "compute-bf16", "compute-fp16"):
        handled = treat(name, tower, update)
        output = as_model(tower, handled)(images())
        assert output.dtype == torch.float32
        errors[name] = float((output.double() - expected).abs().max())
    # float64 up to W0 + ΔW and the result in float32, then as many bits as each has.
    assert errors["float64"] < 2e-6
    assert errors["as-released"] < 1e-5
    assert 1e-5 < errors["compute-fp16"] < errors["compute-bf16"] < 0.2


def classifier(seed: int) -> Classifier:
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 256, (32, 3, 4, 4), dtype=np.uint8)
    head = F.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)), dim=1)
    part = Split(pictures, generator.integers(0, 3, 32))
    return Classifier({"test": part}, head, 10.0, 16, torch.device("cpu"))


def test_every_treatment_is_scored_and_what_does_not_apply_has_a_reason(tower, update, tmp_path):
    task = classifier(0)
    scores, reasons = handle_update(Subject.of(tower, update, 1), task, "test", TREATMENTS)
    assert list(scores) == list(TREATMENTS)
    assert reasons == {}
    expected = peft_score(tower, update, task)
    assert scores["as-released"]["correct"] == expected[0]
    assert scores["as-released"]["loss"] == pytest.approx(expected[1], rel=1e-5)
    whole = checkpoint(tower, tmp_path)
    scores, reasons = handle_update(Subject.of(tower, whole, 4), task, "test", TREATMENTS)
    missing = {name for name, score in scores.items() if score is None}
    assert missing == set(reasons) == {n for n, entry in TREATMENTS.items() if entry.factors}
    assert "base-int8" in missing
    assert "merged-int8" not in missing


def peft_score(tower: nn.Module, update: Any, task: Classifier) -> tuple[int, float]:
    """Right answers and mean loss by plain arithmetic in float64."""
    from copy import deepcopy

    from trap2.models.clip.tower import normalise

    moved = deepcopy(tower).double()
    for key, matrix in products(update).items():
        moved.get_parameter(key).add_(torch.from_numpy(matrix))
    split = task.splits["test"]
    cosines = F.normalize(moved(normalise(torch.from_numpy(split.images)).double()), dim=1)
    logits = 10.0 * cosines @ task.head.double().T
    labels = torch.from_numpy(split.labels)
    return int((logits.argmax(1) == labels).sum()), float(F.cross_entropy(logits, labels))


def test_a_model_that_a_treatment_makes_nan_has_a_reason_and_no_score(tower, update):
    update["fc1.weight"] = LowRank(update["fc1.weight"].B * 1e9, update["fc1.weight"].A)
    names = ["as-released", "merged-fp16"]
    scores, reasons = handle_update(Subject.of(tower, update, 1), classifier(0), "test", names)
    assert math.isfinite(scores["as-released"]["loss"])
    assert scores["merged-fp16"] is None
    assert "NaN or infinity" in reasons["merged-fp16"]


def test_an_update_of_another_model_is_refused(tower, update):
    update["fc1.weight"] = LowRank(torch.zeros(9, 2), torch.zeros(2, 48))
    with pytest.raises(UpdateError, match="belongs to another base"):
        Subject.of(tower, update, 1)
    update["fc1.weight"] = LowRank(torch.full((40, 2), 1e25), torch.full((2, 48), 1e25))
    with pytest.raises(UpdateError, match="too large"):
        Subject.of(tower, update, 1)
    with pytest.raises(UpdateError, match="NaN or infinity"):
        Subject.of(tower, {"fc1.weight": torch.full((40, 48), math.nan)}, 1)


def test_a_job_handles_every_tasks_update(tower, update, tmp_path):
    bench = Bench(tower, {"b": classifier(1), "a": classifier(2)}, Any)
    paths = []
    for task, factor in (("a", 1.0), ("b", 2.0)):
        folder = tmp_path / task / "trap2"
        write_adapter(folder, {key: (factor * p.B, p.A) for key, p in update.items()})
        paths += [str(path) for path in sorted(folder.iterdir())]
    lines: list[str] = []
    scores, reasons = handle_updates(bench, paths, tmp_path / "none", rank=3, log=lines.append)
    assert list(scores) == ["b", "a"]
    assert reasons == {}
    assert len(lines) == 2
    for task, factor in (("a", 1.0), ("b", 2.0)):
        own = {key: LowRank(factor * part.B, part.A) for key, part in update.items()}
        correct, loss = peft_score(tower, own, bench.tasks[task])
        assert scores[task]["as-released"]["correct"] == correct
        assert scores[task]["as-released"]["loss"] == pytest.approx(loss, rel=1e-5)
