"""The protocols of the sibling papers: what a cell merges, and when it is merged anew."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from stages import TASKS, tiny_stage
from trap2.attacks import protocols
from trap2.attacks.catalogue import ATTACKS
from trap2.attacks.protocols import Protocols, Released, SiblingPlan, between, merge_siblings
from trap2.attacks.remade import NONE, FixedStage, attention_distances, remade
from trap2.attacks.running import DoesNotApply
from trap2.protection.checkpoints import move_heads
from trap2.updates.applied import AppliedUpdate

P, Q = "b", "a"  # protected, partner


def released(updates=None) -> Released:
    """Whole checkpoints of three tasks in float64, the protected one of ``b``."""
    stage = tiny_stage(full=True)
    model = stage.model.double()
    given = updates or {
        task: {name: delta.double() for name, delta in update.items()}
        for task, update in stage.updates.items()
    }
    return Released(model, stage.scored, given, P)


def plan(cells, **changed) -> SiblingPlan:
    names = {name for _, _, method, attack in cells for name in (method, attack)}
    settings = {
        "pair": 0.8,
        "all": 0.3,
        "ties": 1.0,
        "curve": [0.25, 1.0],
        "images": 8,
        "adamerging": {"pair": "AdaMerging-layer", "all": "AdaMerging-layer++"},
        "options": {"AdaMerging-layer": {"iterations": 1}, "AdaMerging-layer++": {"iterations": 1}},
        "code": dict.fromkeys({*names, "AdaMerging-layer", "AdaMerging-layer++"}, "1"),
    }
    return SiblingPlan(cells, **settings | changed)


class Seen:
    """A task that remembers the weights of the models that it scores."""

    def __init__(self, task, seen):
        self.task, self.seen = task, seen

    def __getattr__(self, name):
        return getattr(self.task, name)

    def score(self, model, split):
        assert split == "test"
        self.seen.append({k: w.clone() for k, w in model.state_dict().items()})
        return self.task.score(model, split)


def merged(given: Released, cell, **changed):
    """The weights of every model that a cell scores on its first task, and the cell."""
    seen: list = []
    tasks = dict(given.tasks)
    tasks[P] = Seen(tasks[P], seen)
    watched = Released(given.model, tasks, given.updates, P)
    return seen, Protocols(watched, plan([cell], **changed)).make(cell)


@pytest.fixture(autouse=True)
def doubles(monkeypatch):
    """Images in the precision of the model."""
    monkeypatch.setattr(protocols, "_answer", _answer)


def _answer(task, model, _whole):
    single = {k: w.clone() for k, w in model.state_dict().items()}
    if isinstance(task, Seen):
        task.seen.append(single)
    return {"correct": 1, "count": 2, "accuracy": 50.0, "loss": 1.0}


def expected(given, shares):
    base = given.model.state_dict()
    return {
        name: weight + sum(s * given.updates[t][name] for t, s in shares.items())
        if name in given.updates[P]
        else weight
        for name, weight in base.items()
    }


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-13)


def test_a_pair_is_the_base_and_both_updates_with_one_coefficient():
    given = released()
    (weights,), cell = merged(given, ("pair", Q, "TA", NONE))
    same(weights, expected(given, {P: 0.8, Q: 0.8}))
    assert (cell["partner"], cell["points"][0]["coefficient"]) == (Q, 0.8)
    assert set(cell["points"][0]["test"]) == {P, Q}


def test_a_curve_and_a_path_have_a_point_a_coefficient():
    given = released()
    curve, cell = merged(given, ("curve", Q, "TA", NONE))
    for weights, share in zip(curve, (0.25, 1.0), strict=True):
        same(weights, expected(given, {P: share, Q: share}))
    assert [point["coefficient"] for point in cell["points"]] == [0.25, 1.0]
    path, cell = merged(given, ("path", Q, "TA", NONE))
    assert [point["coefficient"] for point in cell["points"]] == [k / 10 for k in range(11)]
    for weights, k in zip(path, range(11), strict=True):
        same(weights, expected(given, {P: k / 10, Q: 1 - k / 10}))


def test_the_merge_of_all_and_the_update_alone():
    given = released()
    (weights,), cell = merged(given, ("all", "all", "TA", NONE))
    same(weights, expected(given, dict.fromkeys(TASKS, 0.3)))
    assert (cell["partner"], set(cell["points"][0]["test"])) == (None, set(TASKS))
    (weights,), cell = merged(given, ("all", "all", "WA", NONE))
    same(weights, expected(given, dict.fromkeys(TASKS, 1 / 3)))
    (weights,), cell = merged(given, ("alone", "all", "TA", NONE))
    same(weights, expected(given, {P: 1.0}))
    assert set(cell["points"][0]["test"]) == {P}
    assert [found["layer"] for found in cell["distances"]] == [0, 0, 1, 1]


def rotated(given: Released) -> Released:
    """The same, its protected model's heads rotated, which keeps its function."""
    heads = FixedStage(given.model, given.tasks, given.updates, P, 0.3).heads
    base = given.model.state_dict()
    weights = {name: base[name] + delta for name, delta in given.updates[P].items()}
    generator = np.random.default_rng(3)
    for attention, count in heads.items():
        width = base[f"{attention}.q_proj.weight"].shape[0] // count
        turns = [
            torch.linalg.qr(torch.from_numpy(generator.normal(size=(count, width, width))))[0]
            for _ in range(2)
        ]
        matrices = {"q_proj": turns[0], "k_proj": turns[0], "v_proj": turns[1]}
        weights |= move_heads(weights, attention, {**matrices, "out_proj": turns[1]})
    moved = {name: weight - base[name] for name, weight in weights.items()}
    return Released(given.model, given.tasks, {**given.updates, P: moved}, P)


