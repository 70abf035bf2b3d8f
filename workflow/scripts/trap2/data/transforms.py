"""CLIP's preprocessing up to the point where floats begin: any image → (3, R, R) uint8.

The resize and crop are those of open_clip and torchvision on PIL images: shortest edge to R,
bicubic with antialiasing, then the central R × R.  Scaling to [0, 1] and normalising stay with the
job that reads the prepared arrays.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from trap2.data.records import Preprocessing
from trap2.runtime.errors import Trap2Error

INTERPOLATION = "bicubic"
RESIZE_MODE = "shortest"
"""What is done here, in open_clip's words."""

SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB: grey-scale, palette, CMYK, alpha and 16-bit images included.

    Transparency is dropped, as CLIP's own loaders do; 16 bits are rounded to 8, where PIL alone
    would cut every value above 255.

    Raises:
        ValueError: a mode that has no fixed range (floating point, or integers beyond 16 bits).
    """
    if image.mode == "RGB":
        return image
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise Trap2Error(
                f"integers from {values.min()} to {values.max()}; at most 16 bits are understood"
            )
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise Trap2Error("a floating-point image, whose range is not known")
    elif image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def resize_and_crop(image: Image.Image, resolution: int) -> Image.Image:
    """Shortest edge to ``resolution`` (bicubic, antialiased), then the central square."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != resolution:
        scaled = int(resolution * long / short)
        size = (resolution, scaled) if width <= height else (scaled, resolution)
        image = image.resize(size, Image.Resampling.BICUBIC)
    left = round((image.width - resolution) / 2.0)
    top = round((image.height - resolution) / 2.0)
    return image.crop((left, top, left + resolution, top + resolution))


def described(resolution: int) -> Preprocessing:
    """The preprocessing at a resolution, for the manifest of what was prepared."""
    return {
        "size": resolution,
        "resize_mode": RESIZE_MODE,
        "interpolation": INTERPOLATION,
        "crop": "centre",
    }


def to_array(image: Image.Image, resolution: int) -> np.ndarray:
    """Preprocess one image to a (3, ``resolution``, ``resolution``) uint8 array."""
    pixels = np.asarray(resize_and_crop(to_rgb(image), resolution))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
