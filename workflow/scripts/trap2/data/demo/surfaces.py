"""Painters of the demo's surfaces: textures, and land seen from above."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from trap2.data.demo.canvas import CANVAS, Colour, blend, colour, smooth_noise, to_image

Field = np.ndarray


def _edge(distance: Field, softness: float = 0.06) -> Field:
    """A soft step: 0 where ``distance`` is well below zero, 1 well above."""
    return np.clip(0.5 + distance / softness / 2, 0, 1)


def _wave(phase: Field) -> Field:
    return np.sin(2 * math.pi * phase)


def _striped(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return _edge(_wave(x), 0.4)


def _chequered(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return _edge(_wave(x / 1.6) * _wave(y / 1.6), 0.2)


def _dotted(x: Field, y: Field, rng: np.random.Generator) -> Field:
    row = np.floor(y)
    column = x + 0.5 * (row % 2)
    return _edge(0.31 - np.hypot(column - np.floor(column) - 0.5, y - row - 0.5), 0.08)


def _zigzagged(x: Field, y: Field, rng: np.random.Generator) -> Field:
    bend = 2 * np.abs(x / 1.3 - np.floor(x / 1.3) - 0.5)
    return _edge(_wave(y + 0.9 * bend), 0.4)


def _grid(x: Field, y: Field, rng: np.random.Generator) -> Field:
    line = np.minimum(np.abs(x - np.round(x)), np.abs(y - np.round(y)))
    return _edge(0.12 - line)


def _honeycombed(x: Field, y: Field, rng: np.random.Generator) -> Field:
    # Distance to the border between the two nearest centres of a hexagonal lattice.
    height = math.sqrt(3)
    first = np.hypot(x - np.round(x), y - height * np.round(y / height))
    second = np.hypot(x - np.floor(x) - 0.5, y - height * (np.floor(y / height) + 0.5))
    border = np.abs(first - second)
    # Neighbours within one of the two sublattices meet half-way between columns.
    nearest = np.minimum(first, second)
    own = np.where(first < second, x - np.round(x), x - np.floor(x) - 0.5)
    sideways = 0.5 - np.abs(own)
    return _edge(0.09 - np.minimum(0.6 * border, np.where(nearest < 0.6, sideways, 1.0)))


def _bricked(x: Field, y: Field, rng: np.random.Generator) -> Field:
    row = np.floor(y * 1.1)
    across = x * 0.6 + 0.5 * (row % 2)
    joint = np.minimum(np.abs(y * 1.1 - np.round(y * 1.1)), np.abs(across - np.round(across)) / 0.6)
    return _edge(0.1 - joint)


def _marbled(x: Field, y: Field, rng: np.random.Generator) -> Field:
    veins = np.abs(_wave(0.35 * x + 0.9 * smooth_noise(rng, 3, len(x), octaves=3)))
    found: Field = np.clip(1.4 * veins**0.8, 0, 1)
    return found


def _ringed(x: Field, y: Field, rng: np.random.Generator) -> Field:
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    return _edge(_wave(np.hypot(x - x.mean() - dx, y - y.mean() - dy)), 0.4)


def _cracked(x: Field, y: Field, rng: np.random.Generator) -> Field:
    # Borders of Voronoi cells around jittered lattice points.
    distances = []
    columns, rows = np.arange(x.min() - 1, x.max() + 2), np.arange(y.min() - 1, y.max() + 2)
    for column in columns:
        for row in rows:
            dx, dy = rng.uniform(-0.45, 0.45, 2)
            distances.append(np.hypot(x - column - dx, y - row - dy))
    nearest, second = np.partition(np.stack(distances), 1, axis=0)[:2]
    return _edge(0.12 - (second - nearest))


TEXTURES: dict[str, Callable[[Field, Field, np.random.Generator], Field]] = {
    "striped": _striped,
    "chequered": _chequered,
    "polka-dotted": _dotted,
    "zigzagged": _zigzagged,
    "grid": _grid,
    "honeycombed": _honeycombed,
    "bricked": _bricked,
    "marbled": _marbled,
    "ringed": _ringed,
    "cracked": _cracked,
}


def paint_texture(rng: np.random.Generator, label: int) -> Image.Image:
    """A texture as a flat swatch in two colours."""
    draw = list(TEXTURES.values())[label]
    # Textures are smooth functions, so half the canvas' resolution is enough to average over.
    axis = np.linspace(-0.5, 0.5, CANVAS // 2, dtype=np.float32)
    x: Field
    y: Field
    x, y = np.meshgrid(axis, axis)
    angle, density = rng.uniform(-0.08, 0.08), rng.uniform(3.8, 4.6)
    u = density * (math.cos(angle) * x + math.sin(angle) * y) + rng.uniform(0, 8)
    v = density * (math.cos(angle) * y - math.sin(angle) * x) + rng.uniform(0, 8)
    first = colour(rng, saturation=(0.0, 0.25), value=(0.85, 1.0))
    second = colour(rng, saturation=(0.5, 1.0), value=(0.2, 0.6))
    return to_image(blend(first, second, draw(u, v, rng))).resize((CANVAS, CANVAS))


# Land is painted on a larger square, so that it can be turned before it is cut out.
LAND = 3 * CANVAS // 2


Palette = dict[str, Colour]


# Hue, saturation and value, each 0 … 1; every picture varies them a little.
SUMMER = {
    "grass": (0.28, 0.5, 0.55),
    "tree": (0.34, 0.65, 0.35),
    "soil": (0.09, 0.4, 0.6),
    "water": (0.58, 0.7, 0.5),
    "sand": (0.12, 0.35, 0.88),
}


def _palette(rng: np.random.Generator) -> Palette:
    return {
        what: colour(
            rng,
            (hue - 0.02, hue + 0.02),
            (saturation - 0.08, saturation + 0.08),
            (value - 0.07, min(1.0, value + 0.07)),
        )
        for what, (hue, saturation, value) in SUMMER.items()
    }


def _shade(rgb: Colour, factor: float) -> Colour:
    r, g, b = (min(255, round(channel * factor)) for channel in rgb)
    return r, g, b


def _ground(
    rng: np.random.Generator, rgb: Colour, cells: int = 8, depth: float = 0.25
) -> Image.Image:
    noise = 0.5 + 0.5 * smooth_noise(rng, cells, LAND, octaves=3)
    return to_image(blend(_shade(rgb, 1 - depth), _shade(rgb, 1 + depth), noise))


def _crown(brush: ImageDraw.ImageDraw, x: float, y: float, radius: float, rgb: Colour) -> None:
    """A tree from above, its shadow to the lower right and its top lit from the upper left."""
    for offset, size, factor in ((0.35, 1.0, 0.45), (0.0, 1.0, 1.0), (-0.3, 0.5, 1.35)):
        cx, cy, r = x + offset * radius, y + offset * radius, size * radius
        brush.ellipse([cx - r, cy - r, cx + r, cy + r], fill=_shade(rgb, factor))


def _roof(
    brush: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, rgb: Colour
) -> None:
    brush.rectangle([x + 4, y + 4, x + width + 4, y + height + 4], fill=(45, 45, 48))
    brush.rectangle([x, y, x + width, y + height], fill=rgb)
    brush.rectangle([x, y, x + width, y + height / 2], fill=_shade(rgb, 1.2))


def _forest(rng: np.random.Generator, land: Palette) -> Image.Image:
    picture = _ground(rng, _shade(land["tree"], 0.6))
    brush = ImageDraw.Draw(picture)
    for _ in range(230):
        x, y = rng.uniform(0, LAND, 2)
        _crown(brush, x, y, rng.uniform(6, 11), _shade(land["tree"], rng.uniform(0.75, 1.25)))
    return picture


def _stream(rng: np.random.Generator, half_width: float) -> np.ndarray:
    """Signed distance (LAND, LAND) to a winding band, positive inside, in canvas pixels."""
    rows = np.arange(LAND, dtype=np.float32)
    bend = rng.uniform(14, 26) * np.sin(rows / rng.uniform(18, 28) + rng.uniform(0, 6))
    middle = LAND / 2 + bend + rng.uniform(-0.15, 0.15) * (rows - LAND / 2)
    found: np.ndarray = half_width - np.abs(rows[None, :] - middle[:, None])
    return found


def _river(rng: np.random.Generator, land: Palette) -> Image.Image:
    picture = _ground(rng, land["grass"])
    brush = ImageDraw.Draw(picture)
    for _ in range(30):
        x, y = rng.uniform(0, LAND, 2)
        _crown(brush, x, y, rng.uniform(4, 7), land["tree"])
    band = _stream(rng, rng.uniform(12, 20))
    pixels = np.asarray(picture, dtype=np.float32)
    for rgb, margin in ((land["sand"], 4.0), (land["water"], 0.0)):
        weight = np.clip(band + margin, 0, 2)[..., None] / 2
        pixels = pixels + weight * (np.asarray(rgb, dtype=np.float32) - pixels)
    return to_image(pixels)


def _waves(rng: np.random.Generator, water: Colour) -> np.ndarray:
    rows = np.arange(LAND, dtype=np.float32)[:, None]
    swell = np.sin(rows / rng.uniform(3.5, 5.5) + 5 * smooth_noise(rng, 4, LAND))
    glitter = 0.4 + 0.22 * swell + 0.3 * smooth_noise(rng, 3, LAND, octaves=2)
    return blend(_shade(water, 0.7), _shade(water, 1.45), glitter)


def _sea(rng: np.random.Generator, land: Palette) -> Image.Image:
    return to_image(_waves(rng, land["water"]))


def _beach(rng: np.random.Generator, land: Palette) -> Image.Image:
    sand = np.asarray(_ground(rng, land["sand"], depth=0.12), dtype=np.float32)
    columns = np.arange(LAND, dtype=np.float32)[None, :]
    rows = np.arange(LAND, dtype=np.float32)[:, None]
    shore = LAND * rng.uniform(0.42, 0.58) + 14 * smooth_noise(rng, 3, LAND)
    depth = columns - shore + 0 * rows
    pixels = sand + np.clip(depth / 3, 0, 1)[..., None] * (_waves(rng, land["water"]) - sand)
    foam = np.clip(1 - np.abs(depth - 3) / 5, 0, 1)[..., None]
    return to_image(pixels + foam * (245 - pixels))


def _farmland(rng: np.random.Generator, land: Palette) -> Image.Image:
    picture = Image.new("RGB", (LAND, LAND))
    columns, rows = np.meshgrid(np.arange(LAND), np.arange(LAND))
    crops = (land["grass"], land["soil"], _shade(land["sand"], 0.85), land["tree"])
    x = 0
    while x < LAND:
        width, y = int(rng.integers(44, 84)), 0
        while y < LAND:
            height = int(rng.integers(40, 90))
            rgb = crops[int(rng.integers(len(crops)))]
            furrow = (columns if rng.random() < 0.5 else rows)[:height, :width]
            weight = 0.5 + 0.5 * np.sin(furrow * rng.uniform(0.5, 0.8))
            field = to_image(blend(_shade(rgb, 0.82), _shade(rgb, 1.12), weight))
            picture.paste(field, (x, y))
            ImageDraw.Draw(picture).rectangle(
                [x, y, x + width, y + height], outline=_shade(land["soil"], 0.7), width=3
            )
            y += height
        x += width
    return picture


def _orchard(rng: np.random.Generator, land: Palette) -> Image.Image:
    picture = _ground(rng, land["soil"], depth=0.12)
    brush = ImageDraw.Draw(picture)
    step = rng.uniform(19, 25)
    for row in np.arange(step / 2, LAND, step):
        for column in np.arange(step / 2, LAND, step):
            x, y = np.array([column, row]) + rng.uniform(-1.5, 1.5, 2)
            _crown(brush, x, y, step * rng.uniform(0.27, 0.34), land["tree"])
    return picture


def _residential(rng: np.random.Generator, land: Palette) -> Image.Image:
    picture = _ground(rng, land["grass"])
    brush = ImageDraw.Draw(picture)
    street = colour(rng, saturation=(0, 0.06), value=(0.5, 0.62))
    block = int(rng.integers(60, 72))
    start = int(rng.integers(0, block))
    for edge in range(start - block, LAND, block):
        brush.rectangle([0, edge, LAND, edge + 11], fill=street)
        for x in np.arange(rng.uniform(0, 10), LAND, 30):
            for y in (edge + 15, edge + block - 20):
                tiles = colour(rng, hue=(0.0, 0.08), saturation=(0.4, 0.7), value=(0.5, 0.8))
                _roof(brush, x, y, rng.uniform(15, 20), rng.uniform(12, 16), tiles)
            if rng.random() < 0.6:
                _crown(brush, x + 24, edge + 36 + rng.uniform(-5, 5), 5, land["tree"])
    brush.rectangle([start + 40, 0, start + 51, LAND], fill=street)
    return picture


def _industrial(rng: np.random.Generator, land: Palette) -> Image.Image:
    picture = _ground(rng, colour(rng, saturation=(0, 0.06), value=(0.42, 0.52)), depth=0.1)
    brush = ImageDraw.Draw(picture)
    y = rng.uniform(-30, 5)
    while y < LAND:
        height, x = rng.uniform(44, 62), rng.uniform(-40, 5)
        while x < LAND:
            width = rng.uniform(52, 92)
            roof = colour(rng, hue=(0.5, 0.65), saturation=(0, 0.2), value=(0.75, 0.95))
            brush.rectangle([x + 6, y + 6, x + width + 6, y + height + 6], fill=(40, 40, 44))
            brush.rectangle([x, y, x + width, y + height], fill=roof)
            for rib in np.arange(x + 8, x + width, 11):
                brush.line([rib, y, rib, y + height], fill=_shade(roof, 0.8), width=2)
            x += width + rng.uniform(14, 22)
        y += height + rng.uniform(14, 22)
    return picture


def _highway(rng: np.random.Generator, land: Palette) -> Image.Image:
    picture = _ground(rng, land["grass"])
    brush = ImageDraw.Draw(picture)
    middle, half = LAND / 2 + rng.uniform(-16, 16), rng.uniform(22, 28)
    asphalt = colour(rng, saturation=(0, 0.05), value=(0.3, 0.4))
    brush.rectangle([0, middle - half, LAND, middle + half], fill=asphalt)
    for y in (middle - half + 3, middle - 2, middle + 2, middle + half - 3):
        brush.line([0, y, LAND, y], fill=(235, 235, 230), width=2)
    for y in (middle - half / 2, middle + half / 2):
        for x in range(0, LAND, 20):
            brush.line([x, y, x + 10, y], fill=(235, 235, 230), width=2)
    for _ in range(7):
        start, lane = rng.uniform(0, LAND), rng.choice([-0.75, -0.27, 0.27, 0.75])
        car = colour(rng, saturation=(0.0, 0.9), value=(0.5, 1.0))
        y = middle + lane * half
        brush.rectangle([start, y - 4, start + 14, y + 4], fill=car)
        brush.rectangle([start + 4, y - 3, start + 7, y + 3], fill=(30, 34, 40))
    return picture


def _desert(rng: np.random.Generator, land: Palette) -> Image.Image:
    rows = np.arange(LAND, dtype=np.float32)[:, None]
    phase = rows / rng.uniform(22, 32) + 2.2 * smooth_noise(rng, 2, LAND)
    # Dunes: a long slope up the wind and a short slip face in shadow.
    slope = phase - np.floor(phase)
    light = np.where(slope < 0.75, slope / 0.75, (1 - slope) / 0.25 - 0.6)
    return to_image(blend(_shade(land["sand"], 0.6), _shade(land["sand"], 1.12), light))


LANDS: dict[str, Callable[[np.random.Generator, Palette], Image.Image]] = {
    "forest": _forest,
    "river": _river,
    "open sea": _sea,
    "beach": _beach,
    "farmland": _farmland,
    "orchard": _orchard,
    "residential area": _residential,
    "industrial area": _industrial,
    "highway": _highway,
    "desert": _desert,
}


def paint_land(rng: np.random.Generator, label: int) -> Image.Image:
    """Land from above, north or east up."""
    painted = list(LANDS.values())[label](rng, _palette(rng))
    painted = painted.rotate(90.0 * int(rng.integers(2)))
    corner = (LAND - CANVAS) // 2
    return painted.crop((corner, corner, corner + CANVAS, corner + CANVAS))
