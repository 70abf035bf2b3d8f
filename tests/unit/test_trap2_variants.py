"""The strengthened objectives: gradients in float64 by hand, points off the line, what is drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from trap2.protection.catalogue import PROTECTIONS, needs_partners, objective_of
from trap2.protection.objective import Surroundings, accumulate_gradient
from trap2.protection.trap2 import Trap2
from trap2.protection.trap2_variants import LayerwiseTrap2, MixedTrap2
from trap2.runtime.errors import Trap2Error
from trap2.updates.adapters import read_dora
from trap2.updates.delta import LowRank, UpdateError
from trap2.updates.lora import attach_adapter
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import FullUpdate, Point, TrainableUpdate

LAYERS = ["first.weight", "second.weight"]
LAW = Trap2(0.03)


class Tower(nn.Module):
    """Two linear layers with a non-linearity between, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 4, bias=False)
        self.second = nn.Linear(4, 3, bias=False)
        self.double().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.second(self.first(x).tanh())
        return output


def normal(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.4


def update_of(form: str) -> TrainableUpdate:
    if form == "full":
        update: TrainableUpdate = FullUpdate(Tower())
    else:
        settings = AdapterSettings(rank=2, alpha=6, dropout=0.0, dora=form == "dora")
        update = attach_adapter(Tower(), ["first", "second"], settings, seed=1)
        update.module.double()
    for number, parameter in enumerate(update.parameters()):
        parameter.data.add_(normal(*parameter.shape, seed=number))
    return update


X, Y = normal(7, 5, seed=20), normal(7, 3, seed=21)
PARTNER = {
    "first.weight": LowRank(normal(4, 2, seed=30), normal(2, 5, seed=31)),
    "second.weight": LowRank(normal(3, 2, seed=32), normal(2, 4, seed=33)),
}


FIRST = PARTNER["first.weight"]


def loss_of(output: torch.Tensor) -> torch.Tensor:
    return ((output - Y) ** 2).sum()


def dense(part: LowRank | torch.Tensor) -> torch.Tensor:
    return part.dense(torch.float64) if isinstance(part, LowRank) else part


def weights_at(deltas: dict[str, torch.Tensor], scales: dict[str, float], added: dict) -> dict:
    base = dict(Tower().named_parameters())
    return {n: base[n] + scales[n] * deltas[n] + added.get(n, 0.0) for n in base}


def by_hand(w1: torch.Tensor, w2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of Σ (W2 tanh(W1 x) − y)² by W1 and W2, backpropagated on paper."""
    hidden = torch.tanh(X @ w1.T)
    error = 2 * (hidden @ w2.T - Y)
    return ((error @ w2) * (1 - hidden**2)).T @ X, error.T @ hidden


def expected_gradient(b: list, a: list, scales: list, added: list, weight: float) -> list:
    """dJ/dB, dJ/dA of each layer for ΔW = 3·BA (α/r = 3): the chain rule, term by term."""
    base = [p.detach() for p in Tower().parameters()]
    delta = [3 * b_l @ a_l for b_l, a_l in zip(b, a, strict=True)]
    nominal = by_hand(*(w + d for w, d in zip(base, delta, strict=True)))
    moved = [w + s * d + e for w, d, s, e in zip(base, delta, scales, added, strict=True)]
    off = by_hand(*moved)
    found = []
    for n, o, s, b_l, a_l in zip(nominal, off, scales, b, a, strict=True):
        total = n - weight * s * o
        found.append((3 * total @ a_l.T, 3 * b_l.T @ total))
    return found


def factors(update: TrainableUpdate) -> tuple[list, list]:
    """B and A of every layer."""
    named = update.named_parameters()
    return tuple([p for n, p in named.items() if f"lora_{part}" in n] for part in "BA")


def gradients(objective, drawn) -> tuple[list, list, list]:
    update = update_of("lora")
    b, a = factors(update)
    accumulate_gradient(lambda w: loss_of(update.at(w)(X)), objective, drawn)
    return (
        [p.detach() for p in b],
        [p.detach() for p in a],
        [(p.grad, q.grad) for p, q in zip(b, a, strict=True)],
    )


def check_gradients(found: list, expected: list) -> None:
    for pair, wanted in zip(found, expected, strict=True):
        for gradient, value in zip(pair, wanted, strict=True):
            torch.testing.assert_close(gradient, value, rtol=1e-10, atol=1e-12)


def test_the_layerwise_gradient_is_the_chain_rule_with_a_scale_a_layer():
    """J = L(W0 + ΔW) − λ · ½(1/s_1 + 1/s_2) · L(W0 + s_1ΔW_1, W0 + s_2ΔW_2)."""
    drawn = Point(dict(zip(LAYERS, (0.4, 1.6), strict=True)))
    b, a, found = gradients(LayerwiseTrap2(LAW), drawn)
    weight = 0.03 * (1 / 0.4 + 1 / 1.6) / 2
    check_gradients(found, expected_gradient(b, a, [0.4, 1.6], [0.0, 0.0], weight))


@pytest.mark.parametrize("pinned", [0.0, 1.0])
def test_the_mixed_gradient_has_the_direction_as_a_constant(pinned):
    """J = L(W0 + ΔW) − λ/s · L(W0 + s·ΔW + c·D); D and c get no gradient."""
    surroundings = Surroundings(update_of("lora").layers, {"other": PARTNER})
    objective = MixedTrap2(LAW, "task", pinned=pinned).within(surroundings)
    drawn = objective.draw(np.random.default_rng(5))
    assert (drawn.s == 1.0) == bool(pinned)
    added = [dense(drawn.point.added[n]) for n in LAYERS]
    ratios = [e / dense(PARTNER[n]) for e, n in zip(added, LAYERS, strict=True)]
    assert 0.1 <= ratios[0][0, 0] <= 1
    for ratio in ratios:
        torch.testing.assert_close(ratio, ratios[0][0, 0].expand_as(ratio))
    b, a, found = gradients(objective, drawn)
    check_gradients(found, expected_gradient(b, a, [drawn.s] * 2, added, 0.03 / drawn.s))


@pytest.mark.parametrize("form", ["lora", "dora", "full"])
def test_a_point_is_the_model_with_these_dense_weights(tmp_path, form):
    update = update_of(form)
    deltas = {n: dense(d) for n, d in update.layers().items()}
    if form == "dora":
        update.save(tmp_path)
        for name, delta in read_dora(tmp_path, dict(Tower().named_parameters())).items():
            torch.testing.assert_close(deltas[name], delta)
    scales = {"first.weight": 0.3, "second.weight": 1.7}
    for added in ({}, PARTNER, {"second.weight": PARTNER["second.weight"]}):
        model = Tower()
        wanted = weights_at(deltas, scales, {n: dense(d) for n, d in added.items()})
        expected = torch.func.functional_call(model, wanted, (X,))
        torch.testing.assert_close(update.at(Point(scales, added))(X), expected)
    # Nothing is left behind, and equal scales are a scale.
    nominal = torch.func.functional_call(
        Tower(), weights_at(deltas, dict.fromkeys(LAYERS, 1.0), {}), (X,)
    )
    torch.testing.assert_close(update.at(1.0)(X), nominal)
    equal = update.at(Point(dict.fromkeys(LAYERS, 0.3)))(X)
    torch.testing.assert_close(equal, update.at(0.3)(X))


@pytest.mark.parametrize("form", ["lora", "dora", "full"])
def test_a_point_of_another_model_is_refused(form):
    update = update_of(form)
    both = dict.fromkeys(LAYERS, 0.5)
    with pytest.raises(UpdateError, match=r"scale for every layer .*second"):
        update.at(Point({"first.weight": 0.5}))
    with pytest.raises(UpdateError, match=r"does not change: \['third.weight'\]"):
        update.at(Point(both, {"third.weight": PARTNER["first.weight"]}))
    with pytest.raises(UpdateError, match=r"first.weight: the added direction has shape \(3, 4\)"):
        update.at(Point(both, {"first.weight": PARTNER["second.weight"]}))


def test_each_layer_draws_by_trap2s_law_and_the_weight_keeps_its_expectation():
    layers = {f"layer{i}.weight": torch.zeros(1) for i in range(16)}
    objective = LayerwiseTrap2(LAW).within(Surroundings(lambda: layers))
    generator = np.random.default_rng(0)
    drawn = [objective.draw(generator) for _ in range(2000)]
    scales = np.array([list(point.scales.values()) for point in drawn])
    assert list(drawn[0].scales) == list(layers)
    assert scales.min() >= 0.05
    assert scales.max() <= 2
    assert not ((scales > 0.95) & (scales < 1.05)).any()
    assert abs(np.corrcoef(scales[:, 0], scales[:, 1])[0, 1]) < 0.06
    # E[1/s] over [0.05, 0.95] ∪ [1.05, 2], by integration.
    mean = (math.log(0.95 / 0.05) + math.log(2 / 1.05)) / 1.85
    found = np.mean([objective.off_nominal_weight(point) for point in drawn])
    assert found == pytest.approx(0.03 * mean, rel=0.02)


def test_equal_scales_are_trap2():
    _, _, found = gradients(LayerwiseTrap2(LAW), Point(dict.fromkeys(LAYERS, 0.4)))
    update = update_of("lora")
    accumulate_gradient(lambda w: loss_of(update.at(w)(X)), LAW, 0.4)
    pairs = zip(*factors(update), strict=True)
    check_gradients(found, [(b.grad, a.grad) for b, a in pairs])


@pytest.mark.parametrize("form", ["lora", "full"])
def test_noise_has_the_form_and_the_norm_of_the_update_times_the_coefficient(form):
    update = update_of(form)
    objective = MixedTrap2(LAW, "noise", other_min=0.5, other_max=0.5)
    objective = objective.within(Surroundings(update.layers))
    first = objective.draw(np.random.default_rng(1)).point.added
    second = objective.draw(np.random.default_rng(2)).point.added
    for name, delta in update.layers().items():
        noise = first[name]
        assert type(noise) is type(delta)
        norm = torch.linalg.matrix_norm(dense(noise))
        torch.testing.assert_close(norm, 0.5 * torch.linalg.matrix_norm(dense(delta)))
        assert torch.linalg.matrix_rank(dense(noise)) == torch.linalg.matrix_rank(dense(delta))
        assert not torch.allclose(dense(noise), dense(second[name]))


def test_noise_of_a_fresh_adapter_is_zero():
    update = attach_adapter(Tower(), ["first"], AdapterSettings(rank=2, alpha=2), seed=1)
    objective = MixedTrap2(LAW).within(Surroundings(update.layers))
    added = objective.draw(np.random.default_rng(0)).point.added
    assert dense(added["first.weight"]).abs().max() == 0


def test_tasks_and_pinned_steps_are_drawn_in_their_shares():
    partners = dict.fromkeys("abc", PARTNER)
    partners["b"] = {n: LowRank(100 * d.B, d.A) for n, d in PARTNER.items()}
    objective = MixedTrap2(LAW, "task", pinned=0.25).within(
        Surroundings(update_of("lora").layers, partners)
    )
    generator = np.random.default_rng(0)
    drawn = [objective.draw(generator) for _ in range(4000)]
    assert np.mean([d.s == 1.0 for d in drawn]) == pytest.approx(0.25, abs=0.03)
    reference = torch.linalg.matrix_norm(PARTNER["first.weight"].B)
    sizes = [torch.linalg.matrix_norm(d.point.added["first.weight"].B) / reference for d in drawn]
    assert np.mean([float(size) > 9 for size in sizes]) == pytest.approx(1 / 3, abs=0.03)
    assert np.mean([min(float(s) / (100 if s > 9 else 1), 1) for s in sizes]) == pytest.approx(
        0.55, abs=0.03
    )


def test_the_record_tells_the_settings_and_a_training_its_partners():
    plain = MixedTrap2(LAW, "task")
    assert plain.record()["name"] == "trap2-mixed"
    layers = update_of("lora").layers
    first = plain.within(Surroundings(layers, {"other": PARTNER})).record()
    changed = {**PARTNER, "first.weight": LowRank(FIRST.B + 1e-6, FIRST.A)}
    second = plain.within(Surroundings(layers, {"other": changed})).record()
    assert first["partners_sha256"] != second["partners_sha256"]
    assert LayerwiseTrap2(LAW).record() == {**LAW.record(), "name": "trap2-layers"}


def test_bad_settings_and_missing_partners_are_refused():
    with pytest.raises(Trap2Error, match="other is 'both'; it must be one of noise, task"):
        MixedTrap2(LAW, "both")
    with pytest.raises(Trap2Error, match=r"pinned is 1\.5"):
        MixedTrap2(LAW, pinned=1.5)
    with pytest.raises(Trap2Error, match=r"other_min is 0\.9 and other_max 0\.2"):
        MixedTrap2(LAW, other_min=0.9, other_max=0.2)
    layers = update_of("lora").layers
    with pytest.raises(
        Trap2Error, match=r"there is none\. Give at least one, or set other to noise"
    ):
        MixedTrap2(LAW, "task").within(Surroundings(layers))
    with pytest.raises(Trap2Error, match="call within"):
        LayerwiseTrap2(LAW).draw(np.random.default_rng(0))


def test_the_catalogue_has_both_and_asks_for_partners_where_they_are_seen():
    assert isinstance(objective_of("trap2-layers", 0.1, {"s_max": 1.5}), LayerwiseTrap2)
    mixed = objective_of("trap2-mixed", 0.1, {"other": "task", "s_min": 0.2, "pinned": 0})
    assert isinstance(mixed, MixedTrap2)
    assert mixed == replace(MixedTrap2(Trap2(0.1, s_min=0.2), "task"), pinned=0)
    assert needs_partners("trap2-mixed", {"other": "task"})
    asking = [name for name in PROTECTIONS if needs_partners(name, {})]
    assert asking == []
