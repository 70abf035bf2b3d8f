"""CLIP's ConvNeXt without open_clip and timm, for the settings that need nothing special.

As :mod:`trap2.models.clip.vision`: open_clip's ``TimmModel`` of timm's ``ConvNeXt``, operation for
operation, with the same names in the same order.  What is not in :func:`convnext_tower`'s reach
(stochastic depth, other stems, GRN, an MLP as projection …) is built through open_clip.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trap2.models.clip.architectures import Architecture

_SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
"""Blocks and features of timm's models by stage."""

_ARGUMENTS = {"depths", "dims", "patch_size", "kernel_sizes", "ls_init_value"}


def convnext_tower(architecture: Architecture) -> nn.Module | None:
    """A ConvNeXt whose weights are undefined until they are loaded; None where it needs timm.

    Args:
        architecture: checked (:func:`trap2.models.clip.architectures.configuration`).
    """
    vision: Mapping[str, Any] = architecture["vision_cfg"]
    name, given = vision.get("timm_model_name"), vision.get("timm_model_args", {})
    plain = (
        name in _SHAPES
        and given.keys() <= _ARGUMENTS
        and not vision.get("timm_drop")
        and not vision.get("timm_drop_path")
        and vision.get("timm_proj", "linear") == "linear"
    )
    if not plain:
        return None
    depths, dims = _SHAPES[str(name)]
    depths, dims = given.get("depths", depths), given.get("dims", dims)
    kernels = given.get("kernel_sizes", 7)
    kernels = [kernels] * 4 if isinstance(kernels, int) else kernels
    numbers = (given.get("patch_size", 4), *depths, *dims, *kernels)
    # Other patches make timm dilate its last stages.
    if numbers[0] not in (2, 4) or not len(depths) == len(dims) == len(kernels) == 4:
        return None
    if not all(isinstance(n, int) and n > 0 for n in numbers):
        return None
    trunk = _Trunk(numbers[0], list(zip(depths, dims, kernels, strict=True)), given)
    return _Tower(trunk, dims[-1], architecture["embed_dim"], vision.get("timm_proj_bias", False))


class _Tower(nn.Module):
    def __init__(self, trunk: nn.Module, width: int, joint: int, bias: bool) -> None:
        super().__init__()
        self.trunk = trunk
        parts = OrderedDict(drop=nn.Dropout(0.0), proj=nn.Linear(width, joint, bias=bias))
        self.head = nn.Sequential(parts)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, d) of normalised images (n, 3, H, W)."""
        found: torch.Tensor = self.head(self.trunk(images))
        return found


class _Trunk(nn.Module):
    def __init__(
        self, patch: int, shapes: list[tuple[int, int, int]], given: Mapping[str, Any]
    ) -> None:
        super().__init__()
        first = shapes[0][1]
        self.stem = nn.Sequential(nn.Conv2d(3, first, patch, stride=patch), _Norm2d(first))
        self.stages = nn.Sequential(*_stages(patch, shapes, given.get("ls_init_value", 1e-6)))
        self.head = _Head(shapes[-1][1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.stages(self.stem(x)))
        return found


def _stages(
    patch: int, shapes: list[tuple[int, int, int]], scale: float | None
) -> Iterator[nn.Module]:
    """A stage halves the image, but for the first one after patches of 4."""
    before = [shapes[0], *shapes]
    for place, ((_, narrow, _), (depth, wide, kernel)) in enumerate(pairwise(before)):
        yield _Stage(narrow, wide, depth, kernel, halves=place > 0 or patch == 2, scale=scale)


class _Stage(nn.Module):
    def __init__(
        self, narrow: int, wide: int, depth: int, kernel: int, *, halves: bool, scale: float | None
    ) -> None:
        super().__init__()
        self.downsample = (
            nn.Sequential(_Norm2d(narrow), nn.Conv2d(narrow, wide, 2, stride=2))
            if halves
            else nn.Identity()
        )
        self.blocks = nn.Sequential(*(_Block(wide, kernel, scale) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.blocks(self.downsample(x))
        return found


class _Block(nn.Module):
    def __init__(self, width: int, kernel: int, scale: float | None) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, kernel, padding=(kernel - 1) // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width)
            )
        )
        self.gamma = None if scale is None else nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv_dw(x).permute(0, 2, 3, 1)
        y = self.mlp(self.norm(y)).permute(0, 3, 1, 2)
        if self.gamma is not None:
            y = y.mul(self.gamma.reshape(1, -1, 1, 1))
        found: torch.Tensor = y + x
        return found


class _Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _Norm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(F.adaptive_avg_pool2d(x, 1)).flatten(1)
        return found


class _Norm2d(nn.LayerNorm):
    """Over the channels of (n, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
