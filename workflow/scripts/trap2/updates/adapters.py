"""Adapters as PEFT's files, written and read without PEFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trap2.runtime import files
from trap2.runtime.errors import Trap2Error
from trap2.updates.adapter_config import Configuration, check_configuration
from trap2.updates.settings import AdapterSettings
from trap2.updates.weights import in_full_precision, weight_shapes

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


CHECKPOINT_FILE = "model.safetensors"


# The prefix that PEFT gives to the modules of the model it wraps.
PEFT_PREFIX = "base_model.model."


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
        raise Trap2Error(
            f"an adapter's layers must have one rank of at least 1; these have {sorted(ranks)}"
        )
    rank = ranks.pop()
    targets = [layer.removesuffix(".weight") for layer in factors]
    settings = AdapterSettings(rank=rank, alpha=rank, dropout=0.0)
    tensors = {}
    for target, (b, a) in zip(targets, factors.values(), strict=True):
        tensors[f"{PEFT_PREFIX}{target}.lora_A.weight"] = a
        tensors[f"{PEFT_PREFIX}{target}.lora_B.weight"] = b
    write_adapter_files(folder, tensors, adapter_configuration(settings, targets))


def adapter_configuration(settings: AdapterSettings, targets: Sequence[str]) -> dict[str, Any]:
    """What ``adapter_config.json`` says; of the keys that it lacks, PEFT takes its defaults.

    Args:
        settings: the adapter's form.
        targets: full names of the adapted modules.
    """
    return {
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": sorted(targets),
        "task_type": None,
        "use_dora": settings.dora,
        "use_rslora": settings.rslora,
    }


def write_adapter_files(
    folder: str | Path, tensors: dict[str, torch.Tensor], configuration: Mapping[str, Any]
) -> None:
    """Write the tensors of an adapter under PEFT's names, and its configuration."""
    files.write_tensors(Path(folder) / ADAPTER_FILES[0], tensors, {"format": "pt"})
    files.write_json(Path(folder) / ADAPTER_FILES[1], configuration)


def is_dora(folder: str | Path) -> bool:
    """Whether the adapter in a folder is DoRA, whose ΔW needs the base's weights.

    Raises:
        FileError: its configuration cannot be read, or is of another kind of adapter.
    """
    return _read_configuration(folder).dora


