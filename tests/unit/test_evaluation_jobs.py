"""The jobs that score updates of several tasks, against dense weights of a tiny model."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from trap2.data.prepared import Split
from trap2.evaluation.ablation import merge_variants, read_variants
from trap2.evaluation.landscape import measure_curvature
from trap2.evaluation.pairs import BETAS, mix_pairs
from trap2.evaluation.scale_sweep import sweep_scales
from trap2.evaluation.tasks import Bench, Scorer
from trap2.evaluation.theorems import CURVATURE_GRID
from trap2.merging.settings import Search
from trap2.models.clip.classifier import Classifier
from trap2.models.clip.tower import normalise
from trap2.runtime import files
from trap2.updates.adapters import write_adapter
from trap2.updates.delta import LowRank

TASKS = ("b", "a", "c")
SHAPES = {"fc1.weight": (10, 48), "fc2.weight": (6, 10)}
LOGIT_SCALE = 10.0
Adapter = dict[str, LowRank]
Dense = Mapping[str, torch.Tensor]


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(48, 10)
        self.fc2 = nn.Linear(10, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(images.flatten(1)).tanh())


def split(seed: int) -> Split:
    generator = np.random.default_rng(seed)
    # 32 of them: accuracies are exact in binary, so that a search's equal values are equal.
    images = generator.integers(0, 256, (32, 3, 4, 4), dtype=np.uint8)
    return Split(images, generator.integers(0, 3, 32))


@pytest.fixture
def bench() -> Bench:
    torch.manual_seed(0)
    tasks = {
        name: Classifier(
            {"val": split(k), "test": split(k + 5)},
            F.normalize(torch.randn(3, 6), dim=1),
            *(LOGIT_SCALE, 16, torch.device("cpu")),
        )
        for k, name in enumerate(TASKS)
    }
    origin: Any = {"device": "cpu", "versions": {}, "notes": []}
    return Bench(Tower().requires_grad_(False), tasks, origin)


def adapters(seed: int) -> dict[str, Adapter]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / 4

    return {
        task: {name: LowRank(normal(o, 2), normal(2, i)) for name, (o, i) in SHAPES.items()}
        for task in TASKS
    }


PROTECTED, UNPROTECTED = adapters(1), adapters(2)


def total(*parts: tuple[float, Adapter]) -> dict[str, torch.Tensor]:
    """Σ c·BA in float64."""
    return {
        name: sum(
            (c * (one[name].B.double() @ one[name].A.double()) for c, one in parts),
            torch.zeros(shape, dtype=torch.float64),
        )
        for name, shape in SHAPES.items()
    }


def moved(bench: Bench, delta: Dense) -> nn.Module:
    model = deepcopy(bench.model).double()
    with torch.no_grad():
        for name, part in delta.items():
            model.get_parameter(name).add_(part)
    return model


def loss(bench: Bench, model: nn.Module, task: str, split: str = "test") -> torch.Tensor:
    """The mean cross-entropy over a split, in float64."""
    known: Any = bench.tasks[task]
    images = normalise(torch.from_numpy(known.splits[split].images)).double()
    cosines = F.normalize(model(images), dim=1) @ known.head.double().T
    return F.cross_entropy(LOGIT_SCALE * cosines, torch.from_numpy(known.splits[split].labels))


def accuracy(bench: Bench, model: nn.Module, task: str, split: str = "test") -> float:
    known: Any = bench.tasks[task]
    images = normalise(torch.from_numpy(known.splits[split].images)).double()
    answers = (F.normalize(model(images), dim=1) @ known.head.double().T).argmax(1).numpy()
    return 100.0 * float((answers == known.splits[split].labels).mean())


def check(bench: Bench, record: Mapping[str, Any], task: str, delta: Dense) -> None:
    """A record is the score of a task's test split at W0 + delta."""
    model = moved(bench, delta)
    assert record["loss"] == pytest.approx(float(loss(bench, model, task)), rel=1e-4)
    assert record["accuracy"] == pytest.approx(accuracy(bench, model, task))
    assert record["count"] == 32


