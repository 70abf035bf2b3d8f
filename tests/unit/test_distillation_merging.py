"""AdaMerging in steps, AdaMerging++ and ProDistill: the authors' own numbers, and properties."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from trap2.merging.adamerging import agreeing_updates, combined_weights, merge_sample, shuffled
from trap2.merging.catalogue import METHODS
from trap2.merging.prodistill import BlockCoefficients, fit_block, teacher_outputs
from trap2.merging.sample import Sample
from trap2.runtime.errors import Trap2Error
from trap2.updates.delta import LowRank

GOLDEN = Path(__file__).parents[1] / "golden" / "attacks"
ENTRIES = {e["file"]: e for e in json.loads((GOLDEN / "manifest.json").read_text())["files"]}
STEPS, LAYER = "adamerging_steps_2.npz", "prodistill_layer_2.npz"


def golden(file: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / file, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l1, self.l2 = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.l2(torch.tanh(self.l1(x)))


NAMES = ["l1.weight", "l1.bias", "l2.weight", "l2.bias"]


def net_sample() -> tuple[Sample, list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    arrays = golden(STEPS)
    net = Net().double().requires_grad_(False)
    net.load_state_dict({name: arrays[f"in_pre_{name}"] for name in NAMES})
    updates = [{name: arrays[f"in_tv{t}_{name}"] for name in NAMES} for t in (0, 1)]
    inputs = [list(arrays["in_X"][:, t].flatten(0, 1)) for t in (0, 1)]
    heads = [arrays[f"in_head{t}"] for t in (0, 1)]
    logits = [lambda output, head=head: output @ head.mT for head in heads]
    return Sample(net, ["l1", "l2"], inputs, logits), updates, arrays


@pytest.mark.parametrize(
    ("config", "method", "rate"),
    [
        ("layerwise", "AdaMerging-layer", 1e-3),
        ("taskwise", "AdaMerging-task", 1e-3),
        ("layerwise_plusplus", "AdaMerging-layer++", 1e-3),
        ("layerwise_lr0.37", "AdaMerging-layer", 0.37),
    ],
)
def test_five_steps_of_two_batches_are_the_authors(config, method, rate):
    sample, updates, arrays = net_sample()
    given = {"iterations": 5, "learning_rate": rate, "batches": 2}
    found = METHODS[method].with_data(sample, updates, METHODS[method].check_options(given))
    wanted = arrays[f"out_{config}_lambda_raw"][-1].clamp(0, 1).expand(len(NAMES), -1)
    got = torch.stack([found.coefficients[name] for name in NAMES])
    torch.testing.assert_close(got, wanted, **ENTRIES[STEPS]["tolerance"])
    parts = updates
    if config == "layerwise_plusplus":
        parts = [{n: arrays[f"out_plusplus_tv{t}_{n}"] for n in NAMES} for t in (0, 1)]
    for name, row in zip(NAMES, wanted, strict=True):
        merged = sum(r * part[name] for r, part in zip(row, parts, strict=True))
        torch.testing.assert_close(found.merged[name].double(), merged, rtol=1e-6, atol=1e-7)


def test_one_batch_a_step_is_the_default():
    assert METHODS["AdaMerging-layer"].check_options({})["batches"] == 1


def test_each_step_shuffles_the_sample_anew():
    """Every step's batches are its shuffle's first, so that none meets an image twice."""
    images = torch.arange(10.0)[:, None]
    drawn = shuffled(images.split(4), 2, torch.Generator().manual_seed(0))
    steps = [torch.cat([next(drawn), next(drawn)]).flatten().tolist() for _ in range(6)]
    assert all(len(set(step)) == 8 for step in steps)
    assert len({tuple(step) for step in steps}) == 6
    assert {image for step in steps for image in step} == set(range(10))
    few = shuffled(images[:3].split(4), 2, torch.Generator().manual_seed(0))
    assert [len(next(few)) for _ in range(4)] == [3] * 4


def test_adamerging_shuffles_by_the_samples_seed():
    sample, updates, _ = net_sample()
    method = METHODS["AdaMerging-task"]
    given = {"iterations": 4, "learning_rate": 0.1, "batches": 2}

    def found(seed: int, order: str) -> list[float]:
        seeded = replace(sample, seed=seed)
        options = method.check_options({**given, "order": order})
        merge = method.with_data(seeded, updates, options)
        return merge.coefficients["l1.weight"].tolist()

    assert found(0, "shuffled") == found(0, "shuffled") != found(1, "shuffled")
    assert found(0, "given") == found(1, "given") != found(0, "shuffled")


def test_plusplus_keeps_what_the_authors_keep():
    arrays = golden(STEPS)
    updates = [{name: arrays[f"in_tv{t}_{name}"] for name in NAMES} for t in (0, 1)]
    for t, found in enumerate(agreeing_updates(updates, 20)):
        for name in NAMES:
            assert torch.equal(found[name], arrays[f"out_plusplus_tv{t}_{name}"])


def test_a_coefficient_outside_its_range_has_no_gradient():
    sample, updates, arrays = net_sample()
    base = {name: arrays[f"in_pre_{name}"] for name in NAMES}
    raw = torch.full((4, 2), 0.3, dtype=torch.double)
    raw[0, 0], raw[2, 1] = 1.2, -0.1
    raw.requires_grad_(True)
    output = functional_call(
        sample.model, combined_weights(base, updates, raw), arrays["in_X"][0, 0, 0]
    )
    output.square().sum().backward()
    outside = (raw < 0) | (raw > 1)
    assert (raw.grad[outside] == 0).all()
    assert (raw.grad[~outside] != 0).all()


def test_the_coefficient_of_a_tensor_that_nothing_reads_never_moves():
    sample, updates, _ = net_sample()
    sample.model.unused = nn.Parameter(torch.zeros(3).double(), requires_grad=False)
    both = [update | {"unused": torch.ones(3).double()} for update in updates]
    options = METHODS["AdaMerging-layer"].check_options({"iterations": 4, "learning_rate": 0.1})
    found = merge_sample(sample, both, options, layerwise=True)
    assert found.coefficients["unused"].tolist() == [0.3, 0.3]
    assert found.coefficients["l1.bias"].tolist() != [0.3, 0.3]


def mlp_block(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    hidden = F.gelu(F.linear(x, weights["fc.weight"], weights["fc.bias"]))
    return x + F.linear(hidden, weights["proj.weight"], weights["proj.bias"])


@pytest.mark.parametrize("granularity", ["elementwise", "layer", "task"])
def test_a_blocks_steps_are_the_authors(granularity):
    arrays, tolerance = golden(LAYER), ENTRIES[LAYER]["tolerance"]
    config = {"layer": "layerwise", "task": "taskwise"}.get(granularity, granularity)
    names = [n.removeprefix("in_pre_") for n in arrays if n.startswith("in_pre_")]
    base = {name: arrays[f"in_pre_{name}"] for name in names}
    tuned = [{name: arrays[f"in_ft{t}_{name}"] for name in names} for t in (0, 1)]
    deltas = {name: torch.stack([t[name] - base[name] for t in tuned]) for name in names}
    coefficients = BlockCoefficients(base, deltas, granularity, 0.3)

    def own(x: torch.Tensor, tasks: torch.Tensor) -> torch.Tensor:
        outputs = torch.stack([mlp_block(t, x) for t in tuned])
        return torch.stack([outputs[t, :, i] for i, t in enumerate(tasks.tolist())], 1)

    def steps(first: int, last: int):
        for step in range(first, last):
            inputs, teachers = arrays["in_X"][step]
            yield inputs, own(teachers, arrays["in_task"][step])

    losses = fit_block(mlp_block, coefficients, steps(0, 1))
    after_one = {name: alpha.detach().clone() for name, alpha in coefficients.alphas.items()}
    if granularity == "elementwise":
        for name, alpha in coefficients.alphas.items():
            for t in (0, 1):
                wanted = arrays[f"out_elementwise_grad1_t{t}_{name}"]
                torch.testing.assert_close(alpha.grad[t], wanted, **tolerance)
                wanted = arrays[f"out_elementwise_alpha_t{t}_{name}"][0]
                torch.testing.assert_close(after_one[name][t], wanted, **tolerance)
    # Adam goes on where it was only within one run of it.
    coefficients = BlockCoefficients(base, deltas, granularity, 0.3)
    losses = fit_block(mlp_block, coefficients, steps(0, 4))
    wanted = arrays[f"out_{config}_loss"]
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.double), wanted, **tolerance)
    for name, alpha in coefficients.alphas.items():
        for t in (0, 1):
            key = f"out_{config}_alpha_t{t}" + ("" if granularity == "task" else f"_{name}")
            torch.testing.assert_close(alpha[t].detach(), arrays[key][-1], **tolerance)
    inputs, teachers = arrays["in_X"][0]
    following = [mlp_block(coefficients.weights(), inputs), own(teachers, arrays["in_task"][0])]
    wanted = arrays[f"out_{config}_next_input"]
    torch.testing.assert_close(torch.stack(following).detach(), wanted, **tolerance)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, *, factor: float) -> torch.Tensor:
        return x + factor * torch.tanh(self.fc(self.norm(x)))


class Tower(nn.Module):
    """Three blocks with something before, between and after them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.between, self.last = (nn.Linear(4, 4) for _ in range(3))
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks[1](self.blocks[0](self.first(x), factor=0.5), factor=2.0)
        return self.last(self.blocks[2](self.between(x), factor=1.0))


