"""Post-hoc defenses, against per-head NumPy arithmetic, brute force, torch's SVD and the model."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from trap2.models.clip.build import build_clip
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import family
from trap2.protection import catalogue, post_hoc
from trap2.protection.adapters import refit_adapter, transform_adapter, truncate
from trap2.protection.catalogue import (
    PROTECTIONS,
    NotApplicable,
    not_applicable,
    post_hoc_protections,
)
from trap2.protection.mergelock import RandomMixing
from trap2.protection.params import DiagonalScales
from trap2.protection.post_hoc import protect_adapter, protect_checkpoint
from trap2.protection.transforms import attention_heads
from trap2.runtime.seeding import numpy_generator
from trap2.updates.delta import LowRank, UpdateError

HEADS, WIDTH, RANK = 2, 16, 3
TEXT = {"context_length": 8, "width": 16, "heads": 2, "layers": 1}
VIT: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {
        "image_size": 16,
        "patch_size": 8,
        "width": HEADS * WIDTH,
        "layers": 2,
        "head_width": WIDTH,
    },
    "text_cfg": TEXT,
}
CONVNEXT: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "convnext_tiny",
        "timm_model_args": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "patch_size": 2},
    },
    "text_cfg": TEXT,
}
ATTENTION = "transformer.resblocks.1.attn"
ADAPTER_NAMES = post_hoc_protections("lora")
CHECKPOINT_NAMES = ["params", "mergelock"]
"""Those that draw a transform; tests/unit/test_sibling_jobs.py has the others."""
TRANSFORMS = {"params": DiagonalScales(), "mergelock": RandomMixing()}


def draws_of(name: str, seed: int = 0) -> Callable[..., np.random.Generator]:
    return lambda *use: numpy_generator(seed, "protect", name, "shapes", *use)


def random_tower(seed: int, architecture: dict[str, Any] = VIT) -> nn.Module:
    """A tower with random values everywhere, biases included, in float64."""
    tower = vision_tower(build_clip(architecture)).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in tower.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.copy_(parameter.data * 0 + noise / max(parameter.shape[-1], 4) ** 0.5)
    return tower


@pytest.fixture(scope="module")
def base() -> nn.Module:
    return random_tower(0)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(5)).double()


@pytest.fixture(scope="module")
def adapter(base: nn.Module) -> dict[str, LowRank]:
    """A random adapter whose ΔW is a tenth of W0 in norm, in float64."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for attention in attention_heads(base):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weight = base.get_parameter(f"{attention}.{projection}.weight")
            b = torch.randn(weight.shape[0], RANK, generator=generator, dtype=torch.float64)
            a = torch.randn(RANK, weight.shape[1], generator=generator, dtype=torch.float64)
            scale = 0.1 * weight.norm() / (b @ a).norm()
            found[f"{attention}.{projection}.weight"] = LowRank(b * scale, a)
    return found


def weights_of(tower: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in tower.named_parameters()}


def fine_tuned(base: nn.Module) -> nn.Module:
    """The base with every parameter moved a little."""
    tower = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(2)
    for parameter in tower.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.add_(noise * parameter.data.std() * 0.1)
    return tower