def test_a_rotated_model_aligned_merges_as_the_aligned_unrotated_one():
    given = released()
    turned = rotated(given)
    cell = ("pair", Q, "TA", "align-rotation")
    (plain,), _ = merged(given, cell)
    (back,), _ = merged(turned, cell)
    same(back, plain)
    (lost,), _ = merged(turned, ("pair", Q, "TA", NONE))
    apart = max(float((lost[k] - plain[k]).abs().max()) for k in plain)
    assert apart > 0.1, "without alignment it is another merge"


def test_the_reference_of_a_rotation_is_the_partner():
    from trap2.attacks.alignment.rotation import align_rotation

    given = released()
    stage = FixedStage(given.model, given.tasks, given.updates, P, 0.8)
    base = given.model.state_dict()
    mine, partner = (
        {name: base[name] + delta for name, delta in given.updates[task].items()} for task in (P, Q)
    )
    aligned = align_rotation(mine, partner, stage.heads)
    (weights,), _ = merged(given, ("pair", Q, "TA", "align-rotation"))
    wanted = {
        name: weight + 0.8 * (aligned[name] - weight + given.updates[Q][name])
        if name in aligned
        else weight
        for name, weight in base.items()
    }
    same(weights, wanted)


def test_the_anchor_attack_gives_the_same_whatever_was_rotated_and_moves_both_models():
    given = released()
    (plain,), _ = merged(given, ("pair", Q, "TA", "aga"))
    (back,), _ = merged(rotated(given), ("pair", Q, "TA", "aga"))
    for name, weight in plain.items():
        if "attn" in name and not name.endswith("bias"):
            torch.testing.assert_close(back[name], weight, rtol=0, atol=1e-6)
    stage = FixedStage(given.model, given.tasks, given.updates, P, 0.8)
    found = remade(stage, "aga", ATTACKS["aga"].check_options({}))
    assert found.updates is not None
    for task in TASKS:
        assert any(
            not torch.equal(found.updates[task][n], given.updates[task][n])
            for n in given.updates[task]
        )


def test_unmask_subtracts_with_the_coefficient_of_the_merge():
    given = released()
    (weights,), cell = merged(given, ("all", "all", "TA", "unmask"))
    base = given.model.state_dict()
    others = {t: 0.3 for t in TASKS if t != P}
    wanted = expected(given, others)
    for name in given.updates[P]:
        # (1 − λ)θ0 + λ Σ of the others: the protected update cancels.
        torch.testing.assert_close(weights[name], wanted[name] - 0.3 * base[name])
    assert cell["points"][0]["coefficient"] == 0.3


def test_distances_are_of_both_weights_of_a_pair_without_biases():
    heads = {"blocks.0.attn": 2}
    update = {
        "blocks.0.attn.q_proj.weight": torch.full((1, 1), 3.0),
        "blocks.0.attn.k_proj.weight": torch.full((1, 1), 4.0),
        "blocks.0.attn.q_proj.bias": torch.full((1,), 9.0),
    }
    qk, vo = attention_distances(update, heads, "none")
    assert (qk["pair"], qk["distance"], vo["distance"]) == ("qk", 5.0, 0.0)


