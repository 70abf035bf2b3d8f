"""Adapters between open_clip's and Hugging Face's CLIP, against transformers and stock PEFT."""

from __future__ import annotations

import copy
from pathlib import Path

import open_clip
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel, CLIPVisionModelWithProjection
from trap2.merging.merger import Merger
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import lora_targets
from trap2.runtime import files
from trap2.updates.applied import AppliedUpdate
from trap2.updates.hub_names import (
    export_adapter,
    from_hugging_face,
    import_adapter,
    to_hugging_face,
)
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.stored import load_update

torch.set_num_threads(1)

WIDTH, LAYERS, FEATURES = 32, 3, 12
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "patch_size": 8, "width": WIDTH, "layers": LAYERS, "head_width": 16}


@pytest.fixture(scope="module")
def theirs() -> CLIPModel:
    """transformers' own CLIP, tiny, with random weights."""
    torch.manual_seed(0)
    text = {
        "hidden_size": 16,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 64,
        "max_position_embeddings": 8,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=FEATURES)
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2).requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def base(theirs: CLIPModel) -> nn.Module:
    """open_clip's vision tower with the same weights."""
    clip = open_clip.CLIP(FEATURES, dict(VISION), dict(TEXT), quick_gelu=True).eval()
    ours, hf = clip.visual, theirs.vision_model
    ours.load_state_dict(
        {
            "class_embedding": hf.embeddings.class_embedding,
            "positional_embedding": hf.embeddings.position_embedding.weight,
            "conv1.weight": hf.embeddings.patch_embedding.weight,
            "proj": theirs.visual_projection.weight.T,
            **{f"ln_pre.{n}": p for n, p in hf.pre_layrnorm.named_parameters()},
            **{f"ln_post.{n}": p for n, p in hf.post_layernorm.named_parameters()},
            **{
                f"transformer.resblocks.{i}.{name}": tensor
                for i, layer in enumerate(hf.encoder.layers)
                for name, tensor in block(layer).items()
            },
        }
    )
    return vision_tower(clip)


def block(layer: nn.Module) -> dict[str, torch.Tensor]:
    """One of transformers' layers as open_clip keeps it, q, k and v in one matrix."""
    attention, mlp = layer.self_attn, layer.mlp
    qkv = (attention.q_proj, attention.k_proj, attention.v_proj)
    return {
        "attn.in_proj_weight": torch.cat([p.weight for p in qkv]),
        "attn.in_proj_bias": torch.cat([p.bias for p in qkv]),
        **{f"attn.out_proj.{n}": p for n, p in attention.out_proj.named_parameters()},
        **{f"ln_1.{n}": p for n, p in layer.layer_norm1.named_parameters()},
        **{f"ln_2.{n}": p for n, p in layer.layer_norm2.named_parameters()},
        **{f"mlp.c_fc.{n}": p for n, p in mlp.fc1.named_parameters()},
        **{f"mlp.c_proj.{n}": p for n, p in mlp.fc2.named_parameters()},
    }


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Image features as transformers computes them."""
    clip = model.base_model.model if isinstance(model, PeftModel) else model
    with torch.no_grad():
        return clip.visual_projection(clip.vision_model(pixel_values=images).pooler_output)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def randomise(parameters: list[nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(9)
    for parameter in parameters:
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def test_the_two_bases_are_the_same_function(theirs, base, images):
    with torch.no_grad():
        assert difference(base(images), features(theirs, images)) < 1e-5


@pytest.mark.parametrize("settings", [(4, 4, False), (4, 8, False), (4, 8, True)])
def test_an_exported_adapter_does_the_same_in_stock_peft(theirs, base, images, tmp_path, settings):
    rank, alpha, rslora = settings
    tower = copy.deepcopy(base)
    form = AdapterSettings(rank=rank, alpha=alpha, rslora=rslora)
    update = LoraUpdate(tower, lora_targets(tower), form, seed=1)
    randomise(update.parameters())
    update.module.eval()
    update.save(tmp_path / "ours")
    export_adapter(tmp_path / "ours", tmp_path / "hf")
    model = PeftModel.from_pretrained(copy.deepcopy(theirs), str(tmp_path / "hf")).eval()
    with torch.no_grad():
        expected = update.at(1.0)(images)
        assert difference(expected, base(images)) > 0.01
    assert difference(features(model, images), expected) < 1e-5


THIRD_PARTY = {
    "a pattern": {"target_modules": r".*vision_model.*(q|k|v|out)_proj"},
    "short names": {
        "target_modules": ["q_proj", "v_proj", "fc1", "fc2"],
        "exclude_modules": r"text_model\..*",
        "layers_to_transform": [0, 2],
    },
}


@pytest.mark.parametrize("choice", THIRD_PARTY.values(), ids=THIRD_PARTY.keys())
def test_a_third_party_adapter_does_the_same_in_open_clip(theirs, base, images, tmp_path, choice):
    config = LoraConfig(r=3, lora_alpha=6, **choice)
    model = get_peft_model(copy.deepcopy(theirs), config).eval()
    randomise([p for p in model.parameters() if p.requires_grad])
    expected = features(model, images)
    assert difference(expected, features(theirs, images)) > 0.01
    model.save_pretrained(tmp_path / "hf")
    import_adapter(tmp_path / "hf", tmp_path / "ours")

    tower = copy.deepcopy(base)
    merged = Merger([load_update(tmp_path / "ours", "no base needed")]).merge("TA")
    with AppliedUpdate(tower, merged) as applied, torch.no_grad():
        applied.set(1.0)
        assert difference(tower(images), expected) < 1e-5
    adapted = PeftModel.from_pretrained(tower, str(tmp_path / "ours")).eval()
    with torch.no_grad():
        assert difference(adapted(images), expected) < 1e-5


VISION_MODELS = [CLIPVisionModel, CLIPVisionModelWithProjection]


@pytest.mark.parametrize("kind", VISION_MODELS)
@pytest.mark.parametrize("form", ["as saved", "under vision_model", "without PEFT's prefix"])
def test_an_adapter_of_a_vision_model_alone_does_the_same(
    theirs, base, images, tmp_path, kind, form
):
    """transformers 5 names a CLIPVisionModel's layers encoder.layers, without vision_model."""
    inner = theirs.vision_model
    vision = kind(inner.config)
    own = getattr(vision, "vision_model", vision)
    own.load_state_dict(inner.state_dict())
    model = get_peft_model(vision, LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "fc2"]))
    model.eval()
    randomise([p for p in model.parameters() if p.requires_grad])
    with torch.no_grad():
        pooled = model(pixel_values=images)
        pooled = getattr(pooled, "pooler_output", None)
        if pooled is None:
            pooled = own(pixel_values=images).pooler_output
        expected = theirs.visual_projection(pooled)
    assert difference(expected, features(theirs, images)) > 0.01
    model.save_pretrained(tmp_path / "hf")
    path = tmp_path / "hf" / "adapter_model.safetensors"
    tensors = files.read_tensors(path)
    if form == "under vision_model":
        tensors = {
            n.replace("model.encoder", "model.vision_model.encoder"): tensors[n] for n in tensors
        }
        tensors = {
            n.replace("vision_model.vision_model", "vision_model"): t for n, t in tensors.items()
        }
    if form == "without PEFT's prefix":
        tensors = {n.removeprefix("base_model.model."): tensors[n] for n in tensors}
    files.write_tensors(path, tensors)

    import_adapter(tmp_path / "hf", tmp_path / "ours")
    tower = copy.deepcopy(base)
    merged = Merger([load_update(tmp_path / "ours", "no base needed")]).merge("TA")
    with AppliedUpdate(tower, merged) as applied, torch.no_grad():
        applied.set(1.0)
        assert difference(tower(images), expected) < 1e-5


