"""MergeGuard, ARF, MergeBarrier and Merge-Lock: golden vectors, and properties of their algebra."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from trap2.models.clip.build import build_clip
from trap2.models.clip.tower import vision_tower
from trap2.protection.arf import AnchorRepulsion, projections, repulsion
from trap2.protection.checkpoints import move_heads, transform_attention
from trap2.protection.mergebarrier import flip_directions, reflection
from trap2.protection.mergeguard import (
    SquaredNorm,
    critical_layers,
    measure_drops,
    significant,
    take_back,
)
from trap2.protection.mergelock import RandomMixing
from trap2.protection.objective import Surroundings
from trap2.protection.params import permute_hidden_units
from trap2.protection.transforms import Transform, attention_heads, head_matrices
from trap2.runtime.errors import Trap2Error
from trap2.runtime.seeding import numpy_generator

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


def near(found: torch.Tensor, expected: torch.Tensor, file: str) -> None:
    given = TOLERANCES.get(file) or {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(found, expected, rtol=given["rtol"], atol=given["atol"])


def attention(arrays: Tensors, prefix: str) -> Tensors:
    """One attention layer, ``attn``, of a golden file."""
    return {
        f"attn.{projection}.{name}": arrays[f"{prefix}_{kind}{letter}"]
        for letter, projection in PROJECTIONS.items()
        for kind, name in (("W", "weight"), ("b", "bias"))
        if f"{prefix}_{kind}{letter}" in arrays
    }


def layers(arrays: Tensors, prefix: str) -> Tensors:
    start = f"{prefix}_layer"
    return {name[len(start) :]: value for name, value in arrays.items() if name.startswith(start)}


def attend(weights: Tensors, x: torch.Tensor, heads: int) -> torch.Tensor:
    """One attention layer in plain torch, no projection of the project's own."""

    def linear(name: str, given: torch.Tensor) -> torch.Tensor:
        return given @ weights[f"attn.{name}.weight"].mT + weights[f"attn.{name}.bias"]

    q, k, v = (
        linear(name, x).unflatten(-1, (heads, -1)).transpose(0, 1)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    scores = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return linear("out_proj", (scores @ v).transpose(0, 1).flatten(1))


# Merge-Lock.

MERGELOCK = "mergelock_transform_2x4x6.npz"


class Given:
    """A generator that gives R, P and D of a golden file in the order of their use."""

    def __init__(self, arrays: Tensors, prefix: str) -> None:
        self.arrays, self.prefix, self.head = arrays, prefix, 0

    def _array(self, name: str) -> np.ndarray:
        return self.arrays[f"{self.prefix}_{name}"][self.head].numpy()

    def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
        return self._array("R")

    def permutation(self, width: int) -> np.ndarray:
        return self._array("perm")

    def lognormal(self, mean: float, sigma: float, width: int) -> np.ndarray:
        found = self._array("D")
        self.head += 1
        return found


@pytest.mark.parametrize("layer", [0, 1])
def test_merge_lock_is_the_transform_that_keeps_the_function(layer: int):
    arrays = read(MERGELOCK)
    weights = attention(arrays, f"in_l{layer}")

    def draws(_attention: str, pair: str) -> Any:
        short = "qk" if pair.startswith("q") else "vo"
        return Given(arrays, f"in_l{layer}_{short}")

    matrices = head_matrices(RandomMixing(), "attn", 4, 6, draws)
    near(matrices["q_proj"].mT, arrays[f"out_l{layer}_qk_T"], MERGELOCK)
    near(matrices["v_proj"].mT, arrays[f"out_l{layer}_vo_T"], MERGELOCK)
    protected = transform_attention(RandomMixing(), weights, {"attn": 4}, draws)
    expected = attention(arrays, f"out_l{layer}")
    assert len(expected) == 7  # the output's bias is not among them
    for name, tensor in expected.items():
        near(protected[name], tensor, MERGELOCK)
    assert torch.equal(protected["attn.out_proj.bias"], weights["attn.out_proj.bias"])


def test_merge_lock_keeps_what_stacked_layers_put_out():
    arrays = read(MERGELOCK)
    y = arrays["in_x"]
    for layer in range(2):
        weights = attention(arrays, f"in_l{layer}")
        protected = weights | attention(arrays, f"out_l{layer}")
        near(y + attend(weights, y, 4), arrays[f"out_l{layer}_y"], MERGELOCK)
        y = y + attend(protected, y, 4)
        near(y, arrays[f"out_l{layer}_y"], MERGELOCK)


# MergeBarrier.

MERGEBARRIER = "mergebarrier_attention_4x4.npz"


def test_merge_barrier_flips_the_leading_directions():
    arrays = read(MERGEBARRIER)
    weights, count = attention(arrays, "in"), int(arrays["in_k"])
    q, k = (weights[f"attn.{name}_proj.weight"] for name in "qk")
    near(reflection(q, k, 4, count), arrays["out_P"], MERGEBARRIER)
    protected = flip_directions(weights, {"attn": 4}, count / 4)
    for name, tensor in attention(arrays, "out").items():
        near(protected[name], tensor, MERGEBARRIER)
    for name in ("v_proj", "out_proj"):
        for kind in ("weight", "bias"):
            assert torch.equal(protected[f"attn.{name}.{kind}"], weights[f"attn.{name}.{kind}"])
    near(attend(protected, arrays["in_x"], 4), arrays["out_y"], MERGEBARRIER)


def test_all_four_projections_can_be_covered():
    arrays = read(MERGEBARRIER)
    weights = attention(arrays, "in")
    protected = flip_directions(weights, {"attn": 4}, 0.5, "qkvo")
    near(attend(protected, arrays["in_x"], 4), arrays["out_y"], MERGEBARRIER)
    v, out = (weights[f"attn.{name}_proj.weight"] for name in ("v", "out"))
    moved = [protected[f"attn.{name}_proj.weight"] for name in ("v", "out")]
    displacement = (moved[0] - v).square().sum() + (moved[1] - out).square().sum()
    gram = torch.stack(
        [
            v[i : i + 4] @ v[i : i + 4].mT + out[:, i : i + 4].mT @ out[:, i : i + 4]
            for i in range(0, 16, 4)
        ]
    )
    expected = 4 * torch.linalg.eigvalsh(gram)[:, -2:].sum()
    torch.testing.assert_close(displacement, expected)


def test_one_direction_at_least_is_flipped():
    weights = attention(read(MERGEBARRIER), "in")
    q, k = (weights[f"attn.{name}_proj.weight"] for name in "qk")
    protected = flip_directions(weights, {"attn": 4}, 0.01)
    matrices = {"q_proj": reflection(q, k, 4, 1), "k_proj": reflection(q, k, 4, 1)}
    eye = torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    expected = move_heads(weights, "attn", {**matrices, "v_proj": eye, "out_proj": eye})
    assert all(torch.equal(protected[name], tensor) for name, tensor in expected.items())


# All that keep the function, on the shapes of ViT-B/32.


@pytest.fixture(scope="module")
def vit_b_32() -> torch.nn.Module:
    """The shapes of ViT-B/32 with two of its twelve blocks: random weights, biases, float64."""
    config = {"image_size": 224, "patch_size": 32, "width": 768, "layers": 2, "head_width": 64}
    text = {"context_length": 8, "width": 16, "heads": 2, "layers": 1}
    torch.manual_seed(0)
    built = build_clip({"embed_dim": 512, "vision_cfg": config, "text_cfg": text})
    tower = vision_tower(built).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in tower.parameters():
        if parameter.ndim == 1:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.add_(0.3 * noise)
    return tower.requires_grad_(False)


@pytest.mark.parametrize("name", ["mergelock", "params", "mergebarrier-qk", "mergebarrier-qkvo"])
def test_the_logits_of_vit_b_32_stay(vit_b_32: torch.nn.Module, name: str):
    heads = attention_heads(vit_b_32)
    assert list(heads.values()) == [12, 12]
    weights = dict(vit_b_32.named_parameters())

    def draws(*use: str) -> np.random.Generator:
        return numpy_generator(0, "protect", name, "cars", *use)

    if name.startswith("mergebarrier"):
        protected = flip_directions(weights, heads, 0.5, name.rpartition("-")[2])
    elif name == "mergelock":
        protected = transform_attention(RandomMixing(), weights, heads, draws)
    else:
        from trap2.protection.params import DiagonalScales

        scales: Transform = DiagonalScales()
        scaled = transform_attention(scales, weights, heads, draws)
        protected = permute_hidden_units(scaled, weights, heads)
    for attention_module in heads:
        layer = f"{attention_module}.q_proj.weight"
        moved = torch.linalg.vector_norm(protected[layer] - weights[layer])
        assert moved > 0.2 * torch.linalg.vector_norm(weights[layer])
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, 224, 224, generator=generator, dtype=torch.float64)
    head = functional.normalize(torch.randn(196, 512, generator=generator).double(), dim=1)
    logits = [
        100 * functional.normalize(output, dim=1) @ head.mT
        for output in (
            vit_b_32(images),
            torch.func.functional_call(vit_b_32, protected, (images,)),
        )
    ]
    assert logits[0].abs().max() > 1
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-10)


