"""The vision tower W0 of a CLIP: separate projections, files, inputs and features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from trap2.models.clip.architectures import BackboneParams, configuration
from trap2.models.clip.attention import separate_attention
from trap2.models.clip.convnext import convnext_tower
from trap2.models.clip.normalisation import convert_on_entry, from_metadata
from trap2.models.clip.tags import CLIP_MEAN, CLIP_STD
from trap2.models.clip.vision import VisionTower
from trap2.runtime import files
from trap2.updates.weights import weight_shapes

if TYPE_CHECKING:
    import open_clip


def vision_tower(clip: open_clip.CLIP) -> nn.Module:
    """The vision tower, with separate attention projections, frozen and in evaluation mode.

    It is ``clip.visual`` itself, changed in place.
    """
    return separate_attention(clip.visual).requires_grad_(False).eval()


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Images (n, 3, H, W) uint8 → float32, with CLIP's mean and standard deviation.

    A tower that was trained with other ones converts them on entry
    (:mod:`trap2.models.clip.normalisation`).
    """
    mean = torch.tensor(CLIP_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(CLIP_STD, device=images.device).view(3, 1, 1)
    return images.float().div_(255).sub_(mean).div_(std)


def features(tower: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Image embeddings (n, d) of unit length.

    Args:
        tower: a vision tower.
        images: (n, 3, H, W) float, normalised by :func:`normalise`.
    """
    return F.normalize(tower(images), dim=-1)


def tower_tensors(clip: open_clip.CLIP) -> dict[str, torch.Tensor]:
    """W0: the vision tower's tensors under the names that updates use."""
    return dict(vision_tower(clip).state_dict())


def load_tower(path: str | Path, backbone: BackboneParams, device: torch.device) -> nn.Module:
    """The frozen vision tower W0 of a backbone, on ``device``, in evaluation mode.

    Memory is taken only once the file is seen to hold such a tower.

    Raises:
        ArchitectureError: the architecture is not supported or cannot be built.
        FileError: the file is damaged, quantised, or holds another architecture's tower.
    """
    weight_shapes(path)
    tensors = files.read_tensors(path)
    with torch.device("meta"):
        tower = _empty_tower(backbone["architecture"])
    own = tower.state_dict()
    fits = own.keys() == tensors.keys() and all(
        own[name].shape == tensors[name].shape for name in own
    )
    if fits:
        tower = tower.to_empty(device="cpu")
        tower.load_state_dict(tensors)
        convert_on_entry(tower, from_metadata(files.read_metadata(path)))
        return tower.to(device)
    names = sorted(own.keys() ^ tensors.keys()) or [
        name for name in sorted(own) if own[name].shape != tensors[name].shape
    ]
    raise files.FileError(
        f"{path}: not the tower of this architecture (they differ in {', '.join(names[:3])}). "
        "Delete it and run snakemake again."
    )


def _empty_tower(architecture: str | Mapping[str, object]) -> nn.Module:
    """A tower whose weights are to be loaded, frozen and in evaluation mode.

    Those that need timm are built through open_clip, which is imported for them alone.

    Raises:
        ArchitectureError: the architecture is not supported or cannot be built.
    """
    found = configuration(architecture)
    tower: nn.Module | None
    if "timm_model_name" in found["vision_cfg"]:
        tower = convnext_tower(found)
    else:
        tower = VisionTower(found)
    if tower is not None:
        return tower.requires_grad_(False).eval()
    from trap2.models.clip.build import build_clip

    return vision_tower(build_clip(architecture))
