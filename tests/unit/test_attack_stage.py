"""Where attacks happen: what they may ask, what it costs, and what is written down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stages import TASKS, tiny_stage
from trap2.attacks.attack import ATTACKS, Attack
from trap2.attacks.catalogue import not_applicable
from trap2.attacks.stage import Merge, Stage
from trap2.attacks.staging import AttackPlan, attack_points, attack_updates
from trap2.evaluation.cells import search_cell
from trap2.evaluation.tasks import Scorer
from trap2.merging.merger import Merger
from trap2.runtime import files
from trap2.runtime.catalogue import CatalogueError
from trap2.runtime.errors import Trap2Error
from trap2.updates.delta import UpdateError

RECORD: Any = {"backbone": "b", "protection": "trap2", "protected_task": "b"}
ENTRY: dict[str, Any] = {"paper": "ours", "group": "update"}


@pytest.fixture
def stage() -> Stage:
    return tiny_stage()


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds an attack for the time of a test."""

    def add(name: str, run: Any, **settings: Any) -> None:
        entry = Attack(name=name, run=run, **(ENTRY | settings))
        monkeypatch.setitem(ATTACKS._entries, name, entry)

    return add


def weights(stage: Stage) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in stage.model.state_dict().items()}


def test_one_coefficient_is_the_cell_of_task_arithmetic(stage: Stage) -> None:
    scorer = Scorer(stage.model, stage.scored, stage.references)
    cell = search_cell(scorer, Merger(list(stage.updates.values())), "TA", {}, stage.search)
    point = attack_points(stage, "one", 0, {})[-1]
    assert point["found"]["coefficient"] == cell["coefficient"]
    assert point["test"] == cell["test"]
    assert point["val"] == cell["val"]


def test_combined_updates_are_what_they_say(stage: Stage) -> None:
    before = weights(stage)
    deltas = [{k: d.dense() for k, d in stage.updates[t].items()} for t in TASKS]
    found = stage.accuracies_at(deltas, [0.2, -0.5, 1.0])
    by_hand = {k: 0.2 * deltas[0][k] - 0.5 * deltas[1][k] + deltas[2][k] for k in deltas[0]}
    assert found == stage.accuracies(by_hand)
    after = weights(stage)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_costs_are_counted_where_they_arise(stage: Stage) -> None:
    stage.begin("x", 0)
    stage.accuracies({})
    inputs = stage.sample("a", 10, labelled=False).inputs
    stage.sample("b", 4, labelled=True)
    parameter = torch.zeros(1, requires_grad=True)
    stage.model(inputs + parameter).sum().backward()
    assert stage.meter.record() == {
        "forward": 3 * 24 + 10,
        "backward": 10,
        "labelled": 24 + 4,
        "unlabelled": 10,
    }


def test_a_copy_of_the_model_counts_too(stage: Stage) -> None:
    import copy

    stage.begin("x", 0)
    copy.deepcopy(stage.model)(stage.sample("a", 5, labelled=False).inputs)
    assert stage.meter.record()["forward"] == 5


def test_samples_are_nested_and_do_not_depend_on_the_attack(stage: Stage) -> None:
    stage.begin("x", 1)
    few, many = (stage.sample("a", n, labelled=False) for n in (3, 9))
    assert torch.equal(few.inputs, many.inputs[:3])
    stage.begin("y", 1)
    assert torch.equal(many.inputs, stage.sample("a", 9, labelled=False).inputs)
    stage.begin("y", 2)
    assert not torch.equal(many.inputs, stage.sample("a", 9, labelled=False).inputs)
    with pytest.raises(Trap2Error, match="images = 0"):
        stage.sample("a", 0, labelled=False)


def test_draws_differ_by_attack_and_seed(stage: Stage) -> None:
    draws = []
    for name, seed in (("x", 0), ("x", 1), ("y", 0)):
        stage.begin(name, seed)
        draws.append(stage.generator("noise").standard_normal())
        assert draws[-1] == stage.generator("noise").standard_normal()
    assert len(set(draws)) == 3


def test_acquiring_counts_only_while_the_others_are_kept(stage: Stage) -> None:
    alone = stage.left_out()[1]
    kept = {**alone, "b": 70.0}
    assert stage.goal(kept, "acquire") == 70.0
    lost = {task: 0.9 * value for task, value in alone.items()} | {"b": 99.0}
    shortfall = 0.05 * np.mean([alone["a"], alone["c"]])
    assert stage.goal(lost, "acquire") == pytest.approx(-shortfall)
    assert stage.goal({"a": 50.0, "b": 25.0, "c": 75.0}) == pytest.approx(100)


def test_what_attacks_share_is_charged_to_each(stage: Stage) -> None:
    costs = []
    for name in ("x", "y"):
        stage.begin(name, 0)
        stage.left_out()
        costs.append(stage.meter.record())
    assert costs[0] == costs[1]
    assert costs[0]["forward"] > 0


