"""Alignment, UNMASK and GRADERASE against tests/golden/attacks (its manifest: whose code it is)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from trap2.attacks.alignment.anchor import RIDGE, align_to_anchor, least_squares
from trap2.attacks.alignment.blocks import PAIRS, head_blocks
from trap2.attacks.alignment.graderase import project_out
from trap2.attacks.alignment.permutation import align_hidden_units
from trap2.attacks.alignment.rotation import align_rotation, rotation
from trap2.attacks.alignment.scales import align_scales, lone_factors, paired_factors
from trap2.attacks.alignment.unmask import unmask
from trap2.protection.checkpoints import move_heads
from trap2.protection.params import farthest_order, hidden_layers, reorder_hidden_units

GOLDEN = Path(__file__).parents[1] / "golden" / "attacks"
TOLERANCES = {
    entry["file"]: entry["tolerance"]
    for entry in json.loads((GOLDEN / "manifest.json").read_text())["files"]
}
PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
Tensors = dict[str, torch.Tensor]


def read(file: str) -> Tensors:
    with np.load(GOLDEN / file, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def attention(arrays: Tensors, prefix: str) -> Tensors:
    """One attention layer, ``attn``, of a golden file."""
    found = {}
    for letter, projection in PROJECTIONS.items():
        for kind, name in (("W", "weight"), ("b", "bias")):
            if (key := f"{prefix}_{kind}{letter}") in arrays:
                found[f"attn.{projection}.{name}"] = arrays[key]
    return found


def layers(arrays: Tensors, prefix: str) -> Tensors:
    start = f"{prefix}_layer"
    return {name[len(start) :]: value for name, value in arrays.items() if name.startswith(start)}


def near(found: torch.Tensor, expected: torch.Tensor, file: str) -> None:
    tolerance = TOLERANCES[file]
    torch.testing.assert_close(found, expected, rtol=tolerance["rtol"], atol=tolerance["atol"])


def pair_blocks(weights: Tensors, like: Tensors, pair: tuple[str, str]) -> list[torch.Tensor]:
    return [head_blocks(weights, like, "attn", each, 4) for each in pair]


# Rotation.

KABSCH = "kabsch_4x6.npz"


@pytest.mark.parametrize("case", ["rotated", "mergelock"])
@pytest.mark.parametrize(("pair", "name"), [(PAIRS[0], "qk"), (PAIRS[1], "vo")])
def test_rotations_are_those_of_rotation_symmetry(case: str, pair: Any, name: str):
    arrays = read(KABSCH)
    protected, reference = attention(arrays, f"in_{case}"), attention(arrays, "in_ref")
    first, second = (
        torch.cat(pair_blocks(weights, protected, pair), -1) for weights in (protected, reference)
    )
    for proper, ending in ((False, ""), (True, "_proper")):
        found = rotation(first, second, proper=proper)
        near(found, arrays[f"out_{case}_R_{name}{ending}"], KABSCH)
        near(found.mT @ found, torch.eye(6, dtype=torch.float64).expand(4, 6, 6), KABSCH)
    assert (torch.linalg.det(found) > 0).all()  # of the proper one


@pytest.mark.parametrize("case", ["rotated", "mergelock"])
def test_rotated_weights_and_distances(case: str):
    arrays = read(KABSCH)
    protected, reference = attention(arrays, f"in_{case}"), attention(arrays, "in_ref")
    aligned = align_rotation(protected, reference, {"attn": 4})
    for letter, projection in PROJECTIONS.items():
        weight = aligned[f"attn.{projection}.weight"]
        head = weight[:, :6] if letter == "o" else weight[:6]
        near(head, arrays[f"out_{case}_W{letter}_head0"], KABSCH)
        if letter != "o":
            near(aligned[f"attn.{projection}.bias"], arrays[f"out_{case}_b{letter}"], KABSCH)
    rows = [protected, aligned, attention(arrays, "in_ft")]
    distances = [[distance(row, reference, pair) for pair in PAIRS] for row in rows]
    near(torch.tensor(distances, dtype=torch.float64), arrays[f"out_{case}_distances"], KABSCH)


def distance(weights: Tensors, reference: Tensors, pair: tuple[str, str]) -> float:
    names = [f"attn.{projection}.weight" for projection in pair]
    squares = [(weights[name] - reference[name]).square().sum() for name in names]
    return float(torch.stack(squares).sum().sqrt())


# Hidden units.

HUNGARIAN = "hungarian_40x12.npz"


def mlp(arrays: Tensors, prefix: str) -> Tensors:
    names = zip(("W1", "W2", "b1"), hidden_layers("block.attn"), strict=True)
    return {name: arrays[f"{prefix}_{key}"] for key, name in names}


def test_every_cost_undoes_params_order():
    arrays = read(HUNGARIAN)
    tuned, base, other = (mlp(arrays, f"in_{name}") for name in ("ft", "pre", "other"))
    first, second, bias = hidden_layers("block.attn")
    order = farthest_order(tuned[first], tuned[second], base[first], base[second])
    assert torch.equal(order, arrays["out_farthest_order"])
    protected = reorder_hidden_units(tuned, "block.attn", order)
    for name, cost, reference in (
        ("distance_pre", "distance", base),
        ("distance_pre_bias", "distance-bias", base),
        ("distance_other_bias", "distance-bias", other),
        ("cosine_pre", "cosine", base),
    ):
        aligned = align_hidden_units(protected, reference, {"block.attn": 2}, cost=cost)
        expected = reorder_hidden_units(protected, "block.attn", arrays[f"out_order_{name}"])
        for weights in (expected, tuned):
            assert all(torch.equal(aligned[each], weights[each]) for each in (first, second, bias))
    squares = [
        [(weights[each] - base[each]).square().sum() for each in (first, second)]
        for weights in (tuned, protected, aligned)
    ]
    found = torch.stack([torch.stack(row).sum().sqrt() for row in squares])
    torch.testing.assert_close(found, arrays["out_distances"], rtol=1e-12, atol=0)


# Scales.

SCALES = "diagonal_scales_4x6.npz"


@pytest.mark.parametrize(("pair", "name"), [(PAIRS[0], "qk"), (PAIRS[1], "vo")])
def test_scale_factors(pair: tuple[str, str], name: str):
    arrays = read(SCALES)
    protected, base = attention(arrays, "in_prot"), attention(arrays, "in_pre")
    blocks = pair_blocks(protected, protected, pair)
    goals = pair_blocks(base, protected, pair)
    for letter, rows, goal in zip(name, blocks, goals, strict=True):
        near(lone_factors(rows, goal).flatten(), arrays[f"out_{name}_factor_{letter}_ls"], SCALES)
    paired = paired_factors(*blocks, *goals)
    near(paired.flatten(), arrays[f"out_{name}_factor_paired"], SCALES)
    per_head = paired_factors(*(each.flatten(1) for each in (*blocks, *goals)))
    near(per_head, arrays[f"out_{name}_factor_per_head"], SCALES)


@pytest.mark.parametrize("estimator", ["paired", "ls"])
def test_scaled_weights_are_the_protected_ones_times_the_factors(estimator: Any):
    arrays = read(SCALES)
    protected, base = attention(arrays, "in_prot"), attention(arrays, "in_pre")
    aligned = align_scales(protected, base, {"attn": 4}, estimator=estimator)
    for pair, name in zip(PAIRS, ("qk", "vo"), strict=True):
        for sign, projection, letter in zip((1, -1), pair, name, strict=True):
            key = "paired" if estimator == "paired" else f"{letter}_ls"
            factors = arrays[f"out_{name}_factor_{key}"]
            factors = factors**sign if estimator == "paired" else factors
            weight = protected[f"attn.{projection}.weight"]
            weight = weight * factors if letter == "o" else weight * factors[:, None]
            near(aligned[f"attn.{projection}.weight"], weight, SCALES)
            if letter != "o":
                bias = protected[f"attn.{projection}.bias"] * factors
                near(aligned[f"attn.{projection}.bias"], bias, SCALES)


# The anchor-guided attack.

AGA = "aga_attention_4x8.npz"


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def protected_by(arrays: Tensors, case: str) -> Tensors:
    """As ``mergelock_transform_*`` says: Tᵀ for q and v, T⁻¹ for k and out."""
    qk, vo = arrays[f"in_{case}_T_qk"], arrays[f"in_{case}_T_vo"]
    tuned = attention(arrays, "in_ft")
    matrices = dict(zip(PAIRS[0], (qk.mT, torch.linalg.inv(qk)), strict=True))
    matrices |= dict(zip(PAIRS[1], (vo.mT, torch.linalg.inv(vo)), strict=True))
    return tuned | move_heads(tuned, "attn", matrices)


def attend(weights: Tensors, x: torch.Tensor) -> torch.Tensor:
    def project(projection: str) -> torch.Tensor:
        return functional.linear(
            x, weights[f"attn.{projection}.weight"], weights[f"attn.{projection}.bias"]
        )

    q, k, v = (
        project(projection).unflatten(-1, (4, -1)).transpose(0, 1)
        for projection in ("q_proj", "k_proj", "v_proj")
    )
    mixed = functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
    return mixed @ weights["attn.out_proj.weight"].mT


@pytest.mark.parametrize("case", ["mergelock", "params"])
def test_the_anchor_guided_attack(case: str):
    arrays = read(AGA)
    limit = TOLERANCES[AGA]["rtol"]
    base, protected = attention(arrays, "in_pre"), protected_by(arrays, case)
    for letter, projection in PROJECTIONS.items():
        rows = head_blocks(protected, protected, "attn", projection, 4, biases=False)
        goals = head_blocks(base, protected, "attn", projection, 4, biases=False)
        turned = least_squares(rows, goals, RIDGE).mT
        assert relative(turned, arrays[f"out_{case}_T{letter}"]) < limit
    recovered = align_to_anchor(protected, base, {"attn": 4})
    paired = align_to_anchor(protected, base, {"attn": 4}, paired=True)
    for letter, projection in PROJECTIONS.items():
        assert relative(recovered[f"attn.{projection}.weight"], arrays[f"out_W{letter}"]) < limit
        if letter != "o":
            bias = recovered[f"attn.{projection}.bias"]
            assert relative(bias, arrays[f"out_{case}_b{letter}"]) < limit
        if letter in "qk":
            weight = paired[f"attn.{projection}.weight"]
            assert relative(weight, arrays[f"out_paired_W{letter}"]) < limit


@pytest.mark.parametrize("case", ["mergelock", "params"])
def test_the_published_form_moves_the_output_and_the_paired_one_keeps_it(case: str):
    arrays = read(AGA)
    base, protected = attention(arrays, "in_pre"), protected_by(arrays, case)
    output = arrays["out_y_ft"]
    # The output's bias, which nothing touches, is not in the file: the same in every row.
    shift = output - attend(attention(arrays, "in_ft"), arrays["in_x"])
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), rtol=0, atol=1e-12)
    assert relative(attend(protected, arrays["in_x"]) + shift, output) < 1e-12
    recovered = align_to_anchor(protected, base, {"attn": 4})
    moved = attend(recovered, arrays["in_x"]) + shift
    assert relative(moved, arrays[f"out_{case}_y"]) < 1e-5
    assert 0.015 < relative(moved, output) < 0.025
    paired = align_to_anchor(protected, base, {"attn": 4}, paired=True)
    assert relative(attend(paired, arrays["in_x"]) + shift, output) < 1e-12


# UNMASK and GRADERASE.


def test_unmask():
    file = "unmask_6.npz"
    arrays = read(file)
    merged, protected, base = (layers(arrays, k) for k in ("out_merged", "in_def", "in_pre"))
    literal = unmask(merged, protected, 0.3)
    by_task_vectors = unmask(merged, protected, 0.3, base)
    for name, found in (("literal", literal), ("task_vector", by_task_vectors)):
        expected = layers(arrays, f"out_{name}")
        assert found.keys() == expected.keys()
        for layer, value in expected.items():
            near(found[layer], value, file)


@pytest.mark.parametrize("name", ["global", "per_tensor"])
def test_graderase(name: str):
    file = "graderase_6.npz"
    arrays = read(file)
    gradients, direction = layers(arrays, "in_grad"), layers(arrays, "in_disturb")
    found = project_out(gradients, direction, per_tensor=name == "per_tensor")
    expected = layers(arrays, f"out_{name}")
    assert found.keys() == expected.keys()
    for layer, value in expected.items():
        near(found[layer], value, file)
