"""Attacks with data: what they must find, what they see and cost, and that W0 is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stages import CPU, SEARCH, tiny_stage
from trap2.attacks.catalogue import ATTACKS
from trap2.attacks.distillation import answers
from trap2.attacks.fresh import budgets, train
from trap2.attacks.stage import Stage
from trap2.attacks.staging import attack_points
from trap2.attacks.supervised import labelled
from trap2.data.prepared import Split
from trap2.models.clip.classifier import Classifier
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import LowRank, dense_layers

NAMES = [name for name, entry in ATTACKS.items() if entry.group == "data"]
FEW = {"images": 8, "points": 2, "steps": 8, "epochs": 2, "iterations": 2, "batch_size": 4}


def few(name: str, **given: object) -> dict[str, object]:
    options = ATTACKS[name].options
    return ATTACKS[name].check_options({k: v for k, v in (FEW | given).items() if k in options})


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_an_attack_with_data_gives_a_curve_and_leaves_the_base(name, full):
    if full and "full" not in ATTACKS[name].release_formats:
        pytest.skip("adapters only")
    stage = tiny_stage(full=full)
    before = {n: w.clone() for n, w in stage.model.state_dict().items()}
    points = attack_points(stage, name, 0, few(name))
    assert points[-1]["budget"]["images"] == 8
    assert points[0]["budget"]["images"] == 2
    for point in points:
        assert point["cost"]["forward"] > 0
    seen = points[-1]["cost"]["labelled" if name == "sft" else "unlabelled"]
    assert seen >= 8
    state = stage.model.state_dict()
    assert all(torch.equal(state[n], w) for n, w in before.items())
    assert not any(p.requires_grad or p.grad is not None for p in stage.model.parameters())
    assert points == attack_points(tiny_stage(full=full), name, 0, few(name))


def test_a_curve_goes_over_images_and_then_over_steps():
    assert list(budgets(64, 100, 3)) == [
        *((4, 100), (16, 100)),
        *((64, 6), (64, 25), (64, 100)),
    ]


def test_the_curve_of_adamerging_goes_over_both():
    points = attack_points(tiny_stage(), "adamerging-layer", 0, few("adamerging-layer"))
    assert [tuple(p["budget"].values()) for p in points] == [(2, 2), (8, 1), (8, 2)]


def test_every_point_of_prodistill_has_the_same_steps():
    """A curve over images is one of images: fewer of them are gone through more often."""
    for images in (8, 1000):  # of 24
        options = few("prodistill", images=images, points=3, epochs=5, batch_size=8)
        points = attack_points(tiny_stage(), "prodistill", 0, options)
        assert len({point["budget"]["steps"] for point in points}) == 1


def test_what_takes_images_runs_with_several_seeds():
    assert all(ATTACKS[name].random for name in NAMES)


@pytest.mark.parametrize("then", ["one", "two"])
def test_a_distilled_update_may_have_a_coefficient_of_its_own(then):
    *_, point = attack_points(tiny_stage(), "distillation", 0, few("distillation", then=then))
    assert ("protected" in point["found"]) == (then == "two")


def relabelled(stage: Stage, task: str) -> Stage:
    """The stage with the labels that the published update of a task gives its images."""
    own = stage.scored[task]
    splits = {}
    with AppliedUpdate(stage.model, dense_layers(stage.updates[task])) as applied:
        applied.set(1.0)
        for name, split in own.splits.items():
            batch = own.batch(name, np.arange(len(split)))
            with torch.no_grad():
                found = own.logits(stage.model(batch.inputs)).argmax(1).numpy()
            splits[name] = Split(split.images, found)
    tasks = dict(stage.scored)
    tasks[task] = Classifier(splits, own.head, own.logit_scale, own.batch_size, CPU)
    return Stage(stage.model, tasks, stage.updates, stage.protected, SEARCH, stage.references)


@pytest.mark.parametrize("full", [False, True])
def test_a_distilled_update_answers_as_the_protected_model(full):
    stage = relabelled(tiny_stage(full=full), "b")
    task = answers(stage, 24)
    options = few("distillation", learning_rate=0.03, full_learning_rate=0.01, batch_size=24)
    mine = train(stage, task, options, images=24, steps=150, validations=1)
    assert all(isinstance(part, LowRank) != full for part in mine.values())
    start = stage.scored["b"].score(stage.model, "train")
    with AppliedUpdate(stage.model, dense_layers(mine)) as applied:
        applied.set(1.0)
        found = stage.scored["b"].score(stage.model, "train")
        student = task.loss(stage.model, task.batch("train", np.arange(24)))
    assert start.accuracy < 80
    assert found.accuracy > 90
    assert float(student) < 0.2 * float(task.loss(stage.model, task.batch("train", np.arange(24))))


def test_the_divergence_is_zero_for_the_teacher_itself():
    stage = tiny_stage()
    task = answers(stage, 24)
    batch = task.batch("train", np.arange(24))
    with AppliedUpdate(stage.model, dense_layers(stage.updates["b"])) as applied:
        applied.set(1.0)
        assert float(task.loss(stage.model, batch)) == pytest.approx(0, abs=1e-6)
        assert task.score(stage.model, "val").accuracy == 100
    probabilities = task.teacher.double().softmax(1)
    zero_shot = stage.tasks["b"].logits(stage.model(batch.inputs)).double().log_softmax(1)
    by_hand = (probabilities * (probabilities.log() - zero_shot)).sum(1).mean()
    assert float(task.loss(stage.model, batch)) == pytest.approx(float(by_hand), rel=1e-4)


def test_supervised_images_meet_their_own_tasks_heads():
    stage = tiny_stage()
    stage.tasks = {
        name: replace(task, head=task.head.roll(k, 0))
        for k, (name, task) in enumerate(stage.scored.items())
    }
    task = labelled(stage, 6)
    assert task.targets[:, 0].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    batch = task.batch("train", np.array([1, 7, 13, 14]))
    by_hand = 0.0
    for k, (name, rows) in enumerate((("a", [0]), ("b", [1]), ("c", [2, 3]))):
        own = stage.tasks[name]
        part = type(batch)(batch.inputs[rows], batch.labels[rows, 1])
        assert (batch.labels[rows, 0] == k).all()
        by_hand += float(own.loss(stage.model, part, reduction="sum"))
    assert float(task.loss(stage.model, batch)) == pytest.approx(by_hand / 4, rel=1e-5)


def test_supervised_fine_tuning_learns_its_images():
    stage = tiny_stage()
    start = stage.merge_by_ta(stage.updates)
    task = labelled(stage, 8)
    options = few("sft", learning_rate=0.03, batch_size=24)
    mine = train(stage, task, options, images=24, steps=120, validations=1, start=start)
    batch = task.batch("train", np.arange(24))
    with AppliedUpdate(stage.model, start.delta) as merged:
        merged.set(start.scale)
        before = float(task.loss(stage.model, batch))
        with AppliedUpdate(stage.model, dense_layers(mine)) as applied:
            applied.set(1.0)
            assert float(task.loss(stage.model, batch)) < 0.5 * before