def features_with(base: nn.Module, adapter: dict[str, LowRank], x: torch.Tensor) -> torch.Tensor:
    tower = copy.deepcopy(base)
    for layer, delta in adapter.items():
        tower.get_parameter(layer).data.add_(delta.dense(torch.float64))
    return tower(x)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def head_products(
    weights: dict[str, torch.Tensor], attention: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per head, in plain NumPy on row vectors with a 1 behind: Q·Kᵀ and V·O, biases included."""
    part = {
        f"{name}.{kind}": weights[f"{attention}.{name}_proj.{kind}"].numpy()
        for name in ("q", "k", "v", "out")
        for kind in ("weight", "bias")
    }
    scores, values = [], []
    for head in range(HEADS):
        rows = slice(head * WIDTH, (head + 1) * WIDTH)
        q, k, v = (
            np.vstack([part[f"{n}.weight"][rows].T, part[f"{n}.bias"][None, rows]])
            for n in ("q", "k", "v")
        )
        scores.append(q @ k.T)
        values.append(v @ part["out.weight"].T[rows])
    return scores, values


# Whole checkpoints: another place in weight space, the same function.


@pytest.mark.parametrize("name", CHECKPOINT_NAMES)
def test_a_protected_checkpoint_has_the_same_features(base, images, name):
    tuned = fine_tuned(base)
    weights = weights_of(tuned)
    protected = protect_checkpoint(
        name, weights, weights_of(base), attention_heads(base), seed=0, task="shapes"
    )
    moved = copy.deepcopy(base)
    moved.load_state_dict(protected)
    torch.testing.assert_close(moved(images), tuned(images), rtol=1e-9, atol=1e-10)
    for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer = f"{ATTENTION}.{projection}.weight"
        assert relative(protected[layer], weights[layer]) > 0.2
    touched = {n for n in weights if ".attn." in n and n != f"{ATTENTION}.out_proj.bias"}
    if name == "params":
        touched |= {n for n in weights if ".mlp." in n}
    assert all(torch.equal(protected[n], weights[n]) for n in weights if n not in touched)


@pytest.mark.parametrize("name", CHECKPOINT_NAMES)
def test_the_products_of_each_head_cancel(base, name):
    """Q·Kᵀ with biases, and V·O with the value's bias, head by head in NumPy."""
    weights = weights_of(fine_tuned(base))
    protected = protect_checkpoint(
        name, weights, weights_of(base), attention_heads(base), seed=3, task="shapes"
    )
    for attention in attention_heads(base):
        before, after = head_products(weights, attention), head_products(protected, attention)
        for old, new in zip(itertools.chain(*before), itertools.chain(*after), strict=True):
            np.testing.assert_allclose(new, old, rtol=0, atol=1e-10 * np.abs(old).max())


def test_one_block_of_real_shape_in_float32():
    """A block of ViT-B/32, in the precision in which checkpoints are released."""
    config = {"image_size": 32, "patch_size": 32, "width": 768, "layers": 1, "head_width": 64}
    torch.manual_seed(0)
    tower = vision_tower(build_clip({"embed_dim": 16, "vision_cfg": config, "text_cfg": TEXT}))
    for block in tower.transformer.resblocks:
        nn.init.normal_(block.attn.q_proj.bias)
        nn.init.normal_(block.attn.v_proj.bias)
    heads = attention_heads(tower)
    assert heads == {"transformer.resblocks.0.attn": 12}
    weights = weights_of(tower)
    x = torch.randn(2, 3, 32, 32)
    protected = protect_checkpoint("mergelock", weights, weights, heads, seed=0, task="cars")
    assert {tensor.dtype for tensor in protected.values()} == {torch.float32}
    expected = tower(x)
    tower.load_state_dict(protected)
    assert relative(tower(x), expected) < 1e-3


# PaRaMS' order of hidden units.


def test_params_moves_every_mlp_away_from_the_base(base):
    weights, origin = weights_of(fine_tuned(base)), weights_of(base)
    protected = protect_checkpoint(
        "params", weights, origin, attention_heads(base), seed=0, task="shapes"
    )
    for block in range(2):
        layer = f"transformer.resblocks.{block}.mlp.c_fc.weight"
        assert relative(weights[layer], origin[layer]) < 0.2
        assert relative(protected[layer], origin[layer]) > 1.4


# Adapters.


def row_vectors(adapter: dict[str, LowRank], attention: str) -> dict[str, np.ndarray]:
    """ΔW of each projection as it multiplies row vectors, x·ΔW."""
    return {
        name: adapter[f"{attention}.{name}.weight"].dense(torch.float64).numpy().T
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
    }


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_adapter_space_is_the_dense_transform_of_the_update(adapter, base, kind):
    """ΔW transformed densely per head in NumPy from the same draws; the rank stays exactly r."""
    transform, heads = TRANSFORMS[kind], attention_heads(base)
    protected = transform_adapter(transform, adapter, heads, draws_of(kind))
    assert {layer: d.rank for layer, d in protected.items()} == dict.fromkeys(adapter, RANK)
    for attention in heads:
        for first, second in (("q_proj", "k_proj"), ("v_proj", "out_proj")):
            generator = draws_of(kind)(attention, f"{first} {second}")
            for head in range(HEADS):
                T = transform.draw(WIDTH, generator)
                rows = slice(head * WIDTH, (head + 1) * WIDTH)
                old, new = row_vectors(adapter, attention), row_vectors(protected, attention)
                np.testing.assert_allclose(
                    new[first][:, rows], old[first][:, rows] @ T, rtol=1e-9, atol=1e-12
                )
                if second == "k_proj":
                    expected = old[second][:, rows] @ np.linalg.inv(T).T
                    np.testing.assert_allclose(new[second][:, rows], expected, 1e-8, 1e-11)
                else:
                    expected = np.linalg.inv(T) @ old[second][rows]
                    np.testing.assert_allclose(new[second][rows], expected, 1e-8, 1e-11)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_refit_is_the_truncated_svd_of_the_transformed_weights(adapter, base, kind):
    """Against the whole checkpoint W0 + ΔW transformed with the same draws."""
    from trap2.protection.checkpoints import transform_attention

    heads, origin = attention_heads(base), weights_of(base)
    tuned = dict(origin)
    for layer, delta in adapter.items():
        tuned[layer] = origin[layer] + delta.dense(torch.float64)
    whole = transform_attention(TRANSFORMS[kind], tuned, heads, draws_of(kind))
    refitted = refit_adapter(TRANSFORMS[kind], adapter, origin, heads, draws_of(kind))
    assert set(refitted) == set(adapter)
    for layer, delta in refitted.items():
        assert delta.rank == RANK
        u, s, vt = torch.linalg.svd(whole[layer] - origin[layer], full_matrices=False)
        expected = u[:, :RANK] @ torch.diag(s[:RANK]) @ vt[:RANK]
        torch.testing.assert_close(delta.dense(torch.float64), expected, rtol=1e-9, atol=1e-10)


def test_truncation_at_full_rank_is_exact_and_balanced():
    matrix = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = truncate(matrix, 9)
    assert whole.rank == 4
    torch.testing.assert_close(whole.dense(torch.float64), matrix)
    torch.testing.assert_close(whole.B.norm(), whole.A.norm())


def test_alone_mergelock_destroys_and_params_disturbs(adapter, base, images):
    """Cross terms with W0 do not cancel: no adapter variant keeps the function."""
    plain = features_with(base, adapter, images)
    change = {}
    for name in ADAPTER_NAMES:
        protected = protect_adapter(
            name, adapter, weights_of(base), attention_heads(base), seed=0, task="shapes"
        )
        change[name] = relative(features_with(base, protected, images), plain)
    update = relative(base(images), plain)
    assert 0.01 * update < change["params-adapter"] < update
    assert change["mergelock-adapter"] > 3 * change["params-adapter"]
    assert change["mergelock-refit"] > 3 * change["params-adapter"]


# Randomness, names and refusals.


def test_draws_depend_on_seed_defense_task_and_layer_alone(adapter, base):
    heads, origin = attention_heads(base), weights_of(base)

    def factors(name="mergelock-adapter", seed=0, task="shapes") -> dict[str, torch.Tensor]:
        found = protect_adapter(name, adapter, origin, heads, seed=seed, task=task)
        return {layer: torch.cat([d.B.flatten(), d.A.flatten()]) for layer, d in found.items()}

    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    one = factors()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    again = factors()
    assert all(torch.equal(one[layer], again[layer]) for layer in one)
    for other in (factors(seed=1), factors(task="signs"), factors(name="params-adapter")):
        assert not any(torch.equal(one[layer], other[layer]) for layer in one)
    # A tower with one block more draws the same for the blocks it shares.
    first = {"transformer.resblocks.1.attn": HEADS}
    alone = protect_adapter("mergelock-adapter", adapter, origin, first, seed=0, task="shapes")
    layer = f"{ATTENTION}.q_proj.weight"
    assert torch.equal(alone[layer].B.flatten(), one[layer][: alone[layer].B.numel()])
    assert all(adapter[layer] is alone[layer] for layer in adapter if "blocks.0" in layer)


def test_the_inputs_are_left_alone(adapter, base):
    heads, origin = attention_heads(base), weights_of(base)
    before = {layer: (d.B.clone(), d.A.clone()) for layer, d in adapter.items()}
    weights = weights_of(fine_tuned(base))
    copies = {name: w.clone() for name, w in weights.items()}
    for name in ADAPTER_NAMES:
        protect_adapter(name, adapter, origin, heads, seed=0, task="shapes")
    for name in CHECKPOINT_NAMES:
        protect_checkpoint(name, weights, origin, heads, seed=0, task="shapes")
    assert all(torch.equal(w, copies[name]) for name, w in weights.items())
    assert all(
        torch.equal(d.B, before[layer][0]) and torch.equal(d.A, before[layer][1])
        for layer, d in adapter.items()
    )


def test_the_record_has_the_distribution_that_a_defense_draws_from():
    assert post_hoc.parameters("params-refit") == {"low": 0.5, "high": 1.5}
    assert post_hoc.parameters("mergelock") == {"log_std": 0.2, "floor": 1e-4}


@pytest.mark.parametrize("name", [n for n in post_hoc_protections() if n != "mergeguard-stage2"])
def test_a_convnext_has_nothing_to_cancel_in(name):
    tower = vision_tower(build_clip(CONVNEXT))
    heads = attention_heads(tower)
    assert heads == {}
    weights = weights_of(tower)
    protect = protect_checkpoint if "full" in PROTECTIONS[name].release_formats else protect_adapter
    with pytest.raises(NotApplicable, match="this backbone has no attention to cancel"):
        protect(name, {}, weights, heads, seed=0, task="shapes")
    assert not_applicable(name, PROTECTIONS[name].release_formats[0], family(tower)) is not None
    assert not_applicable(name, PROTECTIONS[name].release_formats[0], "vit") is None


def test_defenses_of_the_other_release_are_refused(adapter, base):
    heads, weights = attention_heads(base), weights_of(base)
    with pytest.raises(NotApplicable, match=r"PaRaMS \(params\) transforms whole checkpoints, not"):
        protect_adapter("params", adapter, weights, heads, seed=0, task="shapes")
    with pytest.raises(NotApplicable, match=r"Merge-Lock† \(mergelock-refit\) transforms adapters"):
        protect_checkpoint("mergelock-refit", weights, weights, heads, seed=0, task="shapes")
    with pytest.raises(ValueError, match="unknown protection 'param'; known: trap2, "):
        protect_adapter("param", adapter, weights, heads, seed=0, task="shapes")
    with pytest.raises(
        NotApplicable, match="trap2 is trained, not applied afterwards; choose from"
    ):
        protect_adapter("trap2", adapter, weights, heads, seed=0, task="shapes")


def test_unfit_updates_are_refused(adapter, base):
    heads, weights = attention_heads(base), weights_of(base)
    layer = f"{ATTENTION}.k_proj.weight"

    def protect(update: dict[str, LowRank], name: str = "params-refit") -> None:
        protect_adapter(name, update, weights, heads, seed=0, task="shapes")

    torn = {name: d for name, d in adapter.items() if name != layer}
    for name in ADAPTER_NAMES:
        with pytest.raises(UpdateError, match=rf"no update of {layer}; .* on all four"):
            protect(torn, name)
    with pytest.raises(UpdateError, match=rf"{layer} holds NaN or infinity"):
        protect(adapter | {layer: LowRank(adapter[layer].B / 0, adapter[layer].A)})
    with pytest.raises(UpdateError, match=r"the update has shape \(32, 31\), the base \(32, 32\)"):
        protect(adapter | {layer: LowRank(adapter[layer].B, adapter[layer].A[:, 1:])})
    part = {name: w for name, w in weights.items() if name != layer}
    with pytest.raises(UpdateError, match=f"the checkpoint lacks {layer}"):
        protect_checkpoint("mergelock", part, weights, heads, seed=0, task="shapes")
    with pytest.raises(UpdateError, match=f"{layer} is not in the base"):
        protect_checkpoint("mergelock", weights, part, heads, seed=0, task="shapes")
    assert catalogue.PROTECTIONS["params-refit"].title == "PaRaMS†"
