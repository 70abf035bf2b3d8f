"""Separate projections are the same function as open_clip's fused attention."""

from __future__ import annotations

import copy

import open_clip
import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn
from trap2.models.clip.attention import SeparateAttention, separate_attention

# Two of the twelve blocks of ViT-B/32; ViT-L/14 with three blocks and a quarter of its width.
TOWERS = {
    "ViT-B/32": {"image_size": 224, "patch_size": 32, "width": 768, "layers": 2},
    "cut ViT-L/14": {"image_size": 56, "patch_size": 14, "width": 256, "layers": 3},
}


def _tower(vision: dict) -> nn.Module:
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(64, vision, text, quick_gelu=True).visual


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS.keys())
def test_a_converted_tower_is_the_same_function(vision: dict) -> None:
    fused = _tower(vision).eval()
    separate = separate_attention(copy.deepcopy(fused))
    assert not any(isinstance(module, nn.MultiheadAttention) for module in separate.modules())
    images = torch.randn(2, 3, vision["image_size"], vision["image_size"])
    with torch.no_grad():
        assert _relative(separate(images), fused(images)) < 2e-6


@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS.keys())
def test_gradients_agree_with_the_fused_ones(vision: dict) -> None:
    fused = _tower(vision).train()
    separate = separate_attention(copy.deepcopy(fused))
    images = torch.randn(2, 3, vision["image_size"], vision["image_size"])
    target = torch.randn(2, 64)
    for tower in (fused, separate):
        (tower(images) * target).sum().backward()
    for block, reference in zip(
        separate.transformer.resblocks, fused.transformer.resblocks, strict=True
    ):
        ours = [getattr(block.attn, f"{name}_proj").weight.grad for name in "qkv"]
        assert _relative(torch.cat(ours), reference.attn.in_proj_weight.grad) < 1e-5
        assert (
            _relative(block.attn.out_proj.weight.grad, reference.attn.out_proj.weight.grad) < 1e-5
        )


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["none", "added", "boolean", "per head"])
def test_masks_and_both_layouts(batch_first: bool, kind: str) -> None:
    torch.manual_seed(1)
    fused = nn.Sequential(ResidualAttentionBlock(24, 3, batch_first=batch_first)).double()
    separate = separate_attention(copy.deepcopy(fused))
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    x = x if batch_first else x.transpose(0, 1)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    mask = {
        "none": None,
        "added": torch.randn(5, 5, dtype=torch.float64),
        "boolean": causal,
        "per head": torch.randn(6, 5, 5, dtype=torch.float64),
    }[kind]
    y = fused[0].ln_1(x)
    expected = fused[0].attn(y, y, y, need_weights=False, attn_mask=mask)[0]
    actual = separate[0].attn(y, y, y, need_weights=False, attn_mask=mask)[0]
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    if kind in ("none", "added"):
        torch.testing.assert_close(separate[0](x, attn_mask=mask), fused[0](x, attn_mask=mask))


def test_names_mode_and_frozenness_are_kept() -> None:
    tower = _tower(TOWERS["cut ViT-L/14"]).eval().requires_grad_(False)
    tower = separate_attention(tower)
    names = [name for name, module in tower.named_modules() if isinstance(module, nn.Linear)]
    assert "transformer.resblocks.0.attn.q_proj" in names
    assert "transformer.resblocks.2.attn.out_proj" in names
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert all(parameter.device.type == "cpu" for parameter in tower.parameters())


def test_what_cannot_be_separated_is_refused() -> None:
    other_width = nn.Sequential(nn.MultiheadAttention(8, 2, kdim=4, vdim=4))
    with pytest.raises(ValueError, match=r"^0: .*another width"):
        separate_attention(other_width)
    attention = SeparateAttention(8, 2, bias=True, dropout=0.0, batch_first=True)
    x = torch.zeros(1, 2, 8)
    with pytest.raises(ValueError, match="need_weights"):
        attention(x, x, x, need_weights=True)