# MergeGuard, stage 1.

STAGE1 = "mergeguard_stage1_9.npz"


def test_stage_one_is_the_loss_with_the_squared_norm_in_the_gradient():
    arrays = read(STAGE1)
    W, b = (arrays[f"in_{name}"].clone().requires_grad_() for name in ("W", "b"))
    parameters = {"weight": W, "bias": b}

    def loss_at(scale: float) -> torch.Tensor:
        assert scale == 1.0
        return functional.cross_entropy(arrays["in_X"] @ W.mT + b, arrays["in_y"].long())

    objective = SquaredNorm(0.01).within(Surroundings(dict, parameters=parameters))
    for share in (0.75, 0.25):  # two micro-batches, here of the same images
        loss, other = objective.accumulate_gradient(loss_at, None, share)
    near(torch.tensor(loss, dtype=torch.float64), arrays["out_ce"], STAGE1)
    assert math.isnan(other)
    near(W.grad, arrays["out_grad_W"], STAGE1)
    near(b.grad, arrays["out_grad_b"], STAGE1)
    assert objective.record() == {"name": "mergeguard-stage1", "lambda": 0.01}
    assert objective.draw(np.random.default_rng(0)) is None


def test_stage_one_needs_a_training_and_a_number():
    with pytest.raises(Trap2Error, match=r"call within\(…\) first"):
        SquaredNorm(0.01).accumulate_gradient(lambda _s: torch.zeros(()), None)
    for alpha in (-1.0, math.nan, math.inf):
        with pytest.raises(Trap2Error, match=r"alpha is .*; it must be a number ≥ 0"):
            SquaredNorm(alpha)


