"""Architectures come from anywhere: known names and settings pass, nothing is fetched or opened."""

from __future__ import annotations

import copy
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trap2.cli.inputs import Base
from trap2.models.clip.architectures import (
    LARGEST,
    ArchitectureError,
    configuration,
    parameters,
    shipped,
)
from trap2.models.clip.build import build_clip
from trap2.models.clip.buildable import check_buildable
from trap2.models.clip.heads import tokenizer_for
from trap2.models.clip.tower import load_tower, tower_tensors
from trap2.runtime import files
from trap2.runtime.schema import ConfigurationError
from trap2.suites.backbones import check_backbones
from trap2.suites.load import load_suite
from trap2.suites.settings import Backbone, Suite

SUITES = Path(__file__).parents[2] / "config" / "suites"
VIT: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1},
}
CONVNEXT_ARGS: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "patch_size": 2}
TIMM: dict[str, Any] = {
    "image_size": 32,
    "timm_model_name": "convnext_tiny",
    "timm_model_args": CONVNEXT_ARGS,
}


def suite_with(architecture: Any) -> Suite:
    """The demo with one other backbone."""
    demo = load_suite("demo", SUITES)
    return replace(demo, backbones={"mine": Backbone(architecture, 32)})


def changed(**paths: Any) -> dict[str, Any]:
    """VIT with settings replaced, ``vision_cfg__patch_size=0``."""
    architecture = copy.deepcopy(VIT)
    for path, value in paths.items():
        *places, key = path.split("__")
        settings = architecture
        for place in places:
            settings = settings[place]
        settings[key] = value
    return architecture


ELSEWHERE = [
    ("hf-hub:somebody/model", "is not a model of open_clip"),
    ("local-dir:/etc", "is not a model of open_clip"),
    ("../../ViT-B-32", "is not a model of open_clip"),
    (changed(vision_cfg__timm_model_name="hf-hub:somebody/convnext"), "timm_model_name is 'hf-hub"),
    (changed(vision_cfg__timm_model_name="hf_hub:somebody/convnext"), "small letters, digits"),
    (changed(vision_cfg__timm_model_name="local-dir:/etc"), "timm_model_name is 'local-dir:/etc'"),
    (changed(vision_cfg__timm_model_name="convnext_base.clip_laion2b"), "small letters, digits"),
    (
        changed(vision_cfg={**TIMM, "timm_model_pretrained": True}),
        "timm_model_pretrained is True; it must be false; nothing is fetched",
    ),
    (
        changed(vision_cfg={**TIMM, "timm_model_args": {"pretrained": True}}),
        "timm_model_args.pretrained is not a setting that is known",
    ),
    (
        changed(
            vision_cfg={**TIMM, "timm_model_args": {"pretrained_cfg": {"file": "/etc/passwd"}}}
        ),
        "timm_model_args.pretrained_cfg is not a setting that is known",
    ),
    (changed(text_cfg__hf_model_name="somebody/model"), "text_cfg.hf_model_name is not a setting"),
    (changed(text_cfg__hf_tokenizer_name="somebody/model"), "hf_tokenizer_name is not a setting"),
    (changed(pretrained_image="somebody"), "pretrained_image is not a setting that is known"),
    (changed(custom_text=True), "custom_text is not a setting that is known"),
]


@pytest.mark.parametrize(("architecture", "message"), ELSEWHERE)
def test_nothing_leads_to_the_network_or_into_folders(
    architecture: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    with pytest.raises(ArchitectureError, match=message):
        build_clip(architecture)
    files.write_json(tmp_path / "base.json", {"architecture": architecture})
    with pytest.raises(files.FileError, match=message) as error:
        _ = Base(tmp_path).backbone
    assert str(tmp_path / "base.json") in str(error.value)


UNFIT = [
    (changed(vision_cfg__patch_size=0), "vision_cfg.patch_size is 0"),
    (changed(vision_cfg__patch_size=17), "patch_size is 17; images are 16 pixels wide"),
    (changed(vision_cfg=None), "vision_cfg is None; it must be a mapping"),
    (changed(text_cfg=[]), r"text_cfg is \[\]; it must be a mapping"),
    (changed(vision_cfg__head_width=20), "head_width is 20; it must divide vision_cfg.width = 32"),
    (changed(text_cfg__heads=3), "text_cfg.heads is 3; it must divide text_cfg.width = 16"),
    (changed(vision_cfg__width=10**9), "vision_cfg.width is 1000000000"),
    (changed(vision_cfg__width=8192, vision_cfg__layers=128), r"it would have .* parameters"),
    (changed(vision_cfg__image_size=2048, vision_cfg__patch_size=1), "4194304 patches"),
    (changed(vision_cfg__layers=True), "vision_cfg.layers is True"),
    (changed(vision_cfg__layers=[3, 4, 6, 3]), "vision_cfg.layers is"),
    (changed(vision_cfg__mlp_ratio=float("nan")), "mlp_ratio is nan"),
    (changed(text_cfg__vocab_size=32000), "vocab_size is 32000; it must be 49408"),
    (changed(embed_dim="wide"), "embed_dim is 'wide'"),
    (changed(vision_cfg={**TIMM, "timm_model_args": {"depths": {}}}), "timm_model_args.depths"),
    (changed(vision_cfg__timm_model_args=CONVNEXT_ARGS), "set without timm_model_name"),
    ([1, 2], "not a list"),
    (7, "not a int"),
]


@pytest.mark.parametrize(("architecture", "message"), UNFIT)
def test_what_cannot_be_built_is_named_with_its_setting(architecture: Any, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        configuration(architecture)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            changed(
                vision_cfg={**TIMM, "timm_model_args": {**CONVNEXT_ARGS, "dims": [0, 0, 0, 0]}}
            ),
            "the architecture",
        ),
        (
            changed(vision_cfg={**TIMM, "timm_model_args": {**CONVNEXT_ARGS, "depths": [1]}}),
            "the architecture",
        ),
        (
            changed(vision_cfg={**TIMM, "timm_model_args": {**CONVNEXT_ARGS, "stem_type": "none"}}),
            "the architecture",
        ),
        (
            changed(
                vision_cfg={
                    **TIMM,
                    "timm_model_args": {"depths": [9] * 4, "dims": [8192] * 4, "patch_size": 2},
                }
            ),
            "parameters; at most",
        ),
        (changed(vision_cfg={**TIMM, "timm_model_name": "convnext_atto"}), "convolutions"),
    ],
)
def test_what_only_building_shows_is_found_without_memory_for_it(
    architecture: Any, message: str, tmp_path: Path
) -> None:
    suite = suite_with(architecture)
    with pytest.raises(ConfigurationError, match=rf"backbones.mine.architecture: .*{message}"):
        check_backbones("mine", suite, tmp_path / "verdicts.json")
    assert not (tmp_path / "verdicts.json").exists()


