"""Alignment attacks on models that a protection really transformed: what each must undo."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from trap2.attacks.alignment.anchor import RIDGE, align_to_anchor
from trap2.attacks.alignment.blocks import head_blocks
from trap2.attacks.alignment.graderase import descend, project_out
from trap2.attacks.alignment.permutation import align_hidden_units
from trap2.attacks.alignment.rotation import align_rotation
from trap2.attacks.alignment.scales import align_scales, paired_factors
from trap2.attacks.alignment.unmask import unmask
from trap2.models.clip.attention import SeparateAttention
from trap2.protection.adapters import layer_name
from trap2.protection.checkpoints import transform_attention
from trap2.protection.mergelock import RandomMixing
from trap2.protection.params import DiagonalScales, permute_hidden_units
from trap2.protection.transforms import PROJECTIONS
from trap2.runtime.seeding import numpy_generator
from trap2.updates.delta import UpdateError

WIDTH, HEADS, HIDDEN = 24, 4, 32
ATTENTION = ("block.attn", "other.attn")
ALL_HEADS = dict.fromkeys(ATTENTION, HEADS)
Tensors = dict[str, torch.Tensor]


class Rotations:
    """A transform of whichever sign of the determinant comes."""

    def draw(self, width: int, generator: np.random.Generator) -> np.ndarray:
        found: np.ndarray = np.linalg.qr(generator.standard_normal((width, width)))[0]
        return found


def random_model(seed: int, scale: float = 1.0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"norm.weight": (WIDTH,)}
    for attention in ATTENTION:
        for projection in PROJECTIONS:
            shapes[f"{attention}.{projection}.weight"] = (WIDTH, WIDTH)
            shapes[f"{attention}.{projection}.bias"] = (WIDTH,)
        mlp = f"{attention.removesuffix('attn')}mlp"
        shapes |= {f"{mlp}.c_fc.weight": (HIDDEN, WIDTH), f"{mlp}.c_fc.bias": (HIDDEN,)}
        shapes |= {f"{mlp}.c_proj.weight": (WIDTH, HIDDEN), f"{mlp}.c_proj.bias": (WIDTH,)}
    return {
        name: scale * torch.randn(shape, generator=generator, dtype=torch.float64) / WIDTH**0.5
        for name, shape in shapes.items()
    }


def tuned_model(base: Tensors, seed: int, share: float = 0.05) -> Tensors:
    return {name: base[name] + tau for name, tau in random_model(seed, share).items()}


def outputs(weights: Tensors) -> torch.Tensor:
    """Both blocks on random tokens, (…), float64."""
    x = torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    for attention in ATTENTION:
        module = SeparateAttention(WIDTH, HEADS, bias=True, dropout=0.0, batch_first=True).double()
        module.load_state_dict(
            {name: weights[f"{attention}.{name}"].double() for name in module.state_dict()}
        )
        x = x + module(x, x, x)[0]
        mlp = f"{attention.removesuffix('attn')}mlp"
        hidden = x @ weights[f"{mlp}.c_fc.weight"].mT.double() + weights[f"{mlp}.c_fc.bias"]
        x = x + torch.nn.functional.gelu(hidden) @ weights[f"{mlp}.c_proj.weight"].mT.double()
    return x.detach()


def draws(seed: int) -> Any:
    return partial(numpy_generator, seed, "test")


def mixed(weights: Tensors, transform: Any = None, seed: int = 0) -> Tensors:
    return transform_attention(transform or RandomMixing(), weights, ALL_HEADS, draws(seed))


def distance(first: Tensors, second: Tensors) -> float:
    return float(sum((first[name] - second[name]).square().sum() for name in first)) ** 0.5


def assert_same(found: Tensors, expected: Tensors, limit: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= limit * float(value.norm()), name


def single(weights: Tensors) -> Tensors:
    return {name: weight.float() for name, weight in weights.items()}


def test_a_known_rotation_is_undone():
    model = single(random_model(0))
    rotated = mixed(model, Rotations())
    assert distance(rotated, model) > 0.5 * distance(model, dict.fromkeys(model, torch.zeros(())))
    assert_same(align_rotation(rotated, model, ALL_HEADS), model, 1e-5)


def test_a_reflection_is_undone_by_an_orthogonal_matrix_alone():
    model = random_model(0)
    rotated = mixed(model, Rotations())
    proper = align_rotation(rotated, model, ALL_HEADS, proper=True)
    assert distance(align_rotation(rotated, model, ALL_HEADS), model) < 1e-10
    assert distance(proper, model) > 1
    torch.testing.assert_close(outputs(proper), outputs(rotated), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transform", [Rotations(), RandomMixing(), DiagonalScales()])
@pytest.mark.parametrize("scaled", [False, True])
def test_rotation_keeps_the_function_and_never_adds_distance(transform: Any, scaled: bool):
    base = random_model(0)
    model, reference = tuned_model(base, 1), tuned_model(base, 2)
    protected = mixed(model, transform)
    aligned = align_rotation(protected, reference, ALL_HEADS, scaled=scaled)
    torch.testing.assert_close(outputs(aligned), outputs(model), rtol=1e-9, atol=1e-9)
    assert distance(aligned, reference) < distance(protected, reference)
    if scaled:
        plain = align_rotation(protected, reference, ALL_HEADS)
        assert distance(aligned, reference) < distance(plain, reference)


def test_known_scales_are_undone():
    model = single(random_model(0))
    scaled = mixed(model, DiagonalScales())
    assert distance(scaled, model) > 1
    for estimator in ("paired", "ls"):
        assert_same(align_scales(scaled, model, ALL_HEADS, estimator=estimator), model, 1e-5)


def test_paired_scales_keep_the_function_of_a_tuned_model_and_come_nearer():
    base = random_model(0)
    model = tuned_model(base, 1)
    scaled = mixed(model, DiagonalScales())
    aligned = align_scales(scaled, base, ALL_HEADS)
    torch.testing.assert_close(outputs(aligned), outputs(model), rtol=1e-10, atol=1e-10)
    # What is left is the estimate's error, which the task vector sets.
    assert distance(aligned, model) < 0.5 * distance(model, base) < 0.1 * distance(scaled, model)


def test_paired_factors_are_the_least_of_a_fine_grid():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 50, 6, generator=generator, dtype=torch.float64)
    p, r, p0, r0 = vectors
    # Far goals have two places of least cost, of which one must be chosen.
    p0, r0 = p0 + 3 * p, r0 + 4 * r
    found = paired_factors(p, r, p0, r0)
    grid = torch.logspace(-3, 3, 20001, dtype=torch.float64)[:, None, None]

    def cost(f: torch.Tensor) -> torch.Tensor:
        return (f * p - p0).square().sum(-1) + (r / f - r0).square().sum(-1)

    assert (found > 0).all()
    assert (cost(found[:, None]) <= cost(grid).amin(0) * (1 + 1e-12)).all()
    zero = torch.zeros_like(p)
    assert torch.equal(paired_factors(zero, r, p0, r0), torch.ones(50, dtype=torch.float64))


def test_the_order_of_hidden_units_is_undone_exactly():
    base = random_model(0)
    model = tuned_model(base, 1)
    permuted = permute_hidden_units(model, base, ALL_HEADS)
    assert not torch.equal(permuted["block.mlp.c_fc.weight"], model["block.mlp.c_fc.weight"])
    for cost in ("distance", "distance-bias", "cosine"):
        found = align_hidden_units(permuted, base, ALL_HEADS, cost=cost)
        assert all(torch.equal(found[name], model[name]) for name in model)
        assert distance(found, base) == distance(model, base)


# The published ridge counts where a T is nearly singular.
@pytest.mark.parametrize(("ridge", "limit"), [(0.0, 1e-9), (RIDGE, 1e-4)])
@pytest.mark.parametrize("paired", [False, True])
def test_the_anchor_gives_the_same_whatever_the_protection(
    paired: bool, ridge: float, limit: float
):
    base = random_model(0)
    model = tuned_model(base, 1)
    protected = [mixed(model, RandomMixing(), seed) for seed in (1, 2)]
    protected.append(permute_hidden_units(mixed(model, DiagonalScales()), base, ALL_HEADS))
    protected.append(model)
    first, *others = (
        align_to_anchor(each, base, ALL_HEADS, paired=paired, ridge=ridge) for each in protected
    )
    for other in others:
        assert_same(other, first, limit)


def test_the_anchors_error_is_the_task_vectors_part_in_the_heads_row_space():
    base = random_model(0)
    model = tuned_model(base, 1)
    recovered = align_to_anchor(mixed(model), base, ALL_HEADS, ridge=0)
    for attention in ATTENTION:
        for projection in PROJECTIONS:
            tuned, origin, found = (
                head_blocks(weights, model, attention, projection, HEADS, biases=False)
                for weights in (model, base, recovered)
            )
            projector = tuned.mT @ torch.linalg.inv(tuned @ tuned.mT) @ tuned
            expected = -(tuned - origin) @ projector
            torch.testing.assert_close(found - tuned, expected, rtol=0, atol=1e-10)
            assert (found - tuned).norm() <= (tuned - origin).norm()


def test_only_the_paired_form_keeps_the_function():
    base = random_model(0)
    model = tuned_model(base, 1)
    protected = permute_hidden_units(mixed(model), base, ALL_HEADS)
    paired = align_to_anchor(protected, base, ALL_HEADS, paired=True)
    torch.testing.assert_close(outputs(paired), outputs(model), rtol=1e-8, atol=1e-8)
    published = align_to_anchor(protected, base, ALL_HEADS)
    moved = (outputs(published) - outputs(model)).norm() / outputs(model).norm()
    assert 1e-3 < float(moved) < 0.2


def test_adapters_without_biases_or_of_some_projections():
    """W0 + BA of an adapter's layers: no biases, and a module without all four stays."""
    base = random_model(0)
    held = [f"block.attn.{projection}.weight" for projection in PROJECTIONS]
    model = {name: base[name] for name in [*held, "other.attn.q_proj.weight"]}
    rotated = transform_attention(Rotations(), model, {"block.attn": HEADS}, draws(0))
    for aligned in (
        align_rotation(rotated, base, ALL_HEADS),
        align_to_anchor(rotated, base, ALL_HEADS),
        align_to_anchor(rotated, base, ALL_HEADS, paired=True),
    ):
        assert_same(aligned, model, 1e-5)


