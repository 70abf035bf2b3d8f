"""Models, their weights, the layers that are adapted, and normalisation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn
from trap2.models.clip.build import build_clip, load_pretrained
from trap2.models.clip.tower import features, normalise, vision_tower
from trap2.models.layers import family, lora_targets
from trap2.runtime import files

TEXT = {"context_length": 8, "width": 16, "heads": 2, "layers": 1}
VIT: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": TEXT,
}
CONVNEXT: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "convnext_tiny",
        "timm_model_args": {
            "depths": [1, 2, 1, 1],
            "dims": [8, 8, 16, 16],
            "patch_size": 2,
            "ls_init_value": 0.5,
        },
    },
    "text_cfg": TEXT,
}


def _tower(architecture: Any) -> nn.Module:
    torch.manual_seed(0)
    return vision_tower(build_clip(architecture))


def test_targets_of_a_vit_are_the_four_projections_of_every_block() -> None:
    tower = _tower(VIT)
    assert family(tower) == "vit"
    assert lora_targets(tower) == [
        f"transformer.resblocks.{block}.attn.{name}_proj"
        for block in range(2)
        for name in ("q", "k", "v", "out")
    ]


def test_targets_of_a_convnext_are_the_pointwise_layers() -> None:
    tower = _tower(CONVNEXT)
    assert family(tower) == "convnext"
    blocks = ["0.blocks.0", "1.blocks.0", "1.blocks.1", "2.blocks.0", "3.blocks.0"]
    assert lora_targets(tower) == [
        f"trunk.stages.{block}.mlp.{name}" for block in blocks for name in ("fc1", "fc2")
    ]
    assert tower.trunk.stages[0].blocks[0].gamma.detach().tolist() == [0.5] * 8


@pytest.mark.parametrize(
    ("name", "layers", "parameters"),
    # Trainable LoRA parameters at r = 16: r · Σ (d_in + d_out).
    [
        ("ViT-B-32-quickgelu", 12 * 4, 16 * 48 * 2 * 768),
        ("ViT-L-14-quickgelu", 24 * 4, 16 * 96 * 2 * 1024),
        (
            "convnext_base_w",
            72,
            16 * 2 * 5 * (3 * 128 + 3 * 256 + 27 * 512 + 3 * 1024),
        ),
    ],
)
def test_the_papers_backbones(name: str, layers: int, parameters: int) -> None:
    with torch.device("meta"):
        tower = vision_tower(build_clip(name))
    targets = lora_targets(tower)
    modules = [tower.get_submodule(target) for target in targets]
    assert len(targets) == layers
    assert 16 * sum(m.in_features + m.out_features for m in modules) == parameters


def test_the_tower_is_frozen_in_evaluation_mode_and_the_same_function() -> None:
    clip = build_clip(VIT)
    images = torch.randn(3, 3, 16, 16)
    before = copy.deepcopy(clip).encode_image(images, normalize=True)
    tower = vision_tower(clip)
    torch.testing.assert_close(features(tower, images), before, rtol=1e-5, atol=1e-6)
    assert not any(p.requires_grad for p in tower.parameters())
    assert not any(m.training for m in tower.modules())


@pytest.mark.parametrize("architecture", [VIT, CONVNEXT], ids=["vit", "convnext"])
def test_weights_go_through_a_file(architecture: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    clip = build_clip(architecture)
    files.write_tensors(tmp_path / "clip.safetensors", clip.state_dict())
    again = build_clip(architecture, tmp_path / "clip.safetensors")
    for name, tensor in clip.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_weights_of_another_model_are_refused_with_the_names(tmp_path: Path) -> None:
    state = build_clip(VIT).state_dict()
    del state["text_projection"]
    state["surplus"] = torch.zeros(1)
    state["visual.proj"] = torch.zeros(3, 3)
    path = tmp_path / "clip.safetensors"
    files.write_tensors(path, state)
    with pytest.raises(files.FileError) as error:
        build_clip(VIT, path)
    for part in ("missing keys: text_projection", "unexpected keys: surplus", "visual.proj (3, 3)"):
        assert part in str(error.value)


def test_a_local_file_of_a_published_model(tmp_path: Path) -> None:
    state = build_clip(VIT).state_dict()
    # As in files converted from the original release: the scale is a vector of one.
    state["logit_scale"] = torch.tensor([4.5])
    path = tmp_path / "open_clip_model.safetensors"
    files.write_tensors(path, state)
    published = load_pretrained(VIT, str(path), tmp_path)
    assert published.clip.logit_scale.item() == 4.5
    assert published.weights == {"file": str(path), "sha256": files.sha256(path)}
    pickled = tmp_path / "weights.pt"
    pickled.write_bytes(b"")
    with pytest.raises(files.FileError, match="never a pickle"):
        load_pretrained(VIT, str(pickled), tmp_path)
    with pytest.raises(files.FileError, match=r"its tags are .*openai"):
        load_pretrained("ViT-B-32", "no-such-tag", tmp_path)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("ViT-Z-99", "'ViT-Z-99' is not a model of open_clip"),
        ({"embed_dim": 4}, r"lacks \['text_cfg', 'vision_cfg'\]"),
        ({**VIT, "text_cfg": {"wdith": 3}}, "text_cfg.wdith is not a setting that is known"),
        (
            {**CONVNEXT, "vision_cfg": {"timm_model_name": "nope", "timm_model_args": {}}},
            "nope",
        ),
    ],
)
def test_bad_architectures_are_named(architecture: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_clip(architecture)


def test_other_towers_have_no_family() -> None:
    with pytest.raises(ValueError, match="attention is fused"):
        family(build_clip(VIT).visual)
    with pytest.raises(
        ValueError,
        match=r"no linear layer of this Conv2d is one that a family adapts \(vit: ",
    ):
        family(nn.Conv2d(3, 3, 1))


def test_normalisation_is_open_clips_own() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    preprocess = open_clip.image_transform(20, is_train=False)
    ours = normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    torch.testing.assert_close(ours[0], preprocess(Image.fromarray(pixels)))
