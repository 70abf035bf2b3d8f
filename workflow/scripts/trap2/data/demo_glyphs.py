"""Painters of the demo's written tasks: real handwritten digits and printed letters."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trap2.data.demo_canvas import (
    CANVAS,
    Colour,
    colour,
    confetti,
    gradient,
    layer,
    mix,
    mottled,
    night_colours,
    place,
    wear,
)

LETTERS = "ABDEGHKMQRSW"

# Fonts that come with matplotlib: two plain ones for the clean rendering, all for the other.
CLEAN_FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
ALL_FONTS = (
    *CLEAN_FONTS,
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSansMono-Bold.ttf",
)


@lru_cache(maxsize=1)
def handwritten() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: ink (1797, 8, 8) in 0 … 255 uint8, labels (1797,) int64.

    They are the test part of the UCI "Optical Recognition of Handwritten Digits" data, written
    by 43 people.
    """
    from sklearn.datasets import load_digits

    ink, labels = load_digits(return_X_y=True)
    return (ink.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8), labels.astype(np.int64)


def _ink(stroke: np.ndarray, fill: Colour) -> Image.Image:
    """A handwritten digit as a coloured layer, some two thirds of the picture high."""
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    side = 3 * CANVAS // 4
    # The 8×8 strokes touch the frame; a blank margin lets the interpolation fade them out.
    padded = Image.fromarray(np.pad(stroke, 1))
    large = padded.resize((side, side), Image.Resampling.BICUBIC)
    # Scanned at 8×8 the strokes are grey all over; this gives them a body and an edge.
    large = large.point([round(255 * min(1.0, max(0.0, (v - 70) / 90))) for v in range(256)])
    mask.paste(large, ((CANVAS - side) // 2,) * 2)
    painted = Image.new("RGBA", (CANVAS, CANVAS), (*fill, 0))
    painted.putalpha(mask)
    return painted


def paint_digit(rng: np.random.Generator, index: int, shifted: bool) -> Image.Image:
    """The real digit ``index``: clean as a pen on paper, shifted as a number on a house wall."""
    strokes, _ = handwritten()
    if not shifted:
        paper = colour(rng, saturation=(0.0, 0.15), value=(0.88, 1.0))
        picture = gradient(rng, paper, paper)
        pen = colour(rng, hue=(0.55, 0.75), saturation=(0.2, 1.0), value=(0.05, 0.4))
        place(
            picture,
            _ink(strokes[index], pen),
            angle=rng.uniform(-8, 8),
            scale=rng.uniform(1.0, 1.2),
            shift=tuple(rng.uniform(-0.05, 0.05, 2)),
        )
        return picture
    wall, number = night_colours(rng)
    picture = mottled(rng, wall, mix(wall, colour(rng), 0.25))
    # Neighbouring house numbers reach into the picture from both sides.
    for side in (-1, 1):
        neighbour = strokes[int(rng.integers(len(strokes)))]
        shift = (side * rng.uniform(0.58, 0.7), rng.uniform(-0.1, 0.1))
        place(picture, _ink(neighbour, number), shift=shift)
    place(
        picture,
        _ink(strokes[index], number),
        angle=rng.uniform(5, 25),
        scale=rng.uniform(0.95, 1.15),
        squeeze=rng.uniform(0.8, 1.0),
        shift=tuple(rng.uniform(-0.07, 0.07, 2)),
    )
    return wear(rng, picture)


@lru_cache(maxsize=64)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of the DejaVu fonts that matplotlib brings along."""
    import matplotlib

    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size, ImageFont.Layout.BASIC
    )


def write(brush: ImageDraw.ImageDraw, text: str, name: str, size: int, fill: Colour) -> None:
    """Write text in the middle of a canvas; ``size`` is the font's, in canvas pixels."""
    face = font(name, size)
    left, top, right, bottom = face.getbbox(text)
    x, y = (CANVAS - left - right) / 2, (CANVAS - top - bottom) / 2
    brush.text((x, y), text, font=face, fill=fill)


def _letter(
    rng: np.random.Generator, text: str, fonts: tuple[str, ...], fill: Colour
) -> Image.Image:
    painted, brush = layer()
    write(brush, text, fonts[int(rng.integers(len(fonts)))], 92, fill)
    return painted


def paint_letter(rng: np.random.Generator, label: int, shifted: bool) -> Image.Image:
    """A capital: clean as print, shifted as a painted sign with cut-off neighbours."""
    if not shifted:
        paper = colour(rng, saturation=(0.0, 0.15), value=(0.88, 1.0))
        picture = gradient(rng, paper, paper)
        ink = colour(rng, saturation=(0.0, 0.8), value=(0.0, 0.4))
        place(
            picture,
            _letter(rng, LETTERS[label], CLEAN_FONTS, ink),
            angle=rng.uniform(-8, 8),
            scale=rng.uniform(0.85, 1.1),
            shift=tuple(rng.uniform(-0.05, 0.05, 2)),
        )
        return picture
    board, paint = night_colours(rng)
    picture = gradient(rng, board, mix(board, colour(rng), 0.3))
    for side in (-1, 1):
        neighbour = _letter(rng, LETTERS[int(rng.integers(len(LETTERS)))], ALL_FONTS, paint)
        place(picture, neighbour, shift=(side * rng.uniform(0.62, 0.75), rng.uniform(-0.1, 0.1)))
    confetti(rng, picture, 2, 0.2)
    place(
        picture,
        _letter(rng, LETTERS[label], ALL_FONTS, paint),
        angle=rng.uniform(-25, -5),
        scale=rng.uniform(0.8, 1.0),
        shear=rng.uniform(-0.2, 0.1),
        shift=tuple(rng.uniform(-0.07, 0.07, 2)),
    )
    return wear(rng, picture)
