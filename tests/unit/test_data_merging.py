"""RegMean, Chain of Merges and AdaMerging: golden outputs, and models with real structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from trap2.merging.adamerging import adamerge, adamerging_objective, combined_weights
from trap2.merging.regression import (
    damp_off_diagonal,
    gram_matrix,
    merge_with_inputs,
    record_inputs,
    regmean,
    shared_inputs,
)
from trap2.updates.delta import LowRank, UpdateError

GOLDEN = Path(__file__).parents[1] / "golden"
ENTRIES = {e["operator"]: e for e in json.loads((GOLDEN / "manifest.json").read_text())["files"]}


def golden(operator: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / ENTRIES[operator]["file"], allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def low_rank(arrays: dict[str, torch.Tensor], layer: str) -> list[LowRank]:
    return [LowRank(arrays[f"B_{layer}"][i], arrays[f"A_{layer}"][i]) for i in range(3)]


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("config", sorted(ENTRIES["regmean"]["configs"]))
def test_regmean_golden(config: str, per_row: bool) -> None:
    arrays = golden("regmean")
    settings = ENTRIES["regmean"]["configs"][config]
    alpha = settings.get("reduce_non_diag", settings.get("reduce_non_diagonal_ratio"))
    for layer in ("attn", "mlp"):
        grams = [gram_matrix(arrays[f"X_{layer}_{i}"], per_row=per_row) for i in range(3)]
        merged = regmean(low_rank(arrays, layer), grams, off_diagonal=alpha)
        tolerance = ENTRIES["regmean"]["tolerance"]
        torch.testing.assert_close(merged, arrays[f"out__{config}__{layer}"], **tolerance)


def test_gram_matrix_by_hand() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0], [2.0, 0.0]]).view(2, 2, 2)
    total = torch.tensor([[14.0, -1.0], [-1.0, 6.0]], dtype=torch.double)
    assert torch.equal(gram_matrix(rows, per_row=False), total)
    assert torch.equal(gram_matrix(rows), total / 4)


def test_rows_weight_the_tasks_only_without_per_row() -> None:
    """A task's inputs given twice change nothing when each Gram matrix is divided by its rows."""
    model, targets, inputs, updates, _ = golden_chain()
    repeated = [inputs[0] * 2, *inputs[1:]]
    for chain in (True, False):
        once, twice = (
            merge_with_inputs(model, targets, x, updates, chain=chain).merged["0.weight"]
            for x in (inputs, repeated)
        )
        torch.testing.assert_close(once, twice)
        counted = merge_with_inputs(
            model, targets, repeated, updates, chain=chain, per_row=False
        ).merged["0.weight"]
        assert (once - counted).abs().max() > 1e-3