# MergeGuard, stage 2.

STAGE2 = "mergeguard_stage2_10.npz"


def stage2() -> tuple[Tensors, Tensors, Tensors, list[str]]:
    arrays = read(STAGE2)
    base, tuned = layers(arrays, "in_pre"), layers(arrays, "in_stage1")
    drops = dict(zip(base, arrays["in_accuracy_drop"].tolist(), strict=True))
    return arrays, base, tuned, critical_layers(drops, 0.1)


def masks(base: Tensors, tuned: Tensors, critical: list[str], name: str) -> Tensors:
    rest = [layer for layer in base if layer not in critical]
    values = {n: tuned[n] if name == "global_theta" else tuned[n] - base[n] for n in rest}
    found = significant(values, 0.1, "tensor" if name == "layer_tau" else "global")
    return {n: found.get(n, torch.zeros_like(base[n], dtype=torch.bool)) for n in base}


@pytest.mark.parametrize("name", ["global_tau", "layer_tau", "global_theta"])
def test_stage_two_masks_the_most_significant_tenth(name: str):
    arrays, base, tuned, critical = stage2()
    assert [list(base).index(layer) for layer in critical] == arrays["out_critical"].tolist()
    found = masks(base, tuned, critical, name)
    for layer, mask in layers(arrays, f"out_{name}_mask").items():
        near(found[layer].double(), mask.double(), STAGE2)


@pytest.mark.parametrize("beta", [1, 2])
def test_stage_two_takes_back_beta_times_the_update(beta: int):
    arrays, base, tuned, critical = stage2()
    mask = masks(base, tuned, critical, "global_tau")
    for layer, expected in layers(arrays, f"out_global_tau_beta{beta}").items():
        near(take_back(tuned[layer], base[layer], mask[layer], beta), expected, STAGE2)


