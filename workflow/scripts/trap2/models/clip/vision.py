"""CLIP's own vision transformer with separate attention projections, without open_clip.

open_clip's import takes longer than torch's, because it loads what its text towers of other kinds
need, and most jobs read a vision tower and nothing else of a CLIP.  Operation for operation this is
open_clip's ``VisionTransformer`` after :func:`trap2.models.clip.attention.separate_attention`: the
same names in the same order, and the same bits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trap2.models.clip.architectures import Architecture
from trap2.models.clip.attention import SeparateAttention


class VisionTower(nn.Module):
    """A vision transformer; its weights are undefined until they are loaded.

    Args:
        architecture: checked (:func:`trap2.models.clip.architectures.configuration`), and one
            that is not timm's.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        vision: Mapping[str, Any] = architecture["vision_cfg"]
        width, patch = vision.get("width", 768), vision.get("patch_size", 16)
        grid = (vision.get("image_size", 224) // patch) ** 2
        self.average = vision.get("pool_type", "tok") == "avg"
        self.norm_after_pool = vision.get("final_ln_after_pool", False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(grid + 1, width))
        self.proj = nn.Parameter(torch.empty(width, architecture["embed_dim"]))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre = nn.Identity() if vision.get("no_ln_pre", False) else _LayerNorm(width)
        self.transformer = _Transformer(vision, width, architecture.get("quick_gelu", False))
        self.ln_post = _LayerNorm(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, d) of normalised images (n, 3, H, W)."""
        x = self.conv1(images).flatten(2).permute(0, 2, 1)
        first = self.class_embedding.view(1, 1, -1).expand(len(x), -1, -1)
        x = torch.cat([first.to(x.dtype), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        x = self.transformer(self.ln_pre(x))
        if not self.norm_after_pool:
            x = self.ln_post(x)
        x = x[:, 1:].mean(dim=1) if self.average else x[:, 0]
        if self.norm_after_pool:
            x = self.ln_post(x)
        found: torch.Tensor = x @ self.proj
        return found


class _Transformer(nn.Module):
    def __init__(self, vision: Mapping[str, Any], width: int, quick_gelu: bool) -> None:
        super().__init__()
        layers = range(vision.get("layers", 12))
        self.resblocks = nn.ModuleList([_Block(vision, width, quick_gelu) for _ in layers])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class _Block(nn.Module):
    def __init__(self, vision: Mapping[str, Any], width: int, quick_gelu: bool) -> None:
        super().__init__()
        heads, inner = width // vision.get("head_width", 64), vision.get("mlp_ratio", 4.0)
        scale = vision.get("ls_init_value") is not None
        self.ln_1 = _LayerNorm(width)
        self.attn = SeparateAttention(width, heads, bias=True, dropout=0.0, batch_first=True)
        self.ls_1 = _LayerScale(width) if scale else nn.Identity()
        self.ln_2 = _LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, int(width * inner)),
                gelu=_QuickGELU() if quick_gelu else nn.GELU(),
                c_proj=nn.Linear(int(width * inner), width),
            )
        )
        self.ls_2 = _LayerScale(width) if scale else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.ls_1(self.attn(y, y, y)[0])
        found: torch.Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return found


class _LayerNorm(nn.LayerNorm):
    """In the type of its input: autocast gives float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return found.to(x.dtype)


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class _QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)
