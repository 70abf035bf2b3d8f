"""Painters of the demo's written tasks: real handwritten digits and printed letters."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trap2.data.demo.canvas import CANVAS, Colour, colour, layer, place, plain

LETTERS = "ABDEGHKMQRSW"

# Fonts that come with matplotlib.
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")


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


def paint_digit(rng: np.random.Generator, index: int) -> Image.Image:
    """The real digit ``index``, written with a pen on paper."""
    strokes, _ = handwritten()
    paper = colour(rng, saturation=(0.0, 0.12), value=(0.88, 1.0))
    picture = plain(paper)
    pen = colour(rng, hue=(0.55, 0.75), saturation=(0.2, 1.0), value=(0.05, 0.4))
    place(
        picture,
        _ink(strokes[index], pen),
        angle=rng.uniform(-6, 6),
        scale=rng.uniform(1.0, 1.15),
        shift=tuple(rng.uniform(-0.04, 0.04, 2)),
    )
    return picture


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


def paint_letter(rng: np.random.Generator, label: int) -> Image.Image:
    """A capital in print."""
    picture = plain(colour(rng, saturation=(0.0, 0.1), value=(0.9, 1.0)))
    ink = colour(rng, saturation=(0.0, 0.6), value=(0.0, 0.35))
    place(
        picture,
        _letter(rng, LETTERS[label], FONTS, ink),
        angle=rng.uniform(-5, 5),
        scale=rng.uniform(0.9, 1.1),
        shift=tuple(rng.uniform(-0.05, 0.05, 2)),
    )
    return picture