def test_another_models_reference_is_refused():
    model = random_model(0)
    other = {**model, "block.attn.k_proj.weight": torch.zeros(3, 3)}
    for align in (align_rotation, align_scales, align_to_anchor):
        with pytest.raises(UpdateError, match=r"block\.attn\.k_proj\.weight.*not the same model"):
            align(model, other, ALL_HEADS)
    del other["block.mlp.c_fc.weight"]
    with pytest.raises(UpdateError, match=r"c_fc\.weight is not in the base"):
        align_hidden_units(model, other, ALL_HEADS)


def test_a_head_without_an_inverse_is_said():
    base = random_model(0)
    base[layer_name("block.attn", "q_proj")] = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    with pytest.raises(UpdateError, match="has no inverse"):
        align_to_anchor(random_model(1), base, ALL_HEADS, paired=True)


def test_unmask_after_task_arithmetic_forgets_the_protected_model():
    base, others = random_model(0), [random_model(seed, 0.1) for seed in (1, 2)]
    found = []
    for seed in (3, 4):
        update = random_model(seed, 5.0)
        protected = {name: base[name] + update[name] for name in base}
        merged = {
            name: base[name] + 0.3 * (update[name] + sum(other[name] for other in others))
            for name in base
        }
        found.append(unmask(merged, protected, 0.3))
        by_task_vectors = unmask(merged, protected, 0.3, base)
        assert_same(
            by_task_vectors,
            {name: base[name] + 0.3 * sum(other[name] for other in others) for name in base},
            1e-12,
        )
    assert_same(*found, 1e-12)


