"""CLIP models through open_clip, real and tiny, and their vision towers (paper, Appendix D.2)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip

from trap2.runtime import files


def build_clip(
    architecture: str | Mapping[str, Any], weights: str | Path | None = None
) -> open_clip.CLIP:
    """Build an open_clip CLIP in float32 on the CPU.

    Args:
        architecture: the name of an open_clip model (``ViT-B-32-quickgelu``), or open_clip's
            configuration ``{embed_dim, vision_cfg, text_cfg}``.  A ``vision_cfg`` with
            ``timm_model_name`` may also hold ``timm_model_args``, arguments of that timm model
            (``depths``, ``dims``, ``ls_init_value`` …), which is how a tiny ConvNeXt is made.
        weights: a safetensors file of the whole model; random weights from torch's global
            generator without it.

    Raises:
        ValueError: the architecture is unknown or not a valid configuration.
        FileError: the weights cannot be read, or belong to another architecture.
    """
    if isinstance(architecture, str):
        architecture = _named_configuration(architecture)
    clip = _build_configured(architecture)
    if weights is not None:
        load_weights(clip, weights)
    return clip.eval()


def _named_configuration(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise ValueError(
            f"architecture '{name}' is not a model of open_clip; it must be one of "
            "open_clip.list_models() or a mapping {embed_dim, vision_cfg, text_cfg}"
        )
    return config


def _build_configured(architecture: Mapping[str, Any]) -> open_clip.CLIP:
    config = {key: dict(v) if isinstance(v, Mapping) else v for key, v in architecture.items()}
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - config.keys()
    if missing:
        raise ValueError(f"the architecture lacks {sorted(missing)}; found {sorted(config)}")
    vision = config["vision_cfg"]
    model_args = vision.pop("timm_model_args", None)
    try:
        if model_args is None:
            return open_clip.CLIP(**config)
        # timm reads a model's arguments from a folder's config.json; nothing else passes through
        # open_clip to it.
        with tempfile.TemporaryDirectory() as folder:
            model = {
                "architecture": vision["timm_model_name"],
                "model_args": dict(model_args),
                "pretrained_cfg": {},
            }
            (Path(folder) / "config.json").write_text(json.dumps(model), encoding="utf-8")
            vision["timm_model_name"] = f"local-dir:{folder}"
            return open_clip.CLIP(**config)
    except (TypeError, KeyError, RuntimeError) as error:
        raise ValueError(f"the architecture is not a valid open_clip model: {error}") from error


def load_weights(clip: open_clip.CLIP, path: str | Path) -> None:
    """Load a whole model's safetensors into ``clip``, in place.

    Raises:
        FileError: the file cannot be read, lacks a tensor of the model, has one that the model
            has not, or one of another shape.
    """
    tensors = files.read_tensors(path)
    own = clip.state_dict()
    if "logit_scale" in tensors:
        # A scalar in some published files, a vector of one in others.
        tensors["logit_scale"] = tensors["logit_scale"].reshape(own["logit_scale"].shape)
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} in the place of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].shape != tensors[name].shape
    ]
    problems = [
        f"{what}: {_few(names)}"
        for what, names in (
            ("missing keys", missing),
            ("unexpected keys", unexpected),
            ("other shapes", reshaped),
        )
        if names
    ]
    if problems:
        raise files.FileError(
            f"{path}: not the weights of this architecture ({'; '.join(problems)}). Give the "
            "file that was made for it, or the architecture that the file was made for."
        )
    clip.load_state_dict(tensors)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load_pretrained(
    architecture: str | Mapping[str, Any], pretrained: str, cache_dir: str | Path
) -> open_clip.CLIP:
    """A published CLIP: the weights of one of open_clip's tags, or of a local file.

    A tag is downloaded from the hub into ``cache_dir`` when it is not there yet.  The hub's
    part needs a network and is not covered by the tests.

    Args:
        architecture: as in :func:`build_clip`; only a named one has tags.
        pretrained: a tag that open_clip lists for it (``openai``), or a safetensors file.
        cache_dir: where downloads are kept.

    Raises:
        ValueError: ``pretrained`` is neither a file nor a tag of this architecture.
        FileError: the weights are not safetensors, or belong to another architecture.
    """
    path = Path(pretrained)
    if not path.is_file():
        name = architecture if isinstance(architecture, str) else ""
        config = open_clip.get_pretrained_cfg(name, pretrained)
        if not config:
            tags = open_clip.list_pretrained_tags_by_model(name)
            raise ValueError(
                f"pretrained '{pretrained}' is neither a file nor a tag of '{name}'; "
                f"its tags are {tags}"
            )
        path = Path(open_clip.download_pretrained(config, cache_dir=str(cache_dir)))
    if path.suffix != ".safetensors":
        raise files.FileError(
            f"{path}: only safetensors are read, never a pickle. Convert the file, or install "
            "huggingface_hub so that open_clip fetches the safetensors."
        )
    return build_clip(architecture, path)
