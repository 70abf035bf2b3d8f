"""Merges with data on real towers, of both kinds."""

from typing import Any

import numpy as np
import pytest
import torch
from trap2.data.prepared import Split
from trap2.evaluation.cells import data_cell, sample_of
from trap2.evaluation.tasks import Scorer, proxy_batches
from trap2.merging.catalogue import METHODS, data_methods
from trap2.models.clip.build import build_clip
from trap2.models.clip.classifier import Classifier
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import lora_targets
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import LowRank

TEXT = {"context_length": 8, "width": 16, "heads": 2, "layers": 1}
VIT: dict[str, Any] = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2}
VIT["head_width"] = 16
CONVNEXT = {
    "image_size": 32,
    "timm_model_name": "convnext_tiny",
    "timm_model_args": {
        "depths": [1, 1, 1, 1],
        "dims": [8, 8, 16, 16],
        "patch_size": 2,
        "ls_init_value": 0.5,
    },
}
REGRESSIONS = ("RegMean", "CoM")
CPU = torch.device("cpu")


def split(seed: int, count: int = 120) -> Split:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return Split(images, generator.integers(0, 4, count))


def classifier(head: torch.Tensor, val: Split, test: Split, batch_size: int = 64) -> Classifier:
    return Classifier({"val": val, "test": test}, head, 10.0, batch_size, CPU)


@pytest.fixture(params=["vit", "convnext"])
def setting(request):
    torch.manual_seed(0)
    vision = VIT if request.param == "vit" else CONVNEXT
    architecture = {"embed_dim": 8, "vision_cfg": dict(vision), "text_cfg": TEXT}
    tower = vision_tower(build_clip(architecture))
    tasks = {
        name: classifier(
            torch.nn.functional.normalize(torch.randn(4, 8), dim=1), split(k), split(k + 9)
        )
        for k, name in enumerate(("a", "b"))
    }
    updates = []
    for _ in tasks:
        weights = [f"{target}.weight" for target in lora_targets(tower)]
        shapes = {name: tower.get_parameter(name).shape for name in weights}
        factors = {n: (torch.randn(s[0], 2), torch.randn(2, s[1])) for n, s in shapes.items()}
        updates.append({n: LowRank(0.2 * b, 0.2 * a) for n, (b, a) in factors.items()})
    return Scorer(tower, tasks, dict.fromkeys(tasks, 50.0)), updates


def batches(scorer: Scorer) -> list[list[torch.Tensor]]:
    return [
        proxy_batches(task, name, samples=100, sampling="random", seed=0)
        for name, task in scorer.tasks.items()
    ]


@pytest.mark.parametrize("method", REGRESSIONS)
def test_two_equal_updates_merge_to_themselves(setting, method):
    scorer, updates = setting
    same = [updates[0], updates[0]]
    cell = data_cell(scorer, batches(scorer), same, method, {"off_diagonal": 1.0})
    applied = {name: part.dense() for name, part in updates[0].items()}
    with AppliedUpdate(scorer.model, applied) as alone:
        alone.set(1.0)
        wanted = scorer.scores("test")
    for name, score in wanted.items():
        assert cell["test"][name]["loss"] == pytest.approx(score.loss, rel=2e-3)


@pytest.mark.parametrize("method", REGRESSIONS)
def test_a_cell_has_every_layers_shares_and_leaves_the_base(setting, method):
    scorer, updates = setting
    before = {name: value.clone() for name, value in scorer.model.state_dict().items()}
    cell = data_cell(scorer, batches(scorer), updates, method, {"off_diagonal": 0.5})
    assert set(cell["coefficients"]) == set(updates[0])
    for shares in cell["coefficients"].values():
        assert list(shares) == ["a", "b"]
        assert sum(shares.values()) == pytest.approx(1)
    state = scorer.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_chain_of_merges_is_not_regmean(setting):
    scorer, updates = setting
    inputs = batches(scorer)
    cells = [data_cell(scorer, inputs, updates, m, {"off_diagonal": 1.0}) for m in REGRESSIONS]
    assert cells[0]["test"]["a"]["loss"] != pytest.approx(cells[1]["test"]["a"]["loss"], rel=1e-4)


def test_samples_depend_on_seed_task_and_sampling():
    task = classifier(torch.eye(4, 8), split(0, 200), split(1))

    def drawn(seed: int, name: str, sampling: str) -> torch.Tensor:
        found = proxy_batches(task, name, samples=100, sampling=sampling, seed=seed)
        assert sum(len(batch) for batch in found) == 100
        return torch.cat(found)

    first = drawn(0, "a", "random")
    assert torch.equal(first, drawn(0, "a", "random"))
    for other in ((1, "a", "random"), (0, "b", "random"), (0, "a", "class-stratified")):
        assert not torch.equal(first, drawn(*other))


def entropy(scorer: Scorer, update: dict[str, torch.Tensor], inputs) -> float:
    """AdaMerging's objective of an update on all images, computed anew."""
    total = 0.0
    with AppliedUpdate(scorer.model, update) as applied, torch.no_grad():
        applied.set(1.0)
        for task, parts in zip(scorer.tasks.values(), inputs, strict=True):
            features = torch.nn.functional.normalize(scorer.model(torch.cat(parts)), dim=1)
            chances = (10.0 * features @ task.head.T).softmax(1)
            total += float(-(chances * chances.log()).sum(1).mean())
    return total


@pytest.mark.parametrize("method", ["AdaMerging-task", "AdaMerging-layer"])
def test_adamerging_lowers_the_entropy_from_task_arithmetic_at_its_start(setting, method):
    scorer, updates = setting
    before = {name: value.clone() for name, value in scorer.model.state_dict().items()}
    inputs = batches(scorer)
    sample = sample_of(scorer, inputs)
    merge = METHODS[method].with_data
    options = METHODS[method].check_options({"iterations": 0})
    start = merge(sample, updates, options).merged
    for layer, merged in start.items():
        torch.testing.assert_close(merged, 0.3 * sum(update[layer].dense() for update in updates))
    found = merge(sample, updates, options | {"iterations": 40, "learning_rate": 0.01})
    assert entropy(scorer, found.merged, inputs) < entropy(scorer, start, inputs)
    rows = torch.stack(list(found.coefficients.values()))
    assert (len(rows.unique(dim=0)) == 1) == (method == "AdaMerging-task")
    assert ((rows >= 0) & (rows <= 1)).all()
    state = scorer.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert {parameter.grad for parameter in scorer.model.parameters()} == {None}


def test_every_method_that_sees_a_sample_makes_a_cell(setting):
    scorer, updates = setting
    for method in data_methods():
        few = {"iterations": 2, "epochs": 2}
        options = {key: few[key] for key in few if key in METHODS[method].options}
        cell = data_cell(scorer, batches(scorer), updates, method, options)
        assert set(cell["coefficients"]) == set(updates[0])
