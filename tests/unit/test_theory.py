"""Theorems A.2 and A.4: derivatives against PyTorch's Hessian, bounds against known functions."""

import numpy as np
import pytest
import torch
from torch import nn
from trap2.evaluation.curvature import SampledLoss, along, gradient_norm
from trap2.evaluation.theorems import (
    CURVATURE_GRID,
    DOWN_SCALES,
    cross_degradation,
    down_scaling,
    quadrature,
    weighted_curvature,
)
from trap2.models.clip.attention import SeparateAttention
from trap2.models.clip.classifier import Classifier
from trap2.models.task import Batch
from trap2.report.tables.theorems import degradation_rows, scaling_rows, statement


class Tower(nn.Module):
    """Attention, a non-linearity and a projection, small enough for a whole Hessian."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SeparateAttention(4, 2, bias=True, dropout=0.0, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended, _ = self.attention(x, x, x)
        return self.out(torch.tanh(attended.mean(1)))


@pytest.fixture
def setting():
    torch.manual_seed(0)
    tower = Tower().requires_grad_(False).eval()
    head = nn.functional.normalize(torch.randn(5, 3), dim=1)
    batches = [Batch(torch.randn(n, 6, 4), torch.randint(5, (n,))) for n in (7, 4)]
    task = Classifier({}, head, 3.0, 8, torch.device("cpu"))
    names = ["attention.q_proj.weight", "attention.v_proj.weight", "out.weight"]
    origin = {name: tower.get_parameter(name).clone() for name in names}
    direction = {name: 0.5 * torch.randn_like(value) for name, value in origin.items()}
    return tower, SampledLoss(task, batches), origin, direction


def flat_loss(tower, loss, origin):
    """The loss as a function of the named weights in one vector."""
    shapes = {name: value.shape for name, value in origin.items()}

    def function(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        weights = {n: p.reshape(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        total = 0.0
        for batch in loss.batches:
            features = torch.func.functional_call(tower, weights, (batch.inputs,))
            values = 3.0 * nn.functional.normalize(features, dim=1) @ loss.task.head.T
            total = total + nn.functional.cross_entropy(values, batch.labels, reduction="sum")
        return total / 11

    return function


def vector(weights) -> torch.Tensor:
    return torch.cat([value.flatten() for value in weights.values()])


@pytest.mark.parametrize("u", [0.0, 0.7])
def test_derivatives_along_a_line_are_those_of_the_whole_hessian(setting, u):
    tower, loss, origin, direction = setting
    function = flat_loss(tower, loss, origin)
    point, step = vector(origin) + u * vector(direction), vector(direction)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        hessian = torch.autograd.functional.hessian(function, point)
        gradient = torch.autograd.functional.jacobian(function, point)
    found = along(tower, origin, direction, loss, u)
    assert found.loss == pytest.approx(float(function(point)), rel=1e-5)
    assert found.slope == pytest.approx(float(gradient @ step), rel=1e-4)
    assert found.curvature == pytest.approx(float(step @ hessian @ step), rel=1e-4)


def test_the_gradients_norm_is_that_of_the_named_weights(setting):
    tower, loss, origin, _ = setting
    gradient = torch.autograd.functional.jacobian(flat_loss(tower, loss, origin), vector(origin))
    assert gradient_norm(tower, origin, loss) == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_a_measurement_leaves_the_tower_as_it_was(setting):
    tower, loss, origin, direction = setting
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    along(tower, origin, direction, loss, 0.5)
    gradient_norm(tower, origin, loss)
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in tower.parameters())


def test_quadrature_is_exact_for_polynomials():
    nodes, weights = quadrature()
    for power in range(8):
        exact = 1 / ((power + 1) * (power + 2))
        assert float(weights @ nodes**power) == pytest.approx(exact, rel=1e-12)


def test_down_scaling_of_a_parabola_is_tight():
    # g(u) = 3(u - 1)² + 0.5(u - 1): μ = 6, ε = 0.5, and g(s) - g(1) = bound for a slope > 0.
    loss = {u: 3 * (u - 1) ** 2 + 0.5 * (u - 1) for u in CURVATURE_GRID}
    found = down_scaling(loss, dict.fromkeys(CURVATURE_GRID, 6.0), 0.5)
    assert [each.s for each in found] == list(DOWN_SCALES)
    for each in found:
        assert each.premise
        assert each.bound == pytest.approx(3 * (1 - each.s) ** 2 - 0.5 * (1 - each.s))
        assert each.measured == pytest.approx(each.bound)


def test_down_scaling_takes_the_smallest_curvature_between_s_and_one():
    curvature = {u: 1.0 if u >= 0.9 else -2.0 for u in CURVATURE_GRID}
    found = {d.s: d for d in down_scaling(dict.fromkeys(CURVATURE_GRID, 0.0), curvature, -0.1)}
    assert (found[0.95].mu, found[0.95].premise, found[0.95].epsilon) == (1.0, True, 0.1)
    assert (found[0.8].mu, found[0.8].premise) == (-2.0, False)


@pytest.mark.parametrize("slope", [-0.3, 0.2])
def test_cross_damage_of_a_parabola(slope):
    # φ(γ) = 0.1 + slope·γ + 2γ²: φ″ = 4, ∫(1 - γ)φ″ = 2 = μ‖V‖²/8.
    found = cross_degradation(5.0, 0.4, slope, weighted_curvature(lambda _: 4.0), 0.1, 2.1 + slope)
    assert found.mu_hvp_error == pytest.approx(0, abs=1e-12)
    assert found.mu_hvp == pytest.approx(16 / 25)
    assert found.mu_profile == pytest.approx(16 / 25)
    assert found.bound == pytest.approx(2 - 0.4 / 2 * 5)
    assert found.measured == pytest.approx(2 + slope)
    assert found.guaranteed == (4 * 0.4 / found.mu_profile < 5.0)


def test_the_bounds_hold_and_both_curvatures_agree_on_a_network(setting):
    tower, loss, origin, direction = setting
    half = {name: value / 2 for name, value in direction.items()}
    start, end = (along(tower, origin, half, loss, u) for u in (0.0, 1.0))
    integral = weighted_curvature(lambda g: along(tower, origin, half, loss, g).curvature)
    distance = float(vector(direction).norm())
    epsilon = gradient_norm(tower, origin, loss)
    found = cross_degradation(distance, epsilon, start.slope, integral, start.loss, end.loss)
    assert found.mu_hvp == pytest.approx(found.mu_profile, rel=1e-3)
    assert found.measured >= found.bound
    assert found.slope >= -epsilon / 2 * distance - 1e-6
    at = {u: along(tower, origin, direction, loss, u) for u in CURVATURE_GRID}
    for each in down_scaling(
        {u: p.loss for u, p in at.items()}, {u: p.curvature for u, p in at.items()}, at[1.0].slope
    ):
        assert each.measured >= each.bound - 1e-5


def test_the_statement_counts():
    facts = {"suite": "demo", "backbone": "V", "release_format": "lora", "protection": "trap2"}
    scale = {"s": 0.5, "mu": 1.0, "epsilon": 0.1, "bound": 0.2, "measured": 0.3, "premise": True}
    pair = {"protected_task": "a", "unprotected_task": "b", "side": "protected", "distance": 2.0}
    pair |= {"epsilon": 0.1, "slope": 0.0, "mu_hvp": 1.0, "mu_profile": 1.0, "bound": -1.0}
    pair |= {"mu_hvp_error": 0.0}
    pair |= {"measured": 0.4, "guaranteed": False}
    record = facts | {
        "updates": [{"task": "a"} | scale, {"task": "b"} | scale | {"premise": False, "bound": -1}],
        "pairs": [pair],
    }
    rows = scaling_rows([record])
    assert [row["premise"] for row in rows] == ["yes", "no"]
    text = statement(rows, degradation_rows([record]), 200)
    assert "s = 0.500: convex for 1 of 2, growth guaranteed for 1 of 2, measured for 2 of 2" in text
    assert "mu > 0 for 1 of 1, growth guaranteed for 0 of 1, measured for 1 of 1" in text


def test_quadrature_nodes_are_densest_at_the_adapter():
    nodes, _ = quadrature()
    assert np.all(np.diff(nodes) > 0)
    assert nodes[0] < 0.001


def test_the_integrals_error_shows_where_the_curvature_is_too_sharp_to_integrate():
    smooth = weighted_curvature(lambda g: 12 * g**2)
    assert smooth == (pytest.approx(12 * (1 / 3 - 1 / 4)), pytest.approx(0, abs=1e-10))
    # ∫ (1 - γ)·sin(300γ) dγ = 1/300 - sin(300)/300².
    sharp = weighted_curvature(lambda g: np.sin(300 * g))
    assert sharp[1] > 1 / 300