def test_with_beta_one_the_masked_entries_are_the_pretrained_ones():
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 3), (11,), (5, 5), (2,)]
    base = {str(i): torch.randn(s, generator=generator) for i, s in enumerate(shapes)}
    tuned = {n: w + 0.1 * torch.randn(w.shape, generator=generator) for n, w in base.items()}
    critical = critical_layers({"0": 0.0, "1": 3.0, "2": -1.0, "3": 3.0}, 0.1)
    assert critical == ["1"]
    mask = masks(base, tuned, critical, "global_tau")
    assert sum(int(m.sum()) for m in mask.values()) == math.floor(0.1 * (21 + 25 + 2))
    for name in base:
        found = take_back(tuned[name], base[name], mask[name], 1.0)
        assert torch.equal(found[mask[name]], base[name][mask[name]])
        assert torch.equal(found[~mask[name]], tuned[name][~mask[name]])
        assert found.dtype == torch.float32
    assert not mask["1"].any()


@pytest.mark.parametrize(
    ("count", "share", "ones"),
    [(100, 0.07, 7), (100, 0.29, 29), (9, 0.1, 0), (4, 1.0, 4), (0, 1, 0)],
)
def test_shares_are_counted_exactly_with_equal_entries_too(count: int, share: float, ones: int):
    equal = {"a": torch.ones(count)}
    mask = significant(equal, share)["a"]
    assert int(mask.sum()) == ones
    assert mask[:ones].all()
    assert torch.equal(significant(equal, share, "tensor")["a"], mask)
    assert len(critical_layers({str(i): 0.0 for i in range(count)}, share)) == math.ceil(
        round(share * count, 6)
    )
    assert significant({}, share) == {}


def test_a_layer_is_worth_what_is_lost_without_it():
    accuracies = {(): 90.0, ("a",): 60.0, ("b",): 95.0}
    seen = []

    def accuracy(replaced: Any) -> float:
        seen.extend(replaced.values())
        return accuracies[tuple(replaced)]

    zero = torch.zeros(2)
    assert measure_drops(["a", "b"], lambda _layer: zero, accuracy) == {"a": 30.0, "b": -5.0}
    assert all(tensor is zero for tensor in seen)


# ARF.

ARF = "arf_penalty_10.npz"


def test_repulsion_acts_inside_the_margin_alone():
    arrays = read(ARF)
    weights = {n: arrays[f"in_theta_{n}"].clone().requires_grad_() for n in "qkvo"}
    anchors = {n: arrays[f"in_pre_{n}"] for n in "qkvo"}
    penalty = repulsion(weights, anchors, 0.05)
    near(penalty.detach(), arrays["out_penalty_max"], ARF)
    penalty.backward()
    inside = 0
    for n, weight in weights.items():
        near(weight.grad, arrays[f"out_grad_max_{n}"], ARF)
        inside += bool(weight.grad.any())
    assert 0 < inside < 4


def test_arf_adds_the_repulsion_of_the_projections():
    generator = torch.Generator().manual_seed(0)
    names = [f"block.attn.{name}.weight" for name in PROJECTIONS.values()]
    base = {n: torch.randn(4, 4, generator=generator) for n in [*names, "block.mlp.c_fc.weight"]}
    now = {n: (w + 0.001).requires_grad_() for n, w in base.items()}
    assert list(projections(now)) == names
    objective = AnchorRepulsion(2.0, 0.1).within(Surroundings(dict, {}, now, base))

    def loss_at(_scale: object) -> torch.Tensor:
        return sum(w.sum() for w in now.values())

    for share in (0.5, 0.5):
        objective.accumulate_gradient(loss_at, None, share)
    for name, weight in now.items():
        assert weight.grad is not None
        added = weight.grad - 1
        delta = weight.detach() - base[name]
        expected = -2 * delta / delta.norm() if name in names else torch.zeros_like(delta)
        torch.testing.assert_close(added, expected)


def test_arf_says_what_it_lacks():
    weight = {"block.attn.q_proj.weight": torch.ones(2, 2)}
    with pytest.raises(Trap2Error, match="arf pushes the attention projections of a whole"):
        AnchorRepulsion(1.0).within(Surroundings(dict, parameters=weight))
    with pytest.raises(Trap2Error, match="arf pushes the attention projections of a whole"):
        AnchorRepulsion(1.0).within(Surroundings(dict, {}, {"mlp": weight}, {"mlp": weight}))
    with pytest.raises(Trap2Error, match=r"call within\(…\) first"):
        AnchorRepulsion(1.0).accumulate_gradient(lambda _s: torch.zeros(()), None)
    with pytest.raises(Trap2Error, match="rho is 0; it must be a number > 0"):
        AnchorRepulsion(1.0, 0)
    with pytest.raises(Trap2Error, match="λ is -1; it must be a number ≥ 0"):
        AnchorRepulsion(-1)
