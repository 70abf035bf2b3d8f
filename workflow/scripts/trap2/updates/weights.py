"""Weights in files: every tensor is one, or a known buffer, or the file is refused.

A tensor that nobody reads is a ΔW of zero without a word, so none is passed over: quantised
weights (float8, integers) need their scales, which each tool keeps in a way of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch

from trap2.runtime import files
from trap2.runtime.reading import WEIGHT_TYPES, TensorInfo, read_header

# Last parts of the names of buffers that count or index, and are no weights.
KNOWN_BUFFERS = ("position_ids", "num_batches_tracked", "relative_position_index")


def is_known_buffer(name: str) -> bool:
    """Whether a tensor that is not of floating point is known to be no weight, by its name."""
    return name.rsplit(".", 1)[-1] in KNOWN_BUFFERS


def weight_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's weights by name, without reading them.

    Raises:
        FileError: the file cannot be read, or holds a tensor that is neither a weight of 16, 32
            or 64 bits nor a known buffer.
    """
    found: Mapping[str, TensorInfo] = read_header(path).tensors
    for name, info in found.items():
        if info.dtype not in WEIGHT_TYPES and not is_known_buffer(name):
            raise files.FileError(
                f"{path}: the tensor {name} is of type {info.dtype}; quantised weights cannot be "
                f"read. Convert the file to one of {', '.join(WEIGHT_TYPES)}"
            )
    return {name: info.shape for name, info in found.items() if info.dtype in WEIGHT_TYPES}


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """A file's weights, in the types in which they are stored; known buffers are left out.

    Raises:
        FileError: as :func:`weight_shapes`, or the content is not what was sealed.
    """
    names = weight_shapes(path)
    return {name: tensor for name, tensor in files.read_tensors(path).items() if name in names}


def in_full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of 16 bits in float32, exactly; others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def kind_of(names: Collection[str]) -> str:
    """What a checkpoint is whose tensors have other names than the base's, as far as names tell."""
    if any("in_proj_weight" in name for name in names):
        return (
            "its attention is fused (in_proj_weight), the base has q, k and v apart. Load it with "
            f"open_clip and {_TOWER}"
        )
    if any(name.startswith("visual.") for name in names):
        return (
            "its names begin with 'visual.', as those of a whole CLIP model. Load it with "
            f"open_clip and {_TOWER}"
        )
    if any("encoder.layers." in name for name in names):
        return (
            "its names are those of Hugging Face's transformers. Only adapters are imported from "
            "there; convert the checkpoint to open_clip's names"
        )
    if any(".lora_A." in name for name in names):
        return "it is an adapter. Name it adapter_model.safetensors, beside adapter_config.json"
    if all(name.startswith("module.") for name in names):
        return "its names begin with 'module.', as DataParallel saves them; take that off"
    return "is it fine-tuned from another model?"


_TOWER = "write tower_tensors(clip) (trap2.models.clip.tower) as model.safetensors"
