"""Whether an architecture can be built, adapted and run, found without taking memory for it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trap2.models.clip.architectures import ArchitectureError, configuration, image_size, too_large
from trap2.models.clip.build import build_clip
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import lora_targets


def check_buildable(architecture: str | Mapping[str, object]) -> None:
    """Build the model on torch's meta device, and run an image and a text through it.

    Raises:
        ArchitectureError: it cannot be built, has no layer to adapt, or does not take its images.
    """
    size = image_size(configuration(architecture))
    with torch.device("meta"):
        clip = build_clip(architecture)
    if problem := too_large(sum(parameter.numel() for parameter in clip.parameters())):
        raise ArchitectureError(problem)
    try:
        tower = vision_tower(clip)
        lora_targets(tower)
        embedded = [
            tower(torch.empty(1, 3, size, size, device="meta")),
            clip.encode_text(torch.zeros(1, clip.context_length, dtype=torch.long, device="meta")),
        ]
    except Exception as error:  # whatever the layers raise on what does not fit
        kind = type(error).__name__
        raise ArchitectureError(
            f"the architecture takes no images of {size} pixels ({kind}: {error})"
        ) from error
    widths = {tuple(output.shape) for output in embedded}
    if len(widths) != 1:
        raise ArchitectureError(
            f"images and texts are embedded in shapes {sorted(widths)}, which must be the same"
        )
