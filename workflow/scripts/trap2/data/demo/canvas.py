"""What the demo's painters share: colours, backgrounds, placing, and the wear of a bad picture.

Everything is painted four times larger than the final 32×32 pixels and averaged down, which is
what smooths the edges.
"""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 32


CANVAS = 4 * SIZE

# Degrees, counter-clockwise, by which the camera of the shifted pictures is held askew.
TILT = (20.0, 40.0)

Colour = tuple[int, int, int]


Range = tuple[float, float]


def colour(
    rng: np.random.Generator,
    hue: Range = (0.0, 1.0),
    saturation: Range = (0.0, 1.0),
    value: Range = (0.0, 1.0),
) -> Colour:
    """A random colour; hue, saturation and value are drawn uniformly from ranges within [0, 1]."""
    h, s, v = (float(rng.uniform(*bounds)) for bounds in (hue, saturation, value))
    r, g, b = colorsys.hsv_to_rgb(h % 1.0, s, v)
    return round(255 * r), round(255 * g), round(255 * b)


def smooth_noise(
    rng: np.random.Generator, cells: int, size: int = CANVAS, octaves: int = 1
) -> np.ndarray:
    """Smooth noise (size, size), about −1 … 1: ``cells`` bumps a side, octaves of half weight."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        grid = rng.uniform(-1, 1, (cells * 2**octave + 1,) * 2).astype(np.float32)
        bumps = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(bumps) * 0.5**octave
    return total / (2 - 0.5 ** (octaves - 1))


def blend(first: Colour, second: Colour, weight: np.ndarray) -> np.ndarray:
    """(H, W, 3) float pixels between two colours; weight (H, W) 0 is ``first``, 1 ``second``."""
    low, high = (np.asarray(rgb, dtype=np.float32) for rgb in (first, second))
    found: np.ndarray = low + np.clip(weight, 0, 1)[..., None] * (high - low)
    return found


def to_image(pixels: np.ndarray) -> Image.Image:
    """(H, W, 3) float pixels in 0 … 255 as an image."""
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def gradient(rng: np.random.Generator, first: Colour, second: Colour) -> Image.Image:
    """A linear gradient from one colour to another in a random direction."""
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.linspace(-0.7, 0.7, CANVAS, dtype=np.float32)
    ramp = math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]
    return to_image(blend(first, second, ramp + 0.5))


def plain(rgb: Colour) -> Image.Image:
    """A canvas of one colour."""
    return Image.new("RGB", (CANVAS, CANVAS), rgb)


def layer() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A transparent layer and its brush."""
    image = Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0))
    return image, ImageDraw.Draw(image)


def place(
    background: Image.Image,
    foreground: Image.Image,
    *,
    angle: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Put a layer on a background, in place.

    Args:
        background: RGB.
        foreground: RGBA of the same size, drawn around its centre.
        angle: rotation in degrees, counter-clockwise.
        scale: magnification.
        shift: move right and down, as shares of the picture's side.
    """
    turn = math.radians(angle)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    forward = rotation * scale
    inverse = np.linalg.inv(forward)
    centre = np.full(2, CANVAS / 2)
    origin = centre - inverse @ (centre + CANVAS * np.asarray(shift))
    matrix = (*inverse[0], origin[0], *inverse[1], origin[1])
    moved = foreground.transform(
        foreground.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    background.paste(moved, (0, 0), moved)


def tilt(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """The picture as a camera held askew sees it, turned by an angle drawn from ``TILT``.

    What comes into view at the corners is the picture's own mirror image.
    """
    margin = CANVAS // 4
    widths = ((margin, margin), (margin, margin), (0, 0))
    wider = Image.fromarray(np.pad(np.asarray(image), widths, mode="reflect"))
    turned = wider.rotate(rng.uniform(*TILT), Image.Resampling.BICUBIC)
    return turned.crop((margin, margin, margin + CANVAS, margin + CANVAS))


def wear(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """A bad photograph of a picture, at half its resolution: blur, uneven light, a colour cast."""
    image = image.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 1.2)))
    pixels = np.asarray(image, dtype=np.float32)
    light = rng.uniform(0.8, 1.15) * (1 + 0.2 * smooth_noise(rng, 1, image.width))
    cast = rng.uniform(0.85, 1.15, 3).astype(np.float32)
    return to_image(pixels * light[..., None] * cast)


def develop(rng: np.random.Generator, image: Image.Image, grain: Range) -> np.ndarray:
    """Average a picture down to (3, 32, 32) uint8 and add noise of σ drawn from ``grain``."""
    pixels = np.asarray(image.reduce(image.width // SIZE), dtype=np.float32)
    noise = rng.normal(0, rng.uniform(*grain), pixels.shape)
    return np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8).transpose(2, 0, 1)