def read_adapter(folder: str | Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read a PEFT LoRA adapter without PEFT.

    Returns:
        For each adapted weight's name in the model (``….q_proj.weight``) the pair B
        (d_out, r), A (r, d_in), in float32 or float64, with the adapter's nominal scale folded
        into B, so that ΔW = BA.

    Raises:
        FileError: the adapter cannot be read, is not plain LoRA, or its two files do not fit.
    """
    config = _read_configuration(folder)
    if config.dora:
        raise files.FileError(
            f"{config.path}: 'use_dora' is set to True; a DoRA adapter's ΔW is no product BA, so "
            "that only task arithmetic and the like in Full space can merge it"
        )
    return _factors(folder, config, _read_tensors(folder))


def read_dora(folder: str | Path, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Read a PEFT DoRA adapter without PEFT (Liu et al. 2024, Eq. 5).

    Args:
        folder: the adapter.
        weights: W0 of every adapted layer, by its name in the model.

    Returns:
        For each adapted weight's name ΔW = m (W0 + BA) / ‖W0 + BA‖ − W0, in float32 or float64,
        with the norm of each row (an output's weights) and a trained m a row.

    Raises:
        FileError: the adapter cannot be read, is not DoRA, or does not fit the weights.
    """
    config, tensors = _read_configuration(folder), _read_tensors(folder)
    suffix = ".lora_magnitude_vector"
    magnitudes = {
        _module(n.removesuffix(suffix)): tensors.pop(n) for n in list(tensors) if n.endswith(suffix)
    }
    update = {}
    for layer, (b, a) in _factors(folder, config, tensors).items():
        magnitude = magnitudes.pop(layer.removesuffix(".weight"), None)
        if magnitude is None or layer not in weights:
            raise files.FileError(
                f"{folder}: not a DoRA adapter of this model; {layer} lacks magnitudes or W0"
            )
        base = weights[layer].to(b.dtype)
        if tuple(base.shape) != (b.shape[0], a.shape[1]) or magnitude.shape != b.shape[:1]:
            raise files.FileError(
                f"{folder}: {layer} has factors of a {b.shape[0]} × {a.shape[1]} weight and "
                f"magnitudes {tuple(magnitude.shape)}, the base model's weight is "
                f"{tuple(base.shape)}; the update belongs to another base"
            )
        update[layer] = dora_delta(base, b @ a, magnitude)
        if not update[layer].isfinite().all():
            raise files.FileError(f"{folder}: {layer}: a row of W0 + BA is zero or too large")
    if magnitudes:
        raise files.FileError(f"{folder}: magnitudes without factors: {sorted(magnitudes)[:3]}")
    return update


def dora_delta(base: torch.Tensor, delta: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """M (W0 + BA) / ‖W0 + BA‖ − W0 (Liu et al. 2024, Eq. 5), the norms and m a row."""
    moved = base + delta
    norm = torch.linalg.vector_norm(moved, dim=1)
    found: torch.Tensor = (magnitude / norm)[:, None] * moved - base
    return found


def _read_configuration(folder: str | Path) -> Configuration:
    path = Path(folder) / ADAPTER_FILES[1]
    return check_configuration(files.read_json(path), path)


def _read_tensors(folder: str | Path) -> dict[str, torch.Tensor]:
    """An adapter's tensors, none in less than float32.

    Raises:
        FileError: one is quantised, of whole numbers, or holds NaN or infinity.
    """
    path = Path(folder) / ADAPTER_FILES[0]
    weight_shapes(path)
    tensors = files.read_tensors(path)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise files.FileError(
                f"{path}: {name} holds NaN or infinity; its training diverged or the file is "
                "damaged"
            )
    return {name: in_full_precision(tensor) for name, tensor in tensors.items()}


def _module(name: str) -> str:
    return name.removeprefix(PEFT_PREFIX)


def _factors(
    folder: str | Path, config: Configuration, tensors: Mapping[str, torch.Tensor]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    path = Path(folder) / ADAPTER_FILES[0]
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in sorted(tensors):
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removesuffix(".lora_A.weight")
        try:
            a, b = tensors[name], tensors[f"{module}.lora_B.weight"]
        except KeyError:
            raise files.FileError(f"{path}: '{module}' has lora_A but no lora_B") from None
        layer = f"{_module(module)}.weight"
        if layer in factors:
            raise files.FileError(f"{path}: '{module}' is there twice, with and without a prefix")
        _check_shapes(path, config, module, b, a)
        factors[layer] = (b * config.scale, a)
    if len(tensors) != 2 * len(factors) or not factors:
        extra = [n for n in tensors if not n.endswith((".lora_A.weight", ".lora_B.weight"))]
        raise files.FileError(
            f"{path}: not a plain LoRA adapter; unexpected tensors: {extra[:3] or 'none'}"
        )
    config.check_layers([layer.removesuffix(".weight") for layer in factors])
    return factors


def _check_shapes(
    path: Path, config: Configuration, module: str, b: torch.Tensor, a: torch.Tensor
) -> None:
    if b.ndim != 2 or a.ndim != 2 or b.shape[1] != a.shape[0] or 0 in (*b.shape, *a.shape):
        raise files.FileError(
            f"{path}: the factors of '{module}', lora_B {tuple(b.shape)} and lora_A "
            f"{tuple(a.shape)}, are no (d_out, r) and (r, d_in) of a linear layer"
        )
    config.check_rank(module, a.shape[0])
    if not (b * config.scale).isfinite().all():
        raise files.FileError(f"{config.path}: 'lora_alpha' makes '{module}' infinite")
