"""What a tag says of its weights and images is followed, or refused before any job."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from trap2.data import transforms
from trap2.models.clip import build, tags
from trap2.models.clip.build import build_clip, load_pretrained
from trap2.models.clip.fetching import Received
from trap2.models.clip.normalisation import Normalisation, from_metadata
from trap2.models.clip.tower import load_tower, normalise, tower_tensors, vision_tower
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error
from trap2.runtime.schema import ConfigurationError
from trap2.suites.backbones import check_backbones
from trap2.suites.load import load_suite
from trap2.suites.settings import Backbone

SUITES = Path(__file__).parents[2] / "config" / "suites"

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
        "timm_model_args": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "patch_size": 2},
    },
    "text_cfg": TEXT,
}
INCEPTION = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("architecture", "tag", "right"),
    [
        ("ViT-B-32", "openai", "Use ViT-B-32-quickgelu"),
        ("ViT-L-14", "metaclip_400m", "Use ViT-L-14-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "Use ViT-B-32"),
        ("ViT-H-14-378", "dfn5b", "Use ViT-H-14-378-quickgelu"),
    ],
)
def test_another_activation_than_the_weights_were_trained_with_is_refused(
    architecture: str, tag: str, right: str
) -> None:
    backbone = Backbone(architecture, 224, pretrained=tag)
    suite = replace(load_suite("demo", SUITES), backbones={"mine": backbone})
    with pytest.raises(ConfigurationError, match=rf"backbones.mine.pretrained '{tag}'.*QuickGELU"):
        check_backbones("mine", suite)
    first, *_ = tags.tag_problems(architecture, tag)
    assert right in first.split(". ")


def test_every_tag_of_open_clip_is_taken_as_open_clip_takes_it() -> None:
    """What passes has open_clip's own activation and images; what does not is a sentence."""
    usable = []
    for architecture, name in open_clip.list_pretrained():
        try:
            problems = list(tags.tag_problems(architecture, name))
        except Trap2Error:
            continue  # an architecture that is not supported
        if problems:
            assert all(f"pretrained '{name}'" in problem for problem in problems)
            continue
        tag = tags.find_tag(architecture, name)
        says = open_clip.get_pretrained_cfg(architecture, name)
        assert tag is not None
        assert (tag.mean, tag.std) == (tuple(says["mean"]), tuple(says["std"]))
        assert (says["interpolation"], says["resize_mode"]) == ("bicubic", "shortest")
        built = open_clip.get_model_config(architecture).get("quick_gelu", False)
        assert tag.quick_gelu == says.get("quick_gelu", False) == built
        usable.append((architecture, name))
    assert ("ViT-L-14", "laion2b_s32b_b82k") in usable
    assert ("ViT-H-14-quickgelu", "dfn5b") not in usable  # squashes its images
    assert set(tags.pinned_tags()) <= set(usable)


def test_the_pinned_rows_say_what_open_clip_says() -> None:
    assert (tags.CLIP_MEAN, tags.CLIP_STD) == (
        open_clip.OPENAI_DATASET_MEAN,
        open_clip.OPENAI_DATASET_STD,
    )
    for (architecture, name), row in tags.pinned_tags().items():
        says = open_clip.get_pretrained_cfg(architecture, name)
        assert says["hf_hub"] == f"{row.repository}/"
        assert row.quick_gelu == says.get("quick_gelu", False)
        assert (row.mean, row.std) == (tuple(says["mean"]), tuple(says["std"]))
        assert (row.interpolation, row.resize_mode) == (says["interpolation"], says["resize_mode"])


def test_images_are_prepared_as_the_tags_that_pass_say() -> None:
    assert transforms.described(224) == {
        "size": 224,
        "resize_mode": tags.RESIZE_MODE,
        "interpolation": tags.INTERPOLATION,
        "crop": "centre",
    }


def test_a_tag_that_squashes_its_images_is_refused() -> None:
    (problem,) = tags.tag_problems("ViT-H-14-quickgelu", "dfn5b")
    assert "resized by 'squash' with 'bicubic'; they are prepared by 'shortest'" in problem


