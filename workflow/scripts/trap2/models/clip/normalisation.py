"""Images as a base takes them: CLIP's mean and deviation, or those its weights were trained with.

Everything that trains or scores hands a tower images normalised with CLIP's constants
(:func:`trap2.models.clip.tower.normalise`).  A tower of other ones converts them on entry, so no
caller can forget it, and its parameters and their names stay what they are.  The constants travel
in the metadata of the files of such a base; the files of CLIP's own have none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from trap2.models.clip.tags import CLIP_MEAN, CLIP_STD
from trap2.runtime.errors import Trap2Error

KEY = "normalisation"


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, of images in [0, 1]."""

    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __post_init__(self) -> None:
        values = (*self.mean, *self.std)
        if (
            (len(self.mean), len(self.std)) != (3, 3)
            or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
            or not all(0 <= v <= 1 for v in self.mean)
            or not all(0 < v <= 1 for v in self.std)
        ):
            raise Trap2Error(
                f"normalisation: mean {self.mean} and std {self.std} must be three numbers each, "
                "from 0 to 1, the deviations above 0"
            )

    @property
    def is_clips(self) -> bool:
        """Whether these are CLIP's own constants."""
        return self == Normalisation()

    def metadata(self) -> dict[str, str]:
        """What a base's files say; nothing when the constants are CLIP's."""
        if self.is_clips:
            return {}
        return {KEY: json.dumps({"mean": list(self.mean), "std": list(self.std)})}


def from_metadata(metadata: Mapping[str, str]) -> Normalisation:
    """What a base's file says of its images.

    Raises:
        Trap2Error: it says it in another form than :meth:`Normalisation.metadata`.
    """
    if KEY not in metadata:
        return Normalisation()
    try:
        found = json.loads(metadata[KEY])
        return Normalisation(tuple(found["mean"]), tuple(found["std"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Trap2Error(
            f"metadata '{KEY}' is not a mean and a deviation of three channels ({error})"
        ) from None


class _Convert:
    """Images (n, 3, H, W) normalised with CLIP's constants to images normalised with others."""

    def __init__(self, own: Normalisation) -> None:
        pairs = zip(CLIP_STD, own.std, strict=True)
        self.scale = [clips / std for clips, std in pairs]
        means = zip(CLIP_MEAN, own.mean, own.std, strict=True)
        self.shift = [(clips - mean) / std for clips, mean, std in means]

    def __call__(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        images = inputs[0]
        scale = images.new_tensor(self.scale).view(3, 1, 1)
        shift = images.new_tensor(self.shift).view(3, 1, 1)
        return (images * scale + shift, *inputs[1:])


def convert_on_entry(visual: nn.Module, own: Normalisation) -> None:
    """Make a vision tower take images normalised with CLIP's constants, in place.

    The conversion sits on the first part that sees the images: wrappers such as PEFT's call a
    tower's ``forward`` and pass by what hangs on the tower itself.
    """
    if not own.is_clips:
        first = visual.trunk if hasattr(visual, "trunk") else visual.conv1
        assert isinstance(first, nn.Module)
        first.register_forward_pre_hook(_Convert(own))
