"""ViT adapters under the names of Hugging Face's CLIP, in and out.

The workflow names an adapter's layers as open_clip does (``transformer.resblocks.0.attn.q_proj``),
model hubs as ``transformers.CLIPModel`` does (``vision_model.encoder.layers.0.self_attn.q_proj``).
Both models have separate projections of the same shapes, so an adapter moves from one to the other
by renaming, tensor for tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from trap2.runtime import files
from trap2.updates.adapters import ADAPTER_FILES, PEFT_PREFIX, read_adapter
from trap2.updates.delta import UpdateError

OPEN_CLIP = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


# transformers before 5 keep a CLIPVisionModel's layers under vision_model, later ones do not.
HUGGING_FACE = re.compile(r"(?:vision_model\.)?encoder\.layers\.(\d+)\.(.+)")


# Models whose vision part is CLIP's; CLIPTextModel's layers have the same names.
CLIP_MODELS = (
    "CLIPModel",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "CLIPForImageClassification",
)


LAYERS = {
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


# Keys of an adapter's configuration that choose layers; here target_modules names each in full.
SELECTION_KEYS = ("layers_to_transform", "layers_pattern", "exclude_modules")


def to_hugging_face(layer: str) -> str:
    """The name in ``transformers.CLIPModel`` of a layer of an open_clip ViT's vision model.

    Raises:
        UpdateError: the layer has no counterpart there (ConvNeXt's have none).
    """
    found = OPEN_CLIP.fullmatch(layer)
    if found is None or found[2] not in LAYERS:
        raise UpdateError(
            f"'{layer}' has no counterpart in Hugging Face's CLIP; only adapters on the attention "
            "and MLP layers of a ViT can be exported"
        )
    return f"vision_model.encoder.layers.{found[1]}.{LAYERS[found[2]]}"


def from_hugging_face(layer: str) -> str:
    """The name in an open_clip ViT's vision model of a layer of ``transformers.CLIPModel``.

    Raises:
        UpdateError: the layer has no counterpart in the vision model.
    """
    own = {theirs: ours for ours, theirs in LAYERS.items()}
    found = HUGGING_FACE.fullmatch(layer)
    if found is None or found[2] not in own:
        raise UpdateError(
            f"'{layer}' is no attention or MLP layer of CLIP's vision model; an adapter can be "
            f"imported whose layers are all named [vision_model.]encoder.layers.N.* with * one of "
            f"{', '.join(own)}"
        )
    return f"transformer.resblocks.{found[1]}.{own[found[2]]}"


def export_adapter(source: str | Path, target: str | Path) -> None:
    """Write one of the workflow's adapters under Hugging Face's names.

    ``PeftModel.from_pretrained(clip, target)`` loads it into a ``transformers.CLIPModel`` with the
    base weights.

    Args:
        source: folder of an adapter on an open_clip ViT.
        target: folder to write ``adapter_model.safetensors`` and ``adapter_config.json`` to.

    Raises:
        FileError: the adapter cannot be read, is not plain LoRA, or is not a ViT's.
    """
    _rename(Path(source), Path(target), to_hugging_face)


def import_adapter(source: str | Path, target: str | Path) -> None:
    """Write an adapter with Hugging Face's names under the workflow's.

    Args:
        source: folder of a PEFT LoRA adapter on the vision model of ``transformers.CLIPModel``,
            or on ``CLIPVisionModel`` or the like.
        target: folder to write to; :func:`trap2.updates.stored.load_update` reads it.

    Raises:
        FileError: the adapter cannot be read, is not plain LoRA, is of another model than CLIP, or
            adapts other layers too, for instance the text model's.
    """
    config = Path(source) / ADAPTER_FILES[1]
    mapping = files.read_json(config)
    mapping = mapping.get("auto_mapping") if isinstance(mapping, dict) else None
    model = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if model is not None and model not in CLIP_MODELS:
        raise files.FileError(
            f"{config}: 'auto_mapping' says that the adapter is one of {str(model)[:80]!r}; only "
            f"those of {', '.join(CLIP_MODELS)} are imported"
        )
    _rename(Path(source), Path(target), from_hugging_face)


def _rename(source: Path, target: Path, rename: Callable[[str], str]) -> None:
    # Reading it as an update refuses whatever is not plain LoRA.
    layers = [name.removesuffix(".weight") for name in read_adapter(source)]
    weights, config = (source / name for name in ADAPTER_FILES)
    try:
        names = {layer: rename(layer) for layer in layers}
    except UpdateError as error:
        raise files.FileError(f"{weights}: {error}") from None
    if len(set(names.values())) < len(names):
        raise files.FileError(f"{weights}: a layer is there twice, with and without vision_model.")
    tensors = {
        name.removeprefix(PEFT_PREFIX): tensor
        for name, tensor in files.read_tensors(weights).items()
    }
    renamed = {
        f"{PEFT_PREFIX}{new}.lora_{part}.weight": tensors[f"{old}.lora_{part}.weight"]
        for old, new in names.items()
        for part in ("A", "B")
    }
    files.write_tensors(target / ADAPTER_FILES[0], renamed, {"format": "pt"})
    settings: dict[str, object] = files.read_json(config)
    settings["target_modules"] = sorted(names.values())
    settings |= {key: None for key in SELECTION_KEYS if key in settings}
    files.write_json(target / ADAPTER_FILES[1], settings)
