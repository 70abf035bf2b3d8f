"""Attacks that choose coefficients break what coefficients can break."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from stages import TASKS, tiny_stage
from trap2.attacks.attack import ATTACKS
from trap2.attacks.catalogue import not_applicable
from trap2.attacks.coefficients import Worth, equalised, layer_of, then_merge
from trap2.attacks.stage import Delta, Merge, Stage
from trap2.updates.delta import LowRank, Update, dense

GROUPS = ("coefficients", "update")
NAMES = [name for name, attack in ATTACKS.items() if attack.group in GROUPS]
QUICK = {
    name: {"evaluations": 30} if "evaluations" in ATTACKS[name].options else {} for name in NAMES
}


def run(stage: Stage, name: str, seed: int = 0, **options: Any) -> Merge:
    stage.begin(name, seed)
    [merge] = ATTACKS[name].run(stage, ATTACKS[name].check_options(options))
    return merge


def scaled(update: Update, factors: Sequence[float]) -> Update:
    """An update with a factor a layer, in turn."""
    return {
        layer: factors[k % len(factors)] * dense(update[layer]) for k, layer in enumerate(update)
    }


class Target(Stage):
    """A stage on which a merge is worth the more, the nearer it is to a known one."""

    wanted: Delta

    def accuracies_at(
        self,
        deltas: Sequence[Delta],
        coefficients: Sequence[float],
        tasks: Sequence[str] | None = None,
    ) -> dict[str, float]:
        away = {layer: -part for layer, part in self.wanted.items()}
        for delta, c in zip(deltas, coefficients, strict=True):
            for layer, part in delta.items():
                away[layer] = away[layer] + c * part
        far = sum(float(part.square().sum()) for part in away.values())
        return dict.fromkeys(tasks or self.tasks, 100 / (1 + far))

    def goal(self, accuracies: Mapping[str, float], kind: str = "mean") -> float:
        return sum(accuracies.values())


def target(coefficients: Mapping[str, float], factors: Sequence[float] = (1.0,)) -> Target:
    """The merge of the updates at coefficients is wanted; what is published of b is scaled."""
    plain = tiny_stage()
    stage = Target(
        plain.model, plain.tasks, plain.updates, "b", plain.search, plain.references, seed=0
    )
    stage.wanted = {
        layer: sum(coefficients[t] * dense(plain.updates[t][layer]) for t in TASKS)
        for layer in plain.updates["b"]
    }
    stage.updates = {**plain.updates, "b": scaled(plain.updates["b"], factors)}
    return stage


def distance(stage: Target, merge: Merge) -> float:
    """Relative distance to what is wanted."""
    parts = [merge.scale * merge.delta[layer] - w for layer, w in stage.wanted.items()]
    norms = [sum(float(p.square().sum()) for p in each) for each in (parts, stage.wanted.values())]
    return float((norms[0] / norms[1]) ** 0.5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("full", [False, True])
def test_every_attack_ends_with_a_merge_that_repeats(name: str, full: bool) -> None:
    if not_applicable(name, "full" if full else "lora", "vit"):
        return
    one, other = (run(tiny_stage(full=full), name, **QUICK[name]) for _ in range(2))
    assert one.found == other.found
    assert one.delta.keys() >= set(tiny_stage(full=full).updates["b"])
    for layer, delta in one.delta.items():
        assert delta.isfinite().all()
        assert torch.equal(delta, other.delta[layer])


@pytest.mark.parametrize("name", [n for n in NAMES if ATTACKS[n].random])
def test_a_random_attack_differs_from_seed_to_seed(name: str) -> None:
    stage = tiny_stage()
    one, other = (run(stage, name, seed, **QUICK[name]) for seed in (0, 1))
    assert any(not torch.equal(one.delta[layer], other.delta[layer]) for layer in one.delta)


@pytest.mark.parametrize("name", ["two", "two-acquire", "wide"])
def test_two_coefficients_find_a_known_optimum(name: str) -> None:
    stage = target({"a": 0.375, "b": 0.8, "c": 0.375})
    merge = run(stage, name, halvings=8)
    assert merge.found["protected"] == pytest.approx(0.8, abs=0.01)
    assert merge.found["others"] == pytest.approx(0.375, abs=0.01)
    assert distance(stage, merge) < 0.01


def test_a_remade_update_gets_a_coefficient_of_its_own() -> None:
    """One coefficient for all cannot reach what two do."""
    stage = target({"a": 0.25, "b": 1.0, "c": 0.25})
    assert distance(stage, then_merge(stage, stage.updates, "one")) > 0.3
    assert distance(stage, then_merge(stage, stage.updates, "two")) < 0.05
    # An attack passes what it has made: here, three times the update.
    merge = then_merge(stage, {**stage.updates, "b": scaled(stage.updates["b"], [3.0])}, "two")
    assert merge.found["protected"] == pytest.approx(1 / 3, abs=0.07)


def test_a_wide_range_undoes_a_flipped_and_halved_update() -> None:
    stage = target({"a": 0.5, "b": 1.0, "c": 0.5}, factors=[0.4])
    assert run(stage, "wide", halvings=8).found["protected"] == pytest.approx(2.5, abs=0.01)
    assert run(stage, "two", halvings=8).found["protected"] == 1.5
    flipped = target({"a": 0.5, "b": 0.7, "c": 0.5}, factors=[-1.0])
    assert run(flipped, "wide", halvings=8).found["protected"] == pytest.approx(-0.7, abs=0.01)


def test_pinned_finds_the_others_coefficient() -> None:
    stage = target({"a": 0.75, "b": 1.0, "c": 0.75})
    merge = run(stage, "pinned")
    assert merge.found["protected"] == 1.0
    assert merge.found["others"] == 0.75
    assert distance(stage, merge) < 1e-5


def test_coefficients_a_task_undo_a_rescaling() -> None:
    wanted = {"a": 0.4, "b": 0.9, "c": 0.7}
    stage = target(wanted, factors=[0.5])
    merge = run(stage, "per-task", halvings=14, evaluations=2000)
    assert merge.found["coefficients"] == pytest.approx({**wanted, "b": 1.8}, abs=1e-3)
    assert distance(stage, merge) < 1e-3


def test_coefficients_a_layer_undo_a_rescaling_of_layers() -> None:
    """Factors that differ from block to block: one a task cannot undo them, one a layer does."""
    wanted = {"a": 0.4, "b": 0.9, "c": 0.7}
    # The adapter has four weights a block.
    factors = [0.5] * 4 + [1.5] * 4
    settings: dict[str, Any] = {"halvings": 14, "evaluations": 4000}
    assert distance(target(wanted, factors), run(target(wanted, factors), "per-task")) > 0.1
    found = run(target(wanted, factors), "per-layer", **settings)
    assert distance(target(wanted, factors), found) < 1e-3
    found = run(target(wanted, factors), "per-layer-cma", evaluations=2000)
    assert distance(target(wanted, factors), found) < 1e-2
    layers: Any = found.found["coefficients"]
    assert layers["b"]["transformer.resblocks.0"] == pytest.approx(1.8, abs=0.02)


class Valley(Stage):
    """The protected update works in a basin about 1, and on the way there it costs the others.

    At the others' own coefficient it costs them a little at 1 as well, which a smaller one mends.
    """

    def accuracies_at(
        self,
        deltas: Sequence[Delta],
        coefficients: Sequence[float],
        tasks: Sequence[str] | None = None,
    ) -> dict[str, float]:
        mine, *others = self.coefficients(deltas, coefficients)
        s = sum(others) / len(others)
        works = max(0.0, 1 - 4 * abs(mine - 1))
        lost = 60 * abs(s - (0.25 if works else 0.5)) + 20 * min(abs(mine), 1) * (1 - works)
        found = {**dict.fromkeys(self.others, 80 - lost), "b": 30 + 60 * works}
        return {task: found[task] for task in tasks or self.tasks}

    def coefficients(self, deltas: Sequence[Delta], coefficients: Sequence[float]) -> list[float]:
        """Each task's coefficient, the protected one's first, by least squares."""
        tasks = [self.protected, *self.others]
        layers = list(self.updates[self.protected])
        mine = self.updates[self.protected]
        total = {layer: torch.zeros_like(dense(mine[layer])) for layer in layers}
        for delta, c in zip(deltas, coefficients, strict=True):
            for layer, part in delta.items():
                total[layer] = total[layer] + c * part

        def flat(update: Update) -> torch.Tensor:
            return torch.cat([dense(update[layer]).flatten() for layer in layers])

        parts = torch.stack([flat(self.updates[task]) for task in tasks], 1)
        found: list[float] = torch.linalg.lstsq(parts, flat(total)[:, None]).solution[:, 0].tolist()
        return found


def valley() -> Stage:
    plain = tiny_stage()
    return Valley(plain.model, plain.tasks, plain.updates, "b", plain.search, plain.references)


@pytest.mark.parametrize("name", ["per-task", "per-layer", "per-layer-cma"])
def test_a_search_finds_the_basin_where_the_protected_update_works(name: str) -> None:
    stage = valley()
    merge = run(stage, name, evaluations=400)
    accuracies = stage.accuracies_at([merge.delta], [merge.scale])
    assert stage.goal(accuracies, "acquire") > 80
    assert accuracies["b"] > 80


def test_starts_are_inside_the_range() -> None:
    """The others' own coefficient is above 1, and a range may end there."""
    stage = target({"a": 1.5, "b": 0.0, "c": 1.5})
    assert stage.left_out()[0].scale > 1
    for name in ("per-task", "per-layer", "per-layer-cma"):
        found: Any = run(stage, name, evaluations=30, high=1).found["coefficients"]
        for each in found.values():
            assert max(each.values() if isinstance(each, dict) else [each]) <= 1