@pytest.fixture(autouse=True)
def base_unchanged(bench):
    before = {name: value.clone() for name, value in bench.model.state_dict().items()}
    yield
    assert all(torch.equal(value, before[n]) for n, value in bench.model.state_dict().items())


def test_every_ordered_pair_is_mixed_and_scored_on_both_tasks(bench):
    lines: list[str] = []
    pairs = mix_pairs(bench, PROTECTED, UNPROTECTED, lines.append)
    ordered = [(pair["protected_task"], pair["unprotected_task"]) for pair in pairs]
    assert ordered == list(permutations(TASKS, 2))
    assert len(lines) == len(pairs)
    for pair, (one, two) in zip(pairs, ordered, strict=True):
        a, b = PROTECTED[one], UNPROTECTED[two]
        assert [point["beta"] for point in pair["path"]] == list(BETAS)
        for point in pair["path"]:
            delta = total((1 - point["beta"], a), (point["beta"], b))
            check(bench, point["score"]["protected"], one, delta)
            check(bench, point["score"]["unprotected"], two, delta)
        check(bench, pair["merged"]["protected"], one, total((0.8, a), (0.8, b)))
        check(bench, pair["merged"]["unprotected"], two, total((0.8, a), (0.8, b)))
        squares = [float(part.square().sum()) for part in total((1, a), (-1, b)).values()]
        assert pair["distance"] == pytest.approx(sum(squares) ** 0.5, rel=1e-6)


def write(folder: Path, adapter: Adapter, record: object) -> list[str]:
    """An adapter with its record on disk; its files, as a job's inputs name them."""
    factors = {name: (part.B, part.A) for name, part in adapter.items()}
    write_adapter(folder, factors)
    files.write_json(folder / "update.json", record)
    return [str(path) for path in sorted(folder.iterdir())]


def test_every_tasks_own_update_is_swept(bench, tmp_path):
    paths = [
        path
        for task in sorted(TASKS)
        for path in write(tmp_path / task / "trap2", PROTECTED[task], {"task": task})
    ]
    scales = (0.0, 0.5, 1.0, 2.0)
    lines: list[str] = []
    sweeps = sweep_scales(bench, paths, tmp_path / "none", iter(scales), lines.append)
    assert list(sweeps) == list(TASKS)
    assert len(lines) == len(TASKS)
    for task, records in sweeps.items():
        assert [record["s"] for record in records] == list(scales)
        for record in records:
            check(bench, record, task, total((record["s"], PROTECTED[task])))


def gradient_norm(bench: Bench, task: str, delta: Dense) -> float:
    model = moved(bench, delta)
    for name in SHAPES:
        model.get_parameter(name).requires_grad_()
    loss(bench, model, task).backward()
    squares = (model.get_parameter(name).grad.square().sum() for name in SHAPES)
    return float(sum(squares)) ** 0.5


def curvature(bench: Bench, **changed: int) -> Any:
    given = {"examples": 32, "seed": 0} | changed
    return measure_curvature(bench, PROTECTED, UNPROTECTED, **given, log=lambda _: None)


def test_theorem_a2_is_measured_on_every_protected_update(bench):
    updates, _ = curvature(bench)
    assert list(dict.fromkeys(record["task"] for record in updates)) == list(TASKS)
    for record in updates:
        task = record["task"]

        def g(u: float, task: str = task) -> float:
            return float(loss(bench, moved(bench, total((u, PROTECTED[task]))), task))

        assert record["measured"] == pytest.approx(g(record["s"]) - g(1.0), abs=1e-4)
        slope = (g(1 + 1e-4) - g(1 - 1e-4)) / 2e-4
        assert record["epsilon"] == pytest.approx(abs(slope), rel=1e-3, abs=1e-4)
        seconds = [
            (g(u + 1e-3) - 2 * g(u) + g(u - 1e-3)) / 1e-6
            for u in CURVATURE_GRID
            if u >= record["s"]
        ]
        assert record["mu"] == pytest.approx(min(seconds), rel=1e-3, abs=1e-3)
        assert record["premise"] == (record["mu"] >= 0)


