"""The objective against the paper's equations, in float64 and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from trap2.protection.trap2 import WEIGHTINGS, Trap2, accumulate_gradient

GOLDEN = Path(__file__).parents[1] / "golden"


def quadratic(weight: torch.Tensor, base: float, target: float):
    """L(W0 + sΔW) for a scalar model: (w0 + s·w − target)²."""
    return lambda s: (base + s * weight - target) ** 2


@pytest.mark.parametrize("weighting", list(WEIGHTINGS))
@pytest.mark.parametrize("s", [0.05, 0.5, 1.7])
def test_gradient_is_nominal_minus_weighted_off_nominal(weighting, s):
    """dJ/dw = 2(w0 + w − t) − λ·w(s)·2s(w0 + sw − t), by hand."""
    w, base, target, lam = 0.7, 0.2, 1.5, 0.03
    weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    losses = accumulate_gradient(quadratic(weight, base, target), Trap2(lam, weighting), s)
    factor = {"1/s": 1 / s, "1/sqrt(s)": s**-0.5, "1": 1.0}[weighting]
    expected = 2 * (base + w - target) - lam * factor * 2 * s * (base + s * w - target)
    assert weight.grad.item() == pytest.approx(expected, rel=1e-12)
    assert losses == pytest.approx(
        ((base + w - target) ** 2, (base + s * w - target) ** 2), rel=1e-12
    )


def test_gradient_agrees_with_finite_differences_of_the_objective():
    """The objective's value, Eq. 9 with one s, differentiated numerically."""
    lam, s, step = 0.2, 0.4, 1e-6

    def objective(w: float) -> float:
        loss = quadratic(torch.tensor(w, dtype=torch.float64), 0.1, -0.4)
        return float(loss(1.0) - lam / s * loss(s))

    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    accumulate_gradient(quadratic(weight, 0.1, -0.4), Trap2(lam), s)
    numeric = (objective(0.3 + step) - objective(0.3 - step)) / (2 * step)
    assert weight.grad.item() == pytest.approx(numeric, rel=1e-7)


def test_without_trap2_and_with_zero_lambda_the_gradient_is_the_nominal_one():
    for settings in (None, Trap2(0.0)):
        weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        nominal, off_nominal = accumulate_gradient(quadratic(weight, 0.0, 1.0), settings, 0.5)
        assert weight.grad.item() == pytest.approx(2 * (0.3 - 1.0))
        assert nominal == pytest.approx(0.49)
        assert np.isnan(off_nominal)


def test_both_passes_see_the_same_dropout_mask():
    seen = []

    def loss_at(s: float) -> torch.Tensor:
        mask = torch.nn.functional.dropout(torch.ones(64), 0.5, training=True)
        seen.append(mask)
        return (mask.sum() * s).requires_grad_()

    accumulate_gradient(loss_at, Trap2(0.1), 0.5)
    assert torch.equal(seen[0], seen[1])


def test_shares_of_micro_batches_add_up_to_the_whole_batch():
    x = torch.linspace(-1, 1, 12, dtype=torch.float64)
    gradients = []
    for parts in (1, 3):
        weight = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
        for part in x.chunk(parts):
            accumulate_gradient(
                lambda s, part=part, weight=weight: ((1 + s * weight) * part).cosh().mean(),
                Trap2(0.1),
                1.6,
                share=1 / parts,
            )
        gradients.append(weight.grad.item())
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-12)


def test_scales_fill_both_intervals_evenly_and_spare_the_margin():
    settings = Trap2(0.1, s_min=0.05, s_max=2.0, delta=0.05)
    generator = np.random.default_rng(3)
    drawn = np.array([settings.draw_scale(generator) for _ in range(40_000)])
    assert drawn.min() >= 0.05
    assert drawn.max() <= 2.0
    assert not ((drawn > 0.95) & (drawn < 1.05)).any()
    # Lengths 0.90 and 0.95: a uniform law puts 0.90 / 1.85 of the draws below 1.
    assert (drawn < 1).mean() == pytest.approx(0.90 / 1.85, abs=0.01)
    assert drawn[drawn < 1].mean() == pytest.approx(0.5, abs=0.01)
    assert drawn[drawn > 1].mean() == pytest.approx(1.525, abs=0.01)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lambda_": -0.1}, "λ is -0.1"),
        ({"lambda_": float("nan")}, "λ is nan"),
        ({"weighting": "s"}, "w\\(s\\) is 's'"),
        ({"s_min": 0.96}, "s_min is 0.96; it must lie between 0 and 1 - delta = 0.95"),
        ({"s_min": 0.0}, "s_min is 0.0"),
        ({"s_max": 1.0}, "s_max is 1.0; it must exceed 1 \\+ delta = 1.05"),
        ({"delta": 0.0}, "delta is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Trap2(**({"lambda_": 0.1} | changed))


def _golden_step_configurations():
    return json.loads((GOLDEN / "trap2_step.json").read_text("utf-8"))["configs"].items()


@pytest.mark.parametrize(("name", "expected"), _golden_step_configurations())
def test_one_step_of_the_reference_code(name, expected):
    """Losses, gradient and the weights after one clipped AdamW step, in float64."""
    arrays = np.load(GOLDEN / "trap2_step.npz")
    tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files if "__" not in key}
    a, b = (tensors[k].clone().requires_grad_() for k in ("A", "B"))
    heads = tensors["class_vectors"]
    images, labels = tensors["X"], tensors["Y"]

    def loss_at(s: float) -> torch.Tensor:
        encoded = images @ (tensors["W0"] + s * (b @ a)).T
        logits = 100 * torch.nn.functional.normalize(encoded, dim=-1) @ heads.T
        return torch.nn.functional.cross_entropy(logits, labels)

    weighting = {"inv": "1/s", "none": "1"}[expected["weight"]]
    settings = Trap2(expected["lambda_reg"], weighting)
    optimiser = torch.optim.AdamW([a, b], lr=3e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0)
    nominal, off = accumulate_gradient(loss_at, settings, expected["alpha"])
    assert nominal == pytest.approx(expected["loss_clean"], rel=1e-9)
    weighted = WEIGHTINGS[weighting](expected["alpha"]) * off
    assert weighted == pytest.approx(expected["loss_off_weighted"], rel=1e-9)
    assert nominal - settings.lambda_ * weighted == pytest.approx(expected["total"], rel=1e-9)
    norm = torch.nn.utils.clip_grad_norm_([a, b], expected["max_norm"])
    assert norm.item() == pytest.approx(expected["grad_norm_before_clip"], rel=1e-7)
    optimiser.step()
    for letter, tensor in (("A", a), ("B", b)):
        after = arrays[f"new{letter}__{name}"]
        np.testing.assert_allclose(tensor.detach().numpy(), after, rtol=1e-7, atol=1e-10)