def test_what_is_shared_is_charged_once_a_point(stage: Stage, added: Any) -> None:
    """A goal asks for the others' merge at every evaluation; its search was made once."""

    def curve(stage: Stage, options: Any) -> Iterator[Merge]:
        for images in (1, 2):
            for _ in range(options["times"]):
                stage.goal(dict.fromkeys(TASKS, 50.0), "acquire")
                merge = stage.merge_by_ta(stage.updates)
            yield replace(merge, budget={"images": images})

    added("curve", curve)
    once, thrice = (attack_points(stage, "curve", 0, {"times": times}) for times in (1, 3))
    costs = [point["cost"] for point in (*once, *thrice)]
    assert costs[0]["forward"] > 0
    assert all(cost == costs[0] for cost in costs)


def test_the_merge_of_what_was_published_is_searched_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage.merge_by_ta(stage.updates)
    monkeypatch.setattr(stage, "_task_arithmetic", lambda *_: pytest.fail("searched anew"))
    assert stage.merge_by_ta(dict(stage.updates)) is first
    monkeypatch.undo()
    # Another update, or another order of sums, is another merge.
    changed = {**stage.updates, "b": dict(stage.updates["a"])}
    assert stage.merge_by_ta(changed) is not first
    assert stage.merge_by_ta(dict(reversed(stage.updates.items()))) is not first


def test_how_much_an_attacker_keeps_is_his_choice(stage: Stage) -> None:
    alone = stage.left_out()[1]
    some = {task: 0.9 * value for task, value in alone.items()} | {"b": 60.0}
    assert stage.goal(some, "acquire") < 0
    assert stage.goal(some, "acquire", kept=85) == 60.0


@pytest.mark.parametrize("split", ["test", "train"])
def test_attacks_see_validation_images_alone_of_a_task(
    stage: Stage, added: Any, split: Any
) -> None:
    def peeking(stage: Stage, _options: object) -> Iterator[Merge]:
        stage.tasks["a"].score(stage.model, split)
        yield Merge({})

    added("peeking", peeking)
    with pytest.raises(CatalogueError, match=f"split '{split}' of a"):
        attack_points(stage, "peeking", 0, {})
    for ask in (stage.tasks["a"].labels, lambda s: stage.tasks["a"].batch(s, np.arange(2))):
        with pytest.raises(CatalogueError, match=f"split '{split}' of a"):
            ask(split)
    stage.begin("x", 0)
    stage.tasks["a"].batch("val", np.arange(2))
    assert stage.meter.record()["labelled"] == 24
    assert stage.scored["a"].score(stage.model, "test").count == 24


@pytest.mark.parametrize(
    ("needs", "labelled", "found"),
    [
        ("nothing", False, "without labels.*needs='sample'"),
        ("nothing", True, "with labels.*needs='labels'"),
        ("sample", True, "needs = 'sample'.*needs='labels'"),
        ("sample", False, None),
        ("labels", False, None),
        ("labels", True, None),
    ],
)
def test_an_attack_sees_no_more_than_its_entry_says(
    stage: Stage, added: Any, needs: str, labelled: bool, found: str | None
) -> None:
    def looking(stage: Stage, _options: object) -> Iterator[Merge]:
        stage.sample("a", 3, labelled=labelled)
        yield Merge({})

    added("looking", looking, needs=needs)
    if found is None:
        assert attack_points(stage, "looking", 0, {})
    else:
        with pytest.raises(CatalogueError, match=found):
            attack_points(stage, "looking", 0, {})


def test_a_sample_without_labels_has_none(stage: Stage) -> None:
    stage.begin("x", 0)
    assert stage.sample("a", 5, labelled=False).labels.tolist() == [-1] * 5
    assert set(stage.sample("a", 24, labelled=True).labels.tolist()) == {0, 1, 2}


def test_points_of_a_curve_have_their_own_costs(stage: Stage, added: Any) -> None:
    def curve(stage: Stage, _options: object) -> Iterator[Merge]:
        for images in (2, 3, 4):
            stage.model(stage.sample("a", images, labelled=False).inputs)
            yield Merge({}, budget={"images": images})

    added("curve", curve, needs="sample")
    points = attack_points(stage, "curve", 0, {})
    assert [point["cost"]["forward"] for point in points] == [2, 3, 4]
    assert [point["cost"]["unlabelled"] for point in points] == [2, 3, 4]
    assert [point["budget"]["images"] for point in points] == [2, 3, 4]


def test_cells_are_kept_until_what_they_depend_on_changes(
    stage: Stage, added: Any, tmp_path: Path
) -> None:
    runs: list[int] = []

    def counted(stage: Stage, _options: object) -> Iterator[Merge]:
        runs.append(stage.attack_seed)
        yield Merge({})

    added("counted", counted)
    output = tmp_path / "a.json"

    def attacked(code: str, seeds: int = 2) -> dict[str, Any]:
        plan = AttackPlan([("counted", k) for k in range(seeds)], {}, {"counted": code})
        attack_updates(stage, plan, RECORD, {}, output=output, log=lambda _: None)
        return dict(files.read_json(output)["cells"])

    first = attacked("1")
    assert attacked("1") == first
    assert runs == [0, 1]
    assert list(attacked("1", 3)) == ["counted@0", "counted@1", "counted@2"]
    assert runs == [0, 1, 2]
    attacked("2")
    assert runs == [0, 1, 2, 0, 1]
    record = files.read_json(output)
    record["cells"]["counted@0"]["points"] = []
    files.write_json(output, record)
    attacked("2")
    assert runs[5:] == [0]


