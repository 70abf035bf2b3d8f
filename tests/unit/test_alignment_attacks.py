"""The alignment attacks on a tiny stage: what they make of updates that a transform protects."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from stages import TASKS, tiny_stage
from trap2.attacks.attack import ATTACKS
from trap2.attacks.catalogue import not_applicable
from trap2.attacks.stage import Merge, Stage
from trap2.attacks.staging import attack_points
from trap2.protection.adapters import refit_adapter
from trap2.protection.checkpoints import transform_attention
from trap2.protection.mergelock import RandomMixing
from trap2.protection.params import DiagonalScales, permute_hidden_units
from trap2.runtime.seeding import numpy_generator
from trap2.updates.delta import UpdateError, dense

NAMES = [name for name, entry in ATTACKS.items() if entry.group == "alignment"]
CHEAP = {"graderase": {"steps": 3, "images": 8, "points": 1}, "unmask-swept": {"step": 0.5}}


def run(stage: Stage, name: str, **options: Any) -> Merge:
    stage.begin(name, 0)
    entry = ATTACKS[name]
    (merge,) = entry.run(stage, entry.check_options(options or CHEAP.get(name, {})))
    return merge


def protect(stage: Stage, transform: Any) -> Stage:
    """Publish a whole checkpoint of ``b`` after a transform of its heads and hidden units."""
    update = stage.updates["b"]
    model = {name: stage.base[name].double() + dense(update[name]).double() for name in update}
    draws = partial(numpy_generator, 0, "test")
    moved = transform_attention(transform, model, stage.heads, draws)
    moved = permute_hidden_units(moved, {k: stage.base[k] for k in model}, stage.heads)
    stage.updates = {
        **stage.updates,
        "b": {name: (moved[name] - stage.base[name]).float() for name in moved},
    }
    return stage


def total(merge: Merge) -> dict[str, torch.Tensor]:
    return {name: merge.scale * part for name, part in merge.delta.items()}


def sum_of(stage: Stage, tasks: Any, factor: float) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for task in tasks:
        for name in stage.updates[task]:
            found[name] = found.get(name, 0) + factor * dense(stage.updates[task][name])
    return found


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_every_attack_runs(name: str, full: bool) -> None:
    if not_applicable(name, "full" if full else "lora", "vit") is not None:
        return
    stage = tiny_stage(full=full)
    before = {key: w.clone() for key, w in stage.model.state_dict().items()}
    (point,) = attack_points(stage, name, 0, ATTACKS[name].check_options(CHEAP.get(name, {})))
    assert set(point["test"]) == set(TASKS)
    assert (
        point == attack_points(stage, name, 0, ATTACKS[name].check_options(CHEAP.get(name, {})))[0]
    )
    assert all(torch.equal(w, before[key]) for key, w in stage.model.state_dict().items())


@pytest.mark.parametrize("name", ["aga", "aga-paired"])
def test_the_anchor_makes_every_protection_the_same(name: str) -> None:
    found = []
    for transform in (RandomMixing(), DiagonalScales()):
        stage = protect(tiny_stage(full=True), transform)
        found.append(total(run(stage, name, ridge=0.0)))
    plain = total(run(tiny_stage(full=True), name, ridge=0.0))
    for each in found:
        assert_near(each, plain)


def test_permutation_and_scales_bring_params_near() -> None:
    original, stage = tiny_stage(full=True), protect(tiny_stage(full=True), DiagonalScales())
    goal = sum_of(original, ["b"], 1.0)

    def left(name: str) -> float:
        """How far the recovered update is from the unprotected one, of its norm."""
        stage.merge_by_ta = lambda updates: Merge({k: dense(d) for k, d in updates["b"].items()})
        mine = run(stage, name).delta
        squares = sum((mine[k] - goal[k]).square().sum() for k in goal)
        return float(torch.as_tensor(squares) / sum(g.square().sum() for g in goal.values())) ** 0.5

    both, order, scales = map(left, ("align-params", "align-permutation", "align-scales"))
    assert both < 0.15
    assert min(order, scales) > 0.5


def test_a_rotation_against_the_mean_of_the_others() -> None:
    """Their mean is W0 when their updates are zero, and a rotated W0 then becomes W0."""

    class Rotations:
        def draw(self, width: int, generator: Any) -> Any:
            return np.linalg.qr(generator.standard_normal((width, width)))[0]

    stage = tiny_stage(full=True)
    stage.updates = {
        task: {name: torch.zeros_like(dense(part)) for name, part in update.items()}
        for task, update in stage.updates.items()
    }
    stage = protect(stage, Rotations())
    assert max(float(part.abs().max()) for part in sum_of(stage, "b", 1.0).values()) > 0.01
    stage.merge_by_ta = lambda updates: Merge({k: dense(d) for k, d in updates["b"].items()})
    heads = {k: v for k, v in run(stage, "align-rotation").delta.items() if ".attn." in k}
    assert max(float(part.abs().max()) for part in heads.values()) < 1e-5


def test_an_adapter_is_aligned_by_its_model_and_its_biases_stay() -> None:
    stage = tiny_stage()
    adapter: Any = stage.updates["b"]
    draws = partial(numpy_generator, 0, "test")
    refitted = refit_adapter(DiagonalScales(), adapter, stage.base, stage.heads, draws)
    stage.updates = {**stage.updates, "b": refitted}
    assert run(stage, "align-scales").delta.keys() == adapter.keys()


def test_unmask_cannot_see_the_protected_update() -> None:
    for name in ("unmask", "unmask-task-vector"):
        found = []
        for stage in (tiny_stage(full=True), protect(tiny_stage(full=True), RandomMixing())):
            found.append(total(run(stage, name)))
        assert_near(*found)
    stage = tiny_stage()
    others = sum_of(stage, stage.others, 0.3)
    assert_near(total(run(stage, "unmask-task-vector")), others)
    literal = total(run(stage, "unmask"))
    parameters = dict(stage.model.named_parameters())
    assert_near(
        literal, {name: others.get(name, 0) - 0.3 * stage.base[name] for name in parameters}
    )


def test_the_sweep_takes_the_best_factor() -> None:
    stage = tiny_stage()
    merge = run(stage, "unmask-swept", step=0.5, goal="mean")
    ta = stage.merge_by_ta(stage.updates)
    mine = sum_of(stage, ["b"], 1.0)
    values = {
        c: stage.goal(stage.accuracies_at([ta.delta, mine], [ta.scale, -c]))
        for c in (-1.0, -0.5, 0.0, 0.5, 1.0)
    }
    assert values[merge.found["factor"]] == max(values.values())
    assert stage.goal(stage.accuracies(merge.delta)) == max(values.values())


def test_graderase_moves_orthogonally_to_what_it_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    from trap2.attacks.alignment import retraining

    seen: list[Any] = []

    def recorded(*arguments: Any, **named: Any) -> Any:
        seen.append((arguments[1], found := descend(*arguments, **named), named.get("direction")))
        return found

    descend = retraining.descend
    monkeypatch.setattr(retraining, "descend", recorded)
    stage = tiny_stage()
    merge = run(stage, "graderase", steps=5, images=8, points=1, learning_rate=0.05)
    (origin, tuned, _), (start, final, direction) = seen
    moved = {name: final[name] - start[name] for name in final}
    product = sum((moved[name] * direction[name]).sum() for name in moved)
    sizes = [sum(x[name].square().sum() for name in x) ** 0.5 for x in (moved, direction)]
    assert float(sizes[0]) > 1e-4
    assert abs(float(product)) < 1e-4 * float(sizes[0] * sizes[1])
    assert all(torch.equal(direction[name], tuned[name] - origin[name]) for name in tuned)
    assert merge.budget == {"images": 8, "steps": 5}


def test_graderase_records_the_images_that_there_are() -> None:
    assert run(tiny_stage(), "graderase", steps=1, images=1000, points=1).budget["images"] == 24


def test_graderase_is_a_curve() -> None:
    stage, options = tiny_stage(), {"steps": 4, "images": 16, "points": 2}
    stage.begin("graderase", 0)
    entry = ATTACKS["graderase"]
    found = [merge.budget for merge in entry.run(stage, entry.check_options(options))]
    assert found == [
        {"images": 4, "steps": 4},
        {"images": 16, "steps": 1},
        {"images": 16, "steps": 4},
    ]


def test_no_ridge_and_dependent_rows_are_refused() -> None:
    stage = tiny_stage(full=True)
    layer = next(name for name in stage.updates["b"] if name.endswith("q_proj.weight"))
    gone = {**stage.updates["b"], layer: -stage.base[layer]}
    stage.updates = {**stage.updates, "b": gone}
    with pytest.raises(UpdateError, match=r"ridge = 0: .* set a ridge above 0"):
        run(stage, "aga", ridge=0.0)
    run(stage, "aga")


@pytest.mark.parametrize("name", ["align-rotation", "aga", "drop-large", "sign-trim"])
def test_two_coefficients_may_follow(name: str) -> None:
    stage = tiny_stage()
    one, two = (run(stage, name, then=then) for then in ("one", "two"))
    assert set(two.found) >= {"protected", "others"}
    assert "protected" not in one.found


def test_a_coefficient_of_its_own_needs_to_know_the_task() -> None:
    assert [ATTACKS["aga"].knows({"then": then}) for then in ("one", "two")] == [
        "blind",
        "protected",
    ]
    assert ATTACKS["align-params"].knows({"then": "two"}) == "defense"


def test_who_knows_the_protected_update_leaves_the_others_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trap2.attacks.alignment import recovered

    seen: list[Any] = []
    monkeypatch.setattr(
        recovered, "then_merge", lambda stage, updates, then: seen.append(updates) or Merge({})
    )
    stage = tiny_stage()
    for then in ("one", "two"):
        run(stage, "aga", then=then)
    changed = [{t for t in TASKS if updates[t] is not stage.updates[t]} for updates in seen]
    assert changed == [set(TASKS), {"b"}]