def test_a_search_climbs_although_the_others_lack_a_little() -> None:
    """Of two merges that lose as much, the one with more of the protected task is better."""
    stage = tiny_stage()
    kept = dict.fromkeys(TASKS, 100.0)
    few, more = ({**kept, "a": 0.0, "c": 0.0, "b": b} for b in (20.0, 60.0))
    answers = iter([few, more, kept])
    stage.accuracies_if = lambda *_arguments, **_named: next(answers)
    stage.goal = lambda a, _kind: a["b"] if a["a"] else -95.0
    worth = Worth(stage, [], "acquire")
    values = [worth((float(k),)) for k in range(3)]
    assert values[0] < values[1] < values[2]
    assert worth.best == (2.0,)


@pytest.mark.parametrize(
    "name", ["one", "left-out", "two", "two-acquire", "pinned", "wide", "per-task", "per-layer"]
)
@pytest.mark.parametrize("make", [tiny_stage, valley], ids=["tiny", "valley"])
def test_what_cannot_be_the_best_is_not_scored_on_and_nothing_else_changes(
    name: str, make: Callable[[], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"evaluations": 60} if name.startswith("per-") else {}
    stage = make()
    merge = run(stage, name, **options)
    fewer = stage.spent().forward

    def whole(self: Stage, _worthwhile: object, *arguments: Any) -> dict[str, float]:
        return self.accuracies_at(*arguments)

    monkeypatch.setattr(Stage, "accuracies_if", whole)
    plain = make()
    again = run(plain, name, **options)
    assert merge.found == again.found
    assert merge.scale == again.scale
    assert all(torch.equal(merge.delta[layer], again.delta[layer]) for layer in again.delta)
    assert fewer <= plain.spent().forward


def test_left_out_is_the_others_alone() -> None:
    stage = tiny_stage()
    merge = run(stage, "left-out")
    for layer, delta in merge.delta.items():
        others = dense(stage.updates["a"][layer]) + dense(stage.updates["c"][layer])
        torch.testing.assert_close(delta, others)


def test_equal_norms_undo_a_scaled_copy() -> None:
    """Powers of two scale floats exactly, so the merge is the same bit for bit."""
    stage = tiny_stage()
    plain = run(stage, "norms-equalised")
    stage.updates = {
        **stage.updates,
        "b": {k: LowRank(8 * d.B, d.A) for k, d in stage.updates["b"].items()},
    }
    again = run(stage, "norms-equalised")
    assert again.found == plain.found
    assert all(torch.equal(again.delta[layer], plain.delta[layer]) for layer in plain.delta)
    assert any(
        not torch.equal(again.delta[k], d)
        for k, d in stage.merge_by_ta(stage.updates).delta.items()
    )


def test_equal_norms_are_the_others_mean() -> None:
    mine: Update = {"w": torch.ones(2, 2), "zero": torch.zeros(2), "own": torch.ones(3)}
    others: list[Update] = [{"w": torch.full((2, 2), 2.0)}, {"w": torch.full((2, 2), 4.0)}]
    found = equalised(mine, [{**o, "zero": torch.ones(2)} for o in others])
    torch.testing.assert_close(found["w"], torch.full((2, 2), 3.0))
    assert torch.equal(dense(found["zero"]), torch.zeros(2))
    assert torch.equal(dense(found["own"]), torch.ones(3))


def test_a_layer_is_a_block() -> None:
    model = tiny_stage().model
    weights = ["transformer.resblocks.1.attn.q_proj.weight", "conv1.weight"]
    assert list(layer_of(model, weights).values()) == ["transformer.resblocks.1", "outside"]