def test_an_unknown_tag_names_those_that_there_are() -> None:
    (problem,) = tags.tag_problems("convnext_base_w", "openai")
    assert "its tags are laion2b_s13b_b82k, laion2b_s13b_b82k_augreg" in problem


@pytest.mark.parametrize("architecture", [VIT, CONVNEXT], ids=["vit", "convnext"])
def test_images_are_normalised_as_the_tag_says(
    architecture: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-L-14 laion2b_s32b_b82k's constants, against open_clip's own transform."""
    says = open_clip.get_pretrained_cfg("ViT-L-14", "laion2b_s32b_b82k")
    assert says["mean"] == (0.5, 0.5, 0.5)
    torch.manual_seed(3)
    plain = build_clip(architecture)
    path = tmp_path / "open_clip_model.safetensors"
    files.write_tensors(path, plain.state_dict())
    published = load_pretrained(architecture, str(path), tmp_path, INCEPTION)
    metadata = published.normalisation.metadata()
    files.write_tensors(
        tmp_path / "tower.safetensors", tower_tensors(copy.deepcopy(published.clip)), metadata
    )
    backbone = {"architecture": architecture}
    tower = load_tower(tmp_path / "tower.safetensors", backbone, torch.device("cpu"))

    size = architecture["vision_cfg"]["image_size"]
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    theirs = open_clip.image_transform(size, is_train=False, mean=says["mean"], std=says["std"])
    expected = plain.encode_image(theirs(Image.fromarray(pixels))[None])
    ours = normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    torch.testing.assert_close(tower(ours), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(published.clip.encode_image(ours), expected, rtol=1e-5, atol=1e-6)
    far = plain.encode_image(ours)
    assert (far - expected).norm() > 1e-2 * expected.norm()

    # A wrapper that calls the tower's forward passes nothing by.
    torch.testing.assert_close(tower.forward(ours), expected, rtol=1e-5, atol=1e-6)
    # The whole model's file says the same, as heads read it.
    files.write_tensors(tmp_path / "base.safetensors", published.clip.state_dict(), metadata)
    again = build_clip(architecture, tmp_path / "base.safetensors")
    torch.testing.assert_close(vision_tower(again)(ours), expected, rtol=1e-5, atol=1e-6)
    assert published.images(size) == {
        "size": size,
        "resize_mode": "shortest",
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }


def test_a_base_with_clips_own_constants_keeps_its_bytes(tmp_path: Path) -> None:
    clip = build_clip(VIT)
    assert Normalisation().metadata() == {}
    assert not clip.visual.conv1._forward_pre_hooks
    files.write_tensors(tmp_path / "plain", clip.state_dict())
    files.write_tensors(tmp_path / "with", clip.state_dict(), Normalisation().metadata())
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "with").read_bytes()


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"mean": [0.5], "std": [1]}', '{"mean": [NaN, 0, 0], "std": [1, 1, 1]}']
)
def test_constants_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Trap2Error, match="normalisation"):
        from_metadata({"normalisation": text})


def test_a_tag_brings_its_weights_and_its_constants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of a tag, but for the hub: a small model under a tag of another mean."""
    path = tmp_path / "open_clip_model.safetensors"
    files.write_tensors(path, build_clip(VIT).state_dict())
    tag = tags.Tag("ViT-L-14", "mine", False, "us/mine", path.name, mean=(0.5,) * 3, std=(0.5,) * 3)
    received = Received(
        path, tag.repository, tag.file, "c0ffee", files.sha256(path), path.stat().st_size, False
    )
    monkeypatch.setattr(build, "tag_problems", lambda *_: [])
    monkeypatch.setattr(build, "find_tag", lambda *_: tag)
    monkeypatch.setattr(build, "fetch", lambda *_: received)
    monkeypatch.setattr(build, "configuration", lambda _: copy.deepcopy(VIT))
    published = load_pretrained("ViT-L-14", "mine", tmp_path)
    assert published.normalisation == INCEPTION
    assert published.weights["revision"] == "c0ffee"
    assert published.weights["pinned"] is False
    assert replace(tag, revision="c0ffee", sha256="0").pinned
