"""A task as a model sees it: closed names of splits, batches, loss and score."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trap2.data.prepared import SPLITS, Split, UnknownSplit, check_split, open_task, split_files
from trap2.evaluation.landscape import sampled_loss
from trap2.evaluation.tasks import Scorer, proxy_batches
from trap2.models.clip.classifier import Classifier

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def split(seed: int, count: int = 120) -> Split:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return Split(images, generator.integers(0, 3, count))


def classifier(batch_size: int = 256) -> Classifier:
    torch.manual_seed(0)
    head = nn.functional.normalize(torch.randn(3, 6), dim=1)
    splits = {"val": split(1), "test": split(2)}
    return Classifier(splits, head, 10.0, batch_size, torch.device("cpu"))


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 6)).requires_grad_(False)


@pytest.mark.parametrize("name", ["tset", "Val", "", "validation"])
def test_a_misspelt_split_is_refused_everywhere_and_reads_no_other(name):
    task = classifier()
    scorer = Scorer(model(), {"a": task}, {"a": 50.0})
    for read in (
        lambda: check_split(name),
        lambda: split_files(name),
        lambda: open_task([], "a", name),
        lambda: task.labels(name),
        lambda: task.batch(name, np.arange(2)),
        lambda: task.score(model(), name),
        lambda: scorer.scores(name),
    ):
        with pytest.raises(UnknownSplit, match=f"split '{name}' is unknown; choose"):
            read()


def test_a_split_that_was_not_opened_is_no_other_one():
    with pytest.raises(UnknownSplit, match="'train' was not opened for this task, only val, test"):
        classifier().labels("train")
    assert [check_split(name) for name in SPLITS] == ["train", "val", "test"]


def test_loss_and_score_are_those_of_the_cosines():
    task, tower = classifier(batch_size=7), model()
    images = torch.from_numpy(task.splits["test"].images).double() / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).double().view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).double().view(3, 1, 1)
    features = model().double()((images - mean) / deviation)
    cosines = nn.functional.normalize(features, dim=1) @ task.head.double().T
    labels = torch.from_numpy(task.splits["test"].labels)
    wanted = nn.functional.cross_entropy(10.0 * cosines, labels)
    score = task.score(tower, "test")
    assert score.loss == pytest.approx(float(wanted), rel=1e-5)
    assert score.correct == int((cosines.argmax(1) == labels).sum())
    batch = task.batch("test", np.arange(120))
    assert float(task.loss(tower, batch)) == pytest.approx(float(wanted), rel=1e-5)
    total = task.loss(tower, batch, reduction="sum")
    assert float(total) == pytest.approx(120 * float(wanted), rel=1e-5)


@pytest.mark.parametrize(("configured", "gram", "curvature"), [(256, 50, 64), (16, 16, 16)])
def test_samples_come_in_batches_no_larger_than_the_configured_one(configured, gram, curvature):
    task = classifier(configured)
    parts = proxy_batches(task, "a", samples=100, sampling="random", seed=0)
    assert max(map(len, parts)) == gram
    assert sum(map(len, parts)) == 100
    loss = sampled_loss(task, 100, np.random.default_rng(0))
    assert max(map(len, loss.batches)) == curvature
    assert loss.count == 100


def test_the_training_loop_knows_no_clip():
    clip = "[name for name in sys.modules if name.startswith('trap2.models.clip')]"
    text = f"import sys, trap2.training.trainer; print({clip})"
    found = subprocess.run(
        [sys.executable, "-c", text], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