def test_between_is_the_first_at_one_and_the_second_at_zero():
    first, second = {"w": torch.ones(2)}, {"w": torch.zeros(2), "b": torch.ones(1)}
    assert between(first, second, 1.0)["w"].tolist() == [1, 1]
    assert between(first, second, 0.0)["w"].tolist() == [0, 0]
    assert between(first, second, 0.25)["b"].tolist() == [0.75]


def test_an_attack_that_fails_has_a_cell_with_the_reason(monkeypatch):
    def fail(*_):
        raise DoesNotApply("no heads")

    monkeypatch.setattr(protocols, "remade", fail)
    _, cell = merged(released(), ("pair", Q, "TA", "aga"))
    assert (cell["points"], cell["reason"]) == ([], "no heads")


CELLS = [
    ("alone", "all", "TA", NONE),
    ("all", "all", "TA", NONE),
    ("pair", "a", "TA", NONE),
    ("pair", "a", "AdaMerging", NONE),
    ("pair", "c", "TA", NONE),
    ("pair", "c", "TA", "aga"),
]
RECORD = {"protected_task": P, "standalone": {}, "distances": [], "cells": {}}
INPUTS = dict.fromkeys(TASKS, "1")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Makes a file of cells, and says which of them were made anew."""
    made: list[str] = []
    make = Protocols.make

    def watched(self, cell):
        made.append("/".join(cell))
        return make(self, cell)

    monkeypatch.setattr(Protocols, "make", watched)
    monkeypatch.setattr(Protocols, "_adamerged", lambda *_: {})
    given = released()

    def run(*, cells=CELLS, depends=None, inputs=None, **changed):
        made.clear()
        changed.setdefault("code", plan(CELLS).code)
        merge_siblings(
            given,
            plan(cells, **changed),
            RECORD,
            depends or {"model": "1"},
            INPUTS | (inputs or {}),
            output=tmp_path / "b.json",
            log=lambda _: None,
        )
        return list(made), json.loads((tmp_path / "b.json").read_text("utf-8"))

    return run


def test_cells_are_made_anew_when_what_they_depend_on_changes_and_no_others(run):
    made, record = run()
    assert made == ["/".join(cell) for cell in CELLS]
    assert set(record["cells"]) == set(made)
    assert record["standalone"] == {NONE: record["cells"][made[0]]["points"][0]["test"][P]}
    assert len(record["distances"]) == 4
    assert run()[0] == []
    code = plan(CELLS).code
    assert run(code=code | {"aga": "2"})[0] == ["pair/c/TA/aga"]
    assert run()[0] == ["pair/c/TA/aga"]
    assert run(inputs={"a": "2"})[0] == made[:4], "a retrained partner: its pair, and all"
    run()
    assert run(pair=0.7)[0] == ["pair/a/TA/none", "pair/c/TA/none", "pair/c/TA/aga"]
    run()
    assert run(images=9)[0] == ["pair/a/AdaMerging/none"]
    run()
    assert run(depends={"model": "2"})[0] == made


def test_a_cell_that_is_asked_for_no_longer_is_gone(run):
    run()
    made, record = run(cells=CELLS[:2])
    assert made == []
    assert set(record["cells"]) == {"alone/all/TA/none", "all/all/TA/none"}


def test_the_model_holds_its_base_again():
    given = released()
    before = {k: w.clone() for k, w in given.model.state_dict().items()}
    for cell in (("pair", Q, "TIES", NONE), ("path", Q, "TA", NONE), ("all", "all", "TA", "aga")):
        merged(given, cell)
    for name, weight in given.model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_ties_is_the_catalogue_s_with_the_suite_s_options():
    from trap2.merging.merger import Merger

    given = released()
    options = {"variant": "ties", "keep": 20}
    (weights,), cell = merged(given, ("pair", Q, "TIES", NONE), options={"TIES": options})
    delta = Merger([given.updates[P], given.updates[Q]], "Full", torch.float64).merge(
        "TIES", **options
    )
    with AppliedUpdate(given.model, delta) as applied:
        applied.set(1.0)
        same(weights, given.model.state_dict())
    assert cell["points"][0]["coefficient"] == 1.0