def test_regmean_float32_inputs() -> None:
    """float32 activations and factors: 1e-5 of the largest entry."""
    arrays = {name: value.float() for name, value in golden("regmean").items()}
    for layer in ("attn", "mlp"):
        grams = [gram_matrix(arrays[f"X_{layer}_{i}"]) for i in range(3)]
        merged = regmean(low_rank(arrays, layer), grams)
        reference = arrays[f"out__bloomberg_a1__{layer}"]
        assert (merged - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_regmean_minimises_its_objective() -> None:
    """Any other ΔW has a larger Σ‖(ΔW − ΔW_i) X_iᵀ‖²: the gradient at the solution is zero."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(30, 5, dtype=torch.double, generator=generator) for _ in range(3)]
    deltas = [torch.randn(4, 5, dtype=torch.double, generator=generator) for _ in range(3)]
    merged = regmean(deltas, [gram_matrix(x, per_row=False) for x in inputs]).requires_grad_(True)
    loss = sum(((merged - d) @ x.mT).square().sum() for d, x in zip(deltas, inputs, strict=True))
    (gradient,) = torch.autograd.grad(loss, merged)
    assert gradient.abs().max() < 1e-10


def test_regmean_leaves_unseen_directions_alone() -> None:
    inputs = torch.zeros(6, 3, dtype=torch.double)
    inputs[:, 0] = torch.arange(1, 7)
    delta = torch.ones(2, 3, dtype=torch.double)
    merged = regmean([delta], [gram_matrix(inputs)])
    torch.testing.assert_close(merged, torch.tensor([[1.0, 0, 0], [1, 0, 0]], dtype=torch.double))


def test_off_diagonal_factor_is_checked() -> None:
    with pytest.raises(ValueError, match=r"off_diagonal = 1.5: must be in \[0, 1\]"):
        damp_off_diagonal(torch.eye(2), 1.5)


def golden_chain() -> tuple[nn.Module, list[str], list[list[torch.Tensor]], list[dict], dict]:
    arrays = golden("com")
    model = nn.Sequential(nn.Linear(16, 24, bias=False), nn.ReLU(), nn.Linear(24, 40, bias=False))
    model = model.double()
    with torch.no_grad():
        model[0].weight.copy_(arrays["W0_0"])
        model[2].weight.copy_(arrays["W0_1"])
    updates = [{f"{2 * k}.weight": low_rank(arrays, str(k))[i] for k in (0, 1)} for i in range(3)]
    inputs = [list(arrays[f"X_{i}"].split(77)) for i in range(3)]
    return model, ["0", "2"], inputs, updates, arrays


@pytest.mark.parametrize(("config", "chain"), [("com", True), ("regmean", False)])
def test_chain_of_merges_golden(config: str, chain: bool) -> None:
    """float32 results of float64 inputs; the closed form in float64 is held by the test below."""
    model, targets, inputs, updates, arrays = golden_chain()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = merge_with_inputs(model, targets, inputs, updates, chain=chain)
    for k in (0, 1):
        reference = arrays[f"out__{config}__{k}"]
        difference = (result.merged[f"{2 * k}.weight"] - reference).abs().max()
        assert difference <= 1e-6 * reference.abs().max()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_chain_of_merges_golden_in_float64() -> None:
    """Layer by layer with the library's closed form, at the manifest's tolerance."""
    arrays = golden("com")
    hidden = [arrays[f"X_{i}"] for i in range(3)]
    for k in (0, 1):
        delta = regmean(low_rank(arrays, str(k)), [gram_matrix(x) for x in hidden])
        torch.testing.assert_close(delta, arrays[f"out__com__{k}"], **ENTRIES["com"]["tolerance"])
        hidden = [torch.relu(x @ (arrays[f"W0_{k}"] + delta).mT) for x in hidden]


def test_chain_differs_from_regmean_above_the_first_layer_only() -> None:
    model, targets, inputs, updates, _ = golden_chain()
    chained = merge_with_inputs(model, targets, inputs, updates, chain=True).merged
    plain = merge_with_inputs(model, targets, inputs, updates, chain=False).merged
    torch.testing.assert_close(chained["0.weight"], plain["0.weight"])
    assert (chained["2.weight"] - plain["2.weight"]).abs().max() > 1e-3


def test_trace_weighting_weights_the_gram_matrices() -> None:
    model, targets, inputs, updates, arrays = golden_chain()
    result = merge_with_inputs(model, targets, inputs, updates, chain=True, weighting="trace")
    grams = [gram_matrix(arrays[f"X_{i}"]) for i in range(3)]
    shares = torch.stack([gram.trace() for gram in grams])
    shares = shares / shares.sum()
    torch.testing.assert_close(result.coefficients["0.weight"], shares)
    weighted = [share * gram for share, gram in zip(shares, grams, strict=True)]
    torch.testing.assert_close(
        result.merged["0.weight"], regmean(low_rank(arrays, "0"), weighted).float()
    )


class TwoHeads(nn.Module):
    """q and k read one tensor, o another, as in attention."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.o = (nn.Linear(6, 6) for _ in range(3))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o(self.drop(torch.tanh(self.q(x)) * torch.tanh(self.k(x))))


def attention_case() -> tuple[TwoHeads, list[list[torch.Tensor]], list[dict[str, Any]]]:
    torch.manual_seed(0)
    model = TwoHeads()
    inputs = [[torch.randn(4, 3, 6), torch.randn(2, 3, 6)] for _ in range(2)]
    updates = [
        {f"{n}.weight": LowRank(torch.randn(6, 2), torch.randn(2, 6)) for n in "qko"}
        for _ in range(2)
    ]
    return model, inputs, updates


def test_layers_with_the_same_input_are_merged_together() -> None:
    model, inputs, updates = attention_case()
    assert shared_inputs(model, ["q", "k", "o"], inputs[0][0]) == [["q", "k"], ["o"]]
    result = merge_with_inputs(model, ["q", "k", "o"], inputs, updates, chain=True)
    grams = [gram_matrix(torch.cat([b.flatten(0, 1) for b in task])) for task in inputs]
    for name in "qk":
        alone = regmean([u[f"{name}.weight"] for u in updates], grams)
        torch.testing.assert_close(result.merged[f"{name}.weight"], alone.float())


def test_chain_uses_evaluation_mode_and_restores_the_model() -> None:
    model, inputs, updates = attention_case()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    results = [
        merge_with_inputs(model, ["q", "k", "o"], inputs, updates, chain=True).merged
        for _ in range(2)
    ]
    assert torch.equal(results[0]["o.weight"], results[1]["o.weight"])
    assert model.training
    assert model.drop.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_task_without_a_layer_pulls_it_to_the_base() -> None:
    model, inputs, updates = attention_case()
    del updates[1]["o.weight"]
    zero = updates[1] | {"o.weight": torch.zeros(6, 6)}
    missing = merge_with_inputs(model, ["q", "k", "o"], inputs, updates, chain=True).merged
    explicit = merge_with_inputs(model, ["q", "k", "o"], inputs, [updates[0], zero], chain=True)
    torch.testing.assert_close(missing["o.weight"], explicit.merged["o.weight"])


def test_targets_out_of_order_absent_or_repeated() -> None:
    model, inputs, updates = attention_case()
    batch = inputs[0][0]
    with pytest.raises(ValueError, match="o is listed before q"):
        merge_with_inputs(model, ["o", "q", "k"], inputs, updates, chain=True)
    with pytest.raises(ValueError, match="module 1 does not run"):
        record_inputs(Skipping(), ["0", "1"], batch)
    twice = nn.Linear(6, 6)
    with pytest.raises(ValueError, match="module 0 runs more than once"):
        record_inputs(nn.Sequential(twice, twice, nn.Linear(6, 6)), ["0", "2"], batch)
    with pytest.raises(ValueError, match="each task gives one of each"):
        merge_with_inputs(model, ["q"], inputs[:1], updates, chain=True)
    updates[0]["q.weight"] = LowRank(torch.full((6, 1), torch.nan), torch.ones(1, 6))
    with pytest.raises(UpdateError, match=r"layer q.weight: B of update 0 holds NaN"):
        merge_with_inputs(model, ["q"], inputs, updates, chain=True)


class Skipping(nn.ModuleList):
    def __init__(self) -> None:
        super().__init__([nn.Linear(6, 6), nn.Linear(6, 6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[0](x)


def test_vision_transformer_and_convnext_of_open_clip() -> None:
    """Both kinds of tower, tiny: the model with the merged update runs, q, k, v share inputs."""
    from open_clip.model import CLIPVisionCfg, _build_vision_tower
    from trap2.models.clip.attention import separate_attention

    torch.manual_seed(0)
    vit = CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=8, image_size=16)
    convnext = CLIPVisionCfg(
        timm_model_name="test_convnext", timm_pool="", timm_proj="linear", image_size=32
    )
    for cfg, pattern in ((vit, ("q_proj", "k_proj", "v_proj", "out_proj")), (convnext, "fc")):
        tower = separate_attention(_build_vision_tower(16, cfg)).eval()
        ends = pattern if isinstance(pattern, tuple) else ("fc1", "fc2")
        targets = [n for n, m in tower.named_modules() if n.rsplit(".", 1)[-1] in ends]
        updates = [
            {
                f"{t}.weight": LowRank(
                    0.1 * torch.randn(tower.get_submodule(t).weight.shape[0], 2),
                    torch.randn(2, tower.get_submodule(t).weight.shape[1]),
                )
                for t in targets
            }
            for _ in range(2)
        ]
        size = cfg.image_size
        inputs = [[torch.randn(3, 3, size, size)] for _ in range(2)]
        groups = shared_inputs(tower, targets, inputs[0][0])
        sizes = [len(group) for group in groups]
        assert sizes == ([3, 1] * 2 if cfg is vit else [1] * len(targets))
        result = merge_with_inputs(tower, targets, inputs, updates, chain=True)
        assert list(result.merged) == [f"{t}.weight" for t in targets]
        # With one task, the inputs decide nothing: the merge is the task's update.
        alone = merge_with_inputs(tower, targets[:1], inputs[:1], updates[:1], chain=True)
        (layer,) = alone.merged
        seen = record_inputs(tower, targets[:1], inputs[0][0])[targets[0]]
        torch.testing.assert_close(
            seen @ alone.merged[layer].mT, seen @ updates[0][layer].dense().mT, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("config", sorted(ENTRIES["adamerging"]["configs"]))
def test_adamerging_golden(config: str) -> None:
    """Objective, gradient and three Adam steps of AdaMerging's own code."""
    arrays = golden("adamerging")
    tolerance = ENTRIES["adamerging"]["tolerance"]
    base = {name: arrays[f"W0_{name}"] for name in ("fc1", "fc2")}
    updates = [{name: arrays[f"dW_{name}"][i] for name in base} for i in range(3)]

    def objective(coefficients: torch.Tensor) -> torch.Tensor:
        weights = combined_weights(base, updates, coefficients)
        features = [
            torch.tanh(arrays[f"X_{i}"] @ weights["fc1"].mT) @ weights["fc2"].mT for i in range(3)
        ]
        return adamerging_objective([f @ arrays[f"head_{i}"].mT for i, f in enumerate(features)])

    start = arrays[f"lam__{config}__step0"]
    point = start.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(point), point)
    torch.testing.assert_close(gradient, arrays[f"grad__{config}"], **tolerance)
    losses = []
    for steps in (1, 2, 3):
        found, losses = adamerge(objective, start, iterations=steps)
        torch.testing.assert_close(found, arrays[f"lam__{config}__step{steps}"], **tolerance)
    reference = torch.tensor(ENTRIES["adamerging"]["configs"][config]["losses"])
    torch.testing.assert_close(torch.tensor(losses), reference, **tolerance)
    torch.testing.assert_close(
        reference, arrays[f"loss__{config}"].to(reference.dtype), **tolerance
    )
