"""The demo suite's own image tasks: six small worlds at 32×32, made from a seed.

``digits`` are scikit-learn's real handwritten ones, split once into disjoint parts; the others
are painted.  Each task has a *clean* rendering, on which the base model is pretrained, and a
*shifted* one, the same kind of picture taken by a camera held askew, in bad light and with
grain.  Updates are fine-tuned on the shifted pictures, where the base is good but not saturated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trap2.data.demo.canvas import SIZE, develop, tilt, wear
from trap2.data.demo.drawings import SHAPES, SIGNS, paint_shape, paint_sign
from trap2.data.demo.glyphs import LETTERS, handwritten, paint_digit, paint_letter
from trap2.data.demo.surfaces import LANDS, TEXTURES, paint_land, paint_texture
from trap2.data.prepared import SPLITS
from trap2.runtime.errors import Trap2Error
from trap2.runtime.seeding import numpy_generator

# Shares of the 1797 real digits; the generator is fixed, so that no seed of a configuration can
# move a digit from one split to another.
DIGIT_SHARES = {"train": 1100, "val": 247, "test": 450}


DIGIT_SPLIT_SEED = 420

# Standard deviation of the pixel noise, in grey levels of 255.
CLEAN_GRAIN = (0.0, 4.0)


SHIFTED_GRAIN = (8.0, 20.0)

Painter = Callable[[np.random.Generator, int], Image.Image]


@dataclass(frozen=True)
class DemoTask:
    """One task.

    Attributes:
        class_names: a natural-language name a class, in the order of the labels.
        templates: prompt templates, ``{}`` for the class name; captions in pretraining and the
            ensemble of the zero-shot head.
        paint: paints a canvas from a generator, a label (for ``digits`` the index of a real
            digit).
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    paint: Painter


TASKS: dict[str, DemoTask] = {
    "digits": DemoTask(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        ("a photo of the number {}.", "a handwritten {}.", "the digit {}."),
        paint_digit,
    ),
    "letters": DemoTask(
        tuple(LETTERS),
        ("a photo of the letter {}.", "a printed {}.", "the capital letter {}."),
        paint_letter,
    ),
    "shapes": DemoTask(
        tuple(SHAPES),
        ("a drawing of a {}.", "a {} cut out of paper.", "the shape of a {}."),
        paint_shape,
    ),
    "textures": DemoTask(
        tuple(TEXTURES),
        ("a photo of a {} texture.", "a {} pattern.", "{} cloth."),
        paint_texture,
    ),
    "signs": DemoTask(
        tuple(SIGNS),
        ("a photo of a {} traffic sign.", "a road sign that says {}.", "the {} sign."),
        paint_sign,
    ),
    "satellite": DemoTask(
        tuple(LANDS),
        ("a satellite photo of {}.", "{} seen from above.", "an aerial view of {}."),
        paint_land,
    ),
}


def real_digits(split: str) -> np.ndarray:
    """The indices of the real digits of one split; the three splits are disjoint."""
    order = np.random.Generator(np.random.PCG64(DIGIT_SPLIT_SEED)).permutation(
        sum(DIGIT_SHARES.values())
    )
    start = 0
    for name, count in DIGIT_SHARES.items():
        if name == split:
            return order[start : start + count]
        start += count
    raise Trap2Error(f"split '{split}' is none of {list(DIGIT_SHARES)}")


def render(
    task: str, split: str, count: int, seed: int, shifted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split of one task.

    Image i depends on (task, split, seed, shifted, i) alone, so a larger ``count`` only appends.
    Labels go round the classes; those of ``digits`` follow the real images, which come back in
    other colours and positions once a split's own are used up.

    Args:
        task: a key of :data:`TASKS`.
        split: ``train``, ``val`` or ``test``; no two share an image.
        count: number of images, at least 1.
        seed: the configuration's seed.
        shifted: the hard rendering for fine-tuning, or the clean one for pretraining.

    Returns:
        Images (count, 3, 32, 32) uint8 and labels (count,) int64.

    Raises:
        ValueError: the task or the split is unknown, or ``count`` is below 1.
    """
    if task not in TASKS:
        raise Trap2Error(f"demo task '{task}' is unknown; it must be one of {list(TASKS)}")
    if split not in SPLITS:
        raise Trap2Error(f"split '{split}' is unknown; it must be one of {list(SPLITS)}")
    if count < 1:
        raise Trap2Error(f"count is {count}; a split needs at least one image")
    sources, labels = _sources(task, split, count)
    look = "shifted" if shifted else "clean"
    images = np.empty((count, 3, SIZE, SIZE), dtype=np.uint8)
    for i, source in enumerate(sources):
        rng = numpy_generator(seed, "demo", task, split, look, str(i))
        picture = TASKS[task].paint(rng, int(source))
        if shifted:
            images[i] = develop(rng, wear(rng, tilt(rng, picture)), SHIFTED_GRAIN)
        else:
            images[i] = develop(rng, picture, CLEAN_GRAIN)
    return images, labels


def _sources(task: str, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What each image shows (a class, or a real digit's index) and its label."""
    if task == "digits":
        sources = np.resize(real_digits(split), count)
        return sources, handwritten()[1][sources]
    labels = np.arange(count, dtype=np.int64) % len(TASKS[task].class_names)
    return labels, labels