def test_theorem_a4_is_measured_on_both_sides_of_every_pair(bench):
    _, pairs = curvature(bench)
    sides = [(pair["protected_task"], pair["unprotected_task"], pair["side"]) for pair in pairs]
    assert sides == [
        (*tasks, side) for tasks in permutations(TASKS, 2) for side in ("protected", "unprotected")
    ]
    for pair, (one, two, side) in zip(pairs, sides, strict=True):
        a, b = PROTECTED[one], UNPROTECTED[two]
        task, own = (one, a) if side == "protected" else (two, b)
        start, average = total((1, own)), total((0.5, a), (0.5, b))
        rise = loss(bench, moved(bench, average), task) - loss(bench, moved(bench, start), task)
        assert pair["measured"] == pytest.approx(float(rise), abs=1e-4)
        assert pair["epsilon"] == pytest.approx(gradient_norm(bench, task, start), rel=1e-3)
        ahead, behind = (
            loss(bench, moved(bench, total((1 - u, own), (u / 2, a), (u / 2, b))), task)
            for u in (1e-4, -1e-4)
        )
        slope = float(ahead - behind) / 2e-4
        assert pair["slope"] == pytest.approx(slope, rel=1e-3, abs=1e-4)
        # Taylor's theorem gives the curvature exactly; its integral has an error, which is known.
        taylor = 8 * (float(rise) - slope) / pair["distance"] ** 2
        assert pair["mu_profile"] == pytest.approx(taylor, rel=1e-3, abs=1e-3)
        assert pair["mu_hvp"] == pytest.approx(taylor, abs=pair["mu_hvp_error"] + 2e-3)


def test_the_sample_of_a_loss_is_drawn_from_the_seed(bench):
    assert curvature(bench, examples=10) == curvature(bench, examples=10)
    assert curvature(bench, examples=10) != curvature(bench, examples=10, seed=1)


SEARCH = Search(step=0.5, maximum=1.5, patience=3, second_hyperparameter=False)


def record(task: str, test: float) -> dict[str, Any]:
    return {"task": task, "val": {"accuracy": 50.0}, "test": {"accuracy": test}}


def check_cell(bench: Bench, cell: Mapping[str, Any], updates: Mapping[str, Adapter]) -> None:
    """A cell is the sum of the updates at the coefficient that is best on validation."""

    def normalised(s: float) -> float:
        model = moved(bench, total(*((s, updates[task]) for task in TASKS)))
        return sum(accuracy(bench, model, task, "val") / 50.0 for task in TASKS)

    best = max((0.5, 1.0, 1.5), key=normalised)
    assert cell["coefficient"] == best
    for task in TASKS:
        delta = total(*((best, update) for update in updates.values()))
        check(bench, cell["test"][task], task, delta)


def test_a_variant_is_merged_in_its_tasks_place(bench, tmp_path):
    variants = {"0.1": ("a", 3), "0.2": ("a", 4), "1e-05": ("c", 5)}
    paths = [
        path
        for value, (task, seed) in variants.items()
        for path in write(tmp_path / value, adapters(seed)[task], record(task, 10.0 + seed))
    ]
    lines: list[str] = []
    plain, found = merge_variants(
        Scorer(bench.model, bench.tasks, dict.fromkeys(TASKS, 50.0)),
        UNPROTECTED,
        {task: record(task, 70.0 + k) for k, task in enumerate(TASKS)},  # type: ignore[misc]
        read_variants(variants, paths, tmp_path / "none"),
        SEARCH,
        lines.append,
    )
    check_cell(bench, plain, UNPROTECTED)
    assert len(lines) == len(found) == len(variants)
    for each, (value, (task, seed)) in zip(found, variants.items(), strict=True):
        assert (each["value"], each["task"]) == (value, task)
        assert each["standalone"] == 10.0 + seed
        assert each["unprotected"] == 70.0 + TASKS.index(task)
        check_cell(bench, each["cell"], UNPROTECTED | {task: adapters(seed)[task]})


@pytest.mark.parametrize("values", [["1"], ["1", "2", "3"]])
def test_a_value_belongs_to_one_folder(tmp_path, values):
    paths = [p for k in "ab" for p in write(tmp_path / k, PROTECTED["a"], record("a", 1.0))]
    with pytest.raises(ValueError, match="zip"):
        list(read_variants(values, paths, tmp_path / "none"))
