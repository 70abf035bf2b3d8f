"""Our vision towers are open_clip's, with separate projections, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trap2.models.clip.architectures import configuration
from trap2.models.clip.build import build_clip
from trap2.models.clip.convnext import convnext_tower
from trap2.models.clip.normalisation import Normalisation
from trap2.models.clip.tower import load_tower, vision_tower
from trap2.models.clip.vision import VisionTower
from trap2.models.layers import block_names, lora_targets
from trap2.models.recompute import recompute_blocks
from trap2.runtime import files

VISION = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 2, "head_width": 8}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "narrow MLP": {"mlp_ratio": 1.3},
    "layer scale": {"ls_init_value": 0.3},
    "average": {"pool_type": "avg"},
    "norm after pool": {"final_ln_after_pool": True, "pool_type": "avg"},
    "no first norm": {"no_ln_pre": True},
    "quick GELU": {"quick_gelu": True},
}


def architecture(variant: str) -> dict[str, Any]:
    changed = dict(VARIANTS[variant])
    quick = changed.pop("quick_gelu", False)
    return {
        "embed_dim": 12,
        "quick_gelu": quick,
        "vision_cfg": {**VISION, **changed},
        "text_cfg": TEXT,
    }


def both(variant: str, tmp_path: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(3)
    theirs = vision_tower(build_clip(architecture(variant)))
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path / "tower.safetensors"
    files.write_tensors(path, theirs.state_dict())
    ours = load_tower(path, {"architecture": architecture(variant)}, torch.device("cpu"))
    assert isinstance(ours, VisionTower)
    return theirs, ours


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_are_the_same_bits(variant, tmp_path):
    theirs, ours = both(variant, tmp_path)
    images, target = torch.randn(5, 3, 16, 16), torch.randn(5, 12)
    found = []
    for tower in (theirs, ours):
        tower.requires_grad_(True)
        output = tower(images)
        (output * target).sum().backward()
        found.append((output, {name: p.grad for name, p in tower.named_parameters()}))
    assert torch.equal(found[0][0], found[1][0])
    assert list(found[0][1]) == list(found[1][1])
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


def test_names_come_in_the_same_order(tmp_path):
    theirs, ours = both("layer scale", tmp_path)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert lora_targets(theirs) == lora_targets(ours)
    assert block_names(theirs) == block_names(ours)
    assert not any(p.requires_grad for p in ours.parameters())
    assert not any(m.training for m in ours.modules())


def test_in_half_precision_it_rounds_where_theirs_does(tmp_path):
    theirs, ours = both("plain", tmp_path)
    images = torch.randn(5, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(theirs(images), ours(images))


def test_recomputed_blocks_and_other_normalisations_work_as_with_theirs(tmp_path):
    own = Normalisation((0.5, 0.5, 0.5), (0.2, 0.3, 0.4))
    clip = build_clip(architecture("plain"), normalisation=own)
    path = tmp_path / "tower.safetensors"
    files.write_tensors(path, vision_tower(clip).state_dict(), own.metadata())
    ours = load_tower(path, {"architecture": architecture("plain")}, torch.device("cpu"))
    images = torch.randn(5, 3, 16, 16)
    wanted = clip.visual(images)
    assert torch.equal(recompute_blocks(ours)(images), wanted)


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-L-14-quickgelu"])
def test_the_papers_backbones_have_the_same_shapes(name):
    with torch.device("meta"):
        theirs, ours = vision_tower(build_clip(name)), VisionTower(configuration(name))
    wanted = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.state_dict().items()} == wanted
    assert list(ours.state_dict()) == list(wanted)


CONVNEXT = {"depths": [1, 2, 1, 1], "dims": [8, 16, 24, 32], "patch_size": 2}
CONVNEXTS: dict[str, dict[str, Any]] = {
    "demo": {"timm_model_args": {**CONVNEXT, "ls_init_value": 0.5, "kernel_sizes": 5}},
    "patches of 4": {"timm_model_args": {**CONVNEXT, "patch_size": 4, "ls_init_value": 0.5}},
    "no scale": {"timm_model_args": {**CONVNEXT, "ls_init_value": None}},
    "bias and pool": {"timm_model_args": CONVNEXT, "timm_proj_bias": True, "timm_pool": "avg"},
    "kernels": {"timm_model_args": {**CONVNEXT, "kernel_sizes": [7, 5, 3, 1]}},
}


def convnext(changed: dict[str, Any]) -> dict[str, Any]:
    vision = {"image_size": 32, "timm_model_name": "convnext_tiny", **changed}
    return {"embed_dim": 12, "vision_cfg": vision, "text_cfg": TEXT}


@pytest.mark.parametrize("variant", CONVNEXTS)
def test_a_convnext_is_timms_to_the_last_bit(variant, tmp_path):
    torch.manual_seed(4)
    described = convnext(CONVNEXTS[variant])
    theirs = vision_tower(build_clip(described))
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path / "tower.safetensors"
    files.write_tensors(path, theirs.state_dict())
    ours = load_tower(path, {"architecture": described}, torch.device("cpu"))
    assert convnext_tower(configuration(described)) is not None
    assert type(ours).__module__ == "trap2.models.clip.convnext"
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert lora_targets(theirs) == lora_targets(ours)
    images, target = torch.randn(5, 3, 32, 32), torch.randn(5, 12)
    found = []
    for tower in (theirs, ours):
        tower.requires_grad_(True)
        output = tower(images)
        (output * target).sum().backward()
        found.append((output, {name: p.grad for name, p in tower.named_parameters()}))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


@pytest.mark.parametrize(
    "changed",
    [
        {"timm_drop_path": 0.1},
        {"timm_proj": "mlp"},
        {"timm_model_name": "convnext_atto"},
        {"timm_model_args": {**CONVNEXT, "use_grn": True}},
        {"timm_model_args": {**CONVNEXT, "patch_size": 8}},
    ],
)
def test_what_needs_timm_is_left_to_it(changed):
    assert convnext_tower(configuration(convnext(changed))) is None