def test_a_verdict_is_kept_by_the_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(
        "trap2.models.clip.buildable.check_buildable",
        lambda architecture: built.append(architecture),
    )
    verdicts = tmp_path / "trap2" / "verdicts.json"
    for architecture in (VIT, VIT, changed(embed_dim=13), VIT, changed(embed_dim=13)):
        check_backbones("mine", suite_with(architecture), verdicts)
    assert built == [VIT, changed(embed_dim=13)]
    verdicts.write_text("{", "utf-8")
    check_backbones("mine", suite_with(VIT), verdicts)
    assert len(built) == 3


@pytest.mark.parametrize("name", ["patch_size", "width", "layers", "head_width"])
def test_a_suite_is_refused_before_any_job(name: str, tmp_path: Path) -> None:
    suite = yaml.safe_load((SUITES / "demo.yaml").read_text("utf-8"))
    suite["backbones"]["ViT-demo"]["architecture"]["vision_cfg"][name] = 0
    (tmp_path / "mine.yaml").write_text(json.dumps(suite), "utf-8")
    with pytest.raises(ConfigurationError, match=rf"ViT-demo.architecture: vision_cfg.{name} is 0"):
        load_suite("mine", tmp_path)


@pytest.mark.parametrize("name", ["demo", "smoke", "paper"])
def test_the_shipped_suites_can_be_built(name: str, tmp_path: Path) -> None:
    suite = load_suite(name, SUITES)
    check_backbones(name, suite, tmp_path / "verdicts.json")


def test_every_model_of_open_clip_is_supported_or_refused_in_a_sentence() -> None:
    refused = {}
    for name in shipped():
        try:
            assert parameters(configuration(name)) < LARGEST
        except ArchitectureError as error:
            refused[name] = str(error)
    assert len(shipped()) - len(refused) > 40
    assert "has a tokenizer of its own (timm/ViT-B-16-SigLIP)" in refused["ViT-B-16-SigLIP"]
    assert "tokenizer of its own (bert-base-uncased)" in refused["ViT-L-14-CLIPA"]
    assert "is a ResNet" in refused["RN50"]
    assert "captions" in refused["coca_ViT-B-32"]
    assert "text tower" in refused["EVA02-B-16"]


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-L-14", "ViT-S-16-alt"])
def test_the_estimate_of_a_models_size_is_near_its_real_one(name: str) -> None:
    with torch.device("meta"):
        real = sum(parameter.numel() for parameter in build_clip(name).parameters())
    assert parameters(configuration(name)) == pytest.approx(real, rel=0.01)


def test_a_buildable_one_passes() -> None:
    check_buildable(VIT)
    check_buildable(changed(vision_cfg=TIMM))


def test_a_tower_of_another_size_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that claims a model of 20 GB beside a file of some kB is refused by the file."""
    files.write_tensors(tmp_path / "tower.safetensors", tower_tensors(build_clip(VIT)))
    claimed = changed(vision_cfg__width=4096, vision_cfg__layers=24, vision_cfg__head_width=64)
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *_, **__: pytest.fail("took memory"))
    with pytest.raises(files.FileError, match="not the tower of this architecture"):
        load_tower(tmp_path / "tower.safetensors", {"architecture": claimed}, torch.device("cpu"))


def test_a_model_with_another_tokenizer_makes_no_head() -> None:
    clip = build_clip(VIT)
    clip.vocab_size = 32000
    with pytest.raises(ArchitectureError, match="32000 tokens and CLIP's tokenizer 49408"):
        tokenizer_for(clip)