def test_the_first_seeds_make_curves_and_the_others_their_last_points() -> None:
    given = {"sft": {"points": 2}, "two": {"points": 5}}
    plan = AttackPlan([], given, {}, curve_seeds=2)
    assert [plan.options_of("sft", seed)["points"] for seed in range(4)] == [2, 2, 1, 1]
    # Its points are those of a grid.
    assert plan.options_of("two", 3)["points"] == 5
    assert AttackPlan([], given, {}).options_of("sft", 9)["points"] == 2


def attacked(stage: Stage, output: Path, *names: str, given: str = "x") -> dict[str, Any]:
    plan = AttackPlan([(name, 0) for name in names], {}, dict.fromkeys(names, "code"))
    depends_on = {"logit_scale": given}
    attack_updates(stage, plan, RECORD, depends_on, output=output, log=lambda _: None)
    return dict(files.read_json(output)["cells"])


@pytest.mark.parametrize(
    "error", [UpdateError("no attention"), np.linalg.LinAlgError("no attention")]
)
def test_an_attack_that_does_not_apply_leaves_the_others_their_cells(
    stage: Stage, added: Any, tmp_path: Path, error: Exception
) -> None:
    def failing(_stage: Stage, _options: object) -> Iterator[Merge]:
        yield Merge({})
        raise error

    added("failing", failing)
    added("plain", lambda _stage, _options: iter([Merge({})]))
    cells = attacked(stage, tmp_path / "a.json", "failing", "plain")
    assert (cells["failing@0"]["points"], cells["failing@0"]["reason"]) == ([], "no attention")
    assert len(cells["plain@0"]["points"]) == 1
    assert attacked(stage, tmp_path / "a.json", "failing", "plain") == cells


@pytest.mark.parametrize("error", [KeyError("a"), KeyboardInterrupt(), CatalogueError("a")])
def test_interrupts_and_faults_of_the_program_end_the_job(
    stage: Stage, added: Any, tmp_path: Path, error: BaseException
) -> None:
    def failing(_stage: Stage, _options: object) -> Iterator[Merge]:
        raise error
        yield Merge({})

    added("failing", failing)
    with pytest.raises(type(error)):
        attacked(stage, tmp_path / "a.json", "failing")


def test_a_cell_depends_on_all_that_decides_its_scores(
    stage: Stage, added: Any, tmp_path: Path
) -> None:
    added("plain", lambda _stage, _options: iter([Merge({})]))
    keys = [attacked(stage, tmp_path / "a.json", "plain", given=g)["plain@0"]["key"] for g in "xy"]
    for name, value in (("seed", 1), ("protected", "a")):
        setattr(stage, name, value)
        keys.append(attacked(stage, tmp_path / "a.json", "plain")["plain@0"]["key"])
    assert len(set(keys)) == 4


def test_an_attack_that_ends_with_nothing_is_refused(stage: Stage, added: Any) -> None:
    added("nothing", lambda _stage, _options: iter(()))
    with pytest.raises(Trap2Error, match="nothing ended with nothing"):
        attack_points(stage, "nothing", 0, {})


def test_a_model_that_gives_nan_has_nothing_right(stage: Stage, added: Any) -> None:
    layer = f"{stage.targets[0]}.weight"
    bad = torch.full_like(stage.base[layer], torch.nan)
    added("bad", lambda _stage, _options: iter([Merge({layer: bad})]))
    (point,) = attack_points(stage, "bad", 0, {})
    nothing = {"correct": 0, "count": 24, "accuracy": 0.0}
    assert point["test"] == point["val"] == dict.fromkeys(TASKS, nothing)
    assert stage.accuracies({layer: bad}) == dict.fromkeys(TASKS, 0.0)
    assert all(w.isfinite().all() for w in stage.model.state_dict().values())


def test_a_stage_wants_an_update_a_task(stage: Stage) -> None:
    with pytest.raises(Trap2Error, match="one update a task"):
        Stage(stage.model, stage.scored, {}, "b", stage.search, {})


def test_an_entry_says_where_it_does_not_apply(added: Any) -> None:
    added("heads", iter, release_formats=("full",), needs_attention=True)
    assert "whole checkpoints, not adapters" in str(not_applicable("heads", "lora", "vit"))
    assert "attention" in str(not_applicable("heads", "full", "convnext"))
    assert not_applicable("heads", "full", "vit") is None
    with pytest.raises(CatalogueError, match="group = 'none'"):
        added("grouped", iter, group="none")