BLOCKS = [f"blocks.{k}" for k in range(3)]


def tower_sample(tasks: int) -> tuple[Sample, list[dict[str, torch.Tensor]]]:
    torch.manual_seed(0)
    tower = Tower().requires_grad_(False)
    updates = [
        {n: 0.3 * torch.randn_like(p) for n, p in tower.named_parameters()} for _ in range(tasks)
    ]
    inputs = [[torch.randn(5, 3, 4), torch.randn(4, 3, 4)] for _ in range(tasks)]
    return Sample(tower, ["first"], inputs, [], BLOCKS), updates


def prodistill(sample: Sample, updates, **given):
    method = METHODS["ProDistill"]
    return method.with_data(sample, updates, method.check_options(given))


def output_at(model: nn.Module, delta: dict[str, torch.Tensor], block: str, x: torch.Tensor):
    """What a block gives out at W0 + ΔW, by a hook on a copy of the weights."""
    seen = []
    handle = model.get_submodule(block).register_forward_hook(lambda _m, _a, out: seen.append(out))
    weights = {n: p + delta.get(n, 0) for n, p in model.named_parameters()}
    functional_call(model, weights, x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("granularity", ["elementwise", "layer", "task"])
def test_one_task_at_alpha_one_is_its_own_model_and_stays(granularity):
    sample, updates = tower_sample(1)
    found = prodistill(sample, updates, coefficient=1.0, epochs=3, granularity=granularity)
    for name, delta in updates[0].items():
        torch.testing.assert_close(found.merged[name], delta, rtol=1e-4, atol=1e-5)


def test_a_sample_never_meets_another_tasks_teacher():
    sample, updates = tower_sample(2)
    for block in BLOCKS:
        found = teacher_outputs(sample.model, block, sample.inputs, updates)
        for k, rows in enumerate(found.split(9)):
            own = output_at(sample.model, updates[k], block, torch.cat(sample.inputs[k]))
            torch.testing.assert_close(rows, own)
            other = output_at(sample.model, updates[1 - k], block, torch.cat(sample.inputs[k]))
            assert (rows - other).abs().max() > 0.1


def test_every_block_comes_nearer_its_teachers_and_the_rest_is_task_arithmetic():
    sample, updates = tower_sample(2)
    before = {n: p.clone() for n, p in sample.model.state_dict().items()}
    start = prodistill(sample, updates, epochs=0).merged
    for name, merged in start.items():
        torch.testing.assert_close(merged, 0.3 * (updates[0][name] + updates[1][name]))
    found = prodistill(sample, updates, epochs=40, batch_size=6, learning_rate=0.03)
    for name in start:
        inside = name.startswith("blocks.")
        assert inside != torch.equal(found.merged[name], start[name])
    for block in BLOCKS:
        wanted = teacher_outputs(sample.model, block, sample.inputs, updates)
        x = torch.cat([batch for task in sample.inputs for batch in task])
        # Blocks below are merged in both; only this one differs.
        below = found.merged | {n: d for n, d in start.items() if n.startswith(block)}
        old, new = (output_at(sample.model, d, block, x) for d in (below, found.merged))
        assert (new - wanted).square().sum() < 0.9 * (old - wanted).square().sum()
    state = sample.model.state_dict()
    assert all(torch.equal(state[n], p) for n, p in before.items())


def test_the_seed_decides_the_shuffles():
    sample, updates = tower_sample(2)
    first, again = (prodistill(sample, updates, epochs=2, batch_size=6).merged for _ in range(2))
    other = Sample(sample.model, ["first"], sample.inputs, [], BLOCKS, seed=1)
    reshuffled = prodistill(other, updates, epochs=2, batch_size=6).merged
    name = "blocks.0.fc.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], reshuffled[name])


def test_an_adapter_is_distilled_on_its_matrices_alone():
    sample, _ = tower_sample(2)
    layer = "blocks.1.fc.weight"
    adapters = [{layer: LowRank(torch.randn(4, 2), torch.randn(2, 4))} for _ in range(2)]
    found = prodistill(sample, adapters, epochs=5)
    assert list(found.merged) == [layer]
    assert found.coefficients[layer].shape == (2,)


def test_a_model_without_blocks_and_a_missing_sample_are_refused():
    sample, updates = tower_sample(2)
    with pytest.raises(Trap2Error, match="blocks"):
        prodistill(Sample(sample.model, [], sample.inputs, []), updates)
    with pytest.raises(Trap2Error, match="each task gives one"):
        prodistill(Sample(sample.model, [], sample.inputs[:1], [], BLOCKS), updates)
    sample.model.blocks.append(Block())
    more = [u | {"blocks.3.fc.bias": torch.ones(4)} for u in updates]
    with pytest.raises(Trap2Error, match="does not run"):
        prodistill(Sample(sample.model, [], sample.inputs, [], ["blocks.3"]), more)
