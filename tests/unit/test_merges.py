"""A set of updates merged in every method and space: what is made and what is taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from trap2.data.prepared import Split
from trap2.evaluation import merges
from trap2.evaluation.cells import search_cell
from trap2.evaluation.merges import MergePlan, earlier_cells, merge_updates
from trap2.evaluation.tasks import Scorer
from trap2.merging.merger import Merger
from trap2.merging.settings import Search
from trap2.models.clip.classifier import Classifier
from trap2.runtime import files
from trap2.updates.delta import LowRank, Update

CELLS = [("TA", "Full"), ("TIES", "Full"), ("TIES", "KnOTS")]
SEARCH = Search(step=0.5, maximum=1.5, patience=2, second_hyperparameter=False)
CPU = torch.device("cpu")
RECORD: dict[str, Any] = {"backbone": "b", "protection": "trap2", "protected_task": "a"}


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(48, 10)
        self.fc2 = nn.Linear(10, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(images.flatten(1)).tanh())


def split(seed: int) -> Split:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (30, 3, 4, 4), dtype=np.uint8)
    return Split(images, generator.integers(0, 3, 30))


@pytest.fixture
def scorer() -> Scorer:
    torch.manual_seed(0)
    head = nn.functional.normalize(torch.randn(3, 6), dim=1)
    tasks = {
        name: Classifier({"val": split(k), "test": split(k + 5)}, head, 10.0, 16, CPU)
        for k, name in enumerate("ab")
    }
    return Scorer(Tower().requires_grad_(False), tasks, dict.fromkeys("ab", 50.0))


@pytest.fixture
def updates() -> list[Update]:
    torch.manual_seed(1)
    shapes = {"fc1.weight": (10, 48), "fc2.weight": (6, 10)}
    return [
        {n: LowRank(torch.randn(o, 2) / 4, torch.randn(2, i) / 4) for n, (o, i) in shapes.items()}
        for _ in range(2)
    ]


@pytest.fixture
def run(scorer, updates, tmp_path, monkeypatch):
    """Merge into one file; returns what it then holds and which cells were made."""

    def merge(cells=CELLS, options=None, code="1", methods=None, fail_at=None):
        made = []

        def search(scorer, merger, method, *rest):
            made.append(f"{method}-{merger.space}")
            if fail_at == len(made):
                raise KeyboardInterrupt
            return search_cell(scorer, merger, method, *rest)

        monkeypatch.setattr(merges, "search_cell", search)
        output = tmp_path / "a.json"
        codes = {"TA": "1", "TIES": "1"} | (methods or {})
        plan = MergePlan(cells, options or {}, codes, SEARCH)
        log: list[str] = []
        try:
            merge_updates(
                scorer, updates, plan, RECORD, {"code": code}, output=output, log=log.append
            )
            assert len(log) == len(cells)
        except KeyboardInterrupt:
            made.pop()
        return files.read_json(output), made

    return merge


def names(cells: list[tuple[str, str]]) -> list[str]:
    return [f"{method}-{space}" for method, space in cells]


def test_every_cell_is_that_of_its_method_and_space(run, scorer, updates):
    record, made = run(options={"TIES": {"keep": 50}})
    assert made == names(CELLS)
    assert {key: record[key] for key in RECORD} == RECORD
    for method, space in CELLS:
        options = {"keep": 50} if method == "TIES" else {}
        wanted = search_cell(scorer, Merger(updates, space), method, options, SEARCH)
        cell = record["cells"][f"{method}-{space}"]
        assert {key: cell[key] for key in wanted} == wanted
        assert (cell["merge_method"], cell["merge_space"]) == (method, space)
        assert cell["seconds"] >= 0
        assert cell["images"]["plain"] == 60 * (len(cell["trace"]) + 1)
        assert 60 < cell["images"]["validated"] < cell["images"]["plain"]


def test_cells_of_an_earlier_run_stay_where_nothing_changed(run):
    before, _ = run(CELLS[:2])
    after, made = run()
    assert made == ["TIES-KnOTS"]
    assert after["cells"] == before["cells"] | {"TIES-KnOTS": after["cells"]["TIES-KnOTS"]}
    again, made = run(CELLS[1:])
    assert made == []
    assert list(again["cells"]) == sorted(names(CELLS[1:]))


def test_a_changed_option_makes_its_methods_cells_and_changed_code_all(run):
    run()
    assert run(options={"TIES": {"keep": 50}})[1] == ["TIES-Full", "TIES-KnOTS"]
    assert run(options={"TIES": {"keep": 50}}, code="2")[1] == names(CELLS)


def test_changed_code_of_a_method_makes_its_cells_alone(run):
    run()
    assert run(methods={"TA": "2"})[1] == ["TA-Full"]
    assert run(methods={"TA": "2", "RegMean": "1"})[1] == []


def test_a_damaged_cell_is_made_again(run, tmp_path):
    record, _ = run()
    record["cells"]["TA-Full"]["coefficient"] = 9.0
    files.write_json(tmp_path / "a.json", record)
    assert run()[1] == ["TA-Full"]


def test_a_killed_run_keeps_what_it_made_and_what_was_there(run, tmp_path):
    run(CELLS[2:])
    record, made = run(fail_at=2)
    assert made == ["TA-Full"]
    assert set(record["cells"]) == {"TA-Full", "TIES-KnOTS"}
    assert run()[1] == ["TIES-Full"]


@pytest.mark.parametrize("text", ["", "[]", '{"cells": 3}', '{"cells": {"TA-Full": 3}}', "{}"])
def test_what_is_no_file_of_cells_gives_none(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    assert earlier_cells(tmp_path / "a.json") == {}
