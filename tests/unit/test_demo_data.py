"""The demo's pictures: repeatable, disjoint splits, and images of what they claim to show."""

from __future__ import annotations

import numpy as np
import pytest
from trap2.data.demo import canvas, tasks
from trap2.data.demo.tasks import TASKS, render
from trap2.data.prepared import SPLITS

EVERY_TASK = pytest.mark.parametrize("task", TASKS)


@EVERY_TASK
@pytest.mark.parametrize("shifted", [False, True])
def test_shape_type_labels_and_repeatability(task: str, shifted: bool) -> None:
    images, labels = render(task, "train", 14, 7, shifted)
    assert images.shape == (14, 3, 32, 32)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert set(labels.tolist()) <= set(range(len(TASKS[task].class_names)))
    again, _ = render(task, "train", 14, 7, shifted)
    assert np.array_equal(images, again)
    shorter, fewer = render(task, "train", 5, 7, shifted)
    assert np.array_equal(shorter, images[:5])
    assert np.array_equal(fewer, labels[:5])


@EVERY_TASK
def test_every_picture_is_its_own(task: str) -> None:
    pictures = [
        image.tobytes()
        for seed in (0, 1)
        for split in SPLITS
        for shifted in (False, True)
        for image in render(task, split, 6, seed, shifted)[0]
    ]
    assert len(set(pictures)) == len(pictures)


@EVERY_TASK
def test_classes_and_names(task: str) -> None:
    described = TASKS[task]
    assert 8 <= len(described.class_names) <= 12
    assert len(set(described.class_names)) == len(described.class_names)
    assert all(template.count("{}") == 1 for template in described.templates)
    if task != "digits":
        _, labels = render(task, "val", 3 * len(described.class_names), 0, False)
        assert np.bincount(labels).tolist() == [3] * len(described.class_names)


def test_real_digits_are_split_without_overlap() -> None:
    parts = [set(tasks.real_digits(split).tolist()) for split in SPLITS]
    assert [len(part) for part in parts] == [1100, 247, 450]
    assert set.union(*parts) == set(range(1797))
    with pytest.raises(ValueError, match="none of"):
        tasks.real_digits("everything")


def test_digits_show_the_real_image_with_the_label() -> None:
    from sklearn.datasets import load_digits

    real = load_digits()
    images, labels = render("digits", "test", 40, 0, shifted=False)
    indices = tasks.real_digits("test")[:40]
    assert np.array_equal(labels, real.target[indices])
    # Ink is dark on light paper: averaged down to 8×8, a picture must resemble its own source
    # more than nearly all the others.
    dark = 255.0 - images.mean(axis=1)[:, 6:26, 6:26]
    small = np.stack([np.asarray(tasks.Image.fromarray(d).resize((8, 8))) for d in dark])
    ours = (small - small.mean((1, 2), keepdims=True)).reshape(40, -1)
    theirs = real.images[indices]
    theirs = (theirs - theirs.mean((1, 2), keepdims=True)).reshape(40, -1)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (np.argmax(ours @ theirs.T, axis=1) == np.arange(40)).mean() > 0.85


@EVERY_TASK
def test_clean_classes_can_be_told_apart_and_shifted_ones_are_harder(task: str) -> None:
    def nearest_mean_accuracy(shifted: bool) -> float:
        images, labels = render(task, "train", 240, 0, shifted)
        grey = images.mean(axis=1).reshape(240, -1)
        grey = (grey - grey.mean(1, keepdims=True)) / grey.std(1, keepdims=True)
        # Strokes may be lighter or darker than the ground; what counts is where they are.
        train, test = np.arange(240) < 180, np.arange(240) >= 180
        classes = range(len(TASKS[task].class_names))
        means = np.stack([grey[train & (labels == c)].mean(0) for c in classes])
        return float((np.argmax(grey[test] @ means.T, axis=1) == labels[test]).mean())

    clean, shifted = nearest_mean_accuracy(False), nearest_mean_accuracy(True)
    chance = 1 / len(TASKS[task].class_names)
    assert clean > 2 * chance
    # Among 60 images a difference of three is chance.
    assert clean > shifted - 0.05


def test_bad_requests_name_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"'cats' is unknown; it must be one of .*digits"):
        render("cats", "train", 1, 0, False)
    with pytest.raises(ValueError, match="split 'dev' is unknown"):
        render("digits", "dev", 1, 0, False)
    with pytest.raises(ValueError, match="count is 0"):
        render("digits", "train", 0, 0, False)


def test_a_layer_is_placed_as_asked() -> None:
    background = tasks.Image.new("RGB", (128, 128), (0, 0, 0))
    painted, brush = canvas.layer()
    brush.rectangle([58, 24, 70, 44], fill=(255, 255, 255))
    canvas.place(background, painted, angle=90, shift=(0.25, 0.0))
    pixels = np.asarray(background)[..., 0] > 128
    rows, columns = np.nonzero(pixels)
    # A quarter turn counter-clockwise takes the bar from the top to the left; then 32 px right.
    assert abs(rows.mean() - 64) < 1.5
    assert abs(columns.mean() - (34 + 32)) < 1.5