@pytest.mark.parametrize("per_tensor", [False, True])
def test_projected_gradients(per_tensor: bool):
    gradients, direction = random_model(0), random_model(1)
    found = project_out(gradients, direction, per_tensor=per_tensor)
    products = [float((found[name] * direction[name]).sum()) for name in found]
    assert sum(products) == pytest.approx(0, abs=1e-12)
    if per_tensor:
        assert products == pytest.approx([0] * len(products), abs=1e-12)
    assert_same(project_out(found, direction, per_tensor=per_tensor), found, 1e-12)
    parallel = {name: -3 * value for name, value in direction.items()}
    gone = project_out(parallel, direction, per_tensor=per_tensor)
    assert distance(gone, dict.fromkeys(gone, torch.zeros(()))) < 1e-12
    zero = {name: torch.zeros_like(value) for name, value in direction.items()}
    assert_same(project_out(gradients, zero, per_tensor=per_tensor), gradients, 0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_retraining_reaches_the_least_loss_that_is_orthogonal_to_the_direction(momentum: float):
    start, goal, direction = random_model(0), random_model(1), random_model(2)

    def loss(weights: Any, _step: int) -> torch.Tensor:
        return 0.5 * sum((weights[n] - goal[n]).square().sum() for n in weights)

    free = descend(loss, start, 400, 0.1, momentum=momentum)
    assert distance(free, goal) < 1e-6
    found = descend(loss, start, 400, 0.1, momentum=momentum, direction=direction)
    wanted = project_out({n: goal[n] - start[n] for n in goal}, direction)
    assert distance(found, {n: start[n] + wanted[n] for n in wanted}) < 1e-6
    assert all(torch.equal(start[n], value) for n, value in random_model(0).items())
