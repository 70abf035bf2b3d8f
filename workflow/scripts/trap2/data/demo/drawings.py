"""Painters of the demo's drawn tasks: geometric shapes and traffic signs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from trap2.data.demo.canvas import CANVAS, Colour, colour, gradient, layer, place, plain
from trap2.data.demo.glyphs import write

Point = tuple[float, float]

WHITE: Colour = (250, 250, 248)


BLACK: Colour = (25, 25, 28)


RED: Colour = (198, 24, 32)


BLUE: Colour = (18, 82, 176)


YELLOW: Colour = (248, 196, 20)


def _pixels(points: Sequence[Point]) -> list[Point]:
    """Points in [−1, 1]², y up, as canvas pixels; ±1 is 0.46 of the side from the centre."""
    return [(CANVAS * (0.5 + 0.46 * x), CANVAS * (0.5 - 0.46 * y)) for x, y in points]


def _regular(corners: int, radius: float = 1.0, start: float = 90.0) -> list[Point]:
    """A regular polygon; ``start`` is the first corner's angle in degrees."""
    angles = [math.radians(start + 360 * k / corners) for k in range(corners)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _disc(radius: float, x: float = 0.0, y: float = 0.0) -> list[Point]:
    return [(x + px, y + py) for px, py in _regular(72, radius)]


def _star() -> list[Point]:
    outer, inner = _regular(5, 1.0), _regular(5, 0.42, 126.0)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> list[Point]:
    turns = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    x = 16 * np.sin(turns) ** 3
    y = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return [(float(a) / 17, float(b) / 17 + 0.12) for a, b in zip(x, y, strict=True)]


def _plus(arm: float = 0.32) -> list[Point]:
    quarter = [(arm, 0.9), (arm, arm), (0.9, arm)]
    points: list[Point] = []
    for _ in range(4):
        points += quarter
        quarter = [(y, -x) for x, y in quarter]
    return points


def _arrow(length: float = 0.95) -> list[Point]:
    return [
        (0.0, length),
        (0.72, 0.15),
        (0.27, 0.15),
        (0.27, -length),
        (-0.27, -length),
        (-0.27, 0.15),
        (-0.72, 0.15),
    ]


def _crescent() -> list[Point]:
    outer = [(x - 0.1, y) for x, y in _regular(72, 0.98, 0.0)]
    inner = _disc(0.78, 0.38, 0.0)
    # The outer arc where it lies outside the bite, then back along the bite's inside.
    rim = [p for p in outer if math.dist(p, (0.38, 0.0)) > 0.78]
    start = next(i for i, p in enumerate(outer) if p in rim and outer[i - 1] not in rim)
    rim = [p for p in outer[start:] + outer[:start] if p in rim]
    bite = [p for p in inner if math.dist(p, (-0.1, 0.0)) < 0.98]
    bite.sort(key=lambda p: p[1])
    return rim + bite


# A ring is a disc with a hole; the hole is cut separately.
SHAPES: dict[str, list[Point]] = {
    "circle": _disc(0.92),
    "triangle": [(0.0, 0.95), (0.95, -0.75), (-0.95, -0.75)],
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "pentagon": _regular(5),
    "star": _star(),
    "heart": _heart(),
    "cross": _plus(),
    "crescent": _crescent(),
    "ring": _disc(0.95),
    "arrow": _arrow(),
}


def _shape(name: str, fill: Colour) -> Image.Image:
    painted, brush = layer()
    points = _pixels(SHAPES[name])
    brush.polygon(points, fill=fill)
    if name == "ring":
        brush.polygon(_pixels(_disc(0.5)), fill=(0, 0, 0, 0))
    return painted


def paint_shape(rng: np.random.Generator, label: int) -> Image.Image:
    """A shape cut out of coloured paper, on pale card."""
    picture = plain(colour(rng, saturation=(0.0, 0.15), value=(0.9, 1.0)))
    fill = colour(rng, saturation=(0.6, 1.0), value=(0.35, 0.85))
    place(
        picture,
        _shape(list(SHAPES)[label], fill),
        angle=rng.uniform(-10, 10),
        scale=rng.uniform(0.75, 0.95),
        shift=tuple(rng.uniform(-0.05, 0.05, 2)),
    )
    return picture


Brush = ImageDraw.ImageDraw


def _fill(brush: Brush, points: Sequence[Point], rgb: Colour) -> None:
    brush.polygon(_pixels(points), fill=rgb)


def _scaled(points: Sequence[Point], factor: float, up: float = 0.0) -> list[Point]:
    return [(factor * x, factor * y + up) for x, y in points]


def _slash(half: float = 0.11, reach: float = 0.72) -> list[Point]:
    return [
        (-reach - half, -reach + half),
        (-reach + half, -reach - half),
        (reach + half, reach - half),
        (reach - half, reach + half),
    ]


WARNING = [(0.0, 0.95), (0.98, -0.78), (-0.98, -0.78)]


def _stop(brush: Brush) -> None:
    _fill(brush, _regular(8, 1.0, 22.5), WHITE)
    _fill(brush, _regular(8, 0.92, 22.5), RED)
    write(brush, "STOP", "DejaVuSans-Bold.ttf", 36, WHITE)


def _give_way(brush: Brush) -> None:
    triangle = [(x, -y) for x, y in WARNING]
    _fill(brush, triangle, RED)
    _fill(brush, _scaled(triangle, 0.58, 0.08), WHITE)


def _no_entry(brush: Brush) -> None:
    _fill(brush, _disc(0.97), RED)
    _fill(brush, [(-0.7, -0.17), (0.7, -0.17), (0.7, 0.17), (-0.7, 0.17)], WHITE)


def _speed_limit(brush: Brush) -> None:
    _fill(brush, _disc(0.97), RED)
    _fill(brush, _disc(0.72), WHITE)
    write(brush, "50", "DejaVuSans-Bold.ttf", 50, BLACK)


def _priority_road(brush: Brush) -> None:
    _fill(brush, _regular(4), WHITE)
    _fill(brush, _regular(4, 0.94), BLACK)
    _fill(brush, _regular(4, 0.88), WHITE)
    _fill(brush, _regular(4, 0.66), YELLOW)


def _ahead_only(brush: Brush) -> None:
    _fill(brush, _disc(0.97), BLUE)
    _fill(brush, _scaled(_arrow(), 0.68), WHITE)


def _turn_right(brush: Brush) -> None:
    _fill(brush, _disc(0.97), BLUE)
    _fill(brush, [(y, -x) for x, y in _scaled(_arrow(), 0.68)], WHITE)


def _parking(brush: Brush) -> None:
    _fill(brush, _scaled(SHAPES["square"], 1.1), BLUE)
    write(brush, "P", "DejaVuSans-Bold.ttf", 92, WHITE)


def _no_parking(brush: Brush) -> None:
    _fill(brush, _disc(0.97), RED)
    _fill(brush, _disc(0.74), BLUE)
    _fill(brush, [(-x, y) for x, y in _slash()], RED)


def _danger(brush: Brush) -> None:
    _fill(brush, WARNING, RED)
    _fill(brush, _scaled(WARNING, 0.66, -0.09), WHITE)
    _fill(brush, [(-0.13, 0.3), (0.13, 0.3), (0.07, -0.25), (-0.07, -0.25)], BLACK)
    _fill(brush, _disc(0.11, 0.0, -0.43), BLACK)


def _roadworks(brush: Brush) -> None:
    _fill(brush, _regular(4), BLACK)
    _fill(brush, _regular(4, 0.92), (244, 126, 20))
    _fill(brush, _disc(0.13, 0.08, 0.42), BLACK)
    _fill(brush, [(-0.05, 0.25), (0.3, 0.22), (0.12, -0.2), (0.38, -0.5), (-0.2, -0.5)], BLACK)
    _fill(brush, [(-0.5, -0.5), (-0.36, -0.5), (-0.02, 0.15), (-0.1, 0.2)], BLACK)


def _end_of_limits(brush: Brush) -> None:
    _fill(brush, _disc(0.97), BLACK)
    _fill(brush, _disc(0.87), WHITE)
    for offset in (-0.2, 0.0, 0.2):
        _fill(brush, [(x + offset, y - offset) for x, y in _slash(0.06, 0.48)], BLACK)


SIGNS: dict[str, Callable[[Brush], None]] = {
    "stop": _stop,
    "give way": _give_way,
    "no entry": _no_entry,
    "speed limit": _speed_limit,
    "priority road": _priority_road,
    "ahead only": _ahead_only,
    "turn right": _turn_right,
    "parking": _parking,
    "no parking": _no_parking,
    "danger": _danger,
    "road works": _roadworks,
    "end of all limits": _end_of_limits,
}


def paint_sign(rng: np.random.Generator, label: int) -> Image.Image:
    """A traffic sign before the sky, as in the rule book."""
    painted, brush = layer()
    list(SIGNS.values())[label](brush)
    sky = colour(rng, hue=(0.52, 0.62), saturation=(0.05, 0.35), value=(0.85, 1.0))
    picture = gradient(rng, sky, WHITE)
    scale, shift = rng.uniform(0.85, 1.0), tuple(rng.uniform(-0.03, 0.03, 2))
    place(picture, painted, angle=rng.uniform(-3, 3), scale=scale, shift=shift)
    return picture