@pytest.mark.parametrize("model", ["CLIPTextModel", "SiglipVisionModel", 3])
def test_an_adapter_of_another_model_with_the_same_names_is_not_imported(tmp_path, model):
    layer = "encoder.layers.0.self_attn.q_proj"
    source = adapter(tmp_path / "hf", layer, auto_mapping={"base_model_class": model})
    with pytest.raises(files.FileError, match=f"'auto_mapping' says .* one of .?{model}"):
        import_adapter(source, tmp_path / "ours")


def test_a_layer_under_both_names_is_not_imported(tmp_path):
    source = adapter(tmp_path / "hf", "encoder.layers.0.self_attn.q_proj")
    path = source / "adapter_model.safetensors"
    tensors = files.read_tensors(path)
    both = {n.replace("encoder", "vision_model.encoder"): t.clone() for n, t in tensors.items()}
    files.write_tensors(path, tensors | both)
    with pytest.raises(files.FileError, match="is there twice, with and without vision_model"):
        import_adapter(source, tmp_path / "ours")


def test_there_and_back_changes_nothing(base, tmp_path):
    tower = copy.deepcopy(base)
    update = LoraUpdate(tower, lora_targets(tower), AdapterSettings(rank=2, alpha=2), seed=1)
    randomise(update.parameters())
    update.save(tmp_path / "ours")
    export_adapter(tmp_path / "ours", tmp_path / "hf")
    import_adapter(tmp_path / "hf", tmp_path / "back")
    name = "adapter_model.safetensors"
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "back" / name).read_bytes()
    own, back = (files.read_json(tmp_path / f / "adapter_config.json") for f in ("ours", "back"))
    assert sorted(own.pop("target_modules")) == back.pop("target_modules")
    assert own == back


def adapter(folder: Path, layer: str, **settings: object) -> Path:
    name = f"base_model.model.{layer}.lora_"
    tensors = {f"{name}A.weight": torch.ones(2, 8), f"{name}B.weight": torch.ones(8, 2)}
    files.write_tensors(folder / "adapter_model.safetensors", tensors)
    files.write_json(folder / "adapter_config.json", {"r": 2, "lora_alpha": 2} | settings)
    return folder


@pytest.mark.parametrize(
    "layer",
    [
        "text_model.encoder.layers.0.self_attn.q_proj",
        "vision_model.encoder.layers.0.layer_norm1",
        "visual_projection",
        "model.layers.0.self_attn.q_proj",
    ],
)
def test_an_adapter_on_other_layers_is_not_imported(tmp_path, layer):
    with pytest.raises(files.FileError, match=f"adapter_model.safetensors: '{layer}' is no"):
        import_adapter(adapter(tmp_path / "hf", layer), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_convnext_adapter_is_not_exported(tmp_path):
    source = adapter(tmp_path / "ours", "trunk.stages.0.blocks.0.mlp.fc1")
    with pytest.raises(files.FileError, match=r"only adapters on .* a ViT can be exported"):
        export_adapter(source, tmp_path / "hf")


def test_an_adapter_that_is_not_plain_lora_is_refused(tmp_path):
    layer = "vision_model.encoder.layers.0.self_attn.q_proj"
    with pytest.raises(files.FileError, match="use_dora"):
        import_adapter(adapter(tmp_path / "hf", layer, use_dora=True), tmp_path / "ours")


def test_names():
    ours = "transformer.resblocks.11.attn.out_proj"
    hf = "vision_model.encoder.layers.11.self_attn.out_proj"
    assert to_hugging_face(ours) == hf
    assert from_hugging_face(hf) == ours
