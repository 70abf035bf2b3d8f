"""Releasable updates under training: a LoRA adapter or all the weights (paper, Eq. 1, 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trap2.runtime import files

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


CHECKPOINT_FILE = "model.safetensors"


# The prefix that PEFT gives to the modules of the model it wraps.
PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterSettings:
    """A LoRA adapter's form (paper, Appendix D.3).

    Attributes:
        rank: r ≥ 1.
        alpha: α; the nominal scale is α / r (α / √r with ``rslora``), 1 in the paper.
        dropout: the rate on the adapter's input, 0 ≤ dropout < 1.
        rslora: scale by α / √r.
        dora: DoRA, the rows' norms trained on their own (see :func:`read_dora`).
    """

    rank: int = 16
    alpha: int = 16
    dropout: float = 0.1
    rslora: bool = False
    dora: bool = False


def write_adapter(
    folder: str | Path, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Write factors as a PEFT LoRA adapter of nominal scale 1, for :func:`read_adapter`.

    Args:
        folder: where ``adapter_model.safetensors`` and ``adapter_config.json`` go.
        factors: for each adapted weight's name in the model (``….q_proj.weight``) the pair B
            (d_out, r), A (r, d_in), of one rank r ≥ 1 in all layers.

    Raises:
        ValueError: there is no layer, or the layers' ranks differ.
    """
    ranks = {a.shape[0] for _, a in factors.values()}
    if len(ranks) != 1 or 0 in ranks:
        raise ValueError(
            f"an adapter's layers must have one rank of at least 1; these have {sorted(ranks)}"
        )
    rank = ranks.pop()
    targets = [layer.removesuffix(".weight") for layer in factors]
    config = _configuration(AdapterSettings(rank=rank, alpha=rank, dropout=0.0), targets)
    tensors = {}
    for target, (b, a) in zip(targets, factors.values(), strict=True):
        tensors[f"{PEFT_PREFIX}{target}.lora_A.weight"] = a
        tensors[f"{PEFT_PREFIX}{target}.lora_B.weight"] = b
    _write_adapter(folder, tensors, config)


def _configuration(settings: AdapterSettings, targets: list[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        bias="none",
    )


def _write_adapter(folder: str | Path, tensors: dict[str, torch.Tensor], config: Any) -> None:
    settings = config.to_dict() | {"inference_mode": True}
    files.write_tensors(Path(folder) / ADAPTER_FILES[0], tensors, {"format": "pt"})
    files.write_json(Path(folder) / ADAPTER_FILES[1], _jsonable(settings))


def _jsonable(value: Any) -> Any:
    """PEFT's configuration with sets sorted and enumerations by value, so that bytes repeat."""
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return getattr(value, "value", value)


def nominal_scale(config: Mapping[str, Any]) -> float:
    """The scale that an adapter's configuration puts on BA: α / r, or α / √r with rsLoRA."""
    rank, alpha = config["r"], config["lora_alpha"]
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def is_dora(folder: str | Path) -> bool:
    """Whether the adapter in a folder is DoRA, whose ΔW needs the base's weights."""
    config = files.read_json(Path(folder) / ADAPTER_FILES[1])
    return isinstance(config, dict) and bool(config.get("use_dora"))


def read_adapter(folder: str | Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read a PEFT LoRA adapter without PEFT.

    Returns:
        For each adapted weight's name in the model (``….q_proj.weight``) the pair B
        (d_out, r), A (r, d_in), with the adapter's nominal scale folded into B, so that
        ΔW = BA.

    Raises:
        FileError: the adapter cannot be read, is not plain LoRA, or lacks one of a pair.
    """
    config, tensors = _read(folder)
    if config.get("use_dora"):
        raise files.FileError(
            f"{Path(folder) / ADAPTER_FILES[1]}: 'use_dora' is set to True; a DoRA adapter's ΔW is "
            "no product BA, so that only task arithmetic and the like in Full space can merge it"
        )
    return _factors(folder, config, tensors)


def read_dora(folder: str | Path, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Read a PEFT DoRA adapter without PEFT (Liu et al. 2024, Eq. 5).

    Args:
        folder: the adapter.
        weights: W0 of every adapted layer, by its name in the model.

    Returns:
        For each adapted weight's name ΔW = m (W0 + BA) / ‖W0 + BA‖ − W0, with the norm of each
        row (an output's weights) and a trained m a row.

    Raises:
        FileError: the adapter cannot be read, is not DoRA, or does not fit the weights.
    """
    config, tensors = _read(folder)
    suffix = ".lora_magnitude_vector"
    magnitudes = {n.removesuffix(suffix): tensors.pop(n) for n in list(tensors) if suffix in n}
    update = {}
    for layer, (b, a) in _factors(folder, config, tensors).items():
        module = PEFT_PREFIX + layer.removesuffix(".weight")
        if module not in magnitudes or layer not in weights:
            raise files.FileError(
                f"{folder}: not a DoRA adapter of this model; {layer} lacks magnitudes or W0"
            )
        base = weights[layer].to(b.dtype)
        moved = base + b @ a
        norm = torch.linalg.vector_norm(moved, dim=1)
        update[layer] = (magnitudes[module] / norm)[:, None] * moved - base
    return update


def _read(folder: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    weights_path, config_path = (Path(folder) / name for name in ADAPTER_FILES)
    config = files.read_json(config_path)
    _check_configuration(config, config_path)
    return config, files.read_tensors(weights_path)


def _factors(
    folder: str | Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    path = Path(folder) / ADAPTER_FILES[0]
    factors = {}
    for name in sorted(tensors):
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removesuffix(".lora_A.weight")
        try:
            a, b = tensors[name], tensors[f"{module}.lora_B.weight"]
        except KeyError:
            raise files.FileError(f"{path}: '{module}' has lora_A but no lora_B") from None
        layer = f"{module.removeprefix(PEFT_PREFIX)}.weight"
        factors[layer] = (b * nominal_scale(config), a)
    if len(tensors) != 2 * len(factors) or not factors:
        extra = [n for n in tensors if not n.endswith((".lora_A.weight", ".lora_B.weight"))]
        raise files.FileError(
            f"{path}: not a plain LoRA adapter; unexpected tensors: {extra[:3] or 'none'}"
        )
    return factors


def _check_configuration(config: Any, path: Path) -> None:
    if not isinstance(config, dict) or not {"r", "lora_alpha"} <= config.keys():
        raise files.FileError(f"{path}: not a LoRA configuration (no 'r' or 'lora_alpha')")
    for key in ("rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if config.get(key):
            raise files.FileError(
                f"{path}: '{key}' is set to {config[key]}; only LoRA, rsLoRA and DoRA adapters "
                "with one rank can be read"
            )
    if config.get("bias", "none") != "none":
        raise files.FileError(f"{path}: 'bias' is '{config['bias']}'; only 'none' can be merged")
